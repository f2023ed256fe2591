"""Walks over the facts of a module: statements, and all nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from ..facts import ir


def walk_statements(stmts: Iterable[ir.Stmt]) -> Iterator[ir.Stmt]:
    """Statements and those nested in them, not into functions and classes; in source order."""
    for stmt in stmts:
        yield stmt
        match stmt:
            case ir.If() | ir.For() | ir.While():
                yield from walk_statements(stmt.body)
                yield from walk_statements(stmt.orelse)
            case ir.With():
                yield from walk_statements(stmt.body)
            case ir.Try():
                yield from walk_statements(stmt.body)
                for _, _, body in stmt.handlers:
                    yield from walk_statements(body)
                yield from walk_statements(stmt.orelse)
                yield from walk_statements(stmt.finalbody)
            case ir.Match():
                for _, _, _, body in stmt.cases:
                    yield from walk_statements(body)
            case _:
                pass


def targets_of(target: ir.Expr) -> Iterator[str]:
    """The names that an assignment binds."""
    if isinstance(target, ir.Name):
        yield target.id
    elif isinstance(target, ir.Star):
        yield from targets_of(target.value)
    elif isinstance(target, ir.Seq):
        for item in target.items:
            yield from targets_of(item)


def names_bound(body: Iterable[ir.Stmt]) -> Iterator[str]:
    """Names that are assigned anywhere in a body, as often as they are."""
    for stmt in walk_statements(body):
        targets: Iterable[ir.Expr | None] = ()
        match stmt:
            case ir.Assign():
                targets = stmt.targets
            case ir.For() | ir.AugAssign():
                targets = (stmt.target,)
            case ir.With():
                targets = (target for _, target, _ in stmt.items)
            case _:
                pass
        for target in targets:
            if target is not None:
                yield from targets_of(target)


def always_leaves(body: tuple[ir.Stmt, ...]) -> bool:
    """Whether the end of a body is never reached, by its last statement."""
    match body[-1:]:
        case (ir.Return() | ir.Raise(),):
            return True
        case (ir.If() as last,):
            return bool(last.orelse) and always_leaves(last.body) and always_leaves(last.orelse)
        case (ir.With() as last,):
            return always_leaves(last.body)
        case _:
            return False


def walk_nodes(root: object) -> Iterator[object]:
    """Every ir node below `root` (a node or a tuple), into functions and classes too; iterative."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is tuple:
            stack += node[::-1]
        elif kind in CHILDREN:
            yield node
            stack += [getattr(node, name) for name in CHILDREN[kind]]


def _children(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name in reversed(kind.__struct_fields__) if kind is not ir.Const and name not in _SCALARS)


_SCALARS = frozenset(["span", "id", "name", "names", "op", "kind", "is_async", "is_generator", "bindings", "fields"])
CHILDREN = {kind: _children(kind) for kind in (*get_args(ir.Stmt), *get_args(ir.Expr), ir.Param)}
"""Of each class of node the fields that can hold nodes, the last one first."""


def names_among(nodes: Iterable[object]) -> frozenset[str]:
    """Names of variables and attributes."""
    found = set()
    for node in nodes:
        kind = type(node)
        if kind is ir.Name:
            found.add(node.id)  # type: ignore[attr-defined]
        elif kind is ir.Attr:
            found.add(node.name)  # type: ignore[attr-defined]
    return frozenset(found)
