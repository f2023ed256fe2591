"""All code of a project that was read, in pieces: functions with what is inside of them, and top-level statements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..facts import ir
from .definitions import FunctionInfo, Site
from .linker import Project
from .nodes import names_among


@dataclass(frozen=True, slots=True)
class Code:
    nodes: tuple[object, ...]
    names: frozenset[str]
    function: FunctionInfo | None
    """None for top-level statements."""
    path: str
    shift: int
    """What is to be added to a line of a node."""

    def site(self, span: ir.Span) -> Site:
        line, column, end_line, end_column = span
        return Site(self.path, line + self.shift, column, end_line + self.shift, end_column)


def code_of(project: Project) -> Iterator[Code]:
    for module in project.modules.values():
        for info in module.nested:
            if info.parent is None:
                yield Code(info.nodes, info.names, info, module.path, info.first_line - 1)
        for unit, nodes in module.pieces:
            if unit.kind == "code":
                yield Code(nodes, names_among(nodes), None, module.path, unit.first_line - 1)
