"""Runs one `ChildPlan`: Python on the user's script, watched from outside.

The child is the interpreter that a user would start (`python script.py …`), in the user's working directory, so that
`sys.argv`, `sys.path[0]`, `__file__` and `__main__` are Python's own. mpaudit enters through `site/sitecustomize.py`,
which also reaches the processes that the script starts. The child has a session of its own; when it ends, however it
ends, nothing that it started is left.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mpaudit.runtime import leftovers, surroundings
from mpaudit.runtime.outcome import Exit, Outcome, judge
from mpaudit.runtime.protocol import PLAN_FILE, ChildPlan, ChildResult
from mpaudit.runtime.results import LAYER, gather, steps_so_far

TAIL = 64 * 1024
"""Bytes kept of each output stream of the script: the last ones."""

GRACE_S = 30.0
"""After the planned steps: how long the script's own `finally` blocks and exit handlers may take."""

_POLL_S = 0.05

Progress = Callable[[int], None]
"""Is told the number of steps made, a few times per second."""


class RunRecord(msgspec.Struct, frozen=True):
    """One run as the parent saw it."""

    plan: ChildPlan
    outcome: Outcome
    sentence: str
    """The outcome in words, for the report."""
    result: ChildResult | None
    """None where the child died before it could write one."""
    stdout: str
    """The end of what the script printed."""
    stderr: str
    wall_s: float


def run(
    plan: ChildPlan,
    *,
    time_limit_s: float,
    on_progress: Progress | None = None,
    cwd: str | None = None,
    grace_s: float = GRACE_S,
) -> RunRecord:
    """Runs `plan` to its end, its bound or `time_limit_s`, and leaves no process behind, and of files the result.

    Raises KeyboardInterrupt after the child's end where the user interrupts, and OSError where the run's folder or
    the interpreter cannot be used.
    """
    folder = Path(plan.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "the folder of a run must be empty", plan.folder)
    (folder / PLAN_FILE).write_bytes(msgspec.json.encode(plan))
    with tempfile.TemporaryDirectory(prefix="mpaudit-", ignore_cleanup_errors=True) as scratch:
        start = time.monotonic()
        child: subprocess.Popen[bytes] | None = None
        try:
            with _interrupts_held_back():  # a child that nobody knows of would go on
                child = subprocess.Popen(
                    surroundings.command(plan),
                    cwd=cwd,
                    env=surroundings.environment(plan, scratch),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
                assert child.stdout is not None and child.stderr is not None
                stdout, stderr = _Tail(child.stdout.fileno()), _Tail(child.stderr.fileno())
            cut = _wait(child, folder, start, time_limit_s, grace_s, on_progress)
        finally:
            if child is not None:
                leftovers.end(child, plan.folder)
                wall = time.monotonic() - start
                texts = stdout.text(), stderr.text()
                for stream in (child.stdout, child.stderr):
                    if stream is not None:
                        stream.close()
                # the checkpoints of one run after the other would fill the disk
                shutil.rmtree(folder / LAYER, ignore_errors=True)
    result = _with_status(gather(folder), child.returncode)
    steps, _ = steps_so_far(folder)
    seen = Exit(status=child.returncode, cut=cut, time_limit_s=time_limit_s, steps=steps, stderr=texts[1])
    outcome, sentence = judge(plan, result, seen)
    return RunRecord(plan, outcome, sentence, result, *texts, wall_s=wall)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Signals that raise come at the end of the block."""
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: was for number in numbers if callable(was := signal.getsignal(number))}
    for number in before:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
    for number in came:
        signal.raise_signal(number)


def _wait(
    child: subprocess.Popen[bytes],
    folder: Path,
    start: float,
    limit_s: float,
    grace_s: float,
    on_progress: Progress | None,
) -> bool:
    """Until the child ends (False) or its time is over (True)."""
    shown, bound_at = -1, None
    while True:
        try:
            child.wait(_POLL_S)
            return False
        except subprocess.TimeoutExpired:
            pass
        steps, bounded = steps_so_far(folder)
        if on_progress is not None and steps != shown:
            shown = steps
            on_progress(steps)
        now = time.monotonic()
        if bounded and bound_at is None:
            bound_at = now
        if bound_at is not None and now - bound_at > grace_s:
            return True
        if now - start > limit_s:
            return True


def _with_status(result: ChildResult | None, status: int) -> ChildResult | None:
    """A process does not know the exit code that `sys.exit` gives it; the parent does."""
    if result is None or status <= 0 or result.ending not in ("completed", "no-steps"):
        return result
    return msgspec.structs.replace(result, ending="exit", exit_status=status)


class _Tail:
    """Reads a stream to its end, in a thread of its own, and keeps the last bytes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._descriptor, 1 << 16):
            self._kept += chunk
            if len(self._kept) > 2 * TAIL:
                del self._kept[:-TAIL]

    def text(self) -> str:
        # every writer is dead by now; the limit is for a pipe that was handed to a process out of our reach
        self._thread.join(5)
        return bytes(self._kept[-TAIL:]).decode(errors="replace")
