"""Optimizers that take the place of one another; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES = {
    "one that is made anew when the network has grown": """
from fields import Field


class Trainer:
    def __init__(self, model, make):
        self.model, self.make, self.step = model.cuda(), make, 0
        self.optimizer = make(self.model)
        self.scaler = GradScaler("cuda")

    def fit(self, loader, steps):
        for x in loader:
            self.step += 1
            pass  # wrong
            self.optimizer.zero_grad()  # right
            with autocast("cuda"):
                loss = self.model.render(x)["loss"]
            self.scaler.scale(loss).backward()  # wrong MPA228
            self.scaler.scale(loss).backward()  # right
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.step in steps:
                self.model.grow()
                self.optimizer = self.make(self.model)


def main(options, loader):
    Trainer(Field(), lambda model: torch.optim.Adam(model.get_params(options.lr))).fit(loader, options.steps)
""",
    "one that is made by what is given, or else by the class": """
class Trainer:
    def __init__(self, model, optimizer=None):
        self.model = model.cuda()
        if optimizer is None:
            self.optimizer = torch.optim.Adam(self.model.parameters())
        else:
            self.optimizer = optimizer(self.model)
        self.scaler = GradScaler("cuda")

    def fit(self, loader):
        for x in loader:
            pass  # wrong
            self.optimizer.zero_grad()  # right
            with autocast("cuda"):
                loss = self.compute(x)
            self.scaler.scale(loss).backward()  # wrong MPA228
            self.scaler.scale(loss).backward()  # right
            self.scaler.step(self.optimizer)
            self.scaler.update()
""",
}

SILENT = {
    "two that are called by one name and are both there": """
def train(make, networks, loader):
    every = []
    optimizer = make(networks.critic)
    every.append(optimizer)
    optimizer = make(networks.actor)
    every.append(optimizer)
    scaler = GradScaler("cuda")
    for x in loader:
        for other in every:
            other.zero_grad()
        with autocast("cuda"):
            loss = networks.loss(x)
        scaler.scale(loss).backward()
        for other in every:
            scaler.step(other)
        scaler.update()
""",
}


@pytest.mark.parametrize("which", ["right", "wrong"])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_is_there_on_every_path(tmp_path: Path, shape: str, which: str) -> None:
    sources, expected = variant({"train.py": SHAPES[shape]}, which)
    assert reported(tmp_path, sources) == expected


@pytest.mark.parametrize("shape", SILENT)
def test_what_else_may_be_fed_is_not_forgotten(tmp_path: Path, shape: str) -> None:
    sources, _ = variant({"train.py": SILENT[shape]}, "right")
    assert reported(tmp_path, sources) == []
