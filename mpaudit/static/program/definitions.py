"""What a module defines: functions, classes, and the module itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ..facts import ir
from .nodes import always_leaves, names_among, names_bound, walk_nodes, walk_statements


class Site(NamedTuple):
    """A range in a file of the project."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int


_INNER = frozenset((ir.FunctionDef, ir.ClassDef, ir.Lambda, ir.Global, ir.Nonlocal))


@dataclass(eq=False)
class FunctionInfo:
    module: "ModuleInfo"
    name: str
    qualname: str
    node: ir.FunctionDef | None
    """None where the triage found nothing in it that matters."""
    first_line: int
    cls: "ClassInfo | None" = None
    parent: "FunctionInfo | None" = None
    live: bool = False
    """It holds, or calls something that holds, code that an audit cares for."""

    def __repr__(self) -> str:
        return f"{self.module.path}:{self.qualname}"

    @cached_property
    def nodes(self) -> tuple[object, ...]:
        """All that it consists of, what is inside of it included; see `walk_nodes`."""
        return tuple(walk_nodes(self.node))

    @cached_property
    def names(self) -> frozenset[str]:
        """All names that it mentions, plain or as an attribute."""
        return names_among(self.nodes)

    @cached_property
    def updates(self) -> bool:
        """Whether its body names an `update` or a `step`."""
        if self.names.isdisjoint(("update", "step")):
            return False
        return any(isinstance(n, ir.Attr) and n.name in ("update", "step") for n in self.nodes)

    @cached_property
    def scales(self) -> bool:
        """Whether its body calls what may be a scaler's `scale` or `unscale_`."""
        if self.names.isdisjoint(("scale", "unscale_")):
            return False
        calls = (n.func for n in walk_nodes(() if self.node is None else self.node.body) if isinstance(n, ir.Call))
        return any(isinstance(func, ir.Attr) and func.name in ("scale", "unscale_") for func in calls)

    @cached_property
    def rebinds(self) -> frozenset[str]:
        """Names that it, or a function inside of it, says are not its own."""
        return frozenset(name for n in self.inner if isinstance(n, ir.Global | ir.Nonlocal) for name in n.names)

    @cached_property
    def inner(self) -> tuple[object, ...]:
        """The functions, lambdas and classes inside of it, and what says that a name is not its own."""
        return tuple(n for n in self.nodes if type(n) in _INNER and n is not self.node)

    @cached_property
    def hands_on(self) -> bool:
        """A small helper that only hands values on, what a network that it is given makes of a batch, or a method that
        gives the parameters of its own parts in groups, as optimizers take them."""
        if self.node is None:
            return False
        if self.cls is not None and "parameters" in self.names:
            return any(isinstance(node, ir.Return) and node.value is not None for node in self.nodes)
        if len(self.node.body) > 6:
            return False
        return (
            bool(self.rebinds)
            or self._calls_what_it_is_given
            or any(
                isinstance(s, ir.Return)
                or (isinstance(s, ir.Assign) and any(isinstance(t, ir.Attr) for t in s.targets))
                for s in self.node.body
            )
        )

    @cached_property
    def gives_back(self) -> tuple[str | tuple[str, ...], ...]:
        """The parameters that it gives back as it got them, of each `return`: one, or a tuple with '' for what is
        something else. Empty where it may give back anything else."""
        node = self.node
        if node is None or node.is_generator or node.is_async or not always_leaves(node.body):
            return ()
        bound = {*names_bound(node.body), *(n.name for n in self.nodes if isinstance(n, ir.Walrus)), *self.rebinds}
        kept = {param.name for param in node.params if param.kind in ("pos", "kw")} - bound
        found: dict[str | tuple[str, ...], None] = {}
        for stmt in walk_statements(node.body):
            match stmt:
                case ir.Return(value=ir.Name(id=name)) if name in kept:
                    found[name] = None
                case ir.Return(value=ir.Seq(kind="tuple", items=items)):
                    names = tuple(i.id if isinstance(i, ir.Name) and i.id in kept else "" for i in items)
                    if not any(names):
                        return ()
                    found[names] = None
                case ir.Return():
                    return ()
                case _:
                    pass
        return tuple(found)

    @property
    def _calls_what_it_is_given(self) -> bool:
        """Without a loop, as a validation has one."""
        assert self.node is not None
        given = {param.name for param in self.node.params}
        inside = list(walk_nodes(self.node.body))
        called = (inner.func for inner in inside if isinstance(inner, ir.Call))
        if any(isinstance(inner, ir.For | ir.While) for inner in inside):
            return False
        return any(isinstance(callee, ir.Name) and callee.id in given for callee in called)

    @cached_property
    def occurrences(self) -> Counter[str]:
        """How often each name occurs in it."""
        return Counter(node.id for node in self.nodes if isinstance(node, ir.Name))


@dataclass(eq=False)
class ClassInfo:
    module: "ModuleInfo"
    name: str
    qualname: str
    node: ir.ClassDef | None
    first_line: int
    methods: dict[str, FunctionInfo] = field(default_factory=dict)
    live: bool = False
    _assigned: dict[FunctionInfo, frozenset[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.module.path}:{self.qualname}"

    def assigned_by(self, method: FunctionInfo) -> frozenset[str]:
        """Attributes that a method assigns, or another one that it names."""
        if method not in self._assigned:
            reached, queue = {method}, [method]
            while queue:
                names = queue.pop().names
                new = {other for name, other in self.methods.items() if name in names} - reached
                reached |= new
                queue += new
            self._assigned[method] = frozenset(
                name for name, assigns in self.attribute_assigns.items() if any(info in reached for info, _ in assigns)
            )
        return self._assigned[method]

    @cached_property
    def attribute_assigns(self) -> dict[str, list[tuple[FunctionInfo, ir.Expr]]]:
        """`self.name = expr` in any method, and in the functions inside it that share its self; in source order."""
        found: dict[str, list[tuple[FunctionInfo, ir.Expr]]] = {}
        for method in self.methods.values():
            if method.node is None or not method.node.params:
                continue
            me = method.node.params[0].name
            for stmt in _statements_that_share(method.node, me):
                if isinstance(stmt, ir.Assign):
                    for target in stmt.targets:
                        for name, value in _attribute_targets(target, stmt.value, me):
                            found.setdefault(name, []).append((method, value))
        return found

    @cached_property
    def class_assigns(self) -> dict[str, ir.Expr]:
        if self.node is None:
            return {}
        return {
            target.id: stmt.value
            for stmt in self.node.body
            if isinstance(stmt, ir.Assign)
            for target in stmt.targets
            if isinstance(target, ir.Name)
        }

    @cached_property
    def layers(self) -> frozenset[str]:
        """The other classes that its text calls or hands on, by the triage; empty where that does not know."""
        units = (unit for unit, _ in self.module.chunks if unit.kind == "class" and unit.name == self.name)
        return frozenset(name for unit in units for name in unit.calls if name[:1].isupper() and name != self.name)


def _statements_that_share(node: ir.FunctionDef, name: str) -> Iterator[ir.Stmt]:
    """The statements of a function, and of those inside it in which `name` is still the same."""
    for stmt in walk_statements(node.body):
        yield stmt
        if isinstance(stmt, ir.FunctionDef) and all(param.name != name for param in stmt.params):
            yield from _statements_that_share(stmt, name)


def _attribute_targets(target: ir.Expr, value: ir.Expr, me: str) -> Iterator[tuple[str, ir.Expr]]:
    if isinstance(target, ir.Attr) and isinstance(target.base, ir.Name) and target.base.id == me:
        yield target.name, value
    elif isinstance(target, ir.Seq):
        parts = value.items if isinstance(value, ir.Seq) and len(value.items) == len(target.items) else None
        for i, item in enumerate(target.items):
            yield from _attribute_targets(item, parts[i] if parts else ir.Opaque(), me)


@dataclass(eq=False)
class ModuleInfo:
    path: str
    parts: tuple[str, ...]
    """Path below the project root without the suffix; a package's `__init__` is the package."""
    is_package: bool
    outline: ir.Outline
    chunks: tuple[tuple[ir.Unit, tuple[ir.Stmt, ...] | None], ...]
    functions: dict[str, FunctionInfo] = field(default_factory=dict)
    classes: dict[str, ClassInfo] = field(default_factory=dict)
    nested: list[FunctionInfo] = field(default_factory=list)
    """All functions with a body, methods and inner functions too, in source order."""
    lambdas: dict[int, FunctionInfo] = field(default_factory=dict)
    """Those met so far, by the identity of their node."""
    around: set[FunctionInfo] = field(default_factory=set)
    """Functions that hold others, or a lambda met so far."""
    sites: dict[tuple[int, ir.Span], Site] = field(default_factory=dict)
    """Those met so far, by the first line of their unit and the span in it."""

    def __repr__(self) -> str:
        return self.path

    @cached_property
    def imports(self) -> dict[str, list[tuple[str, str]]]:
        """Local name → (module, attribute) of every import of it, anywhere in the file, in source order."""
        found: dict[str, list[tuple[str, str]]] = {}
        for name, module, attribute in self.outline.imports:
            entry = (module, attribute)
            if entry not in found.setdefault(name, []):
                found[name].append(entry)
        return found

    @cached_property
    def assigns(self) -> dict[str, list[tuple[ir.Expr, int]]]:
        """Top-level `name = expr` (under if, try and with too) with the first line of their chunk."""
        found: dict[str, list[tuple[ir.Expr, int]]] = {}
        for unit, stmts in self.chunks:
            if unit.kind != "code":
                continue
            for stmt in walk_statements(stmts or ()):
                if isinstance(stmt, ir.Assign):
                    for target in stmt.targets:
                        if isinstance(target, ir.Name):
                            found.setdefault(target.id, []).append((stmt.value, unit.first_line))
                        elif isinstance(target, ir.Seq):
                            for item in target.items:
                                if isinstance(item, ir.Name):
                                    found.setdefault(item.id, []).append((ir.Opaque(), unit.first_line))
                elif isinstance(stmt, ir.AugAssign) and isinstance(stmt.target, ir.Name):
                    found.setdefault(stmt.target.id, []).append((ir.Opaque(), unit.first_line))
        return found

    @cached_property
    def pieces(self) -> tuple[tuple[ir.Unit, tuple[object, ...]], ...]:
        """The units that were parsed, and all that they consist of; see `walk_nodes`."""
        return tuple((unit, self._nodes_of(unit, stmts)) for unit, stmts in self.chunks if stmts)

    def _nodes_of(self, unit: ir.Unit, stmts: tuple[ir.Stmt, ...]) -> tuple[object, ...]:
        own = self.functions.get(unit.name) if unit.kind == "def" else None
        return own.nodes if own is not None and stmts == (own.node,) else tuple(walk_nodes(stmts))

    @cached_property
    def names(self) -> frozenset[str]:
        """All names in its code that was parsed, plain or as an attribute."""
        return names_among(node for _, nodes in self.pieces for node in nodes)

    @cached_property
    def loaded(self) -> frozenset[str]:
        """Modules that `import a.b` makes reachable as attributes."""
        return frozenset(module for name, module, _ in self.outline.imports if not name)

    @cached_property
    def is_configured(self) -> bool:
        """Whether the script runs other code over its own names: `exec(open("configurator.py").read())`."""
        return any(unit.kind == "code" and "exec" in unit.calls for unit in self.outline.units)

    @cached_property
    def imported_roots(self) -> frozenset[str]:
        return frozenset(module.split(".")[0] for _, module, _ in self.outline.imports if not module.startswith("."))


def define(module: ModuleInfo) -> None:
    for unit, stmts in module.chunks:
        if stmts is None:
            if unit.kind == "def":
                module.functions[unit.name] = FunctionInfo(module, unit.name, unit.name, None, unit.first_line)
            elif unit.kind == "class":
                module.classes[unit.name] = ClassInfo(module, unit.name, unit.name, None, unit.first_line)
            continue
        for stmt in walk_statements(stmts):
            if isinstance(stmt, ir.FunctionDef):
                info = define_function(module, stmt, unit.first_line, None, None)
                module.functions.setdefault(stmt.name, info)
            elif isinstance(stmt, ir.ClassDef):
                module.classes.setdefault(stmt.name, define_class(module, stmt, unit.first_line))


def define_function(
    module: ModuleInfo, node: ir.FunctionDef, first_line: int, cls: ClassInfo | None, parent: FunctionInfo | None
) -> FunctionInfo:
    prefix = f"{cls.qualname}." if cls else f"{parent.qualname}." if parent else ""
    info = FunctionInfo(module, node.name, prefix + node.name, node, first_line, cls, parent)
    module.nested.append(info)
    if parent is not None:
        module.around.add(parent)
    for stmt in walk_statements(node.body):
        if isinstance(stmt, ir.FunctionDef):
            define_function(module, stmt, first_line, None, info)
    return info


def define_class(module: ModuleInfo, node: ir.ClassDef, first_line: int) -> ClassInfo:
    info = ClassInfo(module, node.name, node.name, node, first_line)
    for stmt in walk_statements(node.body):
        if isinstance(stmt, ir.FunctionDef):
            info.methods[stmt.name] = define_function(module, stmt, first_line, info, None)
    return info
