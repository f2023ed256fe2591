"""Losses that a loop adds up; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

LOOPS = {
    "outputs by their number": """
            for i in range(len(outputs)):
                item = criterion(i, outputs[i], y)
                total += item
""",
    "the other way to write it": """
            for i in range(len(outputs)):
                item = criterion(i, outputs[i], y)
                total = total + item
""",
    "outputs": """
            for output in outputs:
                total += criterion(output, y)
""",
    "weighted outputs": """
            for i, output in enumerate(outputs):
                total += 0.8 ** (len(outputs) - i) * criterion(output, y)
""",
    "outputs and targets": """
            for output, target in zip(outputs, y):
                total = criterion(output, target) + total
""",
    "some of the outputs": """
            for output in outputs:
                if output is None:
                    continue
                total += criterion(output, y)
""",
    "forwards": """
            for i in range(4):
                total += criterion(model(x[i]), y[i])
""",
    "outputs beside the loss of the first": """
            total = criterion(outputs[0], y)
            for output in outputs[1:]:
                total += 0.4 * criterion(output, y)
""",
}
PROGRAM = """
def train(model, criterion, loader):
    model.cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda")  # right
    for x, y in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            outputs = model(x.cuda())
            total = 0
LOOP
            loss = total
        loss.backward()  # wrong MPA201
        optimizer.step()  # wrong
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)  # right
        scaler.update()  # right
"""


@pytest.mark.parametrize("which", ["right", "wrong"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_sum_comes_from_what_was_added(tmp_path: Path, loop: str, which: str) -> None:
    sources, marks = variant({"train.py": PROGRAM.replace("LOOP\n", LOOPS[loop].lstrip("\n"))}, which)
    assert reported(tmp_path, sources) == marks


def test_a_sum_of_numbers_comes_from_no_network(tmp_path: Path) -> None:
    counted = "            for number in (1, 2, len(y), 4, 5, 6, 7, 8):\n                total += number\n"
    sources, _ = variant({"train.py": PROGRAM.replace("LOOP\n", counted)}, "wrong")
    assert reported(tmp_path, sources) == []
