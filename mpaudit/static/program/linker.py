"""Modules of one project, linked: who defines a name, which file an import means, which code can matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, get_args

import msgspec

from ..facts import ir
from .index import ModuleIndex
from .vocabulary import EVENT_WORDS, MAKER_WORDS, PROTOCOL_WORDS, is_event_node, is_protocol_node

NO_SPAN = (1, 1, 1, 1)


class Site(NamedTuple):
    """A range in a file of the project."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int


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
    def names(self) -> frozenset[str]:
        """All names that it mentions, plain or as an attribute."""
        return names_in(self.node)

    @cached_property
    def updates(self) -> bool:
        """Whether its body names an `update` or a `step`."""
        body = () if self.node is None else self.node.body
        return any(isinstance(n, ir.Attr) and n.name in ("update", "step") for n in walk_nodes(body))

    @cached_property
    def rebinds(self) -> frozenset[str]:
        """Names that it, or a function inside of it, says are not its own."""
        statements = (n for n in walk_nodes(self.node) if isinstance(n, ir.Global | ir.Nonlocal))
        return frozenset(name for stmt in statements for name in stmt.names)

    @cached_property
    def occurrences(self) -> Counter[str]:
        """How often each name occurs in it."""
        return Counter(node.id for node in walk_nodes(self.node) if isinstance(node, ir.Name))


@dataclass(eq=False)
class ClassInfo:
    module: "ModuleInfo"
    name: str
    qualname: str
    node: ir.ClassDef | None
    first_line: int
    methods: dict[str, FunctionInfo] = field(default_factory=dict)
    live: bool = False

    def __repr__(self) -> str:
        return f"{self.module.path}:{self.qualname}"

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
    def names(self) -> frozenset[str]:
        """All names in its code that was parsed, plain or as an attribute."""
        return names_in(tuple(stmts for _, stmts in self.chunks if stmts))

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


def names_in(root: object) -> frozenset[str]:
    found = set()
    for node in walk_nodes(root):
        kind = type(node)
        if kind is ir.Name:
            found.add(node.id)  # type: ignore[attr-defined]
        elif kind is ir.Attr:
            found.add(node.name)  # type: ignore[attr-defined]
    return frozenset(found)


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


class Project:
    """The modules of one project root.

    Nothing here depends on the order in which modules were given.
    """

    def __init__(self, modules: Iterable[ModuleInfo], name: str = "") -> None:
        self.modules = {module.path: module for module in sorted(modules, key=lambda m: m.path)}
        self.live_names: set[str] = set()
        self.acting_names: set[str] = set()
        """Names of functions and classes that hold an event, or by name can reach one that does."""
        self.exhausting: set[FunctionInfo] = set()
        """Functions that no root could be followed through; they are followed on their own, once."""
        self.followed: set[Hashable] = set()
        """Calls that an earlier root has followed; see Run.shapes."""
        self.usages: dict[object, dict[str, set[str]]] = {}
        """Function, class or module → the methods called on each access path in it."""
        self.steps = 0
        """Statement executions so far."""
        self.inert: dict[Hashable, int] = {}
        """Calls (function and kinds of arguments) that had no event and gave nothing of interest → how often."""
        self._active: dict[int, bool] = {}
        self._acting: dict[int, bool] = {}
        self._found: dict[tuple[str, str], ModuleInfo | None] = {}
        self.instances: dict[ClassInfo, Any] = {}
        """An object of each class as methods that nothing calls find it; see analysis."""
        self.lives: dict[FunctionInfo, Any] = {}
        """What is known of the locals of functions that were followed; see liveness."""
        self._receivers: dict[str, list[tuple[FunctionInfo | None, str, bool]]] = {}
        known = self.modules.values()
        self._index = ModuleIndex(
            ((module.parts, module) for module in known), name, (module.outline.imports for module in known)
        )
        for module in self.modules.values():
            _define(module)
        _mark_live(self)
        self.live_functions = frozenset(
            [info.name for module in self.modules.values() for info in module.nested if info.live]
            + [cls.name for module in self.modules.values() for cls in module.classes.values() if cls.live]
        )

    def find(self, importer: ModuleInfo, dotted: str) -> ModuleInfo | None:
        """The module of the project that `dotted` means in `importer`; None: outside the project or ambiguous."""
        place = (importer.path, dotted)
        if place not in self._found:
            self._found[place] = self._index.find(importer.parts, importer.is_package, dotted)
        return self._found[place]

    def function_at(self, site: Site) -> FunctionInfo | None:
        """The function or method of the file or of a class that a place is in, by where functions begin; None in
        top-level code. Functions inside of it count as a part of it."""
        module = self.modules.get(site.path)
        units = () if module is None else (unit for unit, _ in module.chunks)
        unit = next((u for u in units if u.first_line <= site.line <= u.last_line), None)
        if module is None or unit is None or unit.kind == "code":
            return None
        begins = [
            (info.first_line - 1 + info.node.span[0], info) for info in module.nested
            if info.first_line == unit.first_line and info.node is not None and info.parent is None
        ]  # fmt: skip
        before = [(line, info) for line, info in begins if line <= site.line]
        return max(before, key=lambda pair: pair[0])[1] if before else None

    def is_active(self, stmt: ir.Stmt) -> bool:
        """Whether a statement holds protocol code or names something that does: a loop that does not need not be
        followed to its fixed point."""
        known = self._active.get(id(stmt))
        if known is None:
            known = any(
                is_protocol_node(node)
                or isinstance(node, ir.Return | ir.Yield)
                or (isinstance(node, ir.Attr) and node.name in self.live_names)
                or (isinstance(node, ir.Name) and node.id in self.live_names)
                for node in walk_nodes(stmt)
            )
            self._active[id(stmt)] = known
        return known

    def may_act(self, part: ir.Stmt | ir.Expr) -> bool:
        """Whether gradients, a scaler or an optimizer may be acted on in a part of a function, by name, or something
        be returned from it."""
        known = self._acting.get(id(part))
        if known is None:
            known = self._acting[id(part)] = any(
                is_event_node(node)
                or (isinstance(node, ir.Return) and not isinstance(node.value, ir.Const | None))
                or (isinstance(node, ir.Attr) and node.name in self.acting_names)
                or (isinstance(node, ir.Name) and node.id in self.acting_names)
                for node in walk_nodes(part)
            )
        return known

    def lambda_in(
        self, module: ModuleInfo, parent: FunctionInfo | None, node: ir.Lambda, first_line: int
    ) -> FunctionInfo:
        """A lambda as the function that it is."""
        info = module.lambdas.get(id(node))
        if info is None:
            prefix = f"{parent.qualname}." if parent else ""
            name = f"{prefix}<lambda {sum(other.parent is parent for other in module.lambdas.values())}>"
            definition = ir.FunctionDef(
                "<lambda>", node.params, (), (ir.Return(node.body, NO_SPAN),), False, False, None, NO_SPAN
            )
            info = FunctionInfo(
                module, "<lambda>", name, definition, first_line, parent=parent, live=self._matters(node)
            )
            module.lambdas[id(node)] = info
            if parent is not None:
                module.around.add(parent)
        return info

    def _matters(self, node: ir.Lambda) -> bool:
        return any(
            is_protocol_node(part)
            or (isinstance(part, ir.Attr) and part.name in self.live_names | MAKER_WORDS)
            or (isinstance(part, ir.Name) and part.id in self.live_names | MAKER_WORDS)
            for part in walk_nodes(node.body)
        )

    def trains(self, info: FunctionInfo) -> bool:
        """Whether a function itself runs a backward or a step."""
        return any(
            isinstance(node, ir.Attr) and node.name in ("backward", "step", "unscale_")
            for node in walk_nodes(info.node)
        )

    def receivers(self, method: str) -> list[tuple[FunctionInfo | None, str, bool]]:
        """Who calls a method of this name, the last name of what it is called on, and whether that is an attribute of
        the caller's own object, or a variable for one; None for top-level code."""
        if method not in self._receivers:
            found = self._receivers[method] = []
            for module in self.modules.values():
                for info in module.nested:
                    me = info.node.params[0].name if info.cls and info.node and info.node.params else ""
                    mine = _names_of_attributes(info.node, me) if me else {}
                    for name, of in _receivers(info.node, method):
                        attribute = name if me and of == me else "" if of else mine.get(name, "")
                        found.append((info, attribute or name, bool(attribute)))
                for unit, stmts in module.chunks:
                    if unit.kind == "code":
                        found += [(None, name, False) for name, _ in _receivers(stmts or (), method)]
        return self._receivers[method]

    def related(self, one: ClassInfo, other: ClassInfo) -> bool:
        """Whether an object may be of both classes: one is a base of the other, or they are bases of a third."""
        if one is other:
            return True
        if one.name == other.name:  # of two files, unless one is `class Trainer(base.Trainer)`
            bases = [base for cls in (one, other) if cls.node is not None for base in cls.node.bases]
            return any(_last_name(base) == one.name for base in bases)
        both = {one.name, other.name}
        return any(both <= family for family in self._families.values())

    def derives(self, cls: ClassInfo, base: ClassInfo) -> bool:
        """Whether one class has the other among its bases, by names."""
        own = self._families.get(cls.name, frozenset())
        return cls is not base and cls.name != base.name and base.name in own

    @cached_property
    def _families(self) -> dict[str, frozenset[str]]:
        """For each class its name and those of all its bases in the project."""
        bases: dict[str, set[str]] = {}
        for module in self.modules.values():
            for info in module.classes.values():
                named = {_last_name(base) for base in info.node.bases} if info.node is not None else set()
                bases.setdefault(info.name, set()).update(named)
        found: dict[str, frozenset[str]] = {}
        for name in bases:
            family, queue = {name}, [name]
            while queue:
                new = bases.get(queue.pop(), set()) - family
                family |= new
                queue += new
            found[name] = frozenset(family & bases.keys())
        return found

    @cached_property
    def mentions_cuda(self) -> bool:
        """Whether any parsed code names CUDA: then a device that is not known is taken for one."""
        return any(
            (isinstance(node, ir.Attr) and node.name == "cuda")
            or (isinstance(node, ir.Const) and isinstance(node.value, str) and node.value.startswith("cuda"))
            for module in self.modules.values()
            for _, stmts in module.chunks
            if stmts
            for node in walk_nodes(stmts)
        )

    def find_package(self, importer: ModuleInfo, dots: str) -> ModuleInfo | None:
        """The package that `from . import x` looks in."""
        folder = importer.parts if importer.is_package else importer.parts[:-1]
        wanted = folder[: len(folder) - (len(dots) - 1)]
        return next((m for m in self.modules.values() if m.is_package and m.parts == wanted), None) if wanted else None


def _define(module: ModuleInfo) -> None:
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


def _last_name(expr: ir.Expr) -> str:
    return expr.name if isinstance(expr, ir.Attr) else expr.id if isinstance(expr, ir.Name) else ""


def _names_of_attributes(root: object, me: str) -> dict[str, str]:
    """The variables that stand for attributes: `scaler = self.scaler`."""
    return {
        target.id.strip("_"): stmt.value.name.strip("_")
        for stmt in walk_nodes(root)
        if isinstance(stmt, ir.Assign)
        if isinstance(stmt.value, ir.Attr) and isinstance(stmt.value.base, ir.Name) and stmt.value.base.id == me
        for target in stmt.targets
        if isinstance(target, ir.Name)
    }


def _receivers(root: object, method: str) -> Iterator[tuple[str, str]]:
    """The last name of what the method is called on, and the name that this is an attribute of, or nothing."""
    for node in walk_nodes(root):
        if isinstance(node, ir.Attr) and node.name == method:
            base = node.base
            while isinstance(base, ir.Sub | ir.Call):
                base = base.base if isinstance(base, ir.Sub) else base.func
            of = base.base.id if isinstance(base, ir.Attr) and isinstance(base.base, ir.Name) else ""
            yield _last_name(base).strip("_"), of


def _mark_live(project: Project) -> None:
    """Functions that hold protocol code, and, by name, those that can reach one; and the names of those that can
    reach an event."""
    named: set[str] = set()
    holders: dict[str, list[FunctionInfo | ClassInfo]] = {}
    queue: list[FunctionInfo] = []
    for module in project.modules.values():
        for info in module.nested:
            if _is_live(info):
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
        if info.parent is not None and not info.parent.live:
            info.parent.live = True
            queue.append(info.parent)
        project.live_names.update(reached)
        for name in reached:
            for user in users.get(name, ()):
                if not user.live:
                    user.live = True
                    queue.append(user)
    project.acting_names |= named | _names_that_reach([info for info in functions if _acts(info)], users)


def _names_that_reach(acting: list[FunctionInfo], users: dict[str, list[FunctionInfo]]) -> set[str]:
    """Names of the functions in `acting`, of what uses them by name, and of their classes."""
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
    return found


def _named_lambdas(module: ModuleInfo) -> Iterator[tuple[str, ir.Lambda]]:
    """`step = lambda loss: …` and `self.step = lambda loss: …`, anywhere in a module."""
    for _, stmts in module.chunks:
        for node in walk_nodes(stmts or ()):
            if isinstance(node, ir.Assign) and isinstance(node.value, ir.Lambda):
                for target in node.targets:
                    if isinstance(target, ir.Name | ir.Attr):
                        yield target.id if isinstance(target, ir.Name) else target.name, node.value


def _is_live(info: FunctionInfo) -> bool:
    """Whether a function is live by itself."""
    aliases = {name for name, _, attribute in info.module.outline.imports if attribute in PROTOCOL_WORDS}
    return bool(info.names & (MAKER_WORDS | aliases)) or any(map(is_protocol_node, walk_nodes(info.node)))


def _acts(info: FunctionInfo) -> bool:
    """Whether a function holds an event."""
    perhaps = not info.names.isdisjoint(("step", "update"))
    return bool(info.names & EVENT_WORDS) or (perhaps and any(map(is_event_node, walk_nodes(info.node))))
