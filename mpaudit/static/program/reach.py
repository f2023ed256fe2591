"""Which functions matter: those that hold protocol code, and those that by name can reach some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..facts import ir
from .definitions import (
    ClassInfo,
    FunctionInfo,
    ModuleInfo,
)
from .nodes import walk_nodes, walk_statements
from .vocabulary import EVENT_WORDS, MAKER_WORDS, PROTOCOL_WORDS, is_event_node, is_protocol_node

if TYPE_CHECKING:
    from .linker import Project

_BY_CLASS_ONLY = frozenset(
    [
        "__init__",
        "__call__",
        "forward",
        "__enter__",
        "__exit__",
        "__getitem__",
        "__iter__",
        "__len__",
        "update",
        "step",
        "get",
        "items",
        "keys",
        "values",
        "append",
        "add",
        "reset",
        "log",
        "print",
        "write",
        "close",
        "load",
        "format",
        "size",
        "to",
    ]
)
"""Names too common to say what is called; calls of modules and of a class's objects are found by the class.
A `step` or an `update` that matters is protocol code by itself."""


def mark_live(project: Project) -> None:
    """Functions that hold protocol code, and, by name, those that can reach one; and the names of those that can
    reach an event."""
    named: set[str] = set()
    holders: dict[str, list[FunctionInfo | ClassInfo]] = {}
    queue: list[FunctionInfo] = []
    for module in project.modules.values():
        for info in module.nested:
            if is_live(info):
                info.live = True
                queue.append(info)
            if info.name not in _BY_CLASS_ONLY:
                holders.setdefault(info.name, []).append(info)
        for cls in module.classes.values():
            holders.setdefault(cls.name, []).append(cls)
        for name, value in _named_lambdas(module):
            if any(is_protocol_node(part) for part in walk_nodes(value.body)):
                project.live_names.add(name)
                named.add(name)
    users: dict[str, list[FunctionInfo]] = {}
    functions = [info for module in project.modules.values() for info in module.nested]
    for info in functions:
        for name in info.names & holders.keys():
            users.setdefault(name, []).append(info)
    for info in functions:
        if not info.live and info.names & named:
            info.live = True
            queue.append(info)
    while queue:
        info = queue.pop()
        reached = [info.name] if info.name not in _BY_CLASS_ONLY else []
        if info.cls is not None and not info.cls.live:
            info.cls.live = True
            reached.append(info.cls.name)
            init = info.cls.methods.get("__init__")
            if init is not None and not init.live:  # what it sets is what the method works on
                init.live = True
                queue.append(init)
            for base in project.bases_of(info.cls):
                if "__init__" in base.methods:
                    base.methods["__init__"].live = True
        if info.parent is not None and not info.parent.live:
            info.parent.live = True
            queue.append(info.parent)
        project.live_names.update(reached)
        for name in reached:
            for user in users.get(name, ()):
                if not user.live:
                    user.live = True
                    queue.append(user)
    names, project.acting = _those_that_reach([info for info in functions if _acts(info)], users)
    made = _made_to_act(project)
    project.acting_names |= named | names | made
    project.live_names |= made


def _made_to_act(project: Project) -> set[str]:
    """`train_step = get_step_fn(True)`, of a function with one inside that reaches an event: names for that one."""
    makers = {info.name for info in project.acting if info in info.module.around}
    return {
        target.id if isinstance(target, ir.Name) else target.name
        for module in (project.modules.values() if makers else ())
        for stmt in _assignments(module)
        if isinstance(stmt.value, ir.Call) and isinstance(stmt.value.func, ir.Name | ir.Attr)
        and (stmt.value.func.id if isinstance(stmt.value.func, ir.Name) else stmt.value.func.name) in makers
        for target in stmt.targets if isinstance(target, ir.Name | ir.Attr)
    }  # fmt: skip


def _those_that_reach(
    acting: list[FunctionInfo], users: dict[str, list[FunctionInfo]]
) -> tuple[set[str], set[FunctionInfo]]:
    """The functions in `acting` and what uses them by name; before them their names and those of their classes."""
    found: set[str] = set()
    seen = set(acting)
    queue = list(acting)
    while queue:
        info = queue.pop()
        reached = {info.name} - _BY_CLASS_ONLY | ({info.cls.name} if info.cls is not None else set())
        around = [info.parent] if info.parent is not None else []
        new = {user for name in reached - found for user in users.get(name, ())} | {*around}
        found |= reached
        queue += new - seen
        seen |= new
    return found, seen


def _named_lambdas(module: ModuleInfo) -> Iterator[tuple[str, ir.Lambda]]:
    """`step = lambda loss: …` and `self.step = lambda loss: …`, anywhere in a module."""
    for node in _assignments(module):
        if isinstance(node.value, ir.Lambda):
            for target in node.targets:
                if isinstance(target, ir.Name | ir.Attr):
                    yield target.id if isinstance(target, ir.Name) else target.name, node.value


def _assignments(module: ModuleInfo) -> Iterator[ir.Assign]:
    """In functions, in bodies of classes and at the top."""
    bodies = [info.node.body for info in module.nested if info.node is not None]
    bodies += [cls.node.body for cls in module.classes.values() if cls.node is not None]
    for body in (*bodies, *(stmts for unit, stmts in module.chunks if unit.kind == "code" and stmts)):
        yield from (stmt for stmt in walk_statements(body) if isinstance(stmt, ir.Assign))


def is_live(info: FunctionInfo) -> bool:
    """Whether a function is live by itself."""
    aliases = {name for name, _, attribute in info.module.outline.imports if attribute in PROTOCOL_WORDS}
    return bool(info.names & (MAKER_WORDS | aliases)) or any(map(is_protocol_node, info.nodes))


def _acts(info: FunctionInfo) -> bool:
    """Whether a function holds an event."""
    perhaps = not info.names.isdisjoint(("step", "update"))
    return bool(info.names & EVENT_WORDS) or (perhaps and any(map(is_event_node, info.nodes)))
