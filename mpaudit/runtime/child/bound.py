"""Stops a training after the planned steps, whatever the script does about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mpaudit.runtime.protocol import Stop as How

from .writer import leave


class Stop(SystemExit):
    """Ends the script as `sys.exit(0)` would: it passes `except Exception`, ends a thread or a worker process without
    a traceback, and lets `finally` blocks run."""


@dataclass(slots=True)
class Bound:
    """Raises at the last planned step. A script that goes on (bare `except:`) is ended at the next."""

    how: How
    reached: Callable[[], None]
    """Keeps what was measured; called once, before anything is raised."""
    fired: bool = False

    def end(self) -> None:
        """Called at the end of each step from the last planned one on."""
        if self.fired:
            leave(0)
        self.fired = True
        self.reached()
        if self.how == "hard":
            leave(0)
        raise Stop(0)
