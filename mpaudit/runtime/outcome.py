"""How a run ended, as one word and one sentence."""

from __future__ import annotations

import errno
import re
import signal
from typing import Literal

import msgspec

from mpaudit.runtime.protocol import ChildPlan, ChildResult, ScriptError

Outcome = Literal[
    "bounded",
    "completed",
    "exit",
    "exception",
    "no-steps",
    "out-of-memory",
    "time-limit",
    "killed",
    "disk-full",
]
"""`bounded` is the planned end; `completed` ended by itself with fewer steps; the rest went wrong."""

CANNOT_WRITE = 74
"""Exit status of a child that could not write its result (EX_IOERR of sysexits.h)."""


LONGEST = 160
"""Characters of an exception's message that a sentence takes."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Exit(msgspec.Struct, frozen=True):
    """What the parent saw of the child's end."""

    status: int
    """As `subprocess` has it: negative for a signal."""
    cut: bool
    """The parent ended it: its time was over."""
    time_limit_s: float
    steps: int = 0
    """As the progress showed them: of a child that wrote no result."""
    stderr: str = ""


def judge(plan: ChildPlan, result: ChildResult | None, seen: Exit) -> tuple[Outcome, str]:
    """The outcome and its sentence. `result` is None where the child wrote none."""
    steps = result.steps if result else seen.steps
    planned = max(plan.warmup, 1) + plan.steps
    made = f"{steps} of {planned} steps"
    if result and result.ending == "bounded":
        if seen.cut:
            return "bounded", f"made its {planned} steps; it did not end after them and was ended"
        return "bounded", f"made its {planned} steps"
    if seen.cut:
        if not steps:
            return "time-limit", (
                f"no optimizer step was seen in {_seconds(seen.time_limit_s)} (time limit)" + _children(result)
            )
        return "time-limit", f"reached the time limit of {_seconds(seen.time_limit_s)} after {made}"
    if seen.status == CANNOT_WRITE and "mpaudit: cannot write" in seen.stderr:
        return "disk-full", f"mpaudit could not write the run's result: {_reason(seen.stderr)}"
    if seen.status < 0:
        return "killed", f"killed by {_signal(-seen.status)} after {made}" + _oom_killer(-seen.status)
    error = result.error if result else None
    if error is not None:
        at = f" at {error.path}:{error.line}" if error.path else ""
        text = f"{error.type}: {_head(error.message)}".rstrip(": ")
        if result and result.ending == "out-of-memory":
            return "out-of-memory", f"ran out of memory{at} after {made}: {text}"
        if _is_disk_full(error):
            return "disk-full", f"the disk is full{at} after {made}: {text}"
        return "exception", f"raised {text}{at} after {made}"
    if seen.status:
        return "exit", f"ended with exit code {seen.status} after {made}"
    if not steps:
        return "no-steps", "ended without a step of an optimizer and without a backward pass" + _children(result)
    return "completed", f"completed early, after {made}"


def _head(message: str) -> str:
    """The first line, without colours; the traceback has it all."""
    line = next(filter(str.strip, _COLOUR.sub("", message).splitlines()), "").strip()
    return line if len(line) <= LONGEST else line[:LONGEST].rsplit(" ", 1)[0] + " …"


def _seconds(number: float) -> str:
    return f"{number:.0f} s" if number >= 10 else f"{number:.2g} s"


def _children(result: ChildResult | None) -> str:
    if result is None or not result.children:
        return ""
    return f"; it started {result.children} other processes, and none of those that could be watched trained"


def _is_disk_full(error: ScriptError) -> bool:
    return f"[Errno {errno.ENOSPC}]" in error.message or f"[Errno {errno.EDQUOT}]" in error.message


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _oom_killer(number: int) -> str:
    return "; the system ends processes so when memory runs out" if number == 9 else ""


def _reason(stderr: str) -> str:
    line = next(line for line in reversed(stderr.splitlines()) if "mpaudit: cannot write" in line)
    return line.partition("mpaudit: cannot write ")[2]
