"""Optimizers that give way to another: a name or an attribute that held one gets another that was made."""

from __future__ import annotations

from ..facts import ir
from . import containers, events, unknown
from .frame import Frame, Run, text_of
from .holding import held
from .state import PathState
from .values import Choice, Ref, Sym, Value


def assign(run: Run, fr: Frame, target: ir.Expr, value: Value, st: PathState) -> None:
    """Assigns, and forgets the optimizers that nothing holds any more then."""
    value = _whichever(run, target, value, st)
    made = isinstance(value, Ref) and value.kind == "optimizer" and not run.lazy
    others = [o for o in st.protocol.optimizers if o != value and isinstance(o, Ref)] if made else []
    before = held(others, st) if others else set()
    containers.assign(run, fr, target, value, st)
    if before:
        events.discard(run, before - held(before, st), st)


def _whichever(run: Run, target: ir.Expr, value: Value, st: PathState) -> Value:
    """Of optimizers that are made in the branches of one choice of the user's, some of them out of sight, one stands
    for whichever it is."""
    if not isinstance(value, Choice) or not isinstance(target, ir.Name | ir.Attr):
        return value
    made = sorted((v for v in value.options if isinstance(v, Ref) and v.kind == "optimizer"), key=repr)
    unseen = value.options.difference(made)
    if not made or not unseen or not all(isinstance(v, Sym) and v.key[0] == "call" for v in unseen):
        return value
    if not unknown.OPTIMIZER_NAME.search(text_of(target)):
        return value
    events.discard(run, made[1:], st)
    return made[0]
