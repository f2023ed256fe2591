"""Functions of the project: when they are followed, with what arguments, under what decorators."""

from __future__ import annotations

from collections.abc import Hashable

from msgspec.structs import replace

from ..facts import ir
from . import (
    calls,
    coarse,
    conditions,
    containers,
    contexts,
    events,
    expressions,
    flow,
    followed,
    objects,
    operators,
    scopes,
    torch_api,
)
from .definitions import ClassInfo, FunctionInfo, Site
from .frame import MAX_DEPTH, Frame, Run, text_of
from .handing_back import handed_back
from .nodes import walk_nodes
from .shapes import Args, Keywords, Results
from .state import PathState
from .trace import ApiCall
from .values import NONE, Cast, Cls, Const, Ext, Func, Key, Ref, Sym, Tensor, Tup, Value, join_tensors, options, roots


def call_function(
    run: Run, fr: Frame, func: Func, args: Args, keywords: Keywords, st: PathState, site: Site | None
) -> Results:
    """Follows a function of the project; several results where its paths differ in what the automata hold."""
    info = func.info
    node = info.node
    everything = (*args, *(v for _, v in keywords))
    if node is None:
        result = _result_of_cold(run, info, everything, site, st)
        run.cold |= {result.key} if isinstance(result, Sym) else set()
        return [(st, result)]
    if node.decorators and func.wraps is not info:
        wrapper = _decorated(run, func, st)
        if wrapper is not None:
            given = args if func.self_value is None else (func.self_value, *args)
            return call_function(run, fr, wrapper, given, keywords, st, site)
    if node.is_generator and (info.live or _is_context_manager(node)):
        kind = "generator_context" if _is_context_manager(node) else "generator"
        return [(st, Ref(kind, (func, args, keywords)))]
    run.reached.add(info)
    if info.cls is not None and _is_hook(node):
        return [(st, _result_of_cold(run, info, everything, site, st))]
    if info in run.stack or len(run.stack) >= MAX_DEPTH:
        events.havoc(run, everything, st)
        if func.self_value is not None and info not in run.stack:
            events.havoc(run, [func.self_value], st)
        return [(st, _unseen(run, func, args, keywords, site, st))]
    if node.is_generator:
        return [(st, _result_of_cold(run, info, everything, site, st))]
    if not info.live and not info.hands_on:
        _forget_rebound(func, st)
        return [(st, _unseen(run, func, args, keywords, site, st))]
    if run.coarse and not coarse.is_followed(run, info) and not _only_returns(node):
        _forget_rebound(func, st)
        return [(st, coarse.unseen(_unseen(run, func, args, keywords, site, st)))]
    call = followed.about_to_follow(run, func, everything, st)
    if followed.is_known(run, call) and not run.lazy and not _only_returns(node):
        _forget_rebound(func, st)
        if followed.gives_no_gradient(run, call):
            return [(st, Tensor(frozenset(), grad=False))]
        return [(st, _unseen(run, func, args, keywords, site, st))]
    frame = open_frame(run, fr, func, args, keywords, st, site)
    outer = (st.casts, st.no_grad)
    enter_decorators(run, frame, node, st)
    run.enter(info, site)
    try:
        done = flow.execute(run, frame, node.body, [st])
    finally:
        run.leave()
    run.completed.add(info)
    if info.scales:
        run.may_scale |= {info, *run.stack}
    results: Results = [*frame.returns, *((s, NONE) for s in done)]
    for s, _ in results:
        s.casts, s.no_grad = outer
    for s in frame.raises:
        s.casts, s.no_grad = outer
        if not _captured(frame, s):
            s.heap.drop(frame.id)
        fr.raises.append(s)
    followed.remember(run, call, results)
    results = conditions.join_results(results, ("return", frame.id, site))
    out: Results = []
    for s, value in results:
        if not any(_looks_into(v, frame) for v in options(value)) and not _captured(frame, s):
            s.heap.drop(frame.id)
        out.append((s, value))
    return out


def open_frame(
    run: Run, fr: Frame, func: Func, args: Args, keywords: Keywords, st: PathState, site: Site | None = None
) -> Frame:
    """The frame of a call from `fr`, its parameters bound; nothing is left of an earlier call that had its place. Where
    functions that such a call has made still look into its frame, `site` tells the next one from it."""
    info = func.info
    own: tuple[Hashable, ...] = ("frame", repr(info), len(run.stack), func.closure)
    if site is not None and own in st.heap.owners():
        own = ("frame", f"{info!r} from {site}", len(run.stack), func.closure)
    frame = Frame(
        info.module, info, own, info.first_line,
        owned=fr.owned or _is_of_framework(run, info, st), parent=func.closure,
    )  # fmt: skip
    st.heap.drop(own)
    if any(len(root) > 1 and root[1] == own for root in st.asked):
        for key in [k for k in st.guards if any(r[1:2] == (frame.id,) for r in roots(k))]:
            del st.guards[key]
    bind(run, frame, func, args, keywords, st)
    return frame


def _decorated(run: Run, func: Func, st: PathState) -> Func | None:
    """What decorators of the project that do something of interest have made of a function; None: nothing known."""
    info, node = func.info, func.info.node
    assert node is not None
    if info in run.stack or len(run.stack) >= MAX_DEPTH:
        return None
    if any(text_of(decorator) == "classmethod" for decorator, _ in node.decorators):
        return None
    frame = Frame(info.module, None, ("module", info.module.path), info.first_line, parent=func.closure)
    wrapped = Func(info, None, func.closure, wraps=info)
    made: Func = wrapped
    for expr, _ in reversed(node.decorators):
        head = expr.func if isinstance(expr, ir.Call) else expr
        if not isinstance(head, ir.Name | ir.Attr):
            continue
        decorator = expressions.value_of(run, frame, head, st)
        if not isinstance(decorator, Func) or not decorator.info.live or decorator.info in run.stack:
            continue
        if isinstance(expr, ir.Call):
            decorator = expressions.value_of(run, frame, expr, st)
        if isinstance(decorator, Func) and decorator.info.node is not None:
            found = call_function(run, frame, decorator, (made,), (), st, None)
            value = found[0][1] if len(found) == 1 and found[0][0] is st else NONE
            if isinstance(value, Func) and value.info.live:
                made = replace(value, wraps=info)
    return None if made is wrapped else made


def _is_context_manager(node: ir.FunctionDef) -> bool:
    return any(text_of(decorator).endswith("contextmanager") for decorator, _ in node.decorators)


def lambda_value(run: Run, fr: Frame, expr: ir.Lambda) -> Value:
    """A lambda is followed where it does something that matters; any other is unknown."""
    info = run.project.lambda_in(fr.module, fr.info, expr, fr.first_line)
    return (
        Func(info, None, None if fr.info is None else fr.id) if info.live else Sym(("lambda", fr.id, len(expr.params)))
    )


def _is_hook(node: ir.FunctionDef) -> bool:
    """A method that is there to be overridden: what a subclass makes of it is unknown. It does nothing, by itself or
    in functions inside of it."""
    inner = {stmt.name: stmt for stmt in node.body if isinstance(stmt, ir.FunctionDef)}
    return all(isinstance(stmt, ir.FunctionDef) or _does_nothing(stmt, inner) for stmt in node.body)


def _does_nothing(stmt: ir.Stmt, inner: dict[str, ir.FunctionDef]) -> bool:
    match stmt:
        case ir.Assign():
            return all(isinstance(part, ir.Name | ir.Const) for part in (stmt.value, *stmt.targets))
        case ir.Raise():
            return "NotImplemented" in text_of(stmt.value or ir.Opaque())
        case ir.Return(value=None) | ir.ExprStmt(value=ir.Const()):
            return True
        case ir.Return(value=ir.Call(func=ir.Name(id=name))) | ir.ExprStmt(value=ir.Call(func=ir.Name(id=name))):
            return name in inner and _is_hook(inner[name])
        case _:
            return False


def _captured(frame: Frame, st: PathState) -> bool:
    """Whether a nested function that outlives the call still looks into the frame."""
    if frame.info not in frame.module.around:
        return False
    return any(_looks_into(value, frame) for (owner, _), value in st.heap.items() if owner != frame.id)


def _looks_into(value: Value, frame: Frame) -> bool:
    """Whether a function was defined in the frame, or in a function that was."""
    return isinstance(value, Func) and frame.id in scopes.frames_around(value.closure)


def _only_returns(node: ir.FunctionDef) -> bool:
    """`return self.args.use_amp`: what it gives has to stay the same value each time that it is asked."""
    return len(node.body) == 1 and isinstance(node.body[0], ir.Return) and not node.is_generator


def _forget_rebound(func: Func, st: PathState) -> None:
    """What a function that is not followed may have bound outside of itself: names, and attributes of its object."""
    if isinstance(func.self_value, Ref) and func.info.cls is not None:
        for name in func.info.cls.assigned_by(func.info):
            st.heap.pop((func.self_value, name))
    for name in func.info.rebinds:
        for owner in (func.info.module.path, *scopes.frames_around(func.closure)):
            st.heap.pop((owner, name))


def _unseen(run: Run, func: Func, args: Args, keywords: Keywords, site: Site | None, st: PathState) -> Value:
    """What a call gives that is not followed."""
    back = handed_back(func, args, keywords, ("call", site or ("cold", repr(func.info))))
    if back is not None:
        return back
    return _result_of_cold(run, func.info, (*args, *(value for _, value in keywords)), site, st)


def _result_of_cold(run: Run, info: FunctionInfo, args: Args, site: Site | None, st: PathState) -> Value:
    tensors = calls.tensors_in(args) or [tensor for tensor in calls.tensors_deep(args, st) if tensor.uses]
    if tensors:
        return join_tensors(tensors)
    if run.testing:
        return Sym(("ucall", repr(info), *(operators.key_of(a) for a in args[:6])))
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
            rest = values[len(positional) :] or [v for v in values[-1:] if isinstance(v, Sym) and v.key[0] == "star"]
            st.heap[frame.id, param.name] = Tup(tuple(rest))
        elif param.kind == "**":
            names = {p.name for p in node.params}
            ref = Ref("dict", ("kwargs", frame.id))
            st.heap.drop(ref)
            for name, value in keywords:
                if not name:
                    st.heap[ref, "[**]"] = value
                elif name not in names:
                    st.heap[ref, containers.slot(Const(name))] = value
            st.heap[frame.id, param.name] = ref


def _default(run: Run, frame: Frame, param: ir.Param, st: PathState, unknown: bool) -> Value:
    switch = isinstance(param.default, ir.Const) and isinstance(param.default.value, bool)
    if param.default is None or unknown or switch:
        key: Key = ("param", repr(frame.info), param.name)
        if param.default == ir.Const(True) and not unknown:
            run.trace.on_by_default.add(key)
        return Sym(key)
    module_frame = Frame(frame.module, None, ("module", frame.module.path), frame.first_line)
    return expressions.value_of(run, module_frame, param.default, st)


def enter_decorators(run: Run, frame: Frame, node: ir.FunctionDef, st: PathState) -> None:
    """Autocast and no_grad as decorators cover the body."""
    module_frame = Frame(frame.module, None, ("module", frame.module.path), frame.first_line)
    for expr, _ in node.decorators:
        name = text_of(expr)
        if not any(word in name.lower() for word in ("cast", "grad", "inference", "amp")):
            continue
        value = expressions.value_of(run, module_frame, expr, st)
        if isinstance(value, Ref) and value.kind == "autocast" and isinstance(value.id, Cast):
            events.enter(run, value.id, st)
        elif (isinstance(value, Ref) and value.kind == "no_grad") or (
            isinstance(value, Ext) and value.name in torch_api.NO_GRAD
        ):
            st.no_grad = True
        elif isinstance(value, Sym) and "cast" in name.lower():
            st.casts = (*st.casts, None)


def decorator_seen(run: Run, fr: Frame, expr: ir.Expr, span: ir.Span, st: PathState) -> None:
    """Records the use of a torch name as a decorator."""
    value = expressions.value_of(run, fr, expr, st) if isinstance(expr, ir.Call | ir.Name | ir.Attr) else NONE
    if isinstance(value, Ext) and (value.name in torch_api.AUTOCAST or value.name in torch_api.DEPRECATED):
        run.trace.calls[ApiCall(value.name, fr.site(span), (), (), "bare", text_of(expr), run.root)] = None
    elif isinstance(value, Ref) and value.kind == "autocast" and isinstance(value.id, Cast):
        run.trace.casts_entered.add(value.id.site)


def _is_of_framework(run: Run, info: FunctionInfo, st: PathState) -> bool:
    """Not an iteration that a trainer writes anew, with a scaler of its own: `run_step` of detectron2."""
    if not is_owned(run, info.cls, st):
        return False
    assert info.cls is not None
    owners = {torch_api.owner(base) for base in objects.external_bases(run, info.cls, st)} - {""}
    own = all(info.name in torch_api.STEPS_OF_THEIR_OWN.get(owner, ()) for owner in owners)
    return not own or "super" in info.names


def is_owned(run: Run, cls: ClassInfo | None, st: PathState) -> bool:
    """A class of a framework that drives the backward, the scaler and the step itself."""
    return cls is not None and any(torch_api.owner(base) for base in objects.external_bases(run, cls, st))


def generator_context(run: Run, fr: Frame, context: Ref, st: PathState) -> Value:
    """`stack.enter_context(f())`, f a generator: what it holds open at its yield."""
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
            for s, value in expressions.evaluate(run, frame, expr, st)[:1]:
                contexts.enter_context(run, frame, s.settle(value), expr, s)
    return NONE
