"""Training that stays on the CPU unless it is told another device, which nothing in the project does."""

from __future__ import annotations

from ..facts.devices import ANYTHING
from .definitions import FunctionInfo, Site
from .linker import Project
from .trace import Trace


def untold(project: Project, trace: Trace) -> frozenset[Site]:
    """Backward passes in a function, or in a method of a class, whose device is the CPU by default, and that no call in
    the project hands another one."""
    units = [unit for module in project.modules.values() for unit in module.outline.units]
    if not any(unit.resting for unit in units):
        return frozenset()
    told = {name for unit in units for name in unit.told}
    if ANYTHING in told:
        return frozenset()
    homes = {backward.site: project.function_at(backward.site) for backward in trace.backwards}
    return frozenset(site for site, home in homes.items() if home is not None and _rests(home, told))


def _rests(home: FunctionInfo, told: set[str]) -> bool:
    names = {home.name} | ({home.cls.name} if home.cls is not None else set())
    resting = {name for unit in home.module.outline.units if unit.first_line <= home.first_line <= unit.last_line
               for name in unit.resting}  # fmt: skip
    return bool(names & resting) and not names & told and "cuda" not in home.names
