"""One path through the program: what names and attributes hold, what was decided, what the automata say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import chain, compress
from operator import eq, is_not

from . import typestate
from .values import (
    Cast,
    Choice,
    Cls,
    Const,
    Device,
    Dtype,
    Ext,
    Func,
    Key,
    Method,
    Mod,
    Phi,
    Ref,
    Sym,
    Value,
    choice,
    depth,
    mentions,
    options,
    roots,
)  # fmt: skip

MAX_GUARDS = 16
MAX_STATES = 16
MAX_PHI_DEPTH = 3
ENABLED = "(enabled)"
"""Slot of a scaler: the decision under which it is on, where there is one."""
_VARYING: Key = ("varying",)
_NOTHING: dict[str, Value] = {}


@dataclass(frozen=True, slots=True)
class Decision:
    """A branch that was taken: `node` is the place of the `if`."""

    key: Key
    taken: bool
    node: Hashable


Place = tuple[Hashable, str]
_Owners = dict[Hashable, dict[str, Value]]


class Heap:
    """(owner, name) → value, for frames, objects and modules. Cloned with every path, so owners are shared until one
    of the clones writes to them, and equal owners are the same object."""

    __slots__ = ("_exclusive", "_owners", "_several", "_undecided")

    def __init__(self) -> None:
        self._owners: dict[Hashable, dict[str, Value]] = {}
        self._exclusive: set[Hashable] = set()
        self._undecided: set[Hashable] = set()
        """Owners that hold a Phi, and perhaps more."""
        self._several: set[Hashable] = set()
        """Owners that hold what may be an optimizer or a scaler and depends on a decision, and perhaps more."""

    def clone(self) -> Heap:
        other = Heap()
        other._owners = self._owners.copy()
        other._undecided = self._undecided.copy()
        other._several = self._several.copy()
        self._exclusive.clear()
        return other

    def get(self, place: Place, otherwise: Value | None = None) -> Value | None:
        names = self._owners.get(place[0])
        return otherwise if names is None else names.get(place[1], otherwise)

    def __getitem__(self, place: Place) -> Value:
        return self._owners[place[0]][place[1]]

    def __contains__(self, place: Place) -> bool:
        return place[1] in self._owners.get(place[0], ())

    def __setitem__(self, place: Place, value: Value) -> None:
        owner = place[0]
        if owner not in self._exclusive:
            self._owners[owner] = dict(self._owners.get(owner, ()))
            self._exclusive.add(owner)
        if type(value) is Phi:
            self._undecided.add(owner)
            if any(map(_may_be_tracked, options(value))):
                self._several.add(owner)
        self._owners[owner][place[1]] = value

    def setdefault(self, place: Place, value: Value) -> None:
        if place not in self:
            self[place] = value

    def pop(self, place: Place, otherwise: Value | None = None) -> Value | None:
        if place not in self:
            return otherwise
        value = self[place]
        if len(self._owners[place[0]]) == 1:
            self.drop(place[0])  # else every heap to come would carry the empty owner along
            return value
        self[place] = value  # takes the owner for itself
        del self._owners[place[0]][place[1]]
        return value

    def keep(self, owner: Hashable, names: frozenset[str]) -> None:
        """Forgets what an owner holds under other names."""
        held = self._owners.get(owner)
        if held is not None and not held.keys() <= names:
            self._owners[owner] = {name: value for name, value in held.items() if name in names}
            self._exclusive.add(owner)

    def drop(self, owner: Hashable) -> None:
        """Forgets all that an owner holds."""
        self._owners.pop(owner, None)
        self._exclusive.discard(owner)

    def held(self, owner: Hashable) -> list[tuple[str, Value]]:
        return list(self._owners.get(owner, {}).items())

    def owners(self) -> dict[Hashable, dict[str, Value]]:
        """For reading only."""
        return self._owners

    def decided(self) -> list[tuple[Place, Phi]]:
        """What depends on a decision."""
        return list(self._phis(self._undecided))

    def one_of_several(self, tracked: Collection[Hashable]) -> list[tuple[Place, Phi]]:
        """Optimizers and scalers that depend on more than one decision, whether they are on included."""
        return [(place, value) for place, value in self._phis(self._several) if self._is_one_of_several(value, tracked)]

    def _phis(self, owners: set[Hashable]) -> Iterator[tuple[Place, Phi]]:
        """Owners that hold none any more are forgotten on the way."""
        for owner in list(owners):
            found = [(n, value) for n, value in self._owners.get(owner, _NOTHING).items() if type(value) is Phi]
            if not found:
                owners.discard(owner)
            for name, value in found:
                yield (owner, name), value

    def _is_one_of_several(self, value: Phi, tracked: Collection[Hashable]) -> bool:
        nested = type(value.yes) is Phi or type(value.no) is Phi
        if not nested and not any((v, ENABLED) in self for v in options(value)):
            return False
        return any(v.key in tracked if isinstance(v, Sym) else _may_be_tracked(v) for v in options(value))

    def items(self) -> Iterator[tuple[Place, Value]]:
        for owner, names in self._owners.items():
            for name, value in names.items():
                yield (owner, name), value


def _may_be_tracked(value: Value) -> bool:
    """An optimizer or a scaler; what a call gives that is not in sight may be one."""
    if isinstance(value, Sym):
        return bool(value.key[0] == "call")
    return isinstance(value, Ref) and value.kind in ("optimizer", "scaler")


@dataclass(slots=True)
class PathState:
    heap: Heap = field(default_factory=Heap)
    protocol: typestate.Protocol = field(default_factory=typestate.Protocol)
    guards: dict[Key, bool] = field(default_factory=dict)
    trail: frozenset[Decision] = frozenset()
    """Decisions on counters that brought the path here; kept over back edges, where guards are not."""
    casts: tuple[Cast | None, ...] = ()
    """Autocast stack, outermost first; None stands for a context that may or may not be an autocast."""
    outer_unknown: bool = False
    """The root of this path is a function whose callers are not known: they may have entered an autocast."""
    no_grad: bool = False
    exceptional: bool = False
    """The path passed an exception edge that nothing in the source raises."""
    inexact: bool = False
    """A bound was hit on the way: what is found here is at most possible."""
    gates: frozenset[Key] = frozenset()
    """What the decisions of the Phi values on the heap depend on, and perhaps more."""
    asked: frozenset[Key] = frozenset()
    """What the decisions in `guards` depend on, and perhaps more."""
    either: bool = False
    """Whether one of the decisions in `guards` may be that one of several holds, or does not."""

    def clone(self) -> PathState:
        return PathState(
            self.heap.clone(), self.protocol.copy(), dict(self.guards), self.trail, self.casts,
            self.outer_unknown, self.no_grad, self.exceptional, self.inexact, self.gates, self.asked,
            self.either,
        )  # fmt: skip

    # -------------------------------------------------------------- decisions

    def assume(self, key: Key, truth: bool) -> None:
        """Takes a decision; what it implies is taken with it."""
        self._take(key, truth)
        for part in self._left_over() if self.either else ():
            self._take(*part)

    def _take(self, key: Key, truth: bool) -> None:
        head = key[0]
        if head == "not":
            self._take(key[1], not truth)
        elif (head == "and" and truth) or (head == "or" and not truth):
            for part in key[1:]:
                self._take(part, truth)
        else:
            self.record(key, truth)

    def _left_over(self) -> list[tuple[Key, bool]]:
        """What must be so because one of several things is, and all the others are not: of `if a and b: … elif b: …`
        the second branch is without `a`."""
        found = []
        for key, truth in self.guards.items():
            if key[0] != ("or" if truth else "and"):  # as `_is_of_several`, without the call
                continue
            known = [self.decided(part) for part in key[1:]]
            if truth not in known and known.count(None) == 1:
                found.append((key[1 + known.index(None)], truth))
        return found

    def record(self, key: Key, truth: bool) -> None:
        """Notes a decision by itself."""
        self.guards[key] = truth
        self.asked |= roots(key)
        if _is_of_several(key, truth):
            self.either = True
        if len(self.guards) > MAX_GUARDS:
            # which paths have met is of less use than what was decided for a whole run
            del self.guards[
                next(chain(*(filter(kind, self.guards) for kind in (_is_passing, _is_of_met)), self.guards))
            ]

    def ask(self, key: Key) -> bool | None:
        """What is known of a decision that is to be taken; what is asked again and again is forgotten last."""
        if key in self.guards:
            self.guards[key] = self.guards.pop(key)
        return self.decided(key)

    def demote(self, known: Collection[Key]) -> None:
        """Decisions beside the known ones were taken for an error that is not there: they are forgotten early."""
        late = {key: self.guards.pop(key) for key in list(self.guards) if key in known}
        self.guards |= late

    def decided(self, key: Key) -> bool | None:
        known = self.guards.get(key)
        if known is not None:
            return known
        head = key[0]
        if head == "not":
            inner = self.decided(key[1])
            return None if inner is None else not inner
        if head in ("and", "or"):
            parts = [self.decided(part) for part in key[1:]]
            if head == "and":
                return False if False in parts else True if all(part is True for part in parts) else None
            return True if True in parts else False if all(part is False for part in parts) else None
        if head == "eq":
            for other, truth in self.guards.items():
                if truth and other[0] == "eq" and other[1] == key[1] and other[2] != key[2]:
                    return False
            if self.guards.get(("truth", key[1])) is False and key[2]:
                return False
        if head == "truth":
            for other, truth in self.guards.items():
                if truth and other[0] == "eq" and other[1] == key[1]:
                    return bool(other[2])
        return None

    def contradicts_itself(self) -> bool:
        """Whether paths that have met had decided for one of several things, and this one is past all of them."""
        return self.either and any(
            key[0] == ("or" if truth else "and") and all(self.decided(part) is (not truth) for part in key[1:])
            for key, truth in self.guards.items()
        )

    def forget(self, root: Key) -> None:
        """A name was assigned anew: decisions on its old value are void."""
        if root in self.asked:
            for key in [key for key in self.guards if root in roots(key)]:
                del self.guards[key]
            self.asked -= {root}
        if any(_is_symbolic(ident) and root in roots(ident) for ident in typestate.objects(self.protocol)):
            typestate.drop(self.protocol, lambda ident: _is_symbolic(ident) and root in roots(ident))
        if root in self.gates:
            self._collapse(lambda key: root in roots(key), root)

    def cross_back_edge(self) -> None:
        """Counters move on, unknown calls may answer differently."""
        for key in [k for k in self.guards if varies(k)]:
            del self.guards[key]
        if _VARYING in self.gates:
            self._collapse(varies, _VARYING)
        typestate.cross_back_edge(self.protocol)

    def _collapse(self, void: Callable[[Key], bool], gate: Key) -> None:
        """Phi values of void decisions become a choice of which nothing more is known."""
        self.gates -= {gate}
        for place, value in self.heap.decided():
            if _depends_on(value, void):
                self.heap[place] = choice(list(options(value)), ("phi", "collapsed", *map(str, place)))

    # ----------------------------------------------------------------- values

    def settle(self, value: Value) -> Value:
        """A Phi whose decision is known becomes the value of that side."""
        while type(value) is Phi:
            known = self.decided(value.key)
            if known is None:
                return value
            value = value.yes if known else value.no
        return value


def _is_symbolic(ident: object) -> bool:
    """Whether an identity is a key: that of something unknown. A Site is none."""
    return type(ident) is tuple


def _is_of_several(key: Key, truth: bool) -> bool:
    """Whether a decision is that one of several things holds, or that one of them does not."""
    head: object = key[0]
    return head == ("or" if truth else "and")


def _is_of_met(key: Key) -> bool:
    """A decision that paths had made in different ways before they met; or one of the user's own of that form."""
    head: object = key[0]
    return head == "or"


def _is_passing(key: Key) -> bool:
    """A decision on what this iteration or this call brought: the first to be forgotten. Switches that hold for a run,
    attributes of what a function has read among them, are asked again and again."""
    brought = {root[0] for root in roots(key)}
    if not brought.isdisjoint(("iter", "aug", "phi", "except")) or varies(key):
        return True
    return "call" in brought and not mentions(key, "attr")


def varies(key: Key) -> bool:
    """Whether a decision may come out otherwise in the next iteration: it counts, or asks something unknown."""
    return mentions(key, "%") or mentions(key, "ucall")


def is_counter(key: Key) -> bool:
    """A condition on how far the loop has come: `(i + 1) % k == 0`, `step == last`; what sort of thing it brings is
    another matter."""
    if mentions(key, "%"):
        return True
    return mentions(key, "iter") and not any(mentions(key, word) for word in ("ucall", "call", "isinstance"))


def _depends_on(value: Value, void: Callable[[Key], bool]) -> bool:
    return type(value) is Phi and (void(value.key) or _depends_on(value.yes, void) or _depends_on(value.no, void))


def gates_of(key: Key) -> frozenset[Key]:
    """What a decision depends on, for `PathState.gates`."""
    return roots(key) | {_VARYING} if varies(key) else roots(key)


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
        ours = ours_by_owner.get(owner) or _NOTHING
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
    for one, other, first in ((a, b, True), (b, a, False)):
        for key in one.guards:
            if key[0] == "or" and other.decided(key) is False:
                return key, first
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


def _changed(ours: _Owners, theirs: _Owners) -> list[tuple[Hashable, dict[str, Value]]]:
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
    return choice([ours, theirs], ("phi", *map(str, name)))


def truth_of(value: Value) -> bool | None:
    """Truth of a value that has one whatever was decided."""
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, Ref):
        return None if value.kind in ("list", "dict") else True
    if isinstance(value, Method) and isinstance(value.base, Ref) and value.base.kind == "module":
        return None  # an attribute that nothing in sight has set: a part of the network, or a switch
    if isinstance(value, Ext | Func | Cls | Mod | Device | Dtype | Method):
        return True
    return None


def decision(key: Key) -> Key:
    """The truth of a symbolic expression as a decision, in one form for all the ways to write it.

    `x is not None`, `x != 0`, `x > 0`, `bool(x)` and `x` are one decision: a GradScaler object is always truthy, and
    a threshold that is 0 and one that is None both mean «off».
    """
    head = key[0]
    if head == "not":
        return ("not", decision(key[1]))
    if head in ("and", "or"):
        return (head, *(decision(part) for part in key[1:]))
    if head == "cmp":
        op, left, right = key[1], key[2], key[3]
        off = right[0] == "const" and not right[1]
        if (op in ("is not", "!=", ">") and off) or (op in ("is", "==") and right[0] == "const" and right[1] is True):
            return decision(left)
        if op in ("is", "==", "<=") and off:
            return ("not", decision(left))
        if op in ("==", "is") and right[0] == "const":
            return ("eq", left, right[1])
        if op in ("!=", "is not"):
            return ("not", decision(("cmp", "==" if op == "!=" else "is", left, right)))
        if op == "not in":
            return ("not", ("truth", ("cmp", "in", left, right)))
        if op == ">":
            return ("truth", ("cmp", "<", right, left))
        if op == ">=":
            return ("not", ("truth", ("cmp", "<", left, right)))
        if op == "<=":
            return ("not", ("truth", ("cmp", "<", right, left)))
    if head in ("truth", "eq"):
        return key
    return ("truth", key)
