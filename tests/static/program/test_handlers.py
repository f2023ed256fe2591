"""What `try` and `except` make in one another's place; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

WRAPPER = """
class Scaler:
    def __init__(self, device="cuda"):
        try:
            self.amp = torch.amp.GradScaler(device=device)
        except (AttributeError, TypeError):
            self.amp = torch.cuda.amp.GradScaler()

    def __call__(self, loss, optimizer, bound=None, parameters=None, need_update=True):
        self.amp.scale(loss).backward()
        if need_update:
            if bound is not None:
                self.amp.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(parameters, bound)
            self.amp.update()  # wrong MPA210
            self.amp.step(optimizer)
            self.amp.update()  # right
            optimizer.zero_grad()
"""
CALLER = """
from wrapper import Scaler


def main(loader, bound):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = Scaler()
    for x in loader:
        with autocast("cuda"):
            loss = model(x).mean()
        scaler(loss, optimizer, bound, model.parameters())
"""
SHAPES = {
    "a scaler by the new name, or by the old one": {"wrapper.py": WRAPPER, "train.py": CALLER},
    "the optimizer of a package that may be missing": {
        "train.py": """
def main(loader, args):
    model = nn.Linear(2, 2)
    scaler = GradScaler("cuda")
    try:
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    except RuntimeError:
        optimizer = torch.optim.AdamW(model.parameters())
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
        scaler.step(optimizer)
        scaler.update()
"""
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert marks
    assert set(marks) <= set(reported(tmp_path, sources))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert [found for found in reported(tmp_path, sources) if found[2] != "MPA701"] == []


def test_a_wrapper_without_a_caller_is_held_to_the_protocol(tmp_path: Path) -> None:
    sources, marks = variant({"wrapper.py": WRAPPER}, "wrong")
    assert marks[0] in reported(tmp_path, sources)
