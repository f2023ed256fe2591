"""Whether a further pass over a loop would bring anything new."""

from __future__ import annotations

from collections.abc import Hashable

from .heap import NOTHING, Heap
from .state import PathState
from .values import Choice, Const, Phi, Sym, Tensor, Tup, Value, options


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
        x, y = ours.get(owner, NOTHING), theirs.get(owner, NOTHING)
        if x is y or (x is NOTHING and _is_opened_anew(owner)):
            continue
        for name in {**x, **y}:
            one, other = x.get(name), y.get(name)
            if one is not other and one != other and not _differ_quietly(one, other):
                return False
    return True


def _is_opened_anew(owner: Hashable) -> bool:
    """The frame of a call, or a module that is read where it is first asked."""
    return isinstance(owner, str) or (isinstance(owner, tuple) and owner[0] == "frame")


def _differ_quietly(one: Value | None, other: Value | None) -> bool:
    """Whether two values leave open the same: each may be one of the same things that steer something."""
    ours, theirs = _steering(one), _steering(other)
    return ours == theirs and (not ours or (_is_open(one) and _is_open(other)))


def _steering(value: Value | None) -> frozenset[Value]:
    """Those of the things a value may be, or is made of, that are no unknown, no number and not simply unset."""
    if value is None or isinstance(value, Sym):
        return frozenset()
    if isinstance(value, Const):
        is_number = isinstance(value.value, int | float) and not isinstance(value.value, bool)
        return frozenset() if is_number else frozenset((value,))
    if isinstance(value, Tup):
        return frozenset().union(*map(_steering, value.items))
    if isinstance(value, Phi | Choice):
        return frozenset().union(*map(_steering, options(value)))
    if isinstance(value, Tensor) and value == Tensor():
        return frozenset()
    return frozenset((value,))


def _is_open(value: Value | None) -> bool:
    """More than one thing, or in a list."""
    return isinstance(value, Phi | Choice | Tup)
