"""`with`: autocasts that are entered and left."""

from __future__ import annotations

from msgspec.structs import replace

from ..facts import ir
from . import containers, events, expressions, flow, functions, generators, objects, torch_api
from .definitions import Site
from .frame import Frame, Run, text_of
from .merging import merge
from .nodes import walk_nodes
from .shapes import Results
from .state import PathState
from .trace import ApiCall
from .values import NONE, Cast, Choice, Const, Ext, Func, Key, Owned, Phi, Ref, Sym, Value, options


def execute_with(run: Run, fr: Frame, stmt: ir.With, st: PathState) -> list[PathState]:
    outer = (st.casts, st.no_grad)
    jumps = (len(fr.returns), len(fr.breaks), len(fr.continues), len(fr.raises))
    states = _from_item(run, fr, stmt, 0, [st])
    left = [s for s, _ in fr.returns[jumps[0] :]]
    for s in (*states, *left, *fr.breaks[jumps[1] :], *fr.continues[jumps[2] :], *fr.raises[jumps[3] :]):
        s.casts, s.no_grad = outer
    return states


def _from_item(run: Run, fr: Frame, stmt: ir.With, number: int, states: list[PathState]) -> list[PathState]:
    """The items from `number` on, and the block inside of them."""
    if number == len(stmt.items):
        return flow.execute(run, fr, stmt.body, states)
    expr, target, span = stmt.items[number]
    entered: list[PathState] = []
    out: list[PathState] = []
    exits: dict[Func, None] = {}
    for st in states:
        if isinstance(expr, ir.BoolOp) and expr.op == "and":
            _pass_over(run, fr, expr, st)
        for s, value in expressions.evaluate(run, fr, expr, st):
            for s2, context in _settled(s, value):
                if isinstance(context, Ext) and context.name in torch_api.AUTOCAST:
                    call = ApiCall(context.name, fr.site(span), (), (), "bare", text_of(expr), run.root)
                    run.trace.calls[call] = None
                is_generator = isinstance(context, Ref) and context.kind == "generator_context"
                if is_generator and generators.can_follow(run, context):  # type: ignore[arg-type]
                    out += _inside(run, fr, stmt, number, context, s2)  # type: ignore[arg-type]
                    continue
                exits |= dict.fromkeys(_exit_of(run, fr, context, s2))
                for s3, bound in _entered(run, fr, context, expr, s2):
                    if target is not None:
                        containers.assign(run, fr, target, bound, s3)
                    entered.append(s3)
    if entered:
        out += _left(run, fr, stmt, number, entered, next(iter(exits))) if len(exits) == 1 else (
            _from_item(run, fr, stmt, number + 1, entered)
        )  # fmt: skip
    return merge(out, ("with", fr.id, span))


def _pass_over(run: Run, fr: Frame, expr: ir.BoolOp, st: PathState) -> None:
    """`with a and b`: of what is true, as any context manager is, only the last is entered."""
    for part in expr.values[:-1]:
        if isinstance(part, ir.Call):
            for _, value in expressions.evaluate(run, fr, part, st.clone()):
                if isinstance(value, Ref) and isinstance(value.id, Cast) and value.id.site == fr.site(part.span):
                    let_go(run, fr, value.id.site)


def let_go(run: Run, fr: Frame, site: Site) -> None:
    """Nothing enters the autocast that is made there."""
    run.trace.casts_dropped.add(site)
    run.trace.dropped_in_owned |= {site} if fr.owned else set()


def _inside(run: Run, fr: Frame, stmt: ir.With, number: int, context: Ref, st: PathState) -> list[PathState]:
    """The block runs where the generator yields; what follows the yield runs after it, however the block is left."""
    _, target, span = stmt.items[number]
    owner = ("with", fr.id, span)

    def block(s: PathState, value: Value) -> list[PathState]:
        if target is not None:
            containers.assign(run, fr, target, value, s)
        returns, fr.returns = fr.returns, []
        breaks, fr.breaks = fr.breaks, []
        continues, fr.continues = fr.continues, []
        ends = _from_item(run, fr, stmt, number + 1, [s])
        ways = {"end": ends, "break": fr.breaks, "continue": fr.continues, "return": [s for s, _ in fr.returns]}
        for way, states in ways.items():
            for state in states:
                state.heap[owner, "way"] = Const(way)
        for state, returned in fr.returns:
            state.heap[owner, "value"] = returned
        fr.returns, fr.breaks, fr.continues = returns, breaks, continues
        return merge([state for states in ways.values() for state in states], owner)

    ends: list[PathState] = []
    for after in generators.follow(run, fr, context, st, block):
        for s, way in _settled(after, after.heap.pop((owner, "way")) or Const("end")):
            ways = sorted((str(o.value) for o in options(way) if isinstance(o, Const)), reverse=True)
            for i, name in enumerate(ways):
                path = s if i == len(ways) - 1 else s.clone()
                returned = path.heap.pop((owner, "value")) or NONE
                if name == "return":
                    fr.returns.append((path, path.settle(returned)))
                else:
                    {"end": ends, "break": fr.breaks, "continue": fr.continues}[name].append(path)
    return ends


def _entered(run: Run, fr: Frame, context: Value, expr: ir.Expr, st: PathState) -> Results:
    """As `enter_context`; an `__enter__` of the user's that does something that matters is followed."""
    if isinstance(context, Ref) and context.kind == "instance":
        enter = objects.attribute(run, fr, context, "__enter__", st)
        if isinstance(enter, Func) and enter.info.live and not _mentions_autocast(enter):
            return functions.call_function(run, fr, enter, (), (), st, None)
    return [(st, enter_context(run, fr, context, expr, st))]


def _exit_of(run: Run, fr: Frame, context: Value, st: PathState) -> list[Func]:
    """The `__exit__` of an object of the user's, where it does something that matters."""
    if not isinstance(context, Ref) or context.kind != "instance":
        return []
    found = objects.attribute(run, fr, context, "__exit__", st)
    return [found] if isinstance(found, Func) and found.info.live else []


def _left(run: Run, fr: Frame, stmt: ir.With, number: int, states: list[PathState], leave: Func) -> list[PathState]:
    """The block, and then `__exit__`, however the block is left."""
    returns, fr.returns = fr.returns, []
    breaks, fr.breaks = fr.breaks, []
    continues, fr.continues = fr.continues, []
    ends = _from_item(run, fr, stmt, number + 1, states)

    def after(s: PathState) -> list[PathState]:
        return [s2 for s2, _ in functions.call_function(run, fr, leave, (NONE, NONE, NONE), (), s, None)]

    fr.returns = returns + [(s2, value) for s, value in fr.returns for s2 in after(s)]
    fr.breaks = breaks + [s2 for s in fr.breaks for s2 in after(s)]
    fr.continues = continues + [s2 for s in fr.continues for s2 in after(s)]
    return [s2 for s in ends for s2 in after(s)]


def _settled(st: PathState, value: Value) -> Results:
    """A context chosen by a decision splits the path only where the choice is between autocast and not."""
    value = st.settle(value)
    if isinstance(value, Phi):
        other = st.clone()
        st.assume(value.key, True)
        other.assume(value.key, False)
        return _settled(st, value.yes) + _settled(other, value.no)
    return [(st, value)]


def hold(run: Run, fr: Frame, context: Value, expr: ir.Expr, st: PathState) -> Value:
    """`stack.enter_context(context)`: as `with context`, for as long as the stack is open."""
    for option in options(context):
        if isinstance(option, Ref) and isinstance(option.id, Cast):
            run.trace.casts_held.add(option.id.site)
    return enter_context(run, fr, context, expr, st)


def enter_context(run: Run, fr: Frame, context: Value, expr: ir.Expr, st: PathState) -> Value:
    """`with context`: pushes an autocast; gives what `as` binds."""
    if isinstance(context, Ref):
        if context.kind == "autocast":
            if isinstance(context.id, Cast):
                events.enter(run, context.id, st)
            return context
        if context.kind == "no_grad":
            st.no_grad = True
            return context
        if context.kind == "generator_context":
            return functions.generator_context(run, fr, context, st)
        if context.kind == "instance":
            enter = objects.attribute(run, fr, context, "__enter__", st)
            if isinstance(enter, Func):
                st.casts = (*st.casts, None) if _mentions_autocast(enter) else st.casts
            return context
        return context
    if isinstance(context, Choice):
        casts = [o for o in context.options if isinstance(o, Ref) and o.kind == "autocast"]
        known = all(_is_known(run, fr, option, st) for option in context.options)
        several = [cast.id for cast in casts if isinstance(cast.id, Cast)]
        only = _whichever(several) if known else None
        if only is not None:
            run.trace.casts_entered |= {cast.site for cast in several}
            events.enter(run, replace(only, enabled=only.enabled and ("truth", ("call", only.site))), st)
            return context
        for cast in casts:
            if isinstance(cast.id, Cast):
                run.trace.casts_entered.add(cast.id.site)
        if casts or (any(isinstance(o, Sym) for o in context.options) and not _only_synchronises(expr)):
            st.casts = (*st.casts, None)
        return context
    if isinstance(context, Owned):
        st.casts = (*st.casts, None)
        return context
    if isinstance(context, Sym) and context.key not in run.cold and _maybe_autocast(text_of(expr)):
        if _only_synchronises(expr):
            return context
        st.casts = (*st.casts, None)
    return Sym(("call", fr.id, "as", text_of(expr))) if not isinstance(context, Sym) else context


def _whichever(casts: list[Cast]) -> Cast | None:
    """One of several autocasts of one device, as `{"fp16": autocast(…), "bf16": autocast(…)}[precision]` gives it."""
    casts = sorted(casts, key=lambda cast: cast.site)
    if not casts or len({cast.device for cast in casts}) > 1:
        return None
    if len(casts) == 1:
        return casts[0]
    names = {cast.dtype for cast in casts}
    half: Key = ("truth", ("call", casts[0].site, "float16"))
    return replace(
        casts[0],
        dtype=casts[0].dtype if len(names) == 1 else "",
        enabled=any(cast.enabled for cast in casts),
        half=half if "float16" in names and len(names) > 1 else casts[0].half,
    )


def _is_known(run: Run, fr: Frame, context: Value, st: PathState) -> bool:
    """An autocast, or what stands in its place where there is none."""
    if isinstance(context, Sym):
        return context.key in run.cold
    if not isinstance(context, Ref) or context.kind != "instance":
        return isinstance(context, Ref) and context.kind in ("autocast", "null")
    enter = objects.attribute(run, fr, context, "__enter__", st)
    if isinstance(enter, Func):
        return not enter.info.live and not _mentions_autocast(enter)
    cls = run.classes.get(context)  # in which the triage found nothing
    return cls is not None and not _maybe_autocast(cls.name.lower().replace("context", ""))


def _mentions_autocast(func: Func) -> bool:
    return any(isinstance(n, ir.Attr | ir.Name) and "cast" in (n.name if isinstance(n, ir.Attr) else n.id).lower()
               for n in walk_nodes(func.info.node))  # fmt: skip


def _only_synchronises(expr: ir.Expr) -> bool:
    """`model.no_sync() if not last else nullcontext()`"""
    names = {n.name if isinstance(n, ir.Attr) else n.id for n in walk_nodes(expr) if isinstance(n, ir.Attr | ir.Name)}
    return "no_sync" in names and not any(map(_maybe_autocast, names - {"contextlib", "nullcontext"}))


def _maybe_autocast(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in ("cast", "amp", "ctx", "context", "precision", "fp16", "half", "mixed"))
