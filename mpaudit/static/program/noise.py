"""Loops that train on random numbers of their own making: they try out a loss or a layer, however many the steps."""

from __future__ import annotations

from collections.abc import Iterable

from ..facts import ir
from .definitions import ModuleInfo, Site
from .linker import Project
from .nodes import walk_nodes, walk_statements
from .trace import Trace

_RANDOM = frozenset(("rand", "randn", "randint"))
_LIBRARIES = frozenset(("torch", "th", "nn", "F"))


def trains_on_noise(project: Project, trace: Trace) -> frozenset[Site]:
    """Backward passes in functions and scripts of which all loops with one are fed by nothing but random numbers."""
    bodies = {b.site: _body(project, b.site) for b in trace.backwards}
    known = {id(body): _feeds_itself(body) for body in bodies.values()}
    return frozenset(site for site, body in bodies.items() if known[id(body)])


def _body(project: Project, site: Site) -> tuple[ir.Stmt, ...]:
    """The function around a place, or all of the top-level code."""
    home = project.function_at(site)
    if home is not None:
        return home.node.body if home.node is not None else ()
    return _top_level(project.modules[site.path])


def _top_level(module: ModuleInfo) -> tuple[ir.Stmt, ...]:
    return tuple(stmt for unit, stmts in module.chunks if unit.kind == "code" for stmt in stmts or ())


def _feeds_itself(body: Iterable[ir.Stmt]) -> bool:
    loops = [stmt for stmt in walk_statements(body) if isinstance(stmt, ir.For | ir.While) and _trains(stmt)]
    return bool(loops) and all(isinstance(loop, ir.For) and _counts(loop) and _makes_all(loop.body) for loop in loops)


def _trains(loop: ir.For | ir.While) -> bool:
    return any(isinstance(n, ir.Call) and isinstance(n.func, ir.Attr) and n.func.name == "backward"
               for n in walk_nodes(loop.body))  # fmt: skip


def _counts(loop: ir.For) -> bool:
    made = loop.iterable
    return isinstance(made, ir.Call) and isinstance(made.func, ir.Name) and made.func.id in ("range", "trange")


def _makes_all(body: tuple[ir.Stmt, ...]) -> bool:
    """Whether random tensors are made first, and whatever else is computed comes from these alone."""
    made: set[str] = set()
    for stmt in walk_statements(body):
        if isinstance(stmt, ir.For | ir.While) and not (isinstance(stmt, ir.For) and _counts(stmt)):
            return False
        if isinstance(stmt, ir.Assign) and any(isinstance(n, ir.Call | ir.Sub) for n in walk_nodes(stmt.value)):
            if not (_is_random(stmt.value) or (made and _handed(stmt.value) <= made)):
                return False
            made.update(node.id for node in walk_nodes(stmt.targets) if isinstance(node, ir.Name))
    return bool(made)


def _is_random(value: ir.Expr) -> bool:
    """`torch.randn(8, 3, 224, 224).cuda()`"""
    while isinstance(value, ir.Call) and isinstance(value.func, ir.Attr):
        if value.func.name in _RANDOM:
            return isinstance(value.func.base, ir.Name) and value.func.base.id in ("torch", "th")
        value = value.func.base
    return False


def _handed(value: ir.Expr) -> set[str]:
    """The variables that calls are handed or that parts are taken of; "" for a call that is handed nothing."""
    found: set[str] = set()
    for node in walk_nodes(value):
        if isinstance(node, ir.Call):
            found |= _variables((*node.args, *(given for _, given in node.keywords)))
            if isinstance(node.func, ir.Attr):
                found |= _variables(node.func.base)
            elif not node.args:
                found.add("")
        elif isinstance(node, ir.Sub):
            found |= _variables(node)
    return found


def _variables(parts: object) -> set[str]:
    """Names below some nodes, without those of functions that are called by their name."""
    called = {id(node.func) for node in walk_nodes(parts) if isinstance(node, ir.Call)}
    names = {node.id for node in walk_nodes(parts) if isinstance(node, ir.Name) and id(node) not in called}
    return names - _LIBRARIES
