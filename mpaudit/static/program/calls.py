"""Calls: functions of the project are followed, names of torch mean what they mean, the rest is unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..facts import ir
from . import events, library, torch_api
from .expressions import (
    Results,
    attribute,
    decide,
    evaluate,
    evaluate_all,
    external_bases,
    find_method,
    iterate,
    join_results,
    key_of,
    mro,
    store_attribute,
    value_of,
)  # fmt: skip
from .frame import MAX_DEPTH, Frame, Run, text_of, usage
from .linker import ClassInfo, FunctionInfo, Site, walk_nodes
from .state import PathState, merge
from .trace import ApiCall
from .values import (
    NONE,
    Cast,
    Choice,
    Cls,
    Const,
    Dtype,
    Ext,
    Func,
    Gradient,
    Key,
    Method,
    Owned,
    Params,
    Phi,
    Ref,
    State,
    Sym,
    Tensor,
    Tup,
    Use,
    Value,
    choice,
    join_tensors,
    options,
    roots,
)  # fmt: skip

Args = tuple[Value, ...]
Keywords = tuple[tuple[str, Value], ...]

MAX_INERT = 2
"""A call that twice did nothing of interest is not followed again with arguments of the same kinds."""
MODEL_NAME = re.compile(
    r"(?i)(^|[._])(model|net|generator|discriminator|encoder|decoder|backbone|critic|actor|unet|vae|policy|student"
    r"|teacher|gpt|network|mpd|msd|transformer|resnet|vit)(_?\w{0,6})$|net(_?[a-z0-9])?$|model"
)
OPTIMIZER_NAME = re.compile(r"(?i)(^|[._])(opt|optim|optimi[sz]er)s?\d*(_?\w{0,12})$|optim|optimi[sz]er$|_opt$|^opt")
SCALER_METHODS = frozenset(["scale", "step", "update", "unscale_", "get_scale", "is_enabled", "state_dict", "load_state_dict"])


def call(run: Run, fr: Frame, expr: ir.Call, st: PathState) -> Results:
    if isinstance(expr.func, ir.Name) and expr.func.id == "super" and not expr.args:
        return [(st, Sym(("super",)))]
    out: Results = []
    for s, callee in _callee(run, fr, expr, st):
        exprs = [*expr.args, *(value for _, value in expr.keywords)]
        testing, run.testing = run.testing, run.testing
        for s2, values in evaluate_all(run, fr, exprs, s):
            args = _spread(run, expr.args, values[: len(expr.args)], s2)
            keywords = tuple(
                (name, value) for (name, _), value in zip(expr.keywords, values[len(expr.args) :], strict=True)
            )
            out += dispatch(run, fr, expr, callee, args, keywords, s2)
        run.testing = testing
    return out


def _spread(run: Run, exprs: Sequence[ir.Expr], values: Args, st: PathState) -> Args:
    args: list[Value] = []
    for expr, value in zip(exprs, values, strict=True):
        if isinstance(expr, ir.Star):
            items = iterate(run, st.settle(value), st)
            if items is not None:
                args += items
            elif isinstance(value, Params | Tensor | Owned):
                args.append(value)
            else:
                args.append(Sym(("star", key_of(value))))
        else:
            args.append(value)
    return tuple(args)


def _callee(run: Run, fr: Frame, expr: ir.Call, st: PathState) -> Results:
    """What is called; a Phi is split, so that `scaler.step` on a path means one thing."""
    func = expr.func
    if isinstance(func, ir.Attr):
        if isinstance(func.base, ir.Call) and isinstance(func.base.func, ir.Name) and func.base.func.id == "super":
            return [(st, _super_method(run, fr, func.name, st))]
        out: Results = []
        for s, base in evaluate(run, fr, func.base, st):
            for s2, settled in _split(s, base):
                out.append((s2, s2.settle(attribute(run, fr, settled, func.name, s2, func))))
        return [r for s, v in out for r in _split(s, v)]
    return [r for s, v in evaluate(run, fr, func, st) for r in _split(s, v)]


def _split(st: PathState, value: Value) -> Results:
    value = st.settle(value)
    if not isinstance(value, Phi):
        return [(st, value)]
    if value.no == NONE and not isinstance(value.yes, Phi):
        # calling a method of None would raise: the decision is what the call proves
        st.assume(value.key, True)
        return [(st, value.yes)]
    if value.yes == NONE and not isinstance(value.no, Phi):
        st.assume(value.key, False)
        return [(st, value.no)]
    other = st.clone()
    st.assume(value.key, True)
    other.assume(value.key, False)
    return _split(st, value.yes) + _split(other, value.no)


def _super_method(run: Run, fr: Frame, name: str, st: PathState) -> Value:
    info = fr.info
    while info is not None and info.cls is None:
        info = info.parent
    if info is None or info.cls is None or info.node is None or not info.node.params:
        return Sym(("super", name))
    me = st.heap.get((fr.id, info.node.params[0].name), Sym(("super",)))
    dynamic = run.classes.get(me) if isinstance(me, Ref) else None
    order = list(mro(run, dynamic or info.cls, st))
    after = order[order.index(info.cls) + 1 :] if info.cls in order else []
    for owner in after:
        if name in owner.methods:
            return Func(owner.methods[name], me)
    if isinstance(me, Ref) and me.kind in ("scaler", "optimizer"):
        return Method(me, name)
    return Sym(("super", name))


def dispatch(
    run: Run, fr: Frame, expr: ir.Call, callee: Value, args: Args, keywords: Keywords, st: PathState
) -> Results:
    site = fr.site(expr.span)
    match callee:
        case Func():
            return call_function(run, fr, callee, args, keywords, st, site)
        case Cls():
            return instantiate(run, fr, expr, callee, args, keywords, st)
        case Ext():
            return library.call_external(run, fr, expr, callee.name, args, keywords, st)
        case Method():
            return call_method(run, fr, expr, callee, args, keywords, st)
        case Ref():
            return call_object(run, fr, expr, callee, args, keywords, st)
        case Owned():
            return _call_owned(run, fr, expr, callee, args, st)
        case Choice():
            return _call_choice(run, fr, expr, callee, args, keywords, st)
        case Tensor():
            return [(st, join_tensors([callee, *tensors_in((*args, *(v for _, v in keywords)))]))]
        case Sym():
            return call_unknown(run, fr, expr, callee, args, keywords, st)
        case _:
            return opaque(run, fr, expr, callee, args, keywords, st)


def _call_choice(
    run: Run, fr: Frame, expr: ir.Call, callee: Choice, args: Args, keywords: Keywords, st: PathState
) -> Results:
    known = sorted((v for v in callee.options if v != NONE), key=repr)
    names = [v.name for v in known if isinstance(v, Ext)]
    if len(known) == 1:
        return dispatch(run, fr, expr, known[0], args, keywords, st)
    if names and len(names) == len(known):
        torch_names = [name for name in names if name.startswith("torch.")]
        if not torch_names:
            return opaque(run, fr, expr, callee, args, keywords, st)
        best = sorted(torch_names, key=lambda n: (n in torch_api.DEPRECATED, n))[0]
        return library.call_external(run, fr, expr, best, args, keywords, st, shim=True)
    last = expr.func.name if isinstance(expr.func, ir.Attr) else ""
    receivers = [v.base if isinstance(v, Method) else v for v in known]
    if last == "backward" and isinstance(expr.func, ir.Attr):
        joined = join_tensors([_as_tensor(value) for value in receivers])
        events.backward(run, fr, joined, fr.site(expr.span), text_of(expr.func.base), st)
        return [(st, NONE)]
    if any(isinstance(value, Tensor) for value in receivers):
        tensor = join_tensors([value for value in receivers if isinstance(value, Tensor)])
        return library.tensor_method(run, fr, expr, tensor, last, args, keywords, st)
    refs = [v for v in known if isinstance(v, Ref | Func)]
    if len(refs) == len(known) <= 3:
        out: Results = []
        for i, option in enumerate(known):
            path = st if i == len(known) - 1 else st.clone()
            out += dispatch(run, fr, expr, option, args, keywords, path)
        return join_results(out, fr.site(expr.span))
    methods = [v for v in known if isinstance(v, Method) and isinstance(v.base, Ref)]
    events.havoc(run, [v.base for v in methods], st)
    return opaque(run, fr, expr, callee, args, keywords, st)


def _as_tensor(value: Value) -> Tensor:
    """A loss of which one of several things is known: an unknown one may be scaled."""
    if isinstance(value, Tensor):
        return value
    return Tensor(None, events.scaled_of_unknown(Sym(value.key[1])) if isinstance(value, Sym) and value.key[0] == "attr" else "?")


def tensors_in(values: Sequence[Value], depth: int = 0) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        for option in options(value):
            if isinstance(option, Tensor):
                found.append(option)
            elif isinstance(option, Tup) and depth < 3:
                found += tensors_in(option.items, depth + 1)
            elif isinstance(option, Method) and isinstance(option.base, Tensor):
                found.append(option.base)
    return found


def tensors_deep(values: Sequence[Value], st: PathState) -> list[Tensor]:
    """Also those in dicts and lists."""
    found = tensors_in(values)
    for value in values:
        if isinstance(value, Ref) and value.kind in ("dict", "list"):
            found += tensors_in([v for _, v in st.heap.held(value)])
    return found


# ----------------------------------------------------------------- functions


def call_function(
    run: Run, fr: Frame, func: Func, args: Args, keywords: Keywords, st: PathState, site: Site | None
) -> Results:
    """Follows a function of the project; several results where its paths differ in what the automata hold."""
    info = func.info
    node = info.node
    everything = (*args, *(v for _, v in keywords))
    if node is None:
        return [(st, _result_of_cold(run, info, everything, site, st))]
    run.reached.add(info)
    if info in run.stack or len(run.stack) >= MAX_DEPTH:
        events.havoc(run, everything, st)
        if func.self_value is not None and info not in run.stack:
            events.havoc(run, [func.self_value], st)
        return [(st, _result_of_cold(run, info, everything, site, st))]
    if node.is_generator:
        if any(text_of(d).endswith("contextmanager") for d, _ in node.decorators):
            return [(st, Ref("generator_context", (func, args, keywords)))]
        if not info.live:
            return [(st, _result_of_cold(run, info, everything, site, st))]
    if not info.live and not _worth_following(node):
        if isinstance(func.self_value, Ref) and info.cls is not None:
            for name, assigns in info.cls.attribute_assigns.items():
                if any(method is info for method, _ in assigns):
                    st.heap.pop((func.self_value, name))
        return [(st, _result_of_cold(run, info, everything, site, st))]
    shape = _call_shape(func, args, keywords)
    done_before = shape in run.project.followed or run.inert.get(shape, 0) >= MAX_INERT
    if done_before and not run.lazy:
        return [(st, _result_of_cold(run, info, everything, site, st))]
    events_before = run.events
    frame = Frame(
        info.module, info, ("frame", repr(info), len(run.stack), func.closure), info.first_line,
        owned=fr.owned or is_owned(run, info.cls, st), parent=func.closure,
    )  # fmt: skip
    st.heap.drop(frame.id)
    for key in [k for k in st.guards if any(r[1:2] == (frame.id,) for r in roots(k))]:
        del st.guards[key]
    bind(run, frame, func, args, keywords, st)
    outer = (st.casts, st.no_grad)
    _enter_decorators(run, frame, node, st)
    run.stack.append(info)
    try:
        from .flow import execute

        done = execute(run, frame, node.body, [st])
    finally:
        run.stack.pop()
    run.completed.add(info)
    if func.self_value is None and not run.lazy and all(_is_plain(value) for value in everything):
        run.shapes.add(shape)
    results: Results = [*frame.returns, *((s, NONE) for s in done)]
    for s, _ in results:
        s.casts, s.no_grad = outer
    for s in frame.raises:
        s.casts, s.no_grad = outer
        fr.raises.append(s)
    results = join_results(results, ("return", frame.id, site))
    if run.events == events_before and len(results) == 1 and isinstance(results[0][1], Sym | Const | Tensor | Tup):
        run.inert[shape] = run.inert.get(shape, 0) + 1
    out: Results = []
    for s, value in results:
        if not any(isinstance(v, Func) and v.closure == frame.id for v in options(value)) and not _captured(frame, s):
            s.heap.drop(frame.id)
        out.append((s, value))
    return out


def _call_shape(func: Func, args: Args, keywords: Keywords) -> tuple[object, ...]:
    """What decides which way a call goes: constants among its arguments, and the kinds of the others."""
    values = (*args, *(v for _, v in keywords))
    kinds = tuple(v if isinstance(v, Const) else (type(v).__name__, getattr(v, "kind", "")) for v in values)
    return (func.info, func.self_value if isinstance(func.self_value, Ref) else None, kinds)


def _is_plain(value: Value) -> bool:
    return isinstance(value, Sym | Const)


def _captured(frame: Frame, st: PathState) -> bool:
    """Whether a nested function that outlives the call still looks into the frame."""
    if frame.info is None or not any(info.parent is frame.info for info in frame.module.nested):
        return False
    return any(
        isinstance(value, Func) and value.closure == frame.id for (owner, _), value in st.heap.items() if owner != frame.id
    )


def _worth_following(node: ir.FunctionDef) -> bool:
    """A small helper that only hands values on."""
    return len(node.body) <= 6 and any(
        isinstance(s, ir.Return) or (isinstance(s, ir.Assign) and any(isinstance(t, ir.Attr) for t in s.targets))
        for s in node.body
    )


def _result_of_cold(run: Run, info: FunctionInfo, args: Args, site: Site | None, st: PathState) -> Value:
    tensors = tensors_in(args)
    if tensors:
        return join_tensors(tensors)
    if run.testing:
        return Sym(("ucall", repr(info), *(key_of(a) for a in args[:6])))
    return fresh(site or ("cold", repr(info)), st)


def fresh(site: object, st: PathState) -> Sym:
    key: Key = ("call", site)
    st.forget(key)
    return Sym(key)


def bind(run: Run, frame: Frame, func: Func, args: Args, keywords: Keywords, st: PathState) -> None:
    """Arguments to parameters; what is not given takes its default, what is not known a name of its own."""
    node = func.info.node
    assert node is not None
    values = list(args)
    decorators = {text_of(d) for d, _ in node.decorators}
    if func.self_value is not None and "staticmethod" not in decorators:
        values.insert(0, func.self_value)
    elif "classmethod" in decorators and func.info.cls is not None:
        values.insert(0, Cls(func.info.cls))
    given = dict(keywords)
    star = any(isinstance(v, Sym) and v.key[0] == "star" for v in values) or "" in given
    positional = [p for p in node.params if p.kind == "pos"]
    for i, param in enumerate(positional):
        if i < len(values) and not (isinstance(values[i], Sym) and values[i].key[0] == "star"):  # type: ignore[union-attr]
            st.heap[frame.id, param.name] = values[i]
        elif param.name in given:
            st.heap[frame.id, param.name] = given[param.name]
        else:
            st.heap[frame.id, param.name] = _default(run, frame, param, st, unknown=star)
    for param in node.params:
        if param.kind == "kw":
            value = given.get(param.name)
            st.heap[frame.id, param.name] = value if value is not None else _default(run, frame, param, st, star)
        elif param.kind == "*":
            st.heap[frame.id, param.name] = Tup(tuple(values[len(positional) :]))
        elif param.kind == "**":
            names = {p.name for p in node.params}
            ref = Ref("dict", ("kwargs", frame.id))
            st.heap.drop(ref)
            for name, value in keywords:
                if name and name not in names:
                    st.heap[ref, f"[{Const(name)!r}]"] = value
            st.heap[frame.id, param.name] = ref


def _default(run: Run, frame: Frame, param: ir.Param, st: PathState, unknown: bool) -> Value:
    if param.default is None or unknown:
        return Sym(("param", repr(frame.info), param.name))
    module_frame = Frame(frame.module, None, ("module", frame.module.path), frame.first_line)
    return value_of(run, module_frame, param.default, st)


def _enter_decorators(run: Run, frame: Frame, node: ir.FunctionDef, st: PathState) -> None:
    """Autocast and no_grad as decorators cover the body."""
    module_frame = Frame(frame.module, None, ("module", frame.module.path), frame.first_line)
    for expr, _ in node.decorators:
        name = text_of(expr)
        if not any(word in name.lower() for word in ("cast", "grad", "inference", "amp")):
            continue
        value = value_of(run, module_frame, expr, st)
        if isinstance(value, Ref) and value.kind == "autocast" and isinstance(value.id, Cast):
            run.trace.casts_entered.add(value.id.site)
            st.casts = (*st.casts, value.id)
        elif (isinstance(value, Ref) and value.kind == "no_grad") or (
            isinstance(value, Ext) and value.name in torch_api.NO_GRAD
        ):
            st.no_grad = True
        elif isinstance(value, Sym) and "cast" in name.lower():
            st.casts = (*st.casts, None)


def decorator_seen(run: Run, fr: Frame, expr: ir.Expr, span: ir.Span, st: PathState) -> None:
    """Records the use of a torch name as a decorator."""
    value = value_of(run, fr, expr, st) if isinstance(expr, ir.Call | ir.Name | ir.Attr) else NONE
    if isinstance(value, Ext) and (value.name in torch_api.AUTOCAST or value.name in torch_api.DEPRECATED):
        run.trace.calls[ApiCall(value.name, fr.site(span), (), (), "bare", text_of(expr), run.root)] = None
    elif isinstance(value, Ref) and value.kind == "autocast" and isinstance(value.id, Cast):
        run.trace.casts_entered.add(value.id.site)


def is_owned(run: Run, cls: ClassInfo | None, st: PathState) -> bool:
    """A class of a framework that drives the backward, the scaler and the step itself."""
    return cls is not None and any(torch_api.owner(base) for base in external_bases(run, cls, st))


def generator_context(run: Run, fr: Frame, context: Ref, st: PathState) -> Value:
    """`@contextmanager def f(): with autocast(...): yield`: what the generator holds open at its yield."""
    from .flow import enter_context

    made: tuple[Func, Args, Keywords] = context.id  # type: ignore[assignment]
    func, args, keywords = made
    node = func.info.node
    if node is None or func.info in run.stack:
        st.casts = (*st.casts, None)
        return NONE
    frame = Frame(func.info.module, func.info, ("frame", repr(func.info), len(run.stack), None), func.info.first_line)
    bind(run, frame, func, args, keywords, st)
    run.reached.add(func.info)
    found = [
        stmt for stmt in walk_nodes(node.body)
        if isinstance(stmt, ir.With) and any(isinstance(n, ir.Yield) for n in walk_nodes(stmt.body))
    ]  # fmt: skip
    if len(found) > 1:
        st.casts = (*st.casts, None)
    for stmt in found[:1]:
        for expr, _, _ in stmt.items:
            for s, value in evaluate(run, frame, expr, st)[:1]:
                enter_context(run, frame, s.settle(value), expr, s)
    return NONE


# ------------------------------------------------------------------- classes


def is_module_class(run: Run, cls: ClassInfo, st: PathState) -> bool:
    bases = external_bases(run, cls, st)
    return any(
        torch_api.MODULE_BASE.match(base) or torch_api.PRETRAINED.match(base) or base.endswith((".Module", "Model"))
        for base in bases
    ) or ("?" in bases and "forward" in cls.methods)


def allocation(run: Run, site: Site) -> object:
    """Identity of an object made at `site`; the two elements that stand for a comprehension's are two objects."""
    numbers = tuple(loop[1] for loop in run.loops if isinstance(loop, tuple) and loop and loop[0] == "comp")
    return (site, numbers) if numbers else site


def instantiate(
    run: Run, fr: Frame, expr: ir.Call, callee: Cls, args: Args, keywords: Keywords, st: PathState
) -> Results:
    cls = callee.info
    site = fr.site(expr.span)
    ident = allocation(run, site)
    bases = external_bases(run, cls, st)
    if any(base in torch_api.GRAD_SCALER for base in bases) and "__call__" not in cls.methods:
        ref = Ref("scaler", ident)
        enabled = dict(keywords).get("enabled", Const(True))
        events.make_scaler(run, ref, site, truth_key(enabled), text_of(expr.func), st)
        return [(st, ref)]
    if any(base == "torch.optim.Optimizer" or torch_api.OPTIMIZER.match(base) for base in bases):
        ref = Ref("optimizer", ident)
        events.make_optimizer(run, ref, site, list(args[:1]) or [v for _, v in keywords], text_of(expr.func), st)
        return [(st, ref)]
    kind = "module" if is_module_class(run, cls, st) else "instance"
    ref = Ref(kind, ident)
    st.heap.drop(ref)
    run.classes[ref] = cls
    run.trace.sources[ref] = cls.module.path
    run.contains.pop(ref, None)
    if kind == "module":
        for value in (*args, *(v for _, v in keywords)):
            if isinstance(value, Ref) and value.kind == "module":
                run.contains.setdefault(ref, set()).add(value)
    init = find_method(run, cls, "__init__", st)
    if init is not None and init.node is not None and (cls.live or init.live):
        results = call_function(run, fr, Func(init, ref), args, keywords, st, site)
        return [(s, ref) for s, _ in results]
    if init is None:
        for name, value in keywords:
            if name:
                st.heap[ref, name] = value
        fields = [n.id for n in _annotated(cls)]
        for name, value in zip(fields, args, strict=False):
            st.heap[ref, name] = value
    elif kind == "instance":
        events.havoc(run, (*args, *(v for _, v in keywords)), st) if not torch_api.HARMLESS.search(cls.name) else None
    return [(st, ref)]


def _annotated(cls: ClassInfo) -> list[ir.Name]:
    return [ir.Name(name) for name in cls.class_assigns]


def truth_key(value: Value) -> bool | Key:
    """Whether a flag is on: known, or the decision that says so."""
    from .expressions import key_of as _key
    from .state import decision, truth_of

    if isinstance(value, Phi):
        yes, no = truth_key(value.yes), truth_key(value.no)
        if yes is True and no is False:
            return value.key
        if yes is False and no is True:
            return ("not", value.key)
        return yes if yes == no else decision(_key(value))
    truth = truth_of(value)
    if truth is not None:
        return truth
    return decision(_key(value))


# ------------------------------------------------------------------- objects


def call_object(
    run: Run, fr: Frame, expr: ir.Call, ref: Ref, args: Args, keywords: Keywords, st: PathState
) -> Results:
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    cls = run.classes.get(ref)
    if ref.kind == "module":
        return forward(run, fr, expr, ref, args, keywords, st)
    if ref.kind == "native_scaler":
        for value in everything:
            ident = events.identity(value)
            if ident is not None and (ident in st.protocol.optimizers or (isinstance(value, Ref) and value.kind == "optimizer")):
                events.havoc(run, [value], st)
        run.trace.owned_roots.add(run.root)
        return [(st, fresh(site, st))]
    if ref.kind == "partial":
        bound: tuple[Value, Args, Keywords] = ref.id  # type: ignore[assignment]
        inner, early, early_keywords = bound
        merged = (*((k, v) for k, v in early_keywords if k not in dict(keywords)), *keywords)
        return dispatch(run, fr, expr, inner, (*early, *args), merged, st)
    if cls is not None:
        method = find_method(run, cls, "__call__", st)
        if method is not None:
            return call_function(run, fr, Func(method, ref), args, keywords, st, site)
    if ref.kind in ("autocast", "no_grad") and args and isinstance(args[0], Func):
        return [(st, args[0])]
    return opaque(run, fr, expr, ref, args, keywords, st)


def forward(
    run: Run, fr: Frame, expr: ir.Call, ref: Ref, args: Args, keywords: Keywords, st: PathState
) -> Results:
    """A call of a module: its own forward is followed where it holds something that matters."""
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    library.check_leaks(run, everything, site, "a forward pass", st)
    if run.trace.module_info.get(ref) == "bce":
        library.bce(run, site, text_of(expr.func), st)
    inputs = tensors_in(everything)
    output = events.uses_of(ref, site, st, inputs)
    cls = run.classes.get(ref)
    if cls is not None and cls.live:
        method = find_method(run, cls, "forward", st)
        if method is not None and method.node is not None and method not in run.stack and len(run.stack) < 8:
            results = call_function(run, fr, Func(method, ref), args, keywords, st, site)
            return [(s, _with_output(value, _covered_inside(value, output, ref))) for s, value in results]
    return [(st, output)]


def _covered_inside(value: Value, output: Tensor, ref: Ref) -> Tensor:
    """The output of a forward that enters an autocast of its own comes from under that autocast."""
    if output.uses is None:
        return output
    inner = [use.casts for tensor in tensors_in([value]) for use in tensor.uses or ()]
    own = next((use for use in output.uses if use.module == ref), None)
    if own is None or not inner:
        return output
    around = len(own.casts or ())
    deeper = [casts for casts in inner if casts is None or len(casts) > around]
    if not deeper or (None in deeper and own.casts is None):
        return output
    casts = None if None in deeper else max(deeper, key=lambda c: len(c or ()))
    return replace(output, uses=(output.uses - {own}) | {replace(own, casts=casts)})


def _with_output(value: Value, output: Tensor) -> Value:
    if isinstance(value, Tup):
        return Tup(tuple(_with_output(item, output) for item in value.items))
    return output


def call_method(
    run: Run, fr: Frame, expr: ir.Call, callee: Method, args: Args, keywords: Keywords, st: PathState
) -> Results:
    base = callee.base
    match base:
        case Ref(kind="scaler"):
            return scaler_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Ref(kind="optimizer"):
            return optimizer_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Ref(kind="module"):
            return library.module_method(run, fr, expr, base, base, callee.name, args, keywords, st)
        case Ref(kind="list"):
            return library.list_method(run, base, callee.name, args, st)
        case Ref(kind="dict"):
            return library.dict_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Ref(kind="exitstack") if callee.name == "enter_context" and args:
            from .flow import enter_context

            return [(st, enter_context(run, fr, st.settle(args[0]), expr.args[0], st))]
        case Ref(kind="autocast") if callee.name == "__enter__":
            if isinstance(base.id, Cast):
                run.trace.casts_entered.add(base.id.site)
            st.casts = (*st.casts, None)
            return [(st, base)]
        case Ref(kind="native_scaler"):
            if callee.name == "state_dict":
                return [(st, State(base))]
            return call_object(run, fr, expr, base, args, keywords, st)
        case Tensor():
            return library.tensor_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Gradient():
            return library.gradient_method(run, fr, expr, base, callee.name, args, st)
        case Const():
            return [(st, Sym(("op", callee.name, key_of(base), *(key_of(a) for a in args))))]
        case Params():
            if callee.name in ("to", "float", "half", "detach", "clone", "double", "cuda", "requires_grad_", "data"):
                return [(st, base)]
            site = fr.site(expr.span)
            uses = frozenset(Use(module, None, site) for module in base.modules or ())
            return [(st, Tensor(uses) if uses and not st.no_grad else fresh(site, st))]
        case Dtype():
            return [(st, Sym(("opaque",)))]
        case _:
            return opaque(run, fr, expr, callee, args, keywords, st)


def scaler_method(
    run: Run, fr: Frame, expr: ir.Call, scaler: Ref | Sym, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    ident = events.identity(scaler)
    assert ident is not None
    site = fr.site(expr.span)
    assert isinstance(expr.func, ir.Attr)
    if isinstance(scaler, Sym):
        run.roles[ident] = "scaler"
    if not run.lazy:
        run.trace.names.setdefault(ident, text_of(expr.func.base))
    given = dict(keywords)
    if fr.owned:
        return [(st, args[0] if name == "scale" and args else NONE)]
    if name == "scale":
        loss = args[0] if args else given.get("outputs", NONE)
        return list(events.scale(run, ident, loss, site, st))
    if name in ("unscale_", "step"):
        target = args[0] if args else given.get("optimizer")
        if target is None:
            return [(st, NONE)]
        out: Results = []
        text = text_of(expr.args[0]) if expr.args else "optimizer"
        for s, option in _split(st, target):
            if isinstance(option, Owned):
                out.append((s, NONE))
                continue
            if isinstance(option, Choice):
                events.havoc(run, [option, scaler], s)
                out.append((s, NONE))
                continue
            optimizer = events.identity(option)
            if optimizer is None:
                events.havoc(run, [scaler], s)
            else:
                if isinstance(option, Sym):
                    run.roles[optimizer] = "optimizer"
                run.trace.names.setdefault(optimizer, text)
            if name == "step":
                out += [(p, Sym(("call", site))) for p in events.step(run, fr, ident, optimizer, site, text, s)]
            else:
                out += [(p, NONE) for p in events.unscale(run, ident, optimizer, site, s)]
        return out
    if name == "update":
        if args:
            library.check_update_argument(run, site, args[0], fr, expr)
        return [(s, NONE) for s in events.update(run, ident, site, st, bool(args or keywords))]
    if name == "is_enabled":
        enabled = run.enabled.get(ident, True)
        if isinstance(enabled, bool):
            return [(st, Const(enabled) if isinstance(scaler, Ref) else Sym(("attr", ident, "is_enabled")))]
        return [(st, Sym(enabled))]
    if name == "state_dict":
        return [(st, State(scaler))]
    if name == "load_state_dict":
        return [(st, NONE)]
    return [(st, Sym(("attr", key_of(scaler), name)))]


def optimizer_method(
    run: Run, fr: Frame, expr: ir.Call, optimizer: Ref | Sym, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    ident = events.identity(optimizer)
    assert ident is not None
    site = fr.site(expr.span)
    assert isinstance(expr.func, ir.Attr)
    text = text_of(expr.func.base)
    if isinstance(optimizer, Sym):
        run.roles[ident] = "optimizer"
    if not run.lazy:
        run.trace.names.setdefault(ident, text)
    if name == "step":
        if args or any(key == "closure" for key, _ in keywords):
            events.havoc(run, [optimizer], st)  # a closure runs its own backward
            if isinstance(args[0] if args else NONE, Func):
                return [(st, NONE)]
            return [(st, NONE)]
        events.raw_step(run, fr, ident, site, text, st)
        return [(st, NONE)]
    if name == "zero_grad":
        events.zero(run, ident, site, st)
        return [(st, NONE)]
    if name == "state_dict":
        return [(st, State(optimizer))]
    if name in ("backward", "clip_master_grads", "clip_grad_norm"):
        events.havoc(run, [optimizer], st)
        return [(st, NONE)]
    if name == "param_groups":
        return [(st, Params(None, ident))]
    if name in ("load_state_dict", "add_param_group", "register_step_post_hook", "register_step_pre_hook", "train", "eval"):
        return [(st, NONE)]
    if name in ("first_step", "second_step", "optimizer_step", "attach", "ascent_step", "descent_step"):
        events.havoc(run, [optimizer], st)
    return [(st, fresh(site, st))]


# ------------------------------------------------------------------- unknown


def _usage(run: Run, fr: Frame, path: str) -> set[str]:
    """Methods called on an access path anywhere in the function, and for `self.x` anywhere in the class."""
    found: set[str] = set()
    info = fr.info
    if path.startswith("self."):
        while info is not None and info.cls is None:
            info = info.parent
        if info is not None and info.cls is not None:
            return _cached_usage(info.cls).get(path, set())
    while info is not None:
        found |= _cached_usage(info).get(path, set())
        info = info.parent
    if fr.info is None or not found:
        found |= _cached_usage(fr.module).get(path, set())
    return found


_USAGE: dict[object, dict[str, set[str]]] = {}


def _cached_usage(holder: object) -> dict[str, set[str]]:
    if holder not in _USAGE:
        if isinstance(holder, FunctionInfo | ClassInfo):
            _USAGE[holder] = usage(holder.node)
        else:
            chunks = tuple(stmts or () for _, stmts in holder.chunks)  # type: ignore[attr-defined]
            _USAGE[holder] = usage(chunks)
    return _USAGE[holder]


_VERBS = re.compile(
    r"^_?(get|build|create|make|load|init|setup|set|define|prepare|save|train|eval|test|run|update|print|count|freeze"
    r"|unwrap|wrap|compile|select|construct|instantiate|from|to|is|has|log|plot|convert|export|register|fuse)_?"
)


def _is_model_name(path: str) -> bool:
    """`model(x)`, `self.netG(z)`; not `Model()`, which makes one, nor `build_model()`."""
    last = path.rsplit(".", 1)[-1]
    return last[:1].islower() and not _VERBS.match(last) and MODEL_NAME.search(path) is not None


def role_of(run: Run, fr: Frame, key: Key, path: str) -> str:
    """What an unknown value is, by how it is used: 'scaler', 'optimizer', 'module' or ''."""
    known = run.roles.get(key)
    if known is not None:
        return known
    methods = _usage(run, fr, path)
    role = ""
    if "unscale_" in methods or "scale.backward" in methods or ("scale" in methods and methods & {"step", "update"}) or ({"step", "update"} <= methods and "scaler" in path.lower() and "zero_grad" not in methods):
        role = "scaler"
    elif "<step>" in methods or "<unscale_>" in methods or {"zero_grad", "step"} <= methods or (methods & {"step", "zero_grad"} and OPTIMIZER_NAME.search(path) and not re.search(r"(?i)sched|lr_", path)):
        role = "optimizer"
    elif methods & {"train", "eval", "parameters", "named_parameters"} or ("()" in methods and _is_model_name(path)):
        role = "module"
    if role:
        run.roles[key] = role
    return role


def call_unknown(
    run: Run, fr: Frame, expr: ir.Call, callee: Sym, args: Args, keywords: Keywords, st: PathState
) -> Results:
    key = callee.key
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    if key[0] == "attr" and isinstance(expr.func, ir.Attr) and isinstance(key[2], str):
        base = Sym(key[1])
        path = text_of(expr.func.base)
        name = key[2]
        role = role_of(run, fr, key[1], path)
        if role == "scaler" and name in SCALER_METHODS:
            return scaler_method(run, fr, expr, base, name, args, keywords, st)
        if role == "optimizer" and name in ("step", "zero_grad", "state_dict", "load_state_dict", "add_param_group"):
            return optimizer_method(run, fr, expr, base, name, args, keywords, st)
        handled = library.unknown_method(run, fr, expr, base, role, name, args, keywords, st)
        if handled is not None:
            return handled
    path = text_of(expr.func)
    role = run.roles.get(key, "")
    if role == "module" or (not role and role_of(run, fr, key, path) == "module"):
        library.check_leaks(run, everything, site, "a forward pass", st)
        return [(st, events.uses_of(key, site, st, tensors_in(everything)))]
    return opaque(run, fr, expr, callee, args, keywords, st)


def opaque(
    run: Run, fr: Frame, expr: ir.Call, callee: Value, args: Args, keywords: Keywords, st: PathState
) -> Results:
    """A call that cannot be followed."""
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    name = text_of(expr.func)
    last = name.rsplit(".", 1)[-1]
    if not torch_api.HARMLESS.search(last):
        events.havoc(run, everything, st)
    tensors = tensors_deep(everything, st)
    if isinstance(callee, Method) and isinstance(callee.base, Tensor):
        tensors.append(callee.base)
    if tensors:
        joined = join_tensors(tensors)
        if joined.scaled is not None and not run.testing:
            joined = replace(joined, scaled="?")
        return [(st, joined)]
    if any(isinstance(o, Owned) for v in everything for o in options(v)) and last in ("prepare", "setup", "initialize"):
        return [(st, Owned("framework"))]
    if run.testing and not any(isinstance(o, Ref) for v in everything for o in options(v) if not isinstance(v, Phi)):
        return [(st, Sym(("ucall", key_of(callee), *(key_of(v) for v in everything[:6]))))]
    run.trace.born.setdefault(("call", site), tuple(run.loops))
    return [(st, fresh(site, st))]


def _call_owned(run: Run, fr: Frame, expr: ir.Call, callee: Owned, args: Args, st: PathState) -> Results:
    site = fr.site(expr.span)
    name = text_of(expr.func).rsplit(".", 1)[-1]
    if name in ("backward", "manual_backward"):
        loss = args[0] if args else Tensor()
        events.backward(run, fr, loss, site, text_of(expr.func), st, owned=True)
    run.trace.owned_roots.add(run.root)
    tensors = tensors_in(args)
    if name in ("gather", "reduce", "gather_for_metrics", "all_gather"):
        return [(st, join_tensors(tensors) if tensors else Owned(callee.by))]
    if name in ("is_main_process", "is_local_main_process", "sync_gradients", "wait_for_everyone", "print", "log"):
        return [(st, fresh(site, st))]
    return [(st, Owned(callee.by))]


__all__ = ["call", "choice", "decide", "merge", "store_attribute"]
