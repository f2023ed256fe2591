"""SIGTERM and SIGHUP end a command as an interrupt does: what it has started and laid down is cleared away first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP")
"""Windows has no SIGHUP."""


class Ended(KeyboardInterrupt):
    """Passes all that an interrupt passes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Heeded:
    """The signal that came, if one did."""

    number: int = signal.SIGINT

    @property
    def status(self) -> int:
        """The exit code of a command that was interrupted, as a shell has it."""
        return 128 + self.number


@contextmanager
def as_interrupts() -> Iterator[Heeded]:
    """Raises `Ended` at the first of them; those that follow it (`timeout` sends two) do not disturb the clearing
    away. One that was ignored on entry, as by nohup, stays so."""
    heeded = Heeded()
    terminals = [stream for stream in (1, 2) if _is_terminal(stream)]
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        for stream in terminals:
            if not _is_terminal(stream):
                _into_nothing(stream)
        heeded.number = number
        raise Ended(number)

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        before = {number: was for number in numbers if (was := signal.getsignal(number)) == signal.SIG_DFL}
    for number in before:
        signal.signal(number, end)
    try:
        yield heeded
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:
        return False


def _into_nothing(stream: int) -> None:
    """A terminal that has gone away gives an error at each word that is written to it."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream)
    os.close(nothing)
