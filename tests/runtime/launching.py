"""Runs a script as `mpaudit profile` does, in a few steps."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path
from typing import Any

from mpaudit.runtime.launch import RunRecord, run
from mpaudit.runtime.protocol import ChildPlan, Target

LIMIT_S = 300.0
"""Far more than any run here takes: a test that waits for it fails."""

LOOP = """
import torch
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step():
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()
    return loss
"""


def launch(
    home: Path,
    script: str | None = None,
    *,
    target: Target | None = None,
    limit_s: float = LIMIT_S,
    grace_s: float = 60.0,
    **fields: Any,
) -> RunRecord:
    """Runs `script` as home/train.py (or `target`), two steps of warm-up and three measured, unless `fields` say
    otherwise. The run's folder lies beside the home."""
    home.mkdir(exist_ok=True)
    if script is not None:
        (home / "train.py").write_text(textwrap.dedent(script))
    plan: dict[str, Any] = {
        "run": "fp32-1",
        "kind": "timing",
        "variant": "fp32",
        "target": target or Target("script", "train.py"),
        "device": "cpu",
        "warmup": 2,
        "steps": 3,
        "seed": 0,
        "stop": "clean",
        "allow_writes": False,
        "folder": str(home.parent / "run"),
    }
    return run(ChildPlan(**(plan | fields)), time_limit_s=limit_s, grace_s=grace_s, cwd=str(home))


def heeds_interrupts() -> None:
    """Where the tests are run in the background of a shell, interrupts are ignored, and where no terminal may end them,
    hang-ups, which a process inherits."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_DFL)
