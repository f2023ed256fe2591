"""What paths that decided otherwise know together; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.static.program.calls import split
from mpaudit.static.program.state import PathState, merge
from mpaudit.static.program.values import Phi, Ref, Value
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
