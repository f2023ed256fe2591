"""One TensorBoard log directory for a session: the trace of each precision as a run of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mpaudit.runtime.evidence import TRACE_FOLDER
from mpaudit.runtime.protocol import ChildPlan

FOLDER = "traces"


def gather(plans: Iterable[ChildPlan], folder: str) -> None:
    """Moves the traces that the runs have left to `folder`/traces, a folder for each variant: of several evidence runs
    that of the first, as the others would show as workers of one distributed run. Raises OSError where it cannot."""
    for plan in plans:
        left = Path(plan.folder, TRACE_FOLDER, plan.variant)
        to = Path(folder, FOLDER, plan.variant)
        if not left.is_dir() or to.exists():
            continue
        to.parent.mkdir(exist_ok=True)
        os.replace(left, to)
        left.parent.rmdir()
