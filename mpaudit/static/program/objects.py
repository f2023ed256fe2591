"""Attributes, classes and their bases: what `x.name` stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..facts import ir
from . import events, expressions, functions, operators, scopes
from .definitions import ClassInfo
from .frame import Frame, Run
from .state import PathState
from .values import (
    NONE,
    Choice,
    Cls,
    Const,
    Device,
    Ext,
    Func,
    Gradient,
    Method,
    Mod,
    Owned,
    Params,
    Phi,
    Ref,
    Sym,
    Tensor,
    Value,
    choice,
    options,
    phi,
)

TENSOR_FACTS = frozenset(
    ["shape", "device", "ndim", "dtype", "requires_grad", "is_cuda", "layout", "names", "is_leaf", "itemsize", "nbytes"]
)


def attribute(run: Run, fr: Frame, base: Value, name: str, st: PathState, expr: ir.Attr | None = None) -> Value:
    match base:
        case Phi():
            yes = attribute(run, fr, base.yes, name, st, expr)
            no = attribute(run, fr, base.no, name, st, expr)
            return phi(base.key, yes, no)
        case Choice():
            known = [v for v in sorted(base.options, key=repr) if v != NONE]
            return choice(
                [attribute(run, fr, v, name, st, expr) for v in known] or [Sym(("attr", ("none",), name))],
                ("attr", operators.key_of(base), name),
            )
        case Ext():
            found = st.heap.get((base, name))
            return found if found is not None else scopes.external_attribute(run, fr, base, name)
        case Mod():
            return scopes.module_attribute(run, run.project.modules[base.path], name, st)
        case Ref():
            return _ref_attribute(run, fr, base, name, st)
        case Cls():
            return _class_attribute(run, fr, base.info, name, st) or Sym(("attr", ("class", base.info.qualname), name))
        case Tensor():
            if name in TENSOR_FACTS:
                return Sym(("attr", ("tensor",), name))
            if name in ("data", "T", "mT", "real", "loss", "logits", "mean", "values"):
                return base if name in ("data", "T", "mT", "real", "loss", "logits") else Method(base, name)
            return Method(base, name)
        case Params():
            if name == "grad":
                return Gradient(base)
            if name in ("data",):
                return base
            return Method(base, name)
        case Gradient():
            return base if name == "data" else Method(base, name)
        case Owned():
            return base
        case Device():
            plain = name == "type" and base.type != "" and ":" not in base.type
            return Const(base.type) if plain else Sym(("attr", ("device", base.type), name))
        case Sym():
            found = st.heap.get((base.key, name))
            if found is not None:
                return found
            if name == "module":
                return base
            if name == "param_groups":
                return Params(None, base.key[1] if base.key[0] == "obj" else base.key)
            return Sym(("attr", base.key, name))
        case _:
            return Method(base, name)


def _ref_attribute(run: Run, fr: Frame, base: Ref, name: str, st: PathState) -> Value:
    found = st.heap.get((base, name))
    if found is not None:
        return found
    cls = run.classes.get(base)
    if cls is not None:
        method = find_method(run, cls, name, st)
        if method is not None:
            if method.node is not None and any(
                isinstance(d, ir.Name) and d.id in ("property", "cached_property") for d, _ in method.node.decorators
            ):
                return _property(run, fr, Func(method, base), st, name)
            static = method.node is not None and any(
                isinstance(d, ir.Name) and d.id == "staticmethod" for d, _ in method.node.decorators
            )
            return Func(method, None if static else base)
        output = st.heap.get((base, events.OUTPUT)) if events.keeps_loss(cls, name) else None
        if output is not None:
            return output
        lazily = lazy_attribute(run, base, cls, name, st)
        if lazily is not None:
            return lazily
    if base.kind in ("instance", "namespace"):
        if name in ("__class__", "__dict__"):
            return Sym(("attr", ("obj", base), name))
        return Sym(("attr", ("obj", base), name))
    if base.kind == "module" and name == "module":
        return base
    if base.kind == "optimizer" and name == "param_groups":
        return Params(None, base)
    if base.kind == "module" and cls is not None and _HANDLE.match(name):
        return Sym(("attr", ("obj", base), name))
    return Method(base, name)


_HANDLE = re.compile(r"(?i)_?([a-z]+_)?(optimizer|optim|opt|scaler)(_[a-z0-9]{1,3})?$")
"""What a network that trains itself holds beside its layers, and a subclass or a caller sets."""


def _property(run: Run, fr: Frame, func: Func, st: PathState, name: str) -> Value:
    """A property is followed where it only computes a value; it cannot split the path."""
    if len(run.stack) < 8 and func.info not in run.stack:
        trial = st.clone()
        results = functions.call_function(run, fr, func, (), (), trial, None)
        if len(results) == 1:
            return results[0][1]
    return Sym(("attr", ("obj", func.self_value), name))


def mro(run: Run, cls: ClassInfo, st: PathState) -> Iterable[ClassInfo]:
    """The class and its bases in the project, depth first."""
    seen: list[ClassInfo] = []
    stack = [cls]
    while stack:
        current = stack.pop()
        if current in seen or len(seen) > 20:
            continue
        seen.append(current)
        for base in reversed(base_values(run, current, st)):
            if isinstance(base, Cls):
                stack.append(base.info)
    return seen


def base_values(run: Run, cls: ClassInfo, st: PathState) -> list[Value]:
    if cls.node is None:
        return []
    known = run.bases.get(cls)
    if known is not None:
        return known
    frame = Frame(cls.module, None, ("module", cls.module.path), cls.first_line)
    found: list[Value] = []
    for expr in cls.node.bases:
        if isinstance(expr, ir.Name | ir.Attr):
            found.extend(options(expressions.value_of(run, frame, expr, st)))
    if not run.resolving:
        run.bases[cls] = found
    return found


def external_bases(run: Run, cls: ClassInfo, st: PathState) -> list[str]:
    """Qualified names of the bases outside the project; '?' for one that is not known."""
    names = []
    for owner in mro(run, cls, st):
        for base in base_values(run, owner, st):
            if isinstance(base, Ext):
                names.append(base.name)
            elif not isinstance(base, Cls):
                names.append("?")
    return names


def find_method(run: Run, cls: ClassInfo, name: str, st: PathState):  # type: ignore[no-untyped-def]
    for owner in mro(run, cls, st):
        if name in owner.methods:
            return owner.methods[name]
    return None


def _class_attribute(run: Run, fr: Frame, cls: ClassInfo, name: str, st: PathState) -> Value | None:
    for owner in mro(run, cls, st):
        if name in owner.methods:
            return Func(owner.methods[name])
        if name in owner.class_assigns:
            frame = Frame(owner.module, None, ("module", owner.module.path), owner.first_line)
            run.lazy += 1
            try:
                value = expressions.value_of(run, frame, owner.class_assigns[name], st)
            finally:
                run.lazy -= 1
            if isinstance(value, Const) and isinstance(value.value, bool):
                return Sym(("attr", ("class", owner.qualname), name))  # a switch, as at the top of a script
            return value
    return None


def lazy_attribute(run: Run, base: Ref, cls: ClassInfo, name: str, st: PathState) -> Value | None:
    """An attribute that some method sets, where that method has not been followed on this path."""
    place = (base, name)
    if place in run.resolving or run.lazy > 4:
        return None
    run.resolving.add(place)
    run.lazy += 1
    try:
        values: list[Value] = []
        for owner in mro(run, cls, st):
            for method, expr in owner.attribute_assigns.get(name, ()):
                frame = Frame(owner.module, method, ("lazy", base, method.qualname), method.first_line)
                if method.node is not None and method.node.params:
                    st.heap.setdefault((frame.id, method.node.params[0].name), base)
                    for param in method.node.params[1:]:
                        st.heap.setdefault((frame.id, param.name), Sym(("param", repr(method), param.name)))
                value = expressions.value_of(run, frame, expr, st)
                if value == Sym(("attr", ("obj", base), name)):
                    continue  # `self.model = nn.DataParallel(self.model)`: what it was
                if not scopes.is_fresh(value) and not (isinstance(value, Sym) and value.key[0] == "global"):
                    values.append(value)
                elif scopes.is_fresh(value):
                    values.append(Sym(("attr", ("obj", base), name)))
            if values:
                break
        else:
            return _class_attribute(run, _NO_FRAME, cls, name, st)
        values = [inner for value in values for inner in _one_by_one(value)]
        useful = [v for v in values if v != NONE] or values
        if len(useful) > 1 and (_are(useful, "optimizer") or _are(useful, "scaler")):
            # made in the branches of one choice of the user's: each stands for whichever it is
            useful = useful[:1]
            values = [*useful, *(v for v in values if v == NONE)]
        value = choice(values, ("attr", ("obj", base), name))
        if isinstance(value, Choice) and len(useful) == 1 and len(values) > 1:
            # `self.scaler = None` in __init__ and the real one in setup(): which holds is the same question each time
            value = Phi(("truth", ("attr", ("obj", base), name)), useful[0], NONE)
    finally:
        run.lazy -= 1
        run.resolving.discard(place)
    st.heap[place] = value
    return value


def _are(values: Sequence[Value], kind: str) -> bool:
    return all(isinstance(value, Ref) and value.kind == kind for value in values)


def _one_by_one(value: Value) -> tuple[Value, ...]:
    """Optimizers, scalers, or none, that are one by some choice."""
    found = options(value)
    made = [v for v in found if v != NONE]
    plain = _are(made, "optimizer") or _are(made, "scaler")
    return tuple(sorted(set(found), key=repr)) if plain else (value,)


_NO_FRAME: Frame = None  # type: ignore[assignment]


def store_attribute(
    run: Run, fr: Frame, base: Value, name: str, value: Value, st: PathState, expr: ir.Attr | None = None
) -> None:
    for option in options(st.settle(base)):
        match option:
            case Ref():
                if name != "module" or option.kind != "module":
                    st.heap[option, name] = value
                if (
                    option.kind in ("module", "instance")
                    and isinstance(value, Ref)
                    and value.kind in ("module", "instance")
                ):
                    run.contains.setdefault(option, set()).add(value)
            case Sym() | Params() if name == "grad" and value != NONE:
                events.fill(run, st)
            case Sym():
                st.heap[option.key, name] = value
            case Ext():
                st.heap[option, name] = value
            case Mod():
                st.heap[option.path, name] = value
            case Params() if name == "grad" and value == NONE:
                from .events import zero_params

                zero_params(run, option, st, None)
            case Owned() if name == "grad" and value == NONE:
                from .events import zero_modules

                zero_modules(run, None, None, st)
            case Cls():
                st.heap[option, name] = value
            case _:
                pass
