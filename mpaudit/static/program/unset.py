"""Scalers that are not there: read from an attribute of something unknown that nothing in the project sets."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from ..facts import ir
from .code import code_of
from .definitions import ClassInfo
from .linker import Project
from .trace import Trace


def unset_scalers(project: Project, trace: Trace) -> frozenset[Hashable]:
    """`args.scaler_s` where only `args.scaler` is ever set: the first step raises AttributeError."""
    read = {step.scaler: name for step in trace.steps if (name := _attribute(step.scaler))}
    if not read:
        return frozenset()
    told = {word for code in code_of(project) for node in code.nodes for word in _told(node)}
    fields = {word for module in project.modules.values() for cls in module.classes.values() for word in _fields(cls)}
    return frozenset(scaler for scaler, name in read.items() if name not in told | fields)


def _attribute(scaler: Hashable) -> str:
    """The last name of an attribute of an argument or of what a call gave, which no class of the project describes."""
    match scaler:
        case ("attr", ("param" | "call", *_), str(name)):
            return name
        case _:
            return ""


def _fields(cls: ClassInfo) -> Iterator[str]:
    for stmt in cls.node.body if cls.node is not None else ():
        if isinstance(stmt, ir.Assign):
            yield from (target.id for target in stmt.targets if isinstance(target, ir.Name))


def _told(node: object) -> Iterator[str]:
    """Names by which attributes may be set: assigned, given as keywords, or spelled in a text, as options are."""
    match node:
        case ir.Assign():
            yield from (target.name for target in node.targets if isinstance(target, ir.Attr))
        case ir.Call():
            yield from (name for name, _ in node.keywords)
        case ir.Const(str(text)):
            yield text.lstrip("-").replace("-", "_")
        case _:
            pass
