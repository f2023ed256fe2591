"""What paths that decided otherwise know together; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.static.program.calls import split
from mpaudit.static.program.merging import merge
from mpaudit.static.program.state import MAX_GUARDS, PathState
from mpaudit.static.program.values import Key, Phi, Ref, Value
from tests.static.program.shapes import reported, variant

SHAPES = {
    "two known optimizers and one that is looked up, with a scaler or a stand-in for one": {
        "train.py": """
class NoScaler:
    def scale(self, loss):
        return loss

    def unscale_(self, optimizer):
        pass

    def step(self, optimizer):
        optimizer.step()

    def update(self):
        pass


def train(model, loader, name, amp):
    if name == "adam":
        optimizer = torch.optim.Adam(model.parameters())
    elif name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    else:
        optimizer = getattr(torch.optim, name)(model.parameters())
    scaler = GradScaler("cuda") if amp else NoScaler()
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", enabled=amp):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
        scaler.step(optimizer)
        scaler.update()
"""
    },
    "one of four optimizers that a factory out of sight has wrapped": {
        "train.py": """
from factory import averaged


class Trainer:
    def __init__(self, net, options):
        self.net = net
        self.options = options
        self.scaler = GradScaler("cuda")
        if options.average:
            self.optimizer = averaged(net.parameters())
        elif options.name == "adam":
            self.optimizer = torch.optim.Adam(net.parameters())
        elif options.name == "sgd":
            self.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        else:
            self.optimizer = getattr(torch.optim, options.name)(net.parameters())

    def train(self, loader, frozen=False):
        for x in loader:
            if not frozen:
                self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.net(x).mean()
            if not frozen:
                self.scaler.scale(loss).backward()
                self.scaler.unscale_(self.optimizer)  # right
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)  # right
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)  # wrong MPA205
                self.scaler.step(self.optimizer)
                self.scaler.update()
"""
    },
    "a scaler that is on by one option where another one does not put a stand-in for it": {
        "train.py": """
class NoScaler:
    def scale(self, loss):
        return loss

    def step(self, optimizer):
        optimizer.step()

    def update(self):
        pass


def train(cfg, model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if cfg.plain:
        scaler = NoScaler()
    else:
        scaler = GradScaler("cuda", enabled=cfg.mixed)
    for x in loader:
        with autocast("cuda", enabled=cfg.mixed):
            loss = model(x).mean()
        optimizer.zero_grad()
        loss.backward()  # wrong MPA202
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)
        scaler.update()
"""
    },
    "a scaler that is on by one option where another one does not leave it out": {
        "train.py": """
def train(cfg, model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=cfg.mixed) if cfg.cuda else None
    for x in loader:
        with autocast("cuda", enabled=cfg.mixed):
            loss = model(x).mean()
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(loss).backward()  # right
            loss.backward()  # wrong MPA202
        else:
            loss.backward()
        if scaler is not None:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
"""
    },
    "one of two optimizers of a class that a function makes, that a framework may wrap or make": {
        "train.py": """
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.solver.build import maybe_add_gradient_clipping


def build_own(cfg, model):
    def with_clipping(cls):
        enable = cfg.clip_type == "all" and cfg.clip > 0.0

        class Clipping(cls):
            def step(self, closure=None):
                torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], cfg.clip)
                super().step(closure=closure)

        return Clipping if enable else cls

    if cfg.name == "sgd":
        optimizer = with_clipping(torch.optim.SGD)(model.parameters(), lr=0.1)
    elif cfg.name == "adamw":
        optimizer = with_clipping(torch.optim.AdamW)(model.parameters())
    else:
        raise NotImplementedError(cfg.name)
    if not cfg.clip_type == "all":
        optimizer = maybe_add_gradient_clipping(cfg, optimizer)
    return optimizer


def train(cfg, model, loader):
    if cfg.own:
        optimizer = build_own(cfg, model)
    else:
        optimizer = build_optimizer(cfg, model)
    if cfg.fp16:
        scaler = GradScaler("cuda")
    for x in loader:
        loss = sum(model(x).values())
        optimizer.zero_grad()
        if cfg.fp16:
            scaler.scale(loss).backward()
            scaler.update()  # wrong MPA210
            scaler.step(optimizer)
            scaler.update()  # right
        else:
            loss.backward()
            optimizer.step()


def main(args):
    cfg = read(args)
    model = build_model(cfg)
    train(cfg, model, args.loader)


if __name__ == "__main__":
    main(None)
"""
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


def test_what_neither_path_can_hold_is_not_met_when_they_go_on() -> None:
    first, second = ("truth", ("param", "f", "first")), ("truth", ("param", "f", "second"))
    adam, sgd, lamb = (Ref("optimizer", name) for name in ("adam", "sgd", "lamb"))
    value: Value = Phi(first, adam, Phi(second, sgd, lamb))
    one, other, last = PathState(), PathState(), PathState()
    for state in (one, other, last):
        state.heap["f", "x"] = value
    one.assume(first, True)
    for state, taken in ((other, True), (last, False)):
        state.assume(first, False)
        state.assume(second, taken)
    [met] = merge([one.clone(), other.clone()], "node")
    assert [option for _, option in split(met, value)] == [adam, sgd]
    [met] = merge([one, other, last], "node")
    assert [option for _, option in split(met, value)] == [adam, sgd, lamb]


def test_whether_it_is_time_to_step_is_forgotten_after_what_an_iteration_brought() -> None:
    state = PathState()
    due: Key = ("truth", ("op", "%", ("iter", "loop", 1), ("attr", ("param", "main", "args"), "every")))
    state.assume(due, False)
    for number in range(2 * MAX_GUARDS):
        state.assume(("truth", ("sub", ("iter", "loop", 1), ("const", number))), True)
    assert state.decided(due) is False
    assert len(state.guards) == MAX_GUARDS
