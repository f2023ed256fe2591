"""Ends what a run has started: its session, and what has left the session."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from mpaudit.runtime.surroundings import RUN_VARIABLE

_LAST_WORDS_S = 3.0
_GONE_S = 5.0


def end(child: subprocess.Popen[bytes], folder: str) -> None:
    """Ends the child and all that it started. The child has been waited for when this returns.

    A process in the session of the child is reached by its group. One that has a session of its own (a daemon, the
    workers of torchrun) is known by the run's variable in its environment, where the system shows it (Linux).
    """
    if child.poll() is None:
        # the handler of the child writes what was measured so far
        _signal_group(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_LAST_WORDS_S)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + _GONE_S
    while strays := _processes_of(folder):
        for process in strays:
            _end(process)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _signal_group(leader: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody is left in it (macOS: PermissionError)
        os.killpg(leader, number)


def _end(process: int) -> None:
    with suppress(ProcessLookupError):  # it ended meanwhile
        os.kill(process, signal.SIGKILL)


def _processes_of(folder: str) -> list[int]:
    wanted = f"{RUN_VARIABLE}={folder}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # ended, or another user's
            continue
        if wanted in variables:
            found.append(int(entry.name))
    return found
