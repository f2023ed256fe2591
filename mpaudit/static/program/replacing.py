"""Optimizers that give way to another: a name or an attribute that held one gets another that was made."""

from __future__ import annotations

from ..facts import ir
from . import containers, events
from .frame import Frame, Run
from .holding import held
from .state import PathState
from .values import Ref, Value


def assign(run: Run, fr: Frame, target: ir.Expr, value: Value, st: PathState) -> None:
    """Assigns, and forgets the optimizers that nothing holds any more then."""
    made = isinstance(value, Ref) and value.kind == "optimizer" and not run.lazy
    others = [o for o in st.protocol.optimizers if o != value and isinstance(o, Ref)] if made else []
    before = held(others, st) if others else set()
    containers.assign(run, fr, target, value, st)
    if before:
        events.discard(run, before - held(before, st), st)
