"""Calls: functions of the project are followed, names of torch mean what they mean, the rest is unknown."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts import ir
from . import (
    arrays,
    classes,
    conditions,
    containers,
    contexts,
    events,
    expressions,
    functions,
    library,
    losses,
    objects,
    operators,
    protocol,
    saving,
    torch_api,
    torch_methods,
    unknown,
)
from .frame import Frame, Run, receiver_text, text_of
from .shapes import Args, Keywords, Results
from .state import PathState
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
)


def call(run: Run, fr: Frame, expr: ir.Call, st: PathState) -> Results:
    if isinstance(expr.func, ir.Name) and expr.func.id == "super" and not expr.args:
        return [(st, Sym(("super",)))]
    out: Results = []
    exprs = [*expr.args, *[value for _, value in expr.keywords]]
    names = [name for name, _ in expr.keywords]
    count = len(expr.args)
    for s, callee in _callee(run, fr, expr, st):
        for s2, values in expressions.evaluate_all(run, fr, exprs, s):
            args = _spread(run, expr.args, values[:count], s2)
            keywords = _unfold(tuple(zip(names, values[count:], strict=True)), s2) if names else ()
            out += dispatch(run, fr, expr, callee, args, keywords, s2)
    return out


def _unfold(keywords: Keywords, st: PathState) -> Keywords:
    """`**kwargs` of a dict that is known."""
    out: list[tuple[str, Value]] = []
    for name, value in keywords:
        if name or not (isinstance(value, Ref) and value.kind == "dict"):
            out.append((name, value))
            continue
        out += ((containers.key_of_slot(slot), held) for slot, held in st.heap.held(value))
    return tuple(out)


def _spread(run: Run, exprs: Sequence[ir.Expr], values: Args, st: PathState) -> Args:
    if ir.Star not in map(type, exprs):
        return values
    args: list[Value] = []
    for expr, value in zip(exprs, values, strict=True):
        if isinstance(expr, ir.Star):
            items = containers.iterate(run, st.settle(value), st)
            if items is not None:
                args += items
            elif isinstance(value, Params | Tensor | Owned):
                args.append(value)
            else:
                args.append(Sym(("star", operators.key_of(value))))
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
        for s, base in expressions.evaluate(run, fr, func.base, st):
            for s2, settled in split(s, base):
                out.append((s2, s2.settle(objects.attribute(run, fr, settled, func.name, s2, func))))
        return [r for s, v in out for r in split(s, v)]
    return [r for s, v in expressions.evaluate(run, fr, func, st) for r in split(s, v)]


def split(st: PathState, value: Value) -> Results:
    value = st.settle(value)
    if isinstance(value, Choice) and NONE in value.options and len(value.options) == 2:
        return [(st, next(v for v in value.options if v != NONE))]  # a method of None would raise
    if not isinstance(value, Phi):
        return [(st, value)]
    solid = {option for option in options(value) if option != NONE}
    if len(solid) == 1 and isinstance(only := next(iter(solid)), Ref) and isinstance(value.yes, Phi | Ref):
        if NONE not in (value.yes, value.no):
            return [(st, only)]  # made in one branch of several, and None where no branch applies
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
    if other.contradicts_itself():
        return split(st, value.yes)
    return split(other, value.no) if st.contradicts_itself() else split(st, value.yes) + split(other, value.no)


def _super_method(run: Run, fr: Frame, name: str, st: PathState) -> Value:
    info = fr.info
    while info is not None and info.cls is None:
        info = info.parent
    if info is None or info.cls is None or info.node is None or not info.node.params:
        return Sym(("super", name))
    me = st.heap.get((fr.id, info.node.params[0].name), Sym(("super",)))
    dynamic = run.classes.get(me) if isinstance(me, Ref) else None
    order = list(objects.mro(run, dynamic or info.cls, st))
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
    match callee:
        case Func():
            return functions.call_function(run, fr, callee, args, keywords, st, fr.site(expr.span))
        case Cls():
            return classes.instantiate(run, fr, expr, callee, args, keywords, st)
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
            return unknown.call_unknown(run, fr, expr, callee, args, keywords, st)
        case _:
            return unknown.opaque(run, fr, expr, callee, args, keywords, st)


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
            return unknown.opaque(run, fr, expr, callee, args, keywords, st)
        best = sorted(torch_names, key=lambda n: (n in torch_api.DEPRECATED, n))[0]
        return library.call_external(run, fr, expr, best, args, keywords, st, shim=True)
    last = expr.func.name if isinstance(expr.func, ir.Attr) else ""
    receivers = [v.base if isinstance(v, Method) else v for v in known]
    if last == "backward" and isinstance(expr.func, ir.Attr):
        joined = join_tensors([_as_tensor(value) for value in receivers])
        events.backward(run, fr, joined, fr.site(expr.span), text_of(expr.func.base), st)
        return [(st, NONE)]
    if last == "zero_grad" and any(isinstance(v, Ref) and v.kind != "optimizer" for v in receivers):
        parts = {events.identity(_receiver(value)) for value in known}
        whose = None if None in parts else frozenset(part for part in parts if part is not None)
        events.zero_modules(run, whose, fr.site(expr.span), st)
        return [(st, NONE)]
    if last in ("parameters", "named_parameters"):
        owners = {events.identity(_receiver(value)) for value in known}
        return [(st, Params(None if None in owners else frozenset(o for o in owners if o is not None)))]
    if last == "state_dict" and all(isinstance(value, Ref | Owned) for value in receivers):
        return [(st, choice([State(value) for value in receivers], ("call", fr.site(expr.span))))]
    if any(isinstance(value, Tensor) for value in receivers):
        tensor = join_tensors([value for value in receivers if isinstance(value, Tensor)])
        return torch_methods.tensor_method(run, fr, expr, tensor, last, args, keywords, st)
    refs = [v for v in known if isinstance(v, Ref | Func) or (isinstance(v, Ext) and v.name in _CONTEXTS)]
    if len(refs) == len(known) <= MAX_WAYS:
        out: Results = []
        for i, option in enumerate(known):
            path = st if i == len(known) - 1 else st.clone()
            out += dispatch(run, fr, expr, option, args, keywords, path)
        return conditions.join_results(out, fr.site(expr.span))
    methods = [v for v in known if isinstance(v, Method) and isinstance(v.base, Ref)]
    events.havoc(run, [v.base for v in methods], st)
    return unknown.opaque(run, fr, expr, callee, args, keywords, st)


MAX_WAYS = 4
"""That a call is followed where it calls one of several things: `get_autocast(precision)()` enters one of four."""


_CONTEXTS = torch_api.NULL_CONTEXT | torch_api.AUTOCAST.keys()
"""`partial(autocast, dtype=...)` or `suppress`, whichever a precision asks for."""


def _receiver(callee: Value) -> Value:
    """The object whose method is called, known or not."""
    if isinstance(callee, Method):
        return callee.base
    made = isinstance(callee, Sym) and callee.key[0] == "attr" and callee.key[1][0] == "obj"
    return Sym(callee.key[1]) if made and isinstance(callee, Sym) else NONE


def _as_tensor(value: Value) -> Tensor:
    """A loss of which one of several things is known: an unknown one may be scaled."""
    if isinstance(value, Tensor):
        return value
    return Tensor(
        None, losses.scaled_of_unknown(Sym(value.key[1])) if isinstance(value, Sym) and value.key[0] == "attr" else "?"
    )


def tensors_in(values: Sequence[Value], depth: int = 0) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Sym | Const):
            continue
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
        for option in options(value):
            if isinstance(option, Ref) and option.kind in ("dict", "list"):
                found += tensors_in([v for _, v in st.heap.held(option)])
    return found


def call_object(run: Run, fr: Frame, expr: ir.Call, ref: Ref, args: Args, keywords: Keywords, st: PathState) -> Results:
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    cls = run.classes.get(ref)
    if ref.kind == "module":
        return classes.forward(run, fr, expr, ref, args, keywords, st)
    if ref.kind == "native_scaler":
        for value in everything:
            ident = events.identity(value)
            if ident is not None and (
                ident in st.protocol.optimizers or (isinstance(value, Ref) and value.kind == "optimizer")
            ):
                events.havoc(run, [value], st)
                events.native_step(run, fr, ref, ident, site, text_of(expr.func), st)
        run.trace.owned_roots.add(run.root)
        return [(st, functions.fresh(site, st))]
    if ref.kind == "partial":
        bound: tuple[Value, Args, Keywords] = ref.id  # type: ignore[assignment]
        inner, early, early_keywords = bound
        merged = (*((k, v) for k, v in early_keywords if k not in dict(keywords)), *keywords)
        return dispatch(run, fr, expr, inner, (*early, *args), merged, st)
    if cls is not None:
        method = objects.find_method(run, cls, "__call__", st)
        if method is not None:
            return functions.call_function(run, fr, Func(method, ref), args, keywords, st, site)
        if ref.kind == "instance":  # a class in which nothing matters: a module where it is used as one
            return unknown.call_unknown(run, fr, expr, Sym(("obj", ref)), args, keywords, st)
    if ref.kind in ("autocast", "no_grad") and args and isinstance(args[0], Func):
        return [(st, args[0])]
    return unknown.opaque(run, fr, expr, ref, args, keywords, st)


def call_method(
    run: Run, fr: Frame, expr: ir.Call, callee: Method, args: Args, keywords: Keywords, st: PathState
) -> Results:
    base = callee.base
    match base:
        case Ref(kind="scaler"):
            return protocol.scaler_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Ref(kind="optimizer"):
            return protocol.optimizer_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Ref(kind="module"):
            return torch_methods.module_method(run, fr, expr, base, base, callee.name, args, keywords, st)
        case Ref(kind="list"):
            return torch_methods.list_method(run, base, callee.name, args, st)
        case Ref(kind="dict"):
            return torch_methods.dict_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Ref(kind="rng"):
            return [(st, arrays.generated(callee.name, args, keywords))]
        case Ref(kind="exitstack") if callee.name == "enter_context" and args:
            return [(st, contexts.hold(run, fr, st.settle(args[0]), expr.args[0], st))]
        case Ref(kind="autocast") if callee.name == "__enter__":
            if isinstance(base.id, Cast):
                run.trace.casts_entered.add(base.id.site)
                run.trace.casts_held.add(base.id.site)
            st.casts = (*st.casts, None)
            return [(st, base)]
        case Ref(kind="generator"):  # next, send, close
            events.havoc(run, [base], st)
            return unknown.opaque(run, fr, expr, callee, args, keywords, st)
        case Ref(kind="native_scaler"):
            if callee.name == "state_dict":
                return [(st, State(base))]
            return call_object(run, fr, expr, base, args, keywords, st)
        case Tensor():
            return torch_methods.tensor_method(run, fr, expr, base, callee.name, args, keywords, st)
        case Gradient():
            return torch_methods.gradient_method(run, fr, expr, base, callee.name, args, st)
        case Const():
            if callee.name == "format" and operators.is_cuda_text(base):
                return [(st, operators.CUDA_BY_INDEX)]
            return [(st, operators.text_method(callee.name, base, args))]
        case Params():
            if callee.name in ("to", "float", "half", "detach", "clone", "double", "cuda", "requires_grad_", "data"):
                return [(st, base)]
            site = fr.site(expr.span)
            uses = frozenset(Use(module, None, site) for module in base.modules or ())
            return [(st, Tensor(uses) if uses and not st.no_grad else functions.fresh(site, st))]
        case Dtype():
            return [(st, Sym(("opaque",)))]
        case _:
            return unknown.opaque(run, fr, expr, callee, args, keywords, st)


def _what(run: Run, fr: Frame, value: Value, expr: ir.Expr) -> str:
    """Whether a framework gets an optimizer."""
    role = value.kind if isinstance(value, Ref) else ""
    if isinstance(value, Sym):
        role = unknown.role_of(run, fr, value.key, text_of(expr))
    return role if role == "optimizer" else ""


def _call_owned(run: Run, fr: Frame, expr: ir.Call, callee: Owned, args: Args, st: PathState) -> Results:
    site = fr.site(expr.span)
    name = text_of(expr.func).rsplit(".", 1)[-1]
    if name in ("backward", "manual_backward"):
        loss = args[0] if args else Tensor()
        events.backward(run, fr, loss, site, text_of(expr.func), st, owned=True)
    run.trace.owned_roots.add(run.root)
    if name == "autocast":
        run.trace.casts_owned.add(site)
        return [(st, Ref("autocast", Cast("", "", ("truth", ("call", site)), site)))]
    receiver = receiver_text(expr).rsplit(".", 1)[-1]
    if name == "state_dict" and "scaler" in receiver:
        scaler: Key = ("owned", callee.by, receiver)
        run.roles[scaler] = "scaler"
        return [(st, State(Sym(scaler)))]
    if name == "state_dict" and (callee.what == "optimizer" or unknown.OPTIMIZER_NAME.search(receiver)):
        return [(st, State(callee))]
    if name == "prepare" and len(args) > 1 and len(args) == len(expr.args):
        return [(st, Tup(tuple(Owned(callee.by, _what(run, fr, *pair)) for pair in zip(args, expr.args, strict=True))))]
    if name == "save" and args:
        saving.save(run, args[0], site, st)
    tensors = tensors_in(args)
    if name in ("gather", "reduce", "gather_for_metrics", "all_gather"):
        return [(st, join_tensors(tensors) if tensors else Owned(callee.by))]
    if name in ("is_main_process", "is_local_main_process", "sync_gradients", "wait_for_everyone", "print", "log"):
        return [(st, functions.fresh(site, st))]
    return [(st, Owned(callee.by))]
