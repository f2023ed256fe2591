"""What names and attributes hold on one path."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator

from .values import Key, Phi, Ref, Sym, Value, options, roots

ENABLED = "(enabled)"
"""Slot of a scaler: the decision under which it is on, where there is one."""
NOTHING: dict[str, Value] = {}

Place = tuple[Hashable, str]
Owners = dict[Hashable, dict[str, Value]]


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

    def leave_behind(self, root: Key) -> None:
        """Forgets what was stored in something unknown that is another one from now on: the target of a
        loop."""
        for owner in [o for o in self._owners if type(o) is tuple and root in roots(o)]:
            self.drop(owner)

    def forget_below(self, key: Key) -> None:
        """Forgets the attributes of something unknown, and those of its attributes."""
        for owner in [o for o in self._owners if type(o) is tuple and _is_below(o, key)]:
            self.drop(owner)

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
            found = [(n, value) for n, value in self._owners.get(owner, NOTHING).items() if type(value) is Phi]
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


def _is_below(owner: Key, key: Key) -> bool:
    while owner != key and owner[:1] == ("attr",):
        owner = owner[1]
    return owner == key


def _may_be_tracked(value: Value) -> bool:
    """An optimizer or a scaler; what a call gives that is not in sight may be one."""
    if isinstance(value, Sym):
        return bool(value.key[0] == "call")
    return isinstance(value, Ref) and value.kind in ("optimizer", "scaler")
