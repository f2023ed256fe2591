"""`with`: autocasts that are entered and left."""

from __future__ import annotations

from ..facts import ir
from . import containers, expressions, flow, functions, objects, torch_api
from .frame import Frame, Run, text_of
from .linker import walk_nodes
from .shapes import Results
from .state import PathState
from .trace import ApiCall
from .values import Cast, Choice, Ext, Func, Owned, Phi, Ref, Sym, Value


def execute_with(run: Run, fr: Frame, stmt: ir.With, st: PathState) -> list[PathState]:
    states = [st]
    outer = (st.casts, st.no_grad)
    for expr, target, span in stmt.items:
        after: list[PathState] = []
        for s in states:
            for s2, context in expressions.evaluate(run, fr, expr, s):
                for s3, settled in _settled(s2, context):
                    if isinstance(settled, Ext) and settled.name in torch_api.AUTOCAST:
                        call = ApiCall(settled.name, fr.site(span), (), (), "bare", text_of(expr), run.root)
                        run.trace.calls[call] = None
                    entered = enter_context(run, fr, settled, expr, s3)
                    if target is not None:
                        containers.assign(run, fr, target, entered, s3)
                    after.append(s3)
        states = after
    jumps = [len(fr.returns), len(fr.breaks), len(fr.continues), len(fr.raises)]
    states = flow.execute(run, fr, stmt.body, states)
    for s in states:
        s.casts, s.no_grad = outer
    for s, _ in fr.returns[jumps[0] :]:
        s.casts, s.no_grad = outer
    for jumped, start in ((fr.breaks, jumps[1]), (fr.continues, jumps[2]), (fr.raises, jumps[3])):
        for s in jumped[start:]:
            s.casts, s.no_grad = outer
    return states


def _settled(st: PathState, value: Value) -> Results:
    """A context chosen by a decision splits the path only where the choice is between autocast and not."""
    value = st.settle(value)
    if isinstance(value, Phi):
        other = st.clone()
        st.assume(value.key, True)
        other.assume(value.key, False)
        return _settled(st, value.yes) + _settled(other, value.no)
    return [(st, value)]


def enter_context(run: Run, fr: Frame, context: Value, expr: ir.Expr, st: PathState) -> Value:
    """`with context`: pushes an autocast; gives what `as` binds."""
    if isinstance(context, Ref):
        if context.kind == "autocast":
            if isinstance(context.id, Cast):
                run.trace.casts_entered.add(context.id.site)
                st.casts = (*st.casts, context.id)
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
        for cast in casts:
            if isinstance(cast.id, Cast):
                run.trace.casts_entered.add(cast.id.site)
        if casts or any(isinstance(o, Sym) for o in context.options):
            st.casts = (*st.casts, None)
        return context
    if isinstance(context, Owned):
        st.casts = (*st.casts, None)
        return context
    if isinstance(context, Sym) and _maybe_autocast(text_of(expr)):
        st.casts = (*st.casts, None)
    return Sym(("call", fr.id, "as", text_of(expr))) if not isinstance(context, Sym) else context


def _mentions_autocast(func: Func) -> bool:
    return any(isinstance(n, ir.Attr | ir.Name) and "cast" in (n.name if isinstance(n, ir.Attr) else n.id).lower()
               for n in walk_nodes(func.info.node))  # fmt: skip


def _maybe_autocast(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in ("cast", "amp", "ctx", "context", "precision", "fp16", "half", "mixed"))
