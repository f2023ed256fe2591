"""Stops a training after the planned steps, whatever the script does about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mpaudit.runtime.protocol import Stop as How

from .steps import Steps
from .writer import leave


class Stop(SystemExit):
    """Ends the script as `sys.exit(0)` would: it passes `except Exception`, ends a thread or a worker process without
    a traceback, and lets `finally` blocks run."""


@dataclass(slots=True)
class Bound:
    """Raises at the first step past the bound. A script that goes on (bare `except:`) is ended at the next."""

    steps: Steps
    how: How
    reached: Callable[[], None]
    """Keeps what was measured; called once, before anything is raised."""
    fired: bool = False

    def check(self) -> None:
        if not self.steps.reached:
            return
        if self.fired:
            leave(0)
        self.fired = True
        self.reached()
        if self.how == "hard":
            leave(0)
        raise Stop(0)
