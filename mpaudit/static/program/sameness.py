"""Whether a further pass over a loop would bring anything new."""

from __future__ import annotations

from .heap import Heap
from .state import PathState
from .values import Choice, Const, Phi, Sym, Tup, Value, options


def same(a: PathState, b: PathState) -> bool:
    """Nothing new in `b` for a loop's fixed point."""
    return (
        a.casts == b.casts
        and a.no_grad == b.no_grad
        and a.exceptional == b.exceptional
        and a.protocol == b.protocol
        and a.trail == b.trail
        and a.guards == b.guards
        and _same_heap(a.heap, b.heap)
    )


def _same_heap(a: Heap, b: Heap) -> bool:
    """Whether two heaps differ in nothing that a further pass over a loop could make a difference of."""
    ours, theirs = a.owners(), b.owners()
    for owner in {**ours, **theirs}:
        x, y = ours.get(owner, {}), theirs.get(owner, {})
        if x is y:
            continue
        for name in {**x, **y}:
            one, other = x.get(name), y.get(name)
            if one is not other and one != other and not (_is_quiet(one) and _is_quiet(other)):
                return False
    return True


def _is_quiet(value: Value | None) -> bool:
    """A value that steers nothing by itself: an unknown, a number, some of them, or none yet."""
    if isinstance(value, Const):
        return isinstance(value.value, int | float) and not isinstance(value.value, bool)
    if isinstance(value, Tup):
        return all(map(_is_quiet, value.items))
    if isinstance(value, Phi | Choice):
        return all(map(_is_quiet, options(value)))
    return value is None or isinstance(value, Sym)
