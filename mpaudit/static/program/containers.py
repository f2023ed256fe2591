"""Tuples, lists and dicts; assignment and unpacking."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..facts import ir
from . import classes, expressions, objects, operators, scopes
from .frame import Frame, Run, text_of
from .merging import merge
from .nodes import walk_nodes
from .shapes import Results
from .state import PathState
from .values import (
    MAX_NESTED,
    NONE,
    Choice,
    Const,
    Gradient,
    Key,
    Owned,
    Params,
    Phi,
    Ref,
    Sym,
    Tensor,
    Tup,
    Value,
    choice,
    join_tensors,
    nesting,
    options,
    phi,
)


def new_sequence(kind: str, items: tuple[Value, ...]) -> Value:
    """What a display of a tuple, a list or a set holds; of one that is nested too deeply, each item is only known by
    name, since `x = (x, x)` doubles it, line after line."""
    if any(nesting(item) >= MAX_NESTED for item in items):
        return Tup(tuple(Sym(operators.key_of(item)) if isinstance(item, Tup) else item for item in items))
    return Tup(items)


def subscript(run: Run, base: Value, index: Value, st: PathState) -> Value:
    if isinstance(index, Phi) and isinstance(base, Ref | Tup):
        return phi(index.key, subscript(run, base, index.yes, st), subscript(run, base, index.no, st))
    if isinstance(index, Choice) and isinstance(base, Ref | Tup):
        each = [subscript(run, base, key, st) for key in sorted(index.options, key=repr)]
        return choice(each, ("sub", operators.key_of(base), operators.key_of(index)))
    match base:
        case Phi():
            return phi(base.key, subscript(run, base.yes, index, st), subscript(run, base.no, index, st))
        case Tup():
            if isinstance(index, Const) and isinstance(index.value, int) and not isinstance(index.value, bool):
                if -len(base.items) <= index.value < len(base.items):
                    return base.items[index.value]
            if isinstance(index, Sym) and index.key == ("slice",):
                return base
            if isinstance(index, Sym) and _stand_for_more(base):
                return Sym(("sub", operators.key_of(base), operators.key_of(index)))
            return (
                choice(list(base.items), ("sub", ("tuple",), operators.key_of(index)))
                if base.items
                else Sym(("opaque",))
            )
        case Tensor() | Params() | Gradient() | Owned():
            return base
        case Ref(kind="list"):
            items = st.heap.get((base, "[]"))
            if isinstance(items, Tup):
                return subscript(run, items, index, st)
            return Sym(("sub", ("obj", base), operators.key_of(index)))
        case Ref():
            found = st.heap.get((base, slot(index)))
            if found is not None:
                return found
            elements = iterate(run, base, st)
            if elements is not None:
                return subscript(run, Tup(elements), index, st)
            if base.kind == "dict" and not isinstance(index, Const):
                return _any_tensor(base, st) or Sym(("sub", ("obj", base), operators.key_of(index)))
            return Sym(("sub", ("obj", base), operators.key_of(index)))
        case Choice():
            each = [subscript(run, v, index, st) for v in sorted(base.options, key=repr)]
            return choice(each, ("sub", operators.key_of(base), operators.key_of(index)))
        case Sym():
            found = st.heap.get((base.key, slot(index)))
            return found if found is not None else Sym(("sub", base.key, operators.key_of(index)))
        case _:
            return Sym(("sub", operators.key_of(base), operators.key_of(index)))


def _stand_for_more(items: Tup) -> bool:
    """Whether they are optimizers of one comprehension over what is not known: there are as many as that has elements,
    and what an index means is none of these."""
    ids = {item.id for item in items.items if isinstance(item, Ref) and item.kind == "optimizer"}
    sites = {ident[0] for ident in ids if isinstance(ident, tuple)}
    return len(ids) == len(items.items) > len(sites) == 1


def _any_tensor(base: Ref, st: PathState) -> Tensor | None:
    """What a dict of a network's outputs gives under a key that is not known: one of them."""
    outputs = [value for _, value in held(base, st) if isinstance(value, Tensor) and value.uses]
    return join_tensors(outputs) if outputs and len({output.scaled for output in outputs}) == 1 else None


def slot(index: Value) -> str:
    """The name on the heap of what stands under an index or key."""
    return f"[{index.value!r}]" if isinstance(index, Const) else f"[{operators.key_of(index)!r}]"


def key_of_slot(name: str) -> str:
    """The string that `slot` was made from; '' for any other key."""
    return name[2:-2] if name[1:2] in ("'", '"') else ""


def store_subscript(base: Value, index: Value, value: Value, st: PathState) -> None:
    if isinstance(base, Ref):
        st.heap[base, slot(index)] = value
    elif isinstance(base, Sym):
        st.heap[base.key, slot(index)] = value


def new_dict(run: Run, fr: Frame, expr: ir.Dict, st: PathState) -> Results:
    out: Results = []
    exprs = [part for key, value in expr.items for part in ((key if key is not None else ir.Const(None)), value)]
    for s, values in expressions.evaluate_all(run, fr, exprs, st):
        ref = Ref("dict", fr.site(expr.span))
        s.heap.drop(ref)
        for i, (key, _) in enumerate(expr.items):
            if key is None:
                spread = values[2 * i + 1]
                if isinstance(spread, Ref) and spread.kind == "dict":
                    for name, value in s.heap.held(spread):
                        s.heap[ref, name] = value
                else:
                    s.heap[ref, f"[** {i}]"] = spread
            else:
                s.heap[ref, slot(values[2 * i])] = values[2 * i + 1]
        out.append((s, ref))
    return out


def held(base: Ref, st: PathState) -> list[tuple[str, Value]]:
    """What a dict, list or instance holds, by slot."""
    return st.heap.held(base)


def gone_through(value: Value, st: PathState) -> Value:
    """What a loop goes over, or `zip`: it is not None, which would raise."""
    value = st.settle(value)
    if isinstance(value, Phi | Choice):
        found = set(options(value)) - {NONE}
        return found.pop() if len(found) == 1 else value
    return value


def iterate(run: Run, value: Value, st: PathState) -> tuple[Value, ...] | None:
    """The elements, where the sequence is known; None where it is not."""
    if isinstance(value, Tup):
        return value.items
    if isinstance(value, Ref) and value.kind == "list":
        items = st.heap.get((value, "[]"))
        return items.items if isinstance(items, Tup) else None
    if isinstance(value, Ref) and value.kind == "instance":
        return _named_tuple(run, value, st)
    return None


def _named_tuple(run: Run, value: Ref, st: PathState) -> tuple[Value, ...] | None:
    cls = run.classes.get(value)
    if cls is None or not classes.is_named_tuple(run, cls, st):
        return None
    names = classes.fields(run, cls, st)
    return tuple(st.heap.get((value, name)) or Sym(("attr", ("obj", value), name)) for name in names)


def comprehension(run: Run, fr: Frame, expr: ir.Comp, st: PathState) -> Results:
    """Two elements stand for all: the first and another."""
    target, iterable, conditions = expr.clauses[0]
    out: Results = []
    for s, source in expressions.evaluate(run, fr, iterable, st):
        elements = iterate(run, source, s) if len(expr.clauses) == 1 else None
        if isinstance(source, Params) and len(expr.clauses) == 1:
            elements = (source,)
        if elements is None or len(elements) > 4:
            first = _element(source, ("iter", fr.id, "comp", text_of(iterable)))
            elements = (first, _element(source, ("iter", fr.id, "comp2", text_of(iterable))))
        values: list[Value] = []
        paths = [s]
        for number, element in enumerate(elements):
            after: list[PathState] = []
            for path in paths:
                assign(run, fr, target, element, path)
                for extra, _, _ in expr.clauses[1:]:
                    assign(run, fr, extra, Sym(("iter", fr.id, "comp", text_of(extra))), path)
                with_number = Frame(
                    fr.module, fr.info, fr.id, fr.first_line, fr.owned, parent=fr.parent, owners=fr.owners
                )
                run.loops.append(("comp", number))
                for path2, value in expressions.evaluate(run, with_number, expr.element, path):
                    after.append(path2)
                    values.append(value)
                run.loops.pop()
            paths = merge(after, ("comp", fr.id, text_of(iterable)))[:1]
        result: Value = Tup(tuple(values))
        if values and all(isinstance(v, Params) for v in values) and isinstance(source, Params):
            result = Params(source.modules, source.optimizer, source.filtered or _selects(conditions))
        elif values and all(isinstance(v, Tensor) for v in values):
            result = join_tensors([v for v in values if isinstance(v, Tensor)])
        elif expr.kind == "dict" and any(isinstance(v, Ref) for v in values):
            result = Ref("dict", ("comp", fr.id, text_of(iterable), text_of(expr.element)))
            for path in paths:
                path.heap.drop(result)
                for number, value in enumerate(values):
                    path.heap[result, f"[element {number}]"] = value
        out.extend((path, result) for path in paths)
    return out


_GROUPS = re.compile(r"(?i)decay|bias|norm")


def _selects(conditions: tuple[ir.Expr, ...]) -> bool:
    """Whether conditions take some parameters and leave others out; with and without weight decay are groups of all."""
    texts = [
        str(node.value) if isinstance(node, ir.Const) else node.id if isinstance(node, ir.Name) else node.name
        for node in walk_nodes(conditions)
        if isinstance(node, ir.Const | ir.Name | ir.Attr)
    ]
    return bool(conditions) and ("requires_grad" in texts or not any(map(_GROUPS.search, texts)))


def _element(source: Value, key: Key) -> Value:
    if isinstance(source, Params | Tensor | Owned):
        return source
    return Sym(key)


def assign(run: Run, fr: Frame, target: ir.Expr, value: Value, st: PathState) -> None:
    match target:
        case ir.Name():
            scopes.store_name(fr, target.id, value, st)
        case ir.Attr():
            for _, base in expressions.evaluate(run, fr, target.base, st)[:1]:
                objects.store_attribute(run, fr, base, target.name, value, st, target)
        case ir.Sub():
            for _, (base, index) in expressions.evaluate_all(run, fr, (target.base, target.index), st)[:1]:
                for option in options(st.settle(base)):
                    store_subscript(option, index, value, st)
        case ir.Seq():
            items = iterate(run, st.settle(value), st)
            stars = [i for i, item in enumerate(target.items) if isinstance(item, ir.Star)]
            if items is not None and len(items) == len(target.items) and not stars:
                parts: Sequence[Value] = items
            elif isinstance(value, Phi | Choice):
                parts = [_part(value, i, len(target.items)) for i in range(len(target.items))]
            else:
                parts = [unpacked(value, i) for i in range(len(target.items))]
            for item, part in zip(target.items, parts, strict=True):
                assign(run, fr, item.value if isinstance(item, ir.Star) else item, part, st)
        case _:
            pass


def _part(value: Value, i: int, n: int) -> Value:
    if isinstance(value, Tup) and len(value.items) == n:
        return value.items[i]
    if isinstance(value, Phi | Choice):
        fits = [v for v in dict.fromkeys(options(value)) if not (isinstance(v, Tup) and len(v.items) != n)]
        if len(fits) == 1:
            return _part(fits[0], i, n)  # what has another length raises
        if isinstance(value, Phi):
            return phi(value.key, _part(value.yes, i, n), _part(value.no, i, n))
        return choice([_part(v, i, n) for v in fits or options(value)], ("sub", operators.key_of(value), ("const", i)))
    return unpacked(value, i)


def unpacked(value: Value, i: int) -> Value:
    match value:
        case Tensor() | Owned() | Params():
            return value
        case Sym():
            return Sym(("sub", value.key, ("const", i)))
        case Choice():
            each = [unpacked(v, i) for v in sorted(value.options, key=repr)]
            return choice(each, ("sub", operators.key_of(value), ("const", i)))
        case Tup():
            return Sym(("sub", ("tuple",), ("const", i)))
        case _:
            return Sym(("sub", operators.key_of(value), ("const", i)))
