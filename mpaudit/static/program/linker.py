"""Modules of one project, linked: who defines a name, which file an import means, what can be asked of all of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import cached_property
from typing import Any

from ..facts import ir
from .definitions import (
    ClassInfo,
    FunctionInfo,
    ModuleInfo,
    Site,
    define,
)
from .index import ModuleIndex
from .nodes import walk_nodes
from .reach import mark_live
from .vocabulary import MAKER_WORDS, is_event_node, is_protocol_node

NO_SPAN = (1, 1, 1, 1)


class Project:
    """The modules of one project root.

    Nothing here depends on the order in which modules were given.
    """

    def __init__(self, modules: Iterable[ModuleInfo], name: str = "") -> None:
        self.modules = {module.path: module for module in sorted(modules, key=lambda m: m.path)}
        self.live_names: set[str] = set()
        self.acting_names: set[str] = set()
        """Names of functions and classes that hold an event, or by name can reach one that does."""
        self.acting: set[FunctionInfo] = set()
        """These functions."""
        self.exhausting: set[FunctionInfo] = set()
        """Functions that no root could be followed through; they are followed on their own, once."""
        self.followed: set[Hashable] = set()
        """Calls that an earlier root has followed; see Run.shapes."""
        self.closed: set[Hashable] = set()
        """Calls (function and switches) followed to their end that made all they trained with themselves."""
        self.usages: dict[object, dict[str, set[str]]] = {}
        """Function, class or module → the methods called on each access path in it."""
        self.cuts: set[Hashable] = set()
        """Those of them through which no gradient goes: what they gave is a tensor that comes from no network."""
        self.imported: dict[ModuleInfo, tuple[ModuleInfo, ...]] = {}
        """Module → the modules of the project that it imports; see traits."""
        self.steps = 0
        """Statement executions so far."""
        self.inert: dict[Hashable, int] = {}
        """Calls (function and kinds of arguments) that had no event and gave nothing of interest → how surely."""
        self._active: dict[int, bool] = {}
        self._acting: dict[int, bool] = {}
        self._found: dict[tuple[str, str], ModuleInfo | None] = {}
        self._starred: dict[tuple[str, str], ModuleInfo | None] = {}
        self.instances: dict[ClassInfo, Any] = {}
        """An object of each class as methods that nothing calls find it; see analysis."""
        self.lives: dict[tuple[FunctionInfo, bool], Any] = {}
        """What is known of the locals of functions that were followed, coarsely or not; see liveness."""
        self._receivers: dict[str, list[tuple[FunctionInfo | None, str, bool]]] = {}
        known = self.modules.values()
        self._index = ModuleIndex(
            ((module.parts, module) for module in known), name, (module.outline.imports for module in known)
        )
        for module in self.modules.values():
            define(module)
        mark_live(self)
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

    def behind_stars(self, module: ModuleInfo, name: str) -> ModuleInfo | None:
        """The module of the project whose name `from … import *` brings, through further ones too; the last one has
        it."""
        if "*" not in module.imports:
            return None
        place = (module.path, name)
        if place not in self._starred:
            self._starred[place] = self._search_stars(module, name, {module.path})
        return self._starred[place]

    def _search_stars(self, module: ModuleInfo, name: str, seen: set[str]) -> ModuleInfo | None:
        for source, _ in reversed(module.imports.get("*", ())):
            target = self.find(module, source)
            if target is None or target.path in seen:
                continue
            seen.add(target.path)
            if any(name in names for names in (target.functions, target.classes, target.assigns, target.imports)):
                return target
            further = self._search_stars(target, name, seen)
            if further is not None:
                return further
        return None

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
        return any(isinstance(node, ir.Attr) and node.name in ("backward", "step", "unscale_") for node in info.nodes)

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

    def bases_of(self, cls: ClassInfo) -> Iterator[ClassInfo]:
        """The bases of a class in the project, and theirs, by names."""
        classes = (other for module in self.modules.values() for other in module.classes.values())
        return (other for other in classes if self.derives(cls, other))

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

    @cached_property
    def asks_hardware(self) -> bool:
        """Whether any file asks what the GPU can do and speaks of both low precisions: it may choose by that."""
        return any(
            not _ASKS_HARDWARE.isdisjoint(module.names) and {"float16", "bfloat16"} <= module.names
            for module in self.modules.values()
        )

    def find_package(self, importer: ModuleInfo, dots: str) -> ModuleInfo | None:
        """The package that `from . import x` looks in."""
        folder = importer.parts if importer.is_package else importer.parts[:-1]
        wanted = folder[: len(folder) - (len(dots) - 1)]
        return next((m for m in self.modules.values() if m.is_package and m.parts == wanted), None) if wanted else None


_ASKS_HARDWARE = frozenset(
    ("is_bf16_supported", "is_bfloat16_supported", "get_device_capability", "get_device_name", "get_device_properties")
)


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
