"""MPA213: a run of its own for each trial has a scaler of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES = {
    "a script that trains once, and one that makes a trainer for each trial": {
        "trainer.py": """
from torch.optim import SGD, Adam


def make_optimizer(config, model):
    return {"sgd": SGD, "adam": Adam}[config.kind](params=model.parameters(), lr=config.lr)


class Trainer:
    def __init__(self, config, model, loader):
        self.model, self.loader = model, loader
        self.scaler = GradScaler("cuda")
        self.optimizer = make_optimizer(config, model)

    def fit(self):
        for x in self.loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler = GradScaler("cuda")  # wrong MPA213
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
""",
        "main.py": """
from networks import build
from trainer import Trainer


def main(config, loader):
    Trainer(config, build(config), loader).fit()


if __name__ == "__main__":
    main(None, None)
""",
        "search.py": """
from networks import build
from trainer import Trainer


def objective(config, loader):
    trainer = Trainer(config, build(config), loader)
    trainer.fit()


if __name__ == "__main__":
    for trial in range(20):
        objective(None, None)
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
