"""One process that runs scripts under precision control, for all tests of this folder: torch is imported once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mpaudit

Drive = Callable[..., dict[str, dict[str, Any]]]

TWINS = Path(__file__).parent.parent / "twins"


@pytest.fixture(scope="session")
def drive() -> Iterator[Drive]:
    """`drive(script, *words)`: the answers of the driver, by word."""
    driver = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("driver.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(mpaudit.__file__).parents[1])},
    )
    assert driver.stdin is not None and driver.stdout is not None

    def ask(script: Path, *words: str) -> dict[str, dict[str, Any]]:
        assert driver.stdin is not None and driver.stdout is not None
        driver.stdin.write(json.dumps([str(script), words]) + "\n")
        driver.stdin.flush()
        answers: dict[str, dict[str, Any]] = json.loads(driver.stdout.readline())
        for word, answer in answers.items():
            assert answer["left"] == [False, False], f"{word}: autocast or a mode was left on"
        return answers

    yield ask
    driver.stdin.close()
    driver.wait()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a script. `losses` and `weights` of it are what is compared."""

    def write(body: str) -> Path:
        path = tmp_path / "train.py"
        path.write_text(textwrap.dedent(body) + "\nimport by_hand\nby_hand.finish(losses, weights)\n")
        return path

    return write
