"""Scalers that a class makes for itself and keeps to itself: whatever is done to one, its methods do, whoever calls
them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from ..facts import ir
from .definitions import ClassInfo, FunctionInfo, Site
from .linker import Project
from .values import Ref


def keeper(project: Project, scaler: Hashable | None) -> tuple[ClassInfo, str] | None:
    """The class whose objects alone can get at a scaler, and the attribute that holds it; None where there is none."""
    if not isinstance(scaler, Ref) or scaler.kind != "scaler" or not isinstance(scaler.id, Site):
        return None
    maker = project.function_at(scaler.id)
    if maker is None or maker.cls is None or maker.name != "__init__":
        return None
    names = [name for name, assigns in maker.cls.attribute_assigns.items() if any(_makes(expr) for _, expr in assigns)]
    if len(names) != 1 or not names[0].startswith("_") or not _is_kept(project, names[0]):
        return None
    return maker.cls, names[0]


def calls(project: Project, cls: ClassInfo, name: str, methods: frozenset[str]) -> set[FunctionInfo]:
    """The functions of a class, its bases and subclasses that call one of `methods` on an attribute."""
    return {
        info
        for info in _methods(project)
        if info.cls is not None and project.related(info.cls, cls)
        for node in info.nodes
        if isinstance(node, ir.Attr) and node.name in methods
        if isinstance(node.base, ir.Attr) and node.base.name == name
    }


def _methods(project: Project) -> Iterator[FunctionInfo]:
    return (info for module in project.modules.values() for info in module.nested if info.node is not None)


def _makes(expr: ir.Expr) -> bool:
    callee = expr.func if isinstance(expr, ir.Call) else None
    return (callee.name if isinstance(callee, ir.Attr) else getattr(callee, "id", "")) == "GradScaler"


def _is_kept(project: Project, name: str) -> bool:
    """Whether the attribute is only ever one of an object's own, of which methods are called, or which is assigned or
    compared: nothing hands it on."""
    for module in project.modules.values():
        if name not in module.names:
            continue
        for info in module.nested:
            if info.parent is None and not _keeps(info.nodes, _self_of(info), name):
                return False
        if any(not _keeps(nodes, "", name) for unit, nodes in module.pieces if unit.kind == "code"):
            return False
    return True


def _self_of(info: FunctionInfo) -> str:
    return info.node.params[0].name if info.cls is not None and info.node is not None and info.node.params else ""


def _keeps(nodes: tuple[object, ...], me: str, name: str) -> bool:
    held, allowed = 0, 0
    for node in nodes:
        if isinstance(node, ir.Const) and node.value == name:
            return False
        parts: tuple[object, ...] = ()
        if isinstance(node, ir.Attr):
            if node.name == name:
                held += 1
                if not (isinstance(node.base, ir.Name) and node.base.id == me):
                    return False
            parts = (node.base,)
        elif isinstance(node, ir.Assign):
            parts = node.targets
        elif isinstance(node, ir.Compare):
            parts = (node.left,)
        allowed += sum(isinstance(part, ir.Attr) and part.name == name for part in parts)
    return held == allowed
