"""Expressions: what they may stand for on one path. An expression may split the path (a call that branches does)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..facts import ir
from . import torch_api
from .frame import Frame, Run, text_of
from .linker import ClassInfo, ModuleInfo
from .state import PathState, decision, merge, truth_of
from .values import (
    NONE,
    Choice,
    Cls,
    Const,
    Device,
    Dtype,
    Ext,
    Func,
    Gradient,
    Key,
    Method,
    Mod,
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
    options,
)  # fmt: skip

Results = list[tuple[PathState, Value]]

TENSOR_FACTS = frozenset(["shape", "device", "ndim", "dtype", "requires_grad", "is_cuda", "layout", "names", "is_leaf", "itemsize", "nbytes"])


def evaluate(run: Run, fr: Frame, expr: ir.Expr, st: PathState) -> Results:
    """The values of `expr` on the path `st`, which may be changed; one entry per path that comes out."""
    match expr:
        case ir.Const():
            return [(st, Const(expr.value))]
        case ir.Name():
            return [(st, st.settle(load_name(run, fr, expr.id, st)))]
        case ir.Attr():
            return [
                (s, s.settle(attribute(run, fr, base, expr.name, s, expr)))
                for s, base in evaluate(run, fr, expr.base, st)
            ]
        case ir.Call():
            from .calls import call

            return call(run, fr, expr, st)
        case ir.Sub():
            out: Results = []
            for s, (base, index) in evaluate_all(run, fr, (expr.base, expr.index), st):
                out.append((s, s.settle(subscript(run, base, index, s))))
            return out
        case ir.Seq():
            return [(s, new_sequence(expr.kind, items)) for s, items in evaluate_all(run, fr, expr.items, st)]
        case ir.Dict():
            return _dict(run, fr, expr, st)
        case ir.BinOp():
            return [
                (s, binary(expr.op, a, b)) for s, (a, b) in evaluate_all(run, fr, (expr.left, expr.right), st)
            ]
        case ir.UnaryOp():
            out = []
            for s, value in evaluate(run, fr, expr.operand, st):
                if expr.op == "not":
                    truth = truth_of(value)
                    out.append((s, Const(not truth) if truth is not None else Sym(("not", key_of(value)))))
                elif isinstance(value, Const) and isinstance(value.value, int | float) and expr.op == "-":
                    out.append((s, Const(-value.value)))
                else:
                    out.append((s, value if isinstance(value, Tensor) else Sym(("op", expr.op, key_of(value)))))
            return out
        case ir.BoolOp():
            return _bool_op(run, fr, expr, st)
        case ir.Compare():
            return [
                (s, compare(expr.op, a, b, s)) for s, (a, b) in evaluate_all(run, fr, (expr.left, expr.right), st)
            ]
        case ir.IfExp():
            return _if_expression(run, fr, expr, st)
        case ir.Await():
            return evaluate(run, fr, expr.value, st)
        case ir.Star():
            return evaluate(run, fr, expr.value, st)
        case ir.Walrus():
            out = evaluate(run, fr, expr.value, st)
            for s, value in out:
                store_name(fr, expr.name, value, s)
            return out
        case ir.FString():
            out = []
            for s, parts in evaluate_all(run, fr, expr.parts, st):
                out.append((s, format_string(parts)))
            return out
        case ir.Yield():
            if expr.value is None:
                return [(st, Sym(("call", fr.id, "yield")))]
            return [(s, Sym(("call", fr.id, "yield"))) for s, _ in evaluate(run, fr, expr.value, st)]
        case ir.Comp():
            return _comprehension(run, fr, expr, st)
        case ir.Slice():
            return [(st, Sym(("slice",)))]
        case ir.Lambda():
            return [(st, Sym(("lambda", fr.id, len(expr.params))))]
        case _:
            return [(st, Sym(("opaque",)))]


def value_of(run: Run, fr: Frame, expr: ir.Expr, st: PathState) -> Value:
    """The value of an expression that is not expected to split the path."""
    results = evaluate(run, fr, expr, st)
    return results[0][1] if results else Sym(("opaque",))


def evaluate_all(
    run: Run, fr: Frame, exprs: Sequence[ir.Expr], st: PathState
) -> list[tuple[PathState, tuple[Value, ...]]]:
    """The values of several expressions, left to right."""
    paths: list[tuple[PathState, tuple[Value, ...]]] = [(st, ())]
    for expr in exprs:
        paths = [
            (after, (*values, value)) for before, values in paths for after, value in evaluate(run, fr, expr, before)
        ]
    return paths


# --------------------------------------------------------------------- names


def load_name(run: Run, fr: Frame, name: str, st: PathState) -> Value:
    if name not in fr.globals:
        value = st.heap.get((fr.id, name))
        if value is not None:
            return value
        parent = fr.parent
        while parent is not None:
            value = st.heap.get((parent, name))
            if value is not None:
                return value
            parent = parent[-1] if isinstance(parent, tuple) and parent and parent[0] == "frame" else None
    value = st.heap.get((fr.module.path, name))
    if value is not None:
        return value
    return global_value(run, fr.module, name, st)


def store_name(fr: Frame, name: str, value: Value, st: PathState) -> None:
    owner = fr.module.path if fr.info is None or name in fr.globals else fr.id
    st.heap[owner, name] = value


def global_value(run: Run, module: ModuleInfo, name: str, st: PathState) -> Value:
    """A name of a module whose top-level code has not been followed on this path."""
    if name in module.functions:
        info = module.functions[name]
        candidates: list[Value] = [Func(info)]
        if name not in module.imports:
            return candidates[0]
    elif name in module.classes:
        return Cls(module.classes[name])
    if name in module.imports:
        found: list[Value] = []
        for source, attr in module.imports[name]:
            value = imported(run, module, source, attr, st)
            if value not in found:
                found.append(value)
        if name in module.functions:
            found.append(Func(module.functions[name]))
        if name in module.assigns and all(isinstance(v, Ext) for v in found):
            return Choice(frozenset([*found, NONE])) if _only_none(module, name) else found[0]
        return found[0] if len(found) == 1 else Choice(frozenset(found))
    if name in module.assigns:
        return _assigned_global(run, module, name, st)
    for source, attr in module.imports.get("*", ()):
        target = run.project.find(module, source)
        if target is not None and target is not module:
            known = name in target.functions or name in target.classes or name in target.assigns
            if known or name in target.imports:
                return global_value(run, target, name, st)
        elif source.startswith(("torch", "apex")) and attr == "*":
            return Ext(f"{source}.{name}")
    return Ext(f"builtins.{name}") if name in _BUILTINS else Sym(("global", module.path, name))


def _only_none(module: ModuleInfo, name: str) -> bool:
    return all(isinstance(expr, ir.Const) and not expr.value for expr, _ in module.assigns[name])


_BUILTINS = frozenset(dir(__builtins__) if not isinstance(__builtins__, dict) else __builtins__)


def _assigned_global(run: Run, module: ModuleInfo, name: str, st: PathState) -> Value:
    place = (module.path, name)
    exprs = module.assigns[name]
    if place in run.resolving or len(exprs) > 4 or run.lazy > 6:
        return Sym(("global", module.path, name))
    run.resolving.add(place)
    run.lazy += 1
    try:
        values: list[Value] = []
        for expr, first_line in exprs:
            frame = Frame(module, None, ("module", module.path), first_line)
            for _, value in evaluate(run, frame, expr, st):
                values.append(Sym(("global", module.path, name)) if _is_fresh(value) else value)
                break
        value = choice(values, ("global", module.path, name))
    finally:
        run.lazy -= 1
        run.resolving.discard(place)
    st.heap[place] = value
    return value


def _is_fresh(value: Value) -> bool:
    return isinstance(value, Sym) and value.key[0] in ("call", "opaque", "ucall", "op", "slice", "lambda")


def imported(run: Run, module: ModuleInfo, source: str, attr: str, st: PathState) -> Value:
    """What `from source import attr` (or `import source`) binds."""
    if attr and attr != "*":
        target = run.project.find(module, source) if source.strip(".") else None
        if source.startswith(".") and not source.strip("."):
            inner = run.project.find(module, source + attr)
            if inner is not None:
                return Mod(inner.path)
            target = run.project.find_package(module, source)
        if target is not None and target is not module:
            return module_attribute(run, target, attr, st)
        inner = run.project.find(module, f"{source}.{attr}" if not source.endswith(".") else source + attr)
        if inner is not None:
            return Mod(inner.path)
        return canonical(f"{source}.{attr}")
    target = run.project.find(module, source)
    return Mod(target.path) if target is not None else canonical(source)


def module_attribute(run: Run, target: ModuleInfo, attr: str, st: PathState) -> Value:
    value = st.heap.get((target.path, attr))
    if value is not None:
        return value
    if attr in target.functions or attr in target.classes or attr in target.imports or attr in target.assigns:
        place = (target.path, f"import {attr}")
        if place in run.resolving:
            return Sym(("global", target.path, attr))
        run.resolving.add(place)
        try:
            return global_value(run, target, attr, st)
        finally:
            run.resolving.discard(place)
    if target.is_package:
        inner = run.project.find(target, f".{attr}")
        if inner is not None:
            return Mod(inner.path)
    return global_value(run, target, attr, st) if "*" in target.imports else Sym(("global", target.path, attr))


def canonical(name: str) -> Value:
    """A qualified name outside the project: a dtype where it is one."""
    parts = name.split(".")
    if parts[0] == "torch" and len(parts) == 2 and parts[1] in torch_api.DTYPES:
        return Dtype(torch_api.DTYPES[parts[1]])
    if parts[0] == "numpy" and len(parts) == 2 and parts[1] in torch_api.NUMPY_DTYPES:
        return Dtype(torch_api.NUMPY_DTYPES[parts[1]])
    if parts[0] == "np":
        return canonical(".".join(["numpy", *parts[1:]]))
    return Ext(name)


# ---------------------------------------------------------------- attributes


def attribute(run: Run, fr: Frame, base: Value, name: str, st: PathState, expr: ir.Attr | None = None) -> Value:
    match base:
        case Phi():
            yes = attribute(run, fr, base.yes, name, st, expr)
            no = attribute(run, fr, base.no, name, st, expr)
            return yes if yes == no else Phi(base.key, yes, no)
        case Choice():
            known = [v for v in sorted(base.options, key=repr) if v != NONE]
            return choice(
                [attribute(run, fr, v, name, st, expr) for v in known] or [Sym(("attr", ("none",), name))],
                ("attr", ("choice",), name),
            )
        case Ext():
            found = st.heap.get((base, name))
            return found if found is not None else canonical(f"{base.name}.{name}")
        case Mod():
            return module_attribute(run, run.project.modules[base.path], name, st)
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
            return Owned(base.by)
        case Device():
            known = name == "type" and base.type and ":" not in base.type
            return Const(base.type) if known else Sym(("attr", ("device", base.type), name))
        case Sym():
            found = st.heap.get((base.key, name))
            if found is not None:
                return found
            if name == "module":
                return base
            if name == "param_groups":
                return Params(None, base.key)
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
    return Method(base, name)


def _property(run: Run, fr: Frame, func: Func, st: PathState, name: str) -> Value:
    """A property is followed where it only computes a value; it cannot split the path."""
    from .calls import call_function

    if len(run.stack) < 8 and func.info not in run.stack:
        trial = st.clone()
        results = call_function(run, fr, func, (), (), trial, None)
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
    frame = Frame(cls.module, None, ("module", cls.module.path), cls.first_line)
    found: list[Value] = []
    for expr in cls.node.bases:
        if isinstance(expr, ir.Name | ir.Attr):
            found.extend(options(value_of(run, frame, expr, st)))
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
                return value_of(run, frame, owner.class_assigns[name], st)
            finally:
                run.lazy -= 1
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
                value = value_of(run, frame, expr, st)
                if not _is_fresh(value) and not (isinstance(value, Sym) and value.key[0] == "global"):
                    values.append(value)
                elif _is_fresh(value):
                    values.append(Sym(("attr", ("obj", base), name)))
            if values:
                break
        else:
            return _class_attribute(run, _NO_FRAME, cls, name, st)
        useful = [v for v in values if v != NONE] or values
        value = choice(values, ("attr", ("obj", base), name))
        if isinstance(value, Choice) and len(useful) == 1 and len(values) > 1:
            # `self.scaler = None` in __init__ and the real one in setup(): which holds is the same question each time
            value = Phi(("truth", ("attr", ("obj", base), name)), useful[0], NONE)
    finally:
        run.lazy -= 1
        run.resolving.discard(place)
    st.heap[place] = value
    return value


_NO_FRAME: Frame = None  # type: ignore[assignment]


# ---------------------------------------------------------------- containers


def new_sequence(kind: str, items: tuple[Value, ...]) -> Value:
    return Tup(items)


def subscript(run: Run, base: Value, index: Value, st: PathState) -> Value:
    match base:
        case Phi():
            return Phi(base.key, subscript(run, base.yes, index, st), subscript(run, base.no, index, st))
        case Tup():
            if isinstance(index, Const) and isinstance(index.value, int) and not isinstance(index.value, bool):
                if -len(base.items) <= index.value < len(base.items):
                    return base.items[index.value]
            if isinstance(index, Sym) and index.key == ("slice",):
                return base
            return choice(list(base.items), ("sub", ("tuple",), key_of(index))) if base.items else Sym(("opaque",))
        case Tensor() | Params() | Gradient() | Owned():
            return base
        case Ref(kind="list"):
            items = st.heap.get((base, "[]"))
            if isinstance(items, Tup):
                return subscript(run, items, index, st)
            return Sym(("sub", ("obj", base), key_of(index)))
        case Ref():
            found = st.heap.get((base, _slot(index)))
            if found is not None:
                return found
            return Sym(("sub", ("obj", base), key_of(index)))
        case Choice():
            return choice([subscript(run, v, index, st) for v in sorted(base.options, key=repr)], ("sub", ("choice",)))
        case Sym():
            found = st.heap.get((base.key, _slot(index)))
            return found if found is not None else Sym(("sub", base.key, key_of(index)))
        case _:
            return Sym(("sub", key_of(base), key_of(index)))


def _slot(index: Value) -> str:
    return f"[{index.value!r}]" if isinstance(index, Const) else f"[{key_of(index)!r}]"


def store_subscript(base: Value, index: Value, value: Value, st: PathState) -> None:
    if isinstance(base, Ref):
        st.heap[base, _slot(index)] = value
    elif isinstance(base, Sym):
        st.heap[base.key, _slot(index)] = value


def _dict(run: Run, fr: Frame, expr: ir.Dict, st: PathState) -> Results:
    out: Results = []
    exprs = [part for key, value in expr.items for part in ((key if key is not None else ir.Const(None)), value)]
    for s, values in evaluate_all(run, fr, exprs, st):
        ref = Ref("dict", fr.site(expr.span))
        s.heap.drop(ref)
        for i, (key, _) in enumerate(expr.items):
            if key is None:
                spread = values[2 * i + 1]
                if isinstance(spread, Ref) and spread.kind == "dict":
                    for slot, value in s.heap.held(spread):
                        s.heap[ref, slot] = value
                else:
                    s.heap[ref, f"[** {i}]"] = spread
            else:
                s.heap[ref, _slot(values[2 * i])] = values[2 * i + 1]
        out.append((s, ref))
    return out


def held(base: Ref, st: PathState) -> list[tuple[str, Value]]:
    """What a dict, list or instance holds, by slot."""
    return st.heap.held(base)


def iterate(run: Run, value: Value, st: PathState) -> tuple[Value, ...] | None:
    """The elements, where the sequence is known; None where it is not."""
    if isinstance(value, Tup):
        return value.items
    if isinstance(value, Ref) and value.kind == "list":
        items = st.heap.get((value, "[]"))
        return items.items if isinstance(items, Tup) else None
    if isinstance(value, Ref) and value.kind == "dict":
        return None
    return None


def _comprehension(run: Run, fr: Frame, expr: ir.Comp, st: PathState) -> Results:
    """Two elements stand for all: the first and another."""
    target, iterable, conditions = expr.clauses[0]
    out: Results = []
    for s, source in evaluate(run, fr, iterable, st):
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
                with_number = Frame(fr.module, fr.info, fr.id, fr.first_line, fr.owned, parent=fr.parent, globals=fr.globals)
                run.loops.append(("comp", number))
                for path2, value in evaluate(run, with_number, expr.element, path):
                    after.append(path2)
                    values.append(value)
                run.loops.pop()
            paths = merge(after, ("comp", fr.id, text_of(iterable)))[:1]
        result: Value = Tup(tuple(values))
        if values and all(isinstance(v, Params) for v in values) and isinstance(source, Params):
            result = Params(source.modules, source.optimizer, source.filtered or bool(conditions))
        elif values and all(isinstance(v, Tensor) for v in values):
            result = join_tensors([v for v in values if isinstance(v, Tensor)])
        out.extend((path, result) for path in paths)
    return out


def _element(source: Value, key: Key) -> Value:
    if isinstance(source, Params | Tensor | Owned):
        return source
    return Sym(key)


# ----------------------------------------------------------------- operators


def binary(op: str, a: Value, b: Value) -> Value:
    if isinstance(a, Params) and isinstance(b, Params):
        both = None if a.modules is None or b.modules is None else a.modules | b.modules
        return Params(both, filtered=a.filtered or b.filtered)
    if isinstance(a, Tup) and isinstance(b, Tup) and op == "+":
        return Tup(a.items + b.items)
    tensors = [v for v in (a, b) if isinstance(v, Tensor)]
    for value in (a, b):
        if isinstance(value, Phi | Choice):
            tensors.extend(v for v in options(value) if isinstance(v, Tensor))
    if tensors:
        if any(t.array for t in tensors):
            return _array_arithmetic(a, b)
        joined = join_tensors(tensors)
        if joined.scaled == "mixed" and op not in ("+", "-"):
            joined = Tensor(joined.uses, "?")
        other = [v for v in (a, b) if not isinstance(v, Tensor)]
        if joined.scaled is None and op in ("*", "/") and other and _may_be_scale(other[0]):
            return Tensor(joined.uses, "?", joined.dtype)
        if any(t.dtype == "float64" for t in tensors) and len(tensors) == 2:
            wide = next(t for t in tensors if t.dtype == "float64")
            return Tensor(joined.uses, joined.scaled, "float64", site=wide.site, grad=joined.grad)
        if len(tensors) == 1:
            return Tensor(joined.uses, joined.scaled, tensors[0].dtype, site=tensors[0].site, grad=joined.grad)
        return joined
    if isinstance(a, Const) and isinstance(b, Const):
        return _fold(op, a, b)
    if op == "%" and isinstance(a, Const) and isinstance(a.value, str):
        return Sym(("op", "format", key_of(b)))
    return Sym(("op", op, key_of(a), key_of(b)))


def _may_be_scale(value: Value) -> bool:
    """A loss multiplied by hand (`loss * 1024`) is a static loss scale; by a weight it is not, but who knows."""
    if isinstance(value, Const):
        return isinstance(value.value, int | float) and not isinstance(value.value, bool) and abs(value.value) >= 64
    return isinstance(value, Sym) and any("scale" in part for part in _words(value.key))


def _words(key: Key) -> Iterable[str]:
    for part in key:
        if isinstance(part, str):
            yield part
        elif isinstance(part, tuple):
            yield from _words(part)


def _array_arithmetic(a: Value, b: Value) -> Value:
    arrays = [v for v in (a, b) if isinstance(v, Tensor)]
    others = [v for v in (a, b) if not isinstance(v, Tensor)]
    kinds = {v.dtype for v in arrays}
    if len(arrays) == 2 and kinds <= {"float64", SCALAR64}:
        return next((v for v in arrays if v.dtype == "float64"), arrays[0])
    if len(arrays) == 1 and isinstance(others[0], Const):
        return arrays[0]
    wide = [v for v in arrays if v.dtype == "float64"]
    if wide and all(v.dtype in ("float64", "float32", "int64", "int32", "uint8") for v in arrays) and len(arrays) == 2:
        return wide[0]
    return Tensor(array=True)


SCALAR64 = "float64 scalar"
"""A NumPy float64 scalar: in arithmetic with arrays it is float64, as a tensor it has no dimension and promotes none."""


def _fold(op: str, a: Const, b: Const) -> Value:
    x, y = a.value, b.value
    numbers = isinstance(x, int | float) and isinstance(y, int | float)
    if op == "+" and isinstance(x, str) and isinstance(y, str):
        return Const(x + y)
    if numbers and op in ("+", "-", "*") and abs(float(x)) < 1e9 and abs(float(y)) < 1e9:  # type: ignore[arg-type]
        return Const({"+": x + y, "-": x - y, "*": x * y}[op])  # type: ignore[operator]
    if numbers and op == "**" and 0 <= float(y) <= 64 and abs(float(x)) <= 1024:  # type: ignore[arg-type]
        return Const(x**y)  # type: ignore[operator]
    if numbers and op == "/" and y:
        return Const(x / y)  # type: ignore[operator]
    return Sym(("op", op, ("const", x), ("const", y)))


def key_of(value: Value) -> Key:
    """A value as a part of a symbolic expression."""
    match value:
        case Const():
            return ("const", value.value)
        case Sym():
            return value.key
        case Ref():
            return ("obj", value)
        case Ext() | Dtype():
            return ("name", value.name)
        case Device():
            return ("device", value.type)
        case Method():
            return ("attr", key_of(value.base), value.name)
        case Tup():
            return ("tuple", *(key_of(item) for item in value.items[:8]))
        case Phi():
            return ("if", value.key, key_of(value.yes), key_of(value.no))
        case _:
            return ("ucall", type(value).__name__, ("site", hash_free(value)))


def hash_free(value: Value) -> str:
    return str(getattr(value, "site", None))


def compare(op: str, a: Value, b: Value, st: PathState) -> Value:
    left, right = st.settle(a), st.settle(b)
    if op in ("is", "is not", "==", "!="):
        known = _identical(left, right)
        if known is not None:
            return Const(known == (op in ("is", "==")))
        if isinstance(left, Phi | Choice) or isinstance(right, Phi | Choice):
            merged = _compare_options(op, left, right, st)
            if merged is not None:
                return merged
    if op in ("in", "not in") and isinstance(right, Tup) and isinstance(left, Const):
        if all(isinstance(item, Const) for item in right.items):
            return Const((left in right.items) == (op == "in"))
    if op in ("in", "not in") and isinstance(right, Tup) and isinstance(left, Sym):
        if right.items and all(isinstance(item, Const) for item in right.items):
            parts = tuple(("eq", left.key, item.value) for item in right.items if isinstance(item, Const))
            either: Key = ("or", *parts)
            return Sym(either if op == "in" else ("not", either))
    return Sym(("cmp", op, key_of(left), key_of(right)))


def _compare_options(op: str, left: Value, right: Value, st: PathState) -> Value | None:
    """`x is None` where x is a Phi or a Choice of known things."""
    value, other = (left, right) if isinstance(left, Phi | Choice) else (right, left)
    if isinstance(value, Phi):
        yes, no = compare(op, value.yes, other, st), compare(op, value.no, other, st)
        if isinstance(yes, Const) and isinstance(no, Const):
            if yes == no:
                return yes
            return Sym(value.key if yes.value else ("not", value.key))
        return Phi(value.key, yes, no)
    assert isinstance(value, Choice)
    results = {_identical(option, other) for option in value.options}
    if len(results) == 1:
        known = results.pop()
        return None if known is None else Const(known == (op in ("is", "==")))
    return None


def _identical(a: Value, b: Value) -> bool | None:
    """Whether two values are the same thing; None: not known."""
    if isinstance(a, Const) and isinstance(b, Const):
        return a.value == b.value
    objects = (Ref, Func, Cls, Mod, Tensor, Params, Dtype, Device, Owned, Tup)
    if (isinstance(a, objects) and b == NONE) or (isinstance(b, objects) and a == NONE):
        return False
    if isinstance(a, Dtype) and isinstance(b, Dtype):
        return a == b
    if isinstance(a, Device) and isinstance(b, Const) and isinstance(b.value, str):
        return a.type == b.value if a.type in ("cuda", "cpu", "mps") and not a.index else None
    return None


def format_string(parts: tuple[Value, ...]) -> Value:
    text = ""
    for part in parts:
        if not isinstance(part, Const):
            prefix = parts[0].value if isinstance(parts[0], Const) else None
            if isinstance(prefix, str) and prefix.startswith("cuda"):
                return Device("cuda:str", True)
            return Sym(("op", "format", *(key_of(p) for p in parts)))
        text += str(part.value)
    return Const(text)


# ---------------------------------------------------------------- conditions


def branch(run: Run, fr: Frame, test: ir.Expr, st: PathState) -> tuple[list[PathState], list[PathState], Key | None]:
    """Paths on which the condition holds, paths on which it does not, and the decision if there was one."""
    match test:
        case ir.UnaryOp(op="not"):
            yes, no, decided = branch(run, fr, test.operand, st)
            return no, yes, decided
        case ir.BoolOp() if not _plain(test):
            return _branch_sequence(run, fr, test, st)
        case _:
            pass
    run.testing, before = True, run.testing
    try:
        results = evaluate(run, fr, test, st)
    finally:
        run.testing = before
    yes, no = [], []
    key: Key | None = None
    for s, value in results:
        for s2, truth, taken in decide(s, value):
            refine(run, fr, test, truth, s2)
            (yes if truth else no).append(s2)
            key = taken or key
    return yes, no, key


def _plain(test: ir.BoolOp) -> bool:
    """An `or`/`and` of conditions without calls is one decision (`(i + 1) % k == 0 or i + 1 == n`)."""
    return test.op == "or" and all(isinstance(value, ir.Compare | ir.UnaryOp | ir.Name | ir.Attr) for value in test.values)


def _branch_sequence(
    run: Run, fr: Frame, test: ir.BoolOp, st: PathState
) -> tuple[list[PathState], list[PathState], Key | None]:
    going = [st]
    done: list[PathState] = []
    key: Key | None = None
    for value in test.values:
        after: list[PathState] = []
        for s in going:
            yes, no, taken = branch(run, fr, value, s)
            after += yes if test.op == "and" else no
            done += no if test.op == "and" else yes
            key = key or taken
        going = after
    return (going, done, key) if test.op == "and" else (done, going, key)


def decide(st: PathState, value: Value) -> list[tuple[PathState, bool, Key | None]]:
    """Splits a path at a condition's value: (path, truth, decision taken)."""
    value = st.settle(value)
    truth = truth_of(value)
    if truth is not None:
        return [(st, truth, None)]
    if isinstance(value, Phi):
        other = st.clone()
        st.assume(value.key, True)
        other.assume(value.key, False)
        return [
            (s, t, value.key) for side, s in ((value.yes, st), (value.no, other)) for s, t, _ in decide(s, side)
        ]
    if isinstance(value, Choice):
        truths = {truth_of(option) for option in value.options}
        if truths == {True} or truths == {False}:
            return [(st, truths.pop() or False, None)]
        other = st.clone()
        return [(st, True, None), (other, False, None)]
    assert isinstance(value, Sym)
    key = decision(value.key)
    known = st.decided(key)
    if known is not None:
        return [(st, known, key)]
    other = st.clone()
    st.assume(key, True)
    other.assume(key, False)
    return [(st, True, key), (other, False, key)]


def refine(run: Run, fr: Frame, test: ir.Expr, truth: bool, st: PathState) -> None:
    """`if scaler is not None:` leaves of a Choice what passes the test."""
    none_if = False
    if isinstance(test, ir.Compare) and isinstance(test.right, ir.Const) and test.right.value is None:
        none_if = truth == (test.op in ("is", "=="))
        test = test.left
    elif not isinstance(test, ir.Name | ir.Attr):
        return
    else:
        none_if = not truth
    if not isinstance(test, ir.Name | ir.Attr):
        return
    place = _place(run, fr, test, st)
    if place is None:
        return
    value = st.heap.get(place)
    if not isinstance(value, Choice):
        return
    left = [v for v in value.options if (truth_of(v) is False) == none_if or truth_of(v) is None]
    if left:
        st.heap[place] = choice(left, ("phi", "refined", str(place)))


def _place(run: Run, fr: Frame, expr: ir.Expr, st: PathState):  # type: ignore[no-untyped-def]
    if isinstance(expr, ir.Name):
        return (fr.id if (fr.id, expr.id) in st.heap else fr.module.path), expr.id
    if isinstance(expr, ir.Attr):
        base = value_of(run, fr, expr.base, st)
        if isinstance(base, Ref):
            return base, expr.name
        if isinstance(base, Sym):
            return base.key, expr.name
    return None


def _if_expression(run: Run, fr: Frame, expr: ir.IfExp, st: PathState) -> Results:
    yes, no, key = branch(run, fr, expr.test, st)
    out = [r for s in yes for r in evaluate(run, fr, expr.body, s)]
    out += [r for s in no for r in evaluate(run, fr, expr.orelse, s)]
    return join_results(out, ("ifexp", fr.id, text_of(expr.test), text_of(expr.body)))


def join_results(results: Results, node: object) -> Results:
    """Paths that agree on the automata go on as one, with the value that tells them apart."""
    if len(results) < 2:
        return results
    slot = (("result", str(node)), "value")
    for s, value in results:
        s.heap[slot] = value
    merged = merge([s for s, _ in results], ("result", str(node)))
    return [(s, s.heap.pop(slot) or NONE) for s in merged]


def _bool_op(run: Run, fr: Frame, expr: ir.BoolOp, st: PathState) -> Results:
    """`a or b` as a value: symbolic where nothing in it is an object."""
    out: Results = []
    for s, values in evaluate_all(run, fr, expr.values, st):
        decided: list[Value] = []
        result: Value | None = None
        for value in values:
            truth = truth_of(s.settle(value))
            if truth is None:
                decided.append(value)
            elif truth is (expr.op == "or"):
                result = value
                break
        last = values[-1]
        if not decided:
            out.append((s, result if result is not None else last))
        elif result is None and truth_of(last) is not None and expr.op == "and" and len(decided) == 1:
            out.append((s, Phi(decision(key_of(decided[0])), last, NONE)))
        elif result is not None and expr.op == "or" and len(decided) == 1 and isinstance(decided[0], Sym):
            out.append((s, Choice(frozenset([decided[0], result]))))
        else:
            parts = tuple(decision(key_of(value)) for value in decided)
            if result is None:
                out.append((s, Sym((expr.op, *parts)) if len(parts) > 1 else decided[0]))
            else:
                out.append((s, Sym((expr.op, *parts, decision(key_of(result))))))
    return out


# --------------------------------------------------------------- assignments


def assign(run: Run, fr: Frame, target: ir.Expr, value: Value, st: PathState) -> None:
    match target:
        case ir.Name():
            store_name(fr, target.id, value, st)
        case ir.Attr():
            for _, base in evaluate(run, fr, target.base, st)[:1]:
                store_attribute(run, fr, base, target.name, value, st, target)
        case ir.Sub():
            for _, (base, index) in evaluate_all(run, fr, (target.base, target.index), st)[:1]:
                for option in options(st.settle(base)):
                    store_subscript(option, index, value, st)
        case ir.Seq():
            items = iterate(run, st.settle(value), st)
            stars = [i for i, item in enumerate(target.items) if isinstance(item, ir.Star)]
            if items is not None and len(items) == len(target.items) and not stars:
                parts: Sequence[Value] = items
            elif isinstance(value, Phi):
                parts = [_part(value, i, len(target.items)) for i in range(len(target.items))]
            else:
                parts = [unpacked(value, i) for i in range(len(target.items))]
            for item, part in zip(target.items, parts, strict=True):
                assign(run, fr, item.value if isinstance(item, ir.Star) else item, part, st)
        case _:
            pass


def _part(value: Value, i: int, n: int) -> Value:
    if isinstance(value, Phi):
        return Phi(value.key, _part(value.yes, i, n), _part(value.no, i, n))
    if isinstance(value, Tup) and len(value.items) == n:
        return value.items[i]
    return unpacked(value, i)


def unpacked(value: Value, i: int) -> Value:
    match value:
        case Tensor() | Owned() | Params():
            return value
        case Sym():
            return Sym(("sub", value.key, ("const", i)))
        case Choice():
            return choice([unpacked(v, i) for v in sorted(value.options, key=repr)], ("sub", ("choice",), i))
        case Tup():
            return Sym(("sub", ("tuple",), ("const", i)))
        case _:
            return Sym(("sub", key_of(value), ("const", i)))


def store_attribute(
    run: Run, fr: Frame, base: Value, name: str, value: Value, st: PathState, expr: ir.Attr | None = None
) -> None:
    for option in options(st.settle(base)):
        match option:
            case Ref():
                if name != "module" or option.kind != "module":
                    st.heap[option, name] = value
                if option.kind in ("module", "instance") and isinstance(value, Ref) and value.kind in ("module", "instance"):
                    run.contains.setdefault(option, set()).add(value)
            case Sym():
                st.heap[option.key, name] = value
            case Ext():
                st.heap[option, name] = value
            case Mod():
                st.heap[option.path, name] = value
            case Params() if name == "grad" and value == NONE:
                from .events import zero_params

                zero_params(run, option, st, None)
            case Cls():
                st.heap[option, name] = value
            case _:
                pass
