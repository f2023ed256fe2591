"""What the processes of a run left in its folder: one result of each that trained, and how far they are."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mpaudit.runtime.protocol import RESULT_FILE, ChildResult

PROGRESS_FILE = "progress"
"""Holds `STEPS` or `STEPS bounded`, padded with spaces; overwritten in place by the process that trains."""
PROCESSES = "processes"
"""A folder: an empty file for each Python process of the run, by its number; the results of those that the script
started."""
LAYER = "files"
"""A folder: what the script wrote, where writes to the user's files are not allowed; gone when the run has ended."""


def gather(folder: Path) -> ChildResult | None:
    """The result of the process that trained: of the script itself, else of one that it started: of
    rank 0 in a distributed training, and of those the one with most steps. None where no process wrote one."""
    own = _read(folder / RESULT_FILE)
    if own is not None and own.steps:
        return own
    started = sorted(
        (result for path in sorted((folder / PROCESSES).glob("*.json")) if (result := _read(path)) and result.steps),
        key=lambda result: (result.rank, -result.steps),
    )
    if not started:
        return own
    first = started[0]
    where = f"the training ran in {_count(len(started))} that the script started" + (
        f"; the figures are those of one of them (rank {first.rank})" if len(started) > 1 else ""
    )
    notes = (*first.notes, where)
    if own is not None and own.error is not None and first.ending != "bounded":
        first = msgspec.structs.replace(first, ending=own.ending, error=own.error)
    return msgspec.structs.replace(first, notes=notes, children=max(len(started), own.children if own else 0))


def steps_so_far(folder: Path) -> tuple[int, bool]:
    """Steps made, and whether they are all that were planned. (0, False) before the first."""
    try:
        words = (folder / PROGRESS_FILE).read_text().split()
    except OSError:
        return 0, False
    return (int(words[0]) if words else 0), "bounded" in words


def _count(processes: int) -> str:
    return "a process" if processes == 1 else f"{processes} processes"


def _read(path: Path) -> ChildResult | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ChildResult)
    except (OSError, msgspec.DecodeError):
        return None
