"""What holds an optimizer on a path: names, attributes, lists. One that nothing holds any more is not there."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from .frame import Run
from .state import PathState
from .values import Choice, Method, Phi, Ref, Sym, Tup, Value, options

Id = Hashable


def held_alone(run: Run, known: list[Id], st: PathState) -> set[Id]:
    """Of several optimizers of one name the one that anything holds on this path, or those of which one decision says
    which it is: the others were replaced, or are those of another branch."""
    names = {run.trace.names.get(o, "").rpartition(".")[2] for o in known}
    if len(names) != 1 or "" in names or not all(map(_is_held_or_gone, known)):
        return set()
    every = set(known)
    holding: set[Value] = set()
    for _, value in st.heap.items():
        if type(value) in _HOLDERS and not every.isdisjoint(held_in(value)):
            settled = st.settle(value)
            if not every.isdisjoint(held_in(settled)):
                holding.add(settled)
    return every.intersection(*map(held_in, holding)) if len(holding) == 1 and all(map(_is_decided, holding)) else set()


def _is_decided(value: Value) -> bool:
    """One thing, or which of several it is hangs on decisions that the path will take once."""
    if isinstance(value, Phi):
        return _is_decided(value.yes) and _is_decided(value.no)
    return isinstance(value, Ref | Sym)


def _is_held_or_gone(optimizer: Id) -> bool:
    """What was made in sight, or by a call, is had from a name or an attribute alone; a part of something unknown is
    had from that."""
    return isinstance(optimizer, Ref) or (isinstance(optimizer, tuple) and optimizer[0] == "call")


_HOLDERS = frozenset((Ref, Sym, Phi, Choice, Tup, Method))


def held_in(value: Value) -> Iterator[Id]:
    match value:
        case Ref():
            yield value
        case Sym():
            yield value.key
        case Phi() | Choice():
            for option in options(value):
                yield from held_in(option)
        case Tup():
            for item in value.items:
                yield from held_in(item)
        case Method():
            yield from held_in(value.base)
        case _:
            pass


def held(known: Iterable[Id], st: PathState) -> set[Id]:
    """Those of several objects that anything holds, whatever is decided."""
    every = set(known)
    values = (value for _, value in st.heap.items() if type(value) in _HOLDERS)
    return {found for value in values for found in held_in(value) if found in every}
