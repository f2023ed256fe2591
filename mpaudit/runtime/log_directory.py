"""One TensorBoard log directory for a session: the trace of each precision as a run of its own, packed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from mpaudit.runtime import traces
from mpaudit.runtime.evidence import TRACE_FOLDER
from mpaudit.runtime.protocol import ChildPlan

FOLDER = "traces"


def gather(plans: Iterable[ChildPlan], folder: str, say: Callable[[str], None] = lambda text: None) -> None:
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
        for path in sorted(to.glob("*.json")):
            size = path.stat().st_size / 1e6
            say(f"reading the trace of {plan.variant}" + (f", {size:.0f} MB" if size >= 1 else ""))
            pack(path)


def pack(path: Path) -> None:
    """Puts a `.json.gz` in the place of a trace. One that cannot be read (the run was killed as it wrote) is dropped:
    viewers would refuse it, and those beside it."""
    try:
        whole = traces.with_whole_steps(path.read_bytes())
    except (msgspec.DecodeError, KeyError):
        path.unlink()
        return
    with gzip.open(f"{path}.gz", "wb", compresslevel=6) as packed:
        packed.write(whole)
    path.unlink()
