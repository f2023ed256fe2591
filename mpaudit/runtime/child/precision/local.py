"""Autocast as each thread sees it: torch keeps its state per thread, and so do we."""

from __future__ import annotations

import threading
from typing import Any


class Local(threading.local):
    """The state of one thread."""

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.regions = 0
        """Autocast regions that others than us have entered and not left yet."""
        self.span: Any = None
        """The autocast region that we have opened."""
        self.number = 0
        """Of the span."""
        self.whole = False
        """The span ends with the call that it began with."""
        self.leaving = False
        """The span ends as soon as the script's own region in it does."""
        self.suspended = False
        """The span is off for as long as `torch.autograd.grad` runs."""
        self.alive: set[int] = set()
        """The forwards of this span whose graph exists, by number."""
        self.held = False
        """A forward of this span gave something that cannot be followed."""
        self.ended = 0
        """Autograd's sequence number at the end of the last span: what is computed later is not of it."""
        self.calling = False
        """Inside an outermost call."""
        self.stepping = False
        """Inside the step of an optimizer."""
        self.watched = False
        """The mode that waits for the first use of a weight is on."""
        self.handling = 0
        """Calls that this mode is handling."""
