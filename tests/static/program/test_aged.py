"""MPA101 in scripts that only a torch from before autocast runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import TRAIN, confidences
from tests.static.program.test_small_starts import DEEP


@pytest.mark.parametrize(
    ("line", "confidence"),
    [
        ("print(loss.data[0])", "possible"),
        ("total = loss.data[0] / len(x)", "possible"),
        ("print(loss.item())", "likely"),
        ("print(x.data[0])", "likely"),
    ],
)
def test_what_a_loss_is_read_by(line: str, confidence: str, tmp_path: Path) -> None:
    script = TRAIN.format(option="--name", default="a") + f"        {line}\n"
    assert confidences(tmp_path, {"train.py": script, "net.py": DEEP}) == [confidence]
