"""The user's files and accounts are safe while a script runs several times."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from mpaudit.runtime.protocol import ChildPlan, Place

from ..patches import Patches


def install(plan: ChildPlan, patches: Patches) -> tuple[dict[Place, None], dict[str, Callable[[ModuleType], None]]]:
    """Puts the guard in place. Gives the list that what is led elsewhere is written into, and what is to be done when
    modules are imported."""
    return {}, {}
