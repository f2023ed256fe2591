"""The user's files and accounts are safe while a script runs several times.

Three nets. The overlay leads writes into the run's folder, where the script reads them back; an audit hook refuses
what slips past it in Python; Landlock, where the kernel has it, refuses what is done past Python. Trackers are offline.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType

from mpaudit.runtime.protocol import ChildPlan, Place

from .. import places
from ..patches import Patches
from . import areas, functions, landlock, net, trackers, writers
from .overlay import Overlay, Path

_KEPT = 200
"""So many lines are listed at most."""


def install(plan: ChildPlan, patches: Patches) -> tuple[dict[Place, None], dict[str, Callable[[ModuleType], None]]]:
    """Puts the guard in place. Gives the list that what is led elsewhere is written into, and what is to be done when
    modules are imported."""
    seen: dict[Place, None] = {}

    def report(verb: str, path: Path) -> None:
        if len(seen) < _KEPT and not areas.is_cache(overlay.absolute(path)):
            place = places.caller(f"{verb} {os.fsdecode(path)}")
            if place is not None:
                seen[place] = None

    sys.dont_write_bytecode = True
    patches.note("sys.dont_write_bytecode")
    free = areas.free()
    overlay = Overlay(plan.folder, free)
    callbacks = trackers.install(plan.folder, patches)
    callbacks |= writers.callbacks(overlay, report, patches)
    if landlock.install((plan.folder, *free)):
        patches.note("landlock")
    functions.install(overlay, report, patches)
    net.install(overlay, report)
    patches.note("sys.addaudithook")
    return seen, callbacks
