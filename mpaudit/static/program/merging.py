"""Where paths meet: those on which the automata agree become one."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import compress
from operator import eq, is_not

from . import typestate
from .heap import ENABLED, NOTHING, Heap, Owners
from .state import PathState, gates_of, varies
from .values import Choice, Const, Key, Phi, Ref, Sym, Value, choice, depth, mentions, options, roots

MAX_STATES = 16
MAX_PHI_DEPTH = 3


def merge(states: list[PathState], node: Hashable) -> list[PathState]:
    """States that agree on the automata become one; their disagreeing decisions are kept in Phi values."""
    if len(states) < 2:
        return states
    out: list[PathState] = []
    for state in states:
        for i, other in enumerate(out):
            if _mergeable(other, state):
                out[i] = _merge_two(other, state, node)
                break
        else:
            out.append(state)
    while len(out) > MAX_STATES:
        joined = _merge_two(out[-2], out[-1], node)
        joined.protocol = typestate.join(out[-2].protocol, out[-1].protocol)
        joined.inexact = True
        out[-2:] = [joined]
    return out


def _mergeable(a: PathState, b: PathState) -> bool:
    twins = _twins(a, b)
    if twins:
        b = b.clone()
        typestate.rename(b.protocol, twins)
    return a.casts == b.casts and a.no_grad == b.no_grad and typestate.agree(a.protocol, b.protocol)


def one_object(value: Value | None) -> Ref | None:
    """The optimizer or scaler that a value is, unless it is None or something unknown."""
    if value is None:
        return None
    found = {v for v in options(value) if isinstance(v, Ref) and v.kind in ("optimizer", "scaler")}
    return next(iter(found)) if len(found) == 1 else None


def under_names(value: Value, names: dict[Value, Value]) -> Value:
    if isinstance(value, Phi):
        return Phi(value.key, under_names(value.yes, names), under_names(value.no, names))
    if isinstance(value, Choice):
        return Choice(frozenset(under_names(v, names) for v in value.options))
    return names.get(value, value)


def _twins(a: PathState, b: PathState) -> dict[Value, Value]:
    """Optimizers (scalers) of `b` that stand where another one stands in `a`, each unknown to the other path: what a
    factory with a branch per algorithm makes is one optimizer, whichever it is. Not where one is off and one on."""
    if a.protocol.optimizers.keys() == b.protocol.optimizers.keys() and (
        a.protocol.scalers.keys() == b.protocol.scalers.keys()
    ):
        return {}
    strangers = [
        (kind, ours.keys() - theirs.keys(), theirs.keys() - ours.keys())
        for kind, ours, theirs in (
            ("optimizer", a.protocol.optimizers, b.protocol.optimizers),
            ("scaler", a.protocol.scalers, b.protocol.scalers),
        )
        if ours.keys() != theirs.keys()
    ]
    unmet = {kind: (only_a, only_b) for kind, only_a, only_b in strangers if only_a and only_b}
    twins: dict[Value, Value] = {}
    if not unmet:
        return twins
    theirs_by_owner = b.heap.owners()
    for owner, names in a.heap.owners().items():
        others = theirs_by_owner.get(owner)
        if others is None or others is names:
            continue
        for name, value in names.items():
            mine, other = one_object(value), one_object(others.get(name))
            if mine is not None and other is not None and mine.kind == other.kind and mine.kind in unmet:
                only_a, only_b = unmet[mine.kind]
                as_often = a.heap.get((mine, ENABLED)) == b.heap.get((other, ENABLED))
                if mine in only_a and other in only_b and as_often:
                    twins.setdefault(other, mine)
    return twins


def _merge_two(a: PathState, b: PathState, node: Hashable) -> PathState:
    twins = _twins(a, b)
    if twins:
        b = b.clone()
        typestate.rename(b.protocol, twins)
        for place, value in list(b.heap.items()):
            if isinstance(value, Ref | Phi | Choice):
                renamed = under_names(value, twins)
                if renamed != value:
                    b.heap[place] = renamed
    separator = _separator(a, b)
    heap = a.heap.clone()
    ours_by_owner = a.heap.owners()
    for owner, theirs in _changed(ours_by_owner, b.heap.owners()):
        ours = ours_by_owner.get(owner) or NOTHING
        different = map(is_not, map(ours.get, theirs), theirs.values())
        for name, value in compress(theirs.items(), different):
            mine = ours.get(name)
            if mine is None:
                heap[owner, name] = value
            elif mine != value:
                ways = a.settle(mine), b.settle(value)
                answered = _answered(owner, name, ways, separator)
                heap[owner, name] = answered or _join_values(*ways, separator, (node, owner, name))
    guards = {k: truth for k, truth in a.guards.items() if b.guards.get(k) is truth}
    either = a.either and b.either
    gates = a.gates | b.gates
    asked = a.asked & b.asked
    if separator is not None:
        gates |= gates_of(separator[0])
        several = max(len(a.guards), len(b.guards)) > len(guards) + 1
        if several and (_counts(a, b) or _excludes_more(heap, a, b)):
            key: Key = ("or", _alone(a, b), _alone(b, a))
            guards[key] = either = True
            asked |= roots(key)
    return PathState(
        heap=heap,
        protocol=typestate.join(a.protocol, b.protocol),
        guards=guards,
        trail=a.trail & b.trail,
        casts=a.casts,
        outer_unknown=a.outer_unknown or b.outer_unknown,
        no_grad=a.no_grad,
        exceptional=a.exceptional and b.exceptional,
        inexact=a.inexact or b.inexact,
        gates=gates,
        asked=asked,
        either=either,
    )


def _separator(a: PathState, b: PathState) -> tuple[Key, bool] | None:
    """A decision on which two paths differ, and how the first one took it."""
    for key, truth in a.guards.items():
        if b.guards.get(key, truth) != truth:
            return key, truth
    for one, other in ((a, b), (b, a)):
        for key, truth in one.guards.items():
            if key[0] in ("or", "and") and other.decided(key) is (not truth):
                return key, truth is (one is a)
    return None


def _excludes_more(heap: Heap, a: PathState, b: PathState) -> bool:
    """Whether what is common to the decisions of two paths would leave open what neither of them does: of «x, else y,
    else z» a path that has decided for x and one that has for y exclude z."""
    tracked = {*a.protocol.optimizers, *a.protocol.scalers, *b.protocol.optimizers, *b.protocol.scalers}
    for place, value in heap.one_of_several(tracked):
        if a.heap.get(place) == value == b.heap.get(place):
            ours, theirs = _reachable(value, heap, a), _reachable(value, heap, b)
            if len(ours | theirs) < len(_reachable(value, heap, PathState())):
                return True
    return False


def _counts(a: PathState, b: PathState) -> bool:
    """Whether one of two paths has come by a counter that the other did not ask: `if k != 1: if step % k != 0: return`
    leaves those without accumulation, and of the others those that are at a step."""
    own = {key for key in a.guards.keys() ^ b.guards.keys() if mentions(key, "%")}
    return bool(own) and len(a.guards.keys() ^ b.guards.keys()) <= MAX_APART


MAX_APART = 3
"""Decisions of one of two paths only, with which it is worth while to keep that they exclude others."""


_Case = tuple[Value, bool]
"""What a value may be, and whether it is on."""


def _reachable(value: Value, heap: Heap, st: PathState) -> set[_Case]:
    """The cases of a value that the decisions of a path leave."""
    if type(value) is not Phi:
        return {(option, on) for option in options(value) for on in _on(option, heap, st)}
    known = st.decided(value.key)
    if known is not None:
        return _reachable(value.yes if known else value.no, heap, st)
    found: set[_Case] = set()
    for side, truth in ((value.yes, True), (value.no, False)):
        supposed = PathState(guards=dict(st.guards), either=st.either)
        supposed.assume(value.key, truth)
        if not supposed.contradicts_itself():
            found |= _reachable(side, heap, supposed)
    return found


def _on(value: Value, heap: Heap, st: PathState) -> tuple[bool, ...]:
    enabled = heap.get((value, ENABLED)) if isinstance(value, Ref) else None
    if not isinstance(enabled, Sym):
        return (True,)
    known = st.decided(enabled.key)
    return (True, False) if known is None else (known,)


def _alone(a: PathState, b: PathState) -> Key:
    """What `a` has decided and `b` has not, or otherwise; of that what holds beyond an iteration, if anything does."""
    own = [(key, truth) for key, truth in a.guards.items() if b.guards.get(key) != truth]
    if not any(mentions(key, "%") for key, _ in own):
        own = [(key, truth) for key, truth in own if not varies(key)] or own
    parts = [key if truth else ("not", key) for key, truth in own]
    return parts[0] if len(parts) == 1 else ("and", *parts)


def _changed(ours: Owners, theirs: Owners) -> list[tuple[Hashable, dict[str, Value]]]:
    """What is held otherwise in `theirs`: owners whose names are the same object hold the same."""
    if len(ours) == len(theirs) and all(map(eq, ours, theirs)):  # in the same order too, as in heaps of one origin
        return list(compress(theirs.items(), map(is_not, ours.values(), theirs.values())))
    return [(owner, names) for owner, names in theirs.items() if ours.get(owner) is not names]


def _answered(owner: Hashable, name: str, ways: tuple[Value, ...], separator: tuple[Key, bool] | None) -> Sym | None:
    """A switch of a module that an unknown call decides, as `if version.parse(torch.__version__) < …:` does: whatever
    the call answers, the switch stays as it is until it is assigned anew."""
    if not isinstance(owner, str) or separator is None or not varies(separator[0]):
        return None
    plain = all(isinstance(way, Const) and isinstance(way.value, bool) for way in ways)
    return Sym(("global", owner, name)) if plain else None


def _join_values(ours: Value, theirs: Value, separator: tuple[Key, bool] | None, name: tuple[Hashable, ...]) -> Value:
    if ours == theirs:
        return ours
    if separator is not None and depth(ours) < MAX_PHI_DEPTH and depth(theirs) < MAX_PHI_DEPTH:
        key, first = separator
        return Phi(key, ours, theirs) if first else Phi(key, theirs, ours)
    otherwise: Key = ("phi", *map(str, name))
    if separator is not None and not _at_head(name[0]) and _is_trained(ours, theirs):
        key, first = separator  # of an optimizer or a scaler the last decision tells the most: whether there is one
        ours, theirs = (_flat(value, otherwise) for value in (ours, theirs))
        return Phi(key, ours, theirs) if first else Phi(key, theirs, ours)
    return choice([ours, theirs], otherwise)


def _at_head(node: Hashable) -> bool:
    """Where a loop begins again: what grows there on and on has no fixed point."""
    return isinstance(node, tuple) and node[-1:] == ("head",)


def _is_trained(*values: Value) -> bool:
    return any(isinstance(v, Ref) and v.kind in ("optimizer", "scaler") for value in values for v in options(value))


def _flat(value: Value, otherwise: Key) -> Value:
    return choice(list(options(value)), otherwise) if depth(value) >= MAX_PHI_DEPTH else value
