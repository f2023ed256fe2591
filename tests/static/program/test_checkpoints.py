"""MPA214: the state of a scaler that the options turn on; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import HEAD, reported, variant

SHAPES = {
    "a trainer whose base saves in float32": {
        "base.py": """
class BaseTrainer:
    def __init__(self, model, loader):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def save_checkpoint(self, path):
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}  # wrong MPA214
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}  # right
        torch.save(state, path)

    def load_checkpoint(self, path):
        self.optimizer.load_state_dict(torch.load(path)["optimizer"])

    def fit(self, epochs):
        for epoch in range(epochs):
            self.train_epoch()
            self.save_checkpoint("last.pt")

    def train_epoch(self):
        for x in self.loader:
            self.optimizer.zero_grad()
            self.model(x).mean().backward()
            self.optimizer.step()
""",
        "amp.py": """
from base import BaseTrainer


class AMPTrainer(BaseTrainer):
    def __init__(self, model, loader):
        super().__init__(model, loader)
        self.scaler = GradScaler("cuda")

    def train_epoch(self):
        for x in self.loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def save_checkpoint(self, path):  # right
        torch.save({"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}, path)  # right

    def load_checkpoint(self, path):
        self.optimizer.load_state_dict(torch.load(path)["optimizer"])
        self.scaler.load_state_dict(torch.load(path)["scaler"])  # right
""",
        "train.py": """
from amp import AMPTrainer

AMPTrainer(nn.Conv2d(3, 8, 3).cuda(), []).fit(10)
""",
    },
    "a checkpoint from before the first step, and one of each epoch": {
        "train.py": """
def main(args, model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    if args.resume:
        optimizer.load_state_dict(torch.load(args.resume)["optimizer"])
        scaler.load_state_dict(torch.load(args.resume)["scaler"])  # right
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": -1}, "last.pt")
    for epoch in range(10):
        for x in loader:
            optimizer.zero_grad()
            with autocast("cuda"):
                loss = model(x).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}  # wrong MPA214
        state = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}  # right
        torch.save(state, "last.pt")
"""
    },
    "a scaler for float16 where the option is another precision by default": {
        "train.py": """
import argparse


def main(args, model, loader):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[args.mixed_precision]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=args.mixed_precision == "fp16")
    if args.resume:
        optimizer.load_state_dict(torch.load(args.resume)["optimizer"])
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=dtype):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}  # MPA214
    torch.save(state, "latest.pt")


parser = argparse.ArgumentParser()
parser.add_argument("--resume")
parser.add_argument("--mixed-precision", default="bf16", choices=["bf16", "fp16"])  # right
parser.add_argument("--mixed-precision", default="fp16", choices=["bf16", "fp16"])  # wrong
main(parser.parse_args(), None, None)
"""
    },
    "a checkpointer that keeps what it gets in its constructor": {
        "keeper.py": """
class Checkpointer:
    def __init__(self, model, optimizer=None, scaler=None, save_dir=""):
        self.model = model
        self.optimizer = optimizer
        self.scaler = scaler
        self.save_dir = save_dir

    def save(self, name):
        data = {"model": self.model.state_dict()}  # wrong MPA214
        data = {"model": self.model.state_dict()}  # right
        if self.optimizer is not None:
            data["optimizer"] = self.optimizer.state_dict()
        if self.scaler is not None:  # right
            data["scaler"] = self.scaler.state_dict()  # right
        torch.save(data, f"{self.save_dir}/{name}.pth")

    def load(self, path):
        data = torch.load(path)
        self.model.load_state_dict(data["model"])
        self.optimizer.load_state_dict(data["optimizer"])
        if self.scaler is not None and "scaler" in data:
            self.scaler.load_state_dict(data["scaler"])
""",
        "train.py": """
from keeper import Checkpointer


def train(args, loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda")
    keeper = Checkpointer(model, optimizer=optimizer, scaler=scaler, save_dir=args.out)
    for epoch in range(10):
        for x in loader:
            with autocast("cuda"):
                loss = model(x).mean()
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        keeper.save(epoch)
""",
    },
    "one function that two scripts save by, one of which has a second": {
        "util.py": """
class Scaler:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer):
        self._scaler.scale(loss).backward()
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self):
        return self._scaler.state_dict()

    def load_state_dict(self, state):
        self._scaler.load_state_dict(state)


def save_last(model, optimizer, scaler):
    state = {"optimizer": optimizer.state_dict()}  # wrong MPA214
    state = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}  # right
    torch.save(state, "last.pth")


def save_best(model, optimizer, scaler):
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "best.pth")


def load(path, optimizer, scaler):
    state = torch.load(path)
    optimizer.load_state_dict(state["optimizer"])
    if "scaler" in state:
        scaler.load_state_dict(state["scaler"])


def epoch(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler(loss, optimizer)
""",
        "pretrain.py": """
import util


def main(args, loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = util.Scaler()
    util.load(args.resume, optimizer, scaler)
    for _ in range(10):
        util.epoch(model, loader, optimizer, scaler)
        util.save_last(model, optimizer, scaler)


main(None, None)
""",
        "finetune.py": """
import util


def main(args, loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = util.Scaler()
    util.load(args.resume, optimizer, scaler)
    for _ in range(10):
        util.epoch(model, loader, optimizer, scaler)
        util.save_best(model, optimizer, scaler)


main(None, None)
""",
    },
    "what another program resumes": {
        "train.py": """
from keep import save


def train(loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda")
    for epoch in range(10):
        for x in loader:
            with autocast("cuda"):
                loss = model(x).mean()
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        save(model, optimizer)
""",
        "keep.py": """
def save(model, optimizer):
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "last.pt")  # MPA214


def resume(optimizer, path):  # wrong
    optimizer.load_state_dict(torch.load(path)["optimizer"])  # wrong
""",
        "other/play.py": """
def play(optimizer, path):
    optimizer.load_state_dict(torch.load(path)["optimizer"])
""",
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert reported(tmp_path, sources) == []


@pytest.mark.parametrize(("set_as", "codes"), [("scaler_s", ["MPA214"]), ("scaler", [])])
def test_a_scaler_that_nothing_sets_has_no_state_to_be_saved(tmp_path: Path, set_as: str, codes: list[str]) -> None:
    """The first step raises AttributeError, before anything is saved."""
    program = f"""
from contextlib import nullcontext
from functools import partial


def train(args, model, optimizer, loader):
    for x in loader:
        with args.autocast():
            loss = model(x).mean()
        optimizer.zero_grad()
        if args.fp16:
            args.scaler_s.scale(loss).backward()
            args.scaler_s.step(optimizer)
            args.scaler_s.update()
        else:
            loss.backward()
            optimizer.step()


def worker(gpu, args):
    args.autocast = nullcontext
    if args.fp16:
        args.{set_as} = GradScaler("cuda")
        args.autocast = partial(autocast, "cuda")
    model = nn.Linear(8, 8).cuda(gpu)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if args.resume:
        optimizer.load_state_dict(torch.load(args.resume)["optimizer"])
    for _ in range(10):
        train(args, model, optimizer, args.loader)
        torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, "last.pt")
"""
    found = [code for _, _, code in reported(tmp_path, {"train.py": HEAD + program})]
    assert found == codes


@pytest.mark.parametrize(("called", "codes"), [("load_best()", ["MPA214"]), ("other()", [])])
def test_what_nothing_calls_resumes_nothing(tmp_path: Path, called: str, codes: list[str]) -> None:
    """Of another file: beside the code that saves it may be meant for whoever imports both."""
    keeper = """
class Keeper:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def other(self):
        print(self.optimizer)

    def load_best(self):
        self.optimizer.load_state_dict(torch.load("best.pt")["optimizer"])
"""
    program = f"""
from keeper import Keeper


def main(loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Keeper(optimizer).{called}
    scaler = GradScaler("cuda")
    for x in loader:
        with autocast("cuda"):
            loss = model(x).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, "last.pt")
"""
    found = [code for _, _, code in reported(tmp_path, {"train.py": HEAD + program, "keeper.py": HEAD + keeper})]
    assert found == codes


BY_HARDWARE = """
dtype = "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float16"
{told}

def main(loader, path):
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=(dtype == "float16"))
    optimizer.load_state_dict(torch.load(path)["optimizer"])
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.float16 if dtype == "float16" else torch.bfloat16):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
"""


@pytest.mark.parametrize(("told", "codes"), [("", []), ('exec(open("configurator.py").read())', ["MPA214"])])
def test_a_scaler_that_only_old_gpus_need_has_little_state_to_keep(tmp_path: Path, told: str, codes: list[str]) -> None:
    sources, _ = variant({"train.py": BY_HARDWARE.replace("{told}", told)}, "right")
    assert [code for _, _, code in reported(tmp_path, sources)] == codes


TWO_TRAINERS = {
    "finetune.py": """
class FineTuner:
    def fit(self, model, loader, path):
        optimizer = torch.optim.AdamW(model.parameters())
        scaler = GradScaler("cuda")
        for x in loader:
            optimizer.zero_grad()
            with autocast("cuda"):
                loss = model(x).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        self.save(model, optimizer, path)

    def save(self, model, optimizer, path):
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
""",
    "train.py": """
from {home} import FineTuner


class Trainer{base}:
    def __init__(self, model, path):
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.optimizer.load_state_dict(torch.load(path)["optimizer"])
""",
}


@pytest.mark.parametrize(("base", "codes"), [("", []), ("(FineTuner)", ["MPA214"])])
def test_what_another_trainer_loads_into_its_own_is_another_checkpoint(
    tmp_path: Path, base: str, codes: list[str]
) -> None:
    files = {name: text.replace("{base}", base).replace("{home}", "finetune") for name, text in TWO_TRAINERS.items()}
    sources, _ = variant(files, "right")
    assert [code for _, _, code in reported(tmp_path, sources)] == codes


@pytest.mark.parametrize(("dtype", "codes"), [("bfloat16", ["MPA215"]), ("float16", ["MPA214"])])
def test_the_scale_of_bfloat16_losses_need_not_be_kept(tmp_path: Path, dtype: str, codes: list[str]) -> None:
    program = f"""
def main(loader, path):
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    optimizer.load_state_dict(torch.load(path)["optimizer"])
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.{dtype}):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, path)
"""
    assert [code for _, _, code in reported(tmp_path, {"train.py": HEAD + program})] == codes


PICKS = """
def pick(model):
    good = torch.cuda.get_device_properties(0).major >= 8
    if not any(name in torch.cuda.get_device_name() for name in ["A100", "H100"]):
        good = False
    return torch.bfloat16 if good else torch.float16
"""


@pytest.mark.parametrize(("dtype", "codes"), [("pick(model)", []), ("torch.float16", ["MPA214"])])
def test_what_the_gpu_is_better_at(tmp_path: Path, dtype: str, codes: list[str]) -> None:
    program = f"""
from common import pick


def main(loader, path):
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    optimizer.load_state_dict(torch.load(path)["optimizer"])
    kind = {dtype}
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=kind):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, path)
"""
    found = reported(tmp_path, {"train.py": HEAD + program, "common.py": HEAD + PICKS})
    assert [code for _, _, code in found] == codes
