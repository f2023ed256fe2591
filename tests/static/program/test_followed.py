"""What a call was seen to do for one object says nothing of another; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES = {
    "a method that empties the gradients of whatever its object holds, and nothing where that is nothing": {
        "loop.py": """
class Loop:
    def start(self):
        self.optimizer.zero_grad()

    def epoch(self, loader):
        for x in loader:
            self.start()  # right
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()  # wrong MPA228
            self.scaler.scale(loss).backward()  # right
            self.scaler.step(self.optimizer)
            self.scaler.update()
""",
        "dry.py": """
from loop import Loop


class Nothing:
    def zero_grad(self):
        pass


def dry_run():
    loop = Loop()
    loop.optimizer = Nothing()
    loop.start()


if __name__ == "__main__":
    dry_run()
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
