"""What is no optimizer, no autocast's stand-in and no empty gradient: programs in which everything is in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.static.program import objects
from mpaudit.static.program.state import PathState
from mpaudit.static.program.values import Choice, Sym
from tests.static.program.shapes import HEAD, reported

SILENT = {
    "the name of an older autocast where the newer one is missing": {
        "train.py": """
import torch.nn.functional as F
from contextlib import nullcontext


def amp_components(cfg):
    if cfg.get("use_amp", False) and torch.cuda.is_available():
        cast = torch.autocast if hasattr(torch, "autocast") else torch.cuda.amp.autocast
        return cast("cuda", dtype=torch.float16), GradScaler()
    return nullcontext(), None


def train(cfg, model, loader):
    optimizer = torch.optim.SGD(model.cuda().parameters(), lr=0.1)
    context, scaler = amp_components(cfg)
    for x, y in loader:
        optimizer.zero_grad()
        with context:
            loss = F.cross_entropy(model(x.cuda()), y)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
""",
    },
    "a schedule in a class that is called an optimizer": {
        "train.py": """
from wrapped import Optimizer


def epoch(model, optimizer, scaler, loader):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x.cuda()).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer.optimizer)
        scaler.update()
    optimizer.scheduler.step()


def main(cfg, model, loader):
    scaler = GradScaler("cuda")
    optimizer = Optimizer(model.cuda(), cfg)
    for number in range(10):
        epoch(model, optimizer, scaler, loader)
        torch.save({"schedule": optimizer.scheduler.state_dict()}, "last.pt")
""",
        "wrapped.py": """
import torch.optim as optim


class Optimizer:
    def __init__(self, model, cfg):
        if cfg["optimizer"] == "SGD":
            self.optimizer = optim.SGD(model.parameters(), lr=cfg["lr"])
        elif cfg["optimizer"] == "Adam":
            self.optimizer = optim.Adam(model.parameters(), lr=cfg["lr"])
        else:
            raise ValueError
        self.scheduler = self.schedule(self.optimizer, cfg)

    def schedule(self, optimizer, cfg):
        if cfg["optimizer"] in ["SGD", "Adam"]:
            return optim.lr_scheduler.MultiStepLR(optimizer, milestones=[10])
        raise ValueError

    def zero_grad(self):
        self.optimizer.zero_grad()
""",
    },
    "what stands in for autocast where torch is too old": {
        "train.py": """
if torch.__version__ >= "1.6.0":
    from torch.cuda.amp import autocast, GradScaler
else:
    from dummy import autocast, GradScaler


def train(cfg, criterion, model, loader):
    optimizer = torch.optim.SGD(model.cuda().parameters(), lr=0.1)
    scaler = GradScaler()
    for x in loader:
        optimizer.zero_grad()
        with autocast(cfg["amp"]):
            loss = criterion(x.cuda(), model)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


if __name__ == "__main__":
    train({"amp": torch.load("amp.pt")}, torch.load("criterion.pt"), nn.Conv2d(3, 4, 3), torch.load("data.pt"))
""",
        "dummy.py": """
class autocast:
    def __init__(self, enabled=True):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *problem):
        pass


class GradScaler:
    def __init__(self, enabled=True):
        pass

    def scale(self, loss):
        return loss

    def step(self, optimizer):
        return optimizer.step()

    def update(self):
        pass
""",
    },
    "gradients that are summed aside and put back": {
        "train.py": """
from collections import defaultdict


def train(model, optimizer, loader, parts):
    scaler = GradScaler("cuda")
    for x in loader:
        summed = defaultdict(lambda: 0)
        for part in range(parts):
            with autocast("cuda"):
                loss = model(x[part]).mean()
            scaler.scale(loss).backward()
            for parameter in model.parameters():
                if parameter.grad is not None:
                    summed[parameter] += parameter.grad
            optimizer.zero_grad()
        for parameter in summed.keys():
            parameter.grad = summed[parameter]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
""",
    },
}


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_reported(name: str, tmp_path: Path) -> None:
    sources = {path: (text if path == "dummy.py" else HEAD + text) for path, text in SILENT[name].items()}
    found = reported(tmp_path, sources, all_codes=True)
    assert [code for _, _, code in found if code != "MPA701"] == []


def test_attributes_of_one_of_two_are_told_from_those_of_one_of_two_others() -> None:
    """By the key of a value it is remembered what it is: an optimizer, say."""
    keys = set()
    for first in (1, 3):
        either = Choice(frozenset([Sym(("call", first)), Sym(("call", first + 1))]))
        step = objects.attribute(None, None, either, "step", PathState())  # type: ignore[arg-type]
        assert isinstance(step, Sym)
        keys.add(step.key[1])
    assert len(keys) == 2
