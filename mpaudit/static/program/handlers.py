"""`try`: what a handler finds, and what it leaves."""

from __future__ import annotations

from . import typestate
from .merging import one_object, under_names
from .state import PathState
from .values import Choice, Phi, Ref, Value


def take_for_one(before: PathState, regular: PathState, handled: PathState) -> None:
    """What a handler puts in the place of an optimizer (a scaler) that the `try` would have put there is the same one,
    made in another way; `handled` is changed to hold the regular one. `before`: as the statement began."""
    twins: dict[Value, Value] = {}
    theirs_by_owner, known_by_owner = handled.heap.owners(), before.heap.owners()
    for owner, names in regular.heap.owners().items():
        theirs, known = theirs_by_owner.get(owner), known_by_owner.get(owner, {})
        if theirs is None or theirs is names or known is names:
            continue
        for name, value in names.items():
            ours, other, old = one_object(value), one_object(theirs.get(name)), one_object(known.get(name))
            if ours is not None and other is not None and old not in (ours, other) and ours != other:
                if ours.kind == other.kind:
                    twins.setdefault(other, ours)
    if not twins:
        return
    typestate.rename(handled.protocol, twins)
    for place, held in list(handled.heap.items()):
        if isinstance(held, Ref | Phi | Choice) and under_names(held, twins) != held:
            handled.heap[place] = under_names(held, twins)
