"""Which locals of a function are still read, and which statements make no difference: a backward pass over its body.

Strongly live variables (Nielson, Nielson and Hankin, *Principles of Program Analysis*, 2.1 and its exercises): what
only a dead assignment reads is dead itself. A metric that is logged, a progress bar, a counter that is printed: none
of them splits a path or keeps a loop from its fixed point.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..facts import ir
from . import torch_api
from .definitions import FunctionInfo
from .linker import Project
from .nodes import CHILDREN, names_bound, targets_of, walk_nodes
from .vocabulary import is_event_node, is_protocol_node

Names = frozenset[str]
_NONE: Names = frozenset()

QUIET = frozenset(
    (
        "argparse", "collections", "copy", "cv2", "datetime", "glob", "itertools", "json", "logging", "math",
        "matplotlib", "numpy", "os", "pandas", "pathlib", "platform", "pprint", "psutil", "random", "re", "shutil",
        "sklearn", "string", "subprocess", "sys", "tabulate", "tensorboard", "tensorboardX", "termcolor", "time",
        "tqdm", "warnings", "wandb", "yaml",
    )
)  # fmt: skip
"""Packages whose functions act on no scaler, optimizer or module that they are given."""

_METHODS = frozenset(
    (
        "add_image", "add_scalar", "add_scalars", "append", "astype", "cpu", "critical", "debug", "detach", "dim",
        "endswith", "error", "exists", "flush", "format", "get", "info", "is_dir", "is_file", "item", "items", "join",
        "keys", "lower", "max", "mean", "min", "mkdir", "numel", "numpy", "replace", "round", "set_description",
        "set_description_str", "set_epoch", "set_postfix", "set_postfix_str", "size", "split", "startswith", "std",
        "strip", "sum", "tolist", "unlink", "upper", "values", "warning", "write",
    )
)  # fmt: skip
"""Methods of texts, tensors, paths, loggers and progress bars that only give a value or write something out."""

_OPTIMIZERS = re.compile(r"(?i)optim|(^|_)opts?$|scalers?$")
_PARAMETERS = frozenset(("parameters", "named_parameters"))

_BUILTINS = frozenset(dir(builtins)) - {"eval", "exec", "next", "setattr", "super", "globals", "locals", "vars"}


@dataclass(slots=True)
class Lives:
    """Of one function, by the identity of its statements."""

    dead: set[int] = field(default_factory=set)
    """Statements that need not be followed."""
    after: dict[int, Names] = field(default_factory=dict)
    """The locals that may be read after a statement."""
    head: dict[int, Names] = field(default_factory=dict)
    """The locals that may be read at the start of a pass over a loop, or after the loop."""


def lives(project: Project, info: FunctionInfo, coarse: bool = False) -> Lives:
    """The analysis of `info`, which has a body; `coarse`: of what acts on gradients, a scaler or an optimizer only."""
    assert info.node is not None
    found = Lives()
    scope = _Scope(project, info, coarse)
    pass_ = _Pass(found, scope)
    pass_.block(info.node.body, _NONE, _Exits(_NONE, _NONE, _NONE))
    return found


class _Scope:
    """What the names in a function mean, as far as it takes to know that an expression has no effect."""

    def __init__(self, project: Project, info: FunctionInfo, coarse: bool) -> None:
        assert info.node is not None
        self.looping = False
        """The statements that are looked at stand in a loop."""
        first = frozenset(param.name for param in info.node.params[:1])  # `super()` reads it unseen
        self.always = _seen_from_inside(info) | first
        self._live = project.live_functions
        self._acting = project.acting_names if coarse else None
        self._locals = frozenset((*(param.name for param in info.node.params), *names_bound(info.node.body)))
        self._imports = info.module.imports
        asked = (node.name for node in info.nodes if isinstance(node, ir.Attr))
        self._of_parameters = not _PARAMETERS.isdisjoint(asked)
        self._inert: dict[int, bool] = {}
        self._reads: dict[int, Names] = {}

    def reads(self, expr: ir.Expr | None) -> Names:
        if expr is None:
            return _NONE
        known = self._reads.get(id(expr))
        if known is None:
            known = self._reads[id(expr)] = frozenset(_read(expr))
        return known

    def inert(self, expr: ir.Expr | None) -> bool:
        """Whether evaluating does nothing but give a value."""
        if expr is None:
            return True
        known = self._inert.get(id(expr))
        if known is None:
            has_no_effect = self._has_no_effect if self._acting is None else self._does_not_act
            known = self._inert[id(expr)] = all(map(has_no_effect, walk_nodes(expr)))
        return known

    def gathers(self, expr: ir.Expr, out: Names) -> bool:
        """Whether a list that is read later gets parameters, by what the function asks of modules, or optimizers or
        scalers, by its name: `self.optimizers.append(encoder) if encoder is not None else None`."""
        return any(
            isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.func.name in ("append", "extend")
            and self._is_gathered(node.func.base, out)
            for node in walk_nodes(expr)
        )  # fmt: skip

    def _is_gathered(self, base: ir.Expr, out: Names) -> bool:
        if isinstance(base, ir.Name):
            return base.id in out | self.always and (self._of_parameters or _OPTIMIZERS.search(base.id) is not None)
        return isinstance(base, ir.Attr) and _OPTIMIZERS.search(base.name) is not None

    def _has_no_effect(self, node: object) -> bool:
        if isinstance(node, ir.Call):
            return not is_protocol_node(node) and self._is_harmless(node.func)
        if isinstance(node, ir.Attr | ir.Name):
            return not is_protocol_node(node)
        return not isinstance(node, ir.Yield | ir.Await | ir.Walrus)

    def _does_not_act(self, node: object) -> bool:
        """What makes objects is looked into outside of loops only, where it is done once."""
        assert self._acting is not None
        if isinstance(node, ir.Yield | ir.Await | ir.Walrus) or is_event_node(node):
            return False
        if isinstance(node, ir.Call):
            if _last_name(node.func) in self._live:  # a function of the project, and none that acts
                return self.looping
            given = (*node.args, *(value for _, value in node.keywords))
            return self._is_harmless(node.func) or not any(_OPTIMIZERS.search(_last_name(arg)) for arg in given)
        return not isinstance(node, ir.Attr | ir.Name) or _last_name(node) not in self._acting

    def _is_harmless(self, callee: ir.Expr) -> bool:
        if isinstance(callee, ir.Name):
            if callee.id in self._live:
                return False
            if callee.id in self._locals:
                return False
            if callee.id in self._imports:
                return self._from_quiet(callee.id)
            return callee.id in _BUILTINS or _sounds_harmless(callee.id)
        if not isinstance(callee, ir.Attr) or callee.name in self._live:
            return False
        root = callee.base
        while isinstance(root, ir.Attr):
            root = root.base
        if isinstance(root, ir.Name) and root.id not in self._locals and root.id in self._imports:
            return self._from_quiet(root.id)
        return callee.name in _METHODS or _sounds_harmless(callee.name)

    def _from_quiet(self, name: str) -> bool:
        return all(module.partition(".")[0] in QUIET for module, _ in self._imports[name])


def _last_name(expr: ir.Expr) -> str:
    return expr.name if isinstance(expr, ir.Attr) else expr.id if isinstance(expr, ir.Name) else ""


def _sounds_harmless(name: str) -> bool:
    return torch_api.is_harmless(name) and not torch_api.is_step(name)


@dataclass(frozen=True, slots=True)
class _Exits:
    """What is read where control goes other than to the next statement."""

    at_break: Names
    at_continue: Names
    at_raise: Names
    """By handlers and `finally` blocks around."""


@dataclass(slots=True)
class _Pass:
    found: Lives
    scope: _Scope

    def block(self, stmts: Sequence[ir.Stmt], out: Names, exits: _Exits) -> Names:
        """The names read from the start of `stmts` on, where `out` are those read after them."""
        for stmt in reversed(stmts):
            self.found.after[id(stmt)] = out | self.scope.always | exits.at_raise
            self.found.dead.discard(id(stmt))
            out = self.statement(stmt, out, exits) | exits.at_raise
        return out

    def skip(self, stmt: ir.Stmt, out: Names) -> Names:
        self.found.dead.add(id(stmt))
        return out

    def all_dead(self, *bodies: Sequence[ir.Stmt]) -> bool:
        return all(id(stmt) in self.found.dead for body in bodies for stmt in body)

    def statement(self, stmt: ir.Stmt, out: Names, exits: _Exits) -> Names:
        scope = self.scope
        match stmt:
            case ir.ExprStmt():
                dead = scope.inert(stmt.value) and not scope.gathers(stmt.value, out)
                return self.skip(stmt, out) if dead else out | scope.reads(stmt.value)
            case ir.Assign():
                return self.assign(stmt, out)
            case ir.AugAssign():
                return self.augmented(stmt, out)
            case ir.If():
                inside = self.block(stmt.body, out, exits) | self.block(stmt.orelse, out, exits)
                if scope.inert(stmt.test) and self.all_dead(stmt.body, stmt.orelse):
                    return self.skip(stmt, out)
                return inside | scope.reads(stmt.test)
            case ir.For():
                names = frozenset(targets_of(stmt.target))
                head = self.loop(stmt, names, _NONE, out, exits)
                unused = not names & (out | scope.always) and _only_names(stmt.target)
                if unused and scope.inert(stmt.iterable) and self.all_dead(stmt.body, stmt.orelse):
                    return self.skip(stmt, out)
                return head | scope.reads(stmt.iterable)
            case ir.While():
                head = self.loop(stmt, _NONE, scope.reads(stmt.test), out, exits)
                if scope.inert(stmt.test) and self.all_dead(stmt.body, stmt.orelse):
                    return self.skip(stmt, out)
                return head
            case ir.With():
                return self.with_(stmt, out, exits)
            case ir.Try():
                return self.try_(stmt, out, exits)
            case ir.Match():
                inside = out | scope.reads(stmt.subject)
                for _, constants, guard, body in stmt.cases:
                    inside |= self.block(body, out, exits) | scope.reads(guard)
                    for constant in constants:
                        inside |= scope.reads(constant)
                return inside
            case ir.Return() | ir.Raise():
                return scope.reads(stmt.value)
            case ir.Break():
                return exits.at_break
            case ir.Continue():
                return exits.at_continue
            case ir.Assert():
                return out | scope.reads(stmt.test)
            case ir.Delete():
                return out
            case ir.Import():
                return out - {name for name, _, _ in stmt.bindings}
            case _:  # definitions: what they read counts as read everywhere
                return out

    def assign(self, stmt: ir.Assign, out: Names) -> Names:
        scope = self.scope
        names = frozenset(name for target in stmt.targets for name in targets_of(target))
        if all(map(_only_names, stmt.targets)):
            if not names & (out | scope.always) and scope.inert(stmt.value):
                return self.skip(stmt, out)
            return (out - names) | scope.reads(stmt.value)
        into = frozenset(name for target in stmt.targets for name in _read_by_target(target))
        return (out - names) | into | scope.reads(stmt.value)

    def augmented(self, stmt: ir.AugAssign, out: Names) -> Names:
        scope = self.scope
        read = scope.reads(stmt.value) | scope.reads(stmt.target)
        if isinstance(stmt.target, ir.Name) and stmt.target.id not in out | scope.always and scope.inert(stmt.value):
            if stmt.op != "+" or isinstance(stmt.value, ir.Const):  # `+=` may grow a list that has another name too
                return self.skip(stmt, out)
        return out | read

    def loop(self, stmt: ir.For | ir.While, bound: Names, read: Names, out: Names, exits: _Exits) -> Names:
        """The names read at the head of a loop; `bound` are assigned by each pass, `read` at its start."""
        leaving = self.block(stmt.orelse, out, exits)
        head = leaving | read
        around, self.scope.looping = self.scope.looping, True
        while True:
            inside = replace(exits, at_break=out, at_continue=head)
            grown = head | (self.block(stmt.body, head, inside) - bound)
            if grown == head:
                break
            head = grown
        self.scope.looping = around
        self.found.head[id(stmt)] = head | self.scope.always | exits.at_raise
        return head

    def with_(self, stmt: ir.With, out: Names, exits: _Exits) -> Names:
        scope = self.scope
        inside = self.block(stmt.body, out, exits)
        names = frozenset(name for _, target, _ in stmt.items if target is not None for name in targets_of(target))
        harmless = all(scope.inert(expr) and (target is None or _only_names(target)) for expr, target, _ in stmt.items)
        if harmless and not names & (out | scope.always) and self.all_dead(stmt.body):
            return self.skip(stmt, out)
        inside -= names
        for expr, target, _ in stmt.items:
            inside |= scope.reads(expr) | frozenset(_read_by_target(target) if target is not None else ())
        return inside

    def try_(self, stmt: ir.Try, out: Names, exits: _Exits) -> Names:
        after = self.block(stmt.finalbody, out, exits)
        outer = replace(
            exits,
            at_break=exits.at_break | after,
            at_continue=exits.at_continue | after,
            at_raise=exits.at_raise | (after if stmt.finalbody else _NONE),
        )
        handled = _NONE
        for kind, name, body in stmt.handlers:
            handled |= (self.block(body, after, outer) - {name}) | self.scope.reads(kind)
        orelse = self.block(stmt.orelse, after, outer)
        inside = self.block(stmt.body, orelse, replace(outer, at_raise=outer.at_raise | handled))
        if self.all_dead(stmt.body, stmt.orelse, stmt.finalbody, *(body for _, _, body in stmt.handlers)):
            return self.skip(stmt, out)
        return inside | handled


# ------------------------------------------------------------------- names


def _read(root: object) -> set[str]:
    """The names that evaluating reads; those that a comprehension or a lambda binds are its own."""
    found: set[str] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is ir.Name:
            found.add(node.id)  # type: ignore[attr-defined]
        elif kind is tuple:
            stack += node  # type: ignore[arg-type]
        elif isinstance(node, ir.Comp):
            own = {name for target, _, _ in node.clauses for name in targets_of(target)}
            parts = (node.key, node.element, *(part for _, source, tests in node.clauses for part in (source, *tests)))
            found |= _read(parts) - own
        elif isinstance(node, ir.Lambda):
            found |= _read(node.body) - {param.name for param in node.params}
            stack += [param.default for param in node.params]
        elif kind in CHILDREN:
            stack += [getattr(node, name) for name in CHILDREN[kind]]
    return found


def _only_names(target: ir.Expr) -> bool:
    if isinstance(target, ir.Seq):
        return all(map(_only_names, target.items))
    return isinstance(target, ir.Name) or (isinstance(target, ir.Star) and _only_names(target.value))


def _read_by_target(target: ir.Expr) -> Iterator[str]:
    """What must be evaluated to know where to store: `x` and `i` of `x[i] = …`."""
    if isinstance(target, ir.Seq):
        for item in target.items:
            yield from _read_by_target(item)
    elif not isinstance(target, ir.Name):
        yield from _read(target)


def _seen_from_inside(info: FunctionInfo) -> Names:
    """What nested functions, classes and lambdas read, and names that are not the function's own."""
    found: set[str] = set()
    for inner in info.inner:
        if isinstance(inner, ir.ClassDef):
            found |= _names(inner)
        elif isinstance(inner, ir.FunctionDef | ir.Lambda):
            found |= _free(inner)
        elif isinstance(inner, ir.Global | ir.Nonlocal):
            found |= set(inner.names)
    return frozenset(found)


def _names(root: object) -> Names:
    return frozenset(node.id for node in walk_nodes(root) if isinstance(node, ir.Name))


def _free(inner: ir.FunctionDef | ir.Lambda) -> Names:
    """What a nested function reads, without what its parameters hide."""
    own = {param.name for param in inner.params}
    outside = inner.decorators if isinstance(inner, ir.FunctionDef) else ()
    return _names(inner.body) - own | _names((*outside, *(param.default for param in inner.params)))
