"""What injected autocast cannot know is not guessed at: it is named, by its line, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .conftest import Drive

Script = Callable[[str], Path]

MODEL = """
import sys, types
import torch
from torch.nn import functional as F
torch.manual_seed(0)
x, y = torch.randn(8, 10), torch.randint(0, 4, (8,))
model = torch.nn.Linear(10, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses, weights = [], model.parameters()
"""


def named(drive: Drive, path: Path) -> list[tuple[int, str]]:
    answer = drive(path, "none:amp-bf16")["none:amp-bf16"]
    assert "error" not in answer, answer["error"]
    return [(place["line"], place["what"]) for place in answer["control"]["unfaithful"]]


def line(path: Path, text: str) -> int:
    return 1 + next(number for number, each in enumerate(path.read_text().splitlines()) if text in each)


def test_a_loss_that_is_computed_after_the_backward_of_another(drive: Drive, script: Script) -> None:
    path = script(
        MODEL
        + """
for _ in range(4):
    optimizer.zero_grad()
    output = model(x)
    F.cross_entropy(output, y).backward(retain_graph=True)
    (output @ output.T).mean().backward()  # the second
    optimizer.step()
"""
    )
    what = "this loss was not computed by the call of a module: autocast was not on"
    assert named(drive, path) == [(line(path, "# the second"), what)]


def test_a_forward_whose_graph_is_kept_and_that_nobody_differentiates(drive: Drive, script: Script) -> None:
    path = script(
        MODEL
        + """
kept = []
for _ in range(4):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    kept.append(model(x))  # an evaluation
    losses.append((x @ x.T).sum())
"""
    )
    what = "a forward with gradients that no backward follows: what ran between it and the next forward ran in autocast"
    assert named(drive, path) == [(line(path, "# an evaluation"), what)]


def test_mixed_precision_of_other_libraries(drive: Drive, script: Script) -> None:
    path = script(MODEL + "sys.modules['apex.amp'] = types.ModuleType('apex.amp')\n")
    try:
        assert named(drive, path) == [(0, "apex.amp is imported, and its own mixed precision is not controlled")]
    finally:
        drive(script("import sys\ndel sys.modules['apex.amp']\nlosses, weights = [], []"), "none:off")
