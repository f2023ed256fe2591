"""Whose gradients a backward adds to: which parameters an optimizer has, which modules hold which."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from .frame import Run
from .holding import held_alone
from .state import PathState
from .typestate import Sure
from .values import (
    Choice,
    Params,
    Phi,
    Tensor,
    Tup,
    Value,
    options,
)

Id = Hashable


def parameter_modules(values: Iterable[Value]) -> frozenset[Id] | None:
    found: set[Id] = set()
    some = False
    for value in values:
        for params in all_params(value):
            some = True
            if params.modules is None:
                return None
            found |= params.modules
    return frozenset(found) if some and found else None


def all_params(value: Value) -> list[Params]:
    if isinstance(value, Params):
        return [value]
    if isinstance(value, Tup):
        return [p for item in value.items for p in all_params(item)]
    if isinstance(value, Phi | Choice):
        return [p for item in options(value) for p in all_params(item)]
    return []


def related(run: Run, a: Id, b: Id) -> bool:
    """The same module, or one inside the other."""
    return covers(run, a, b) or covers(run, b, a)


def _inside(run: Run, module: Id) -> set[Id]:
    found: set[Id] = set()
    stack = [module]
    while stack:
        for child in run.contains.get(stack.pop(), ()):
            if child not in found:
                found.add(child)
                stack.append(child)
    return found


def fed_by(run: Run, loss: Tensor | None, st: PathState) -> list[tuple[Id, Sure]]:
    """The optimizers whose gradients a backward of `loss` adds to."""
    modules, part = module_ids(loss), False
    if not modules and loss is not None and loss.uses is None:
        modules, part = {use.module for use in loss.partly if use.module is not None}, True
    trained = {m for m in modules if not is_criterion(run, m)}
    strangers = frozenset[Id]()
    if trained and trained <= run.older.keys():
        strangers = frozenset.intersection(*(run.older[module] for module in trained))
    known = [o for o in st.protocol.optimizers if o not in strangers]
    if modules:
        owners = {o: trains(run, o) for o in known}
        matches = {
            o: mods is not None and any(related(run, m, p) for m in modules for p in mods) for o, mods in owners.items()
        }
        if any(matches.values()):
            unknown = [o for o in known if owners[o] is None or (part and not matches[o])]
            fed = [o for o in known if matches[o]]
            # where one has what is left of a network, its parts may be trained by losses of their own
            parted = len(fed) > 1 and not run.filtered.isdisjoint(fed)
            return [(o, Sure.GUESS if parted else Sure.PROVEN) for o in fed] + [(o, Sure.GUESS) for o in unknown]
    only = known if len(known) == 1 else held_alone(run, known, st)
    return [(o, Sure.ONLY_ONE if o in only else Sure.GUESS) for o in known]


def trains(run: Run, optimizer: Id) -> frozenset[Id] | None:
    """The modules whose parameters an optimizer has, as far as they are known; those of all where it is whichever one
    of some, `optimizers[i]`."""
    match optimizer:
        case ("sub", ("tuple", *elements), _) if elements:
            known = [run.parameters.get(e[1]) if e[0] == "obj" else None for e in elements if isinstance(e, tuple)]
            some = [modules for modules in known if modules is not None]
            return frozenset().union(*some) if len(some) == len(elements) else None
        case _:
            return run.parameters.get(optimizer)


def is_criterion(run: Run, module: Id) -> bool:
    """`nn.MSELoss()` has no parameters."""
    layers = run.trace.layers.get(module)
    return layers is not None and bool(layers) and all(layer.endswith("Loss") for layer in layers)


def module_ids(loss: Tensor | None) -> set[Id]:
    if loss is None or loss.uses is None:
        return set()
    return {use.module for use in loss.uses if use.module is not None}


def may_own(run: Run, optimizer: Id, modules: frozenset[Id]) -> bool:
    owned = trains(run, optimizer)
    return owned is not None and any(related(run, m, o) for m in modules for o in owned)


def covers(run: Run, module: Id, other: Id) -> bool:
    """Whether `other` is the module or a part of it; `model.encoder` is a part of the model that it is asked of."""
    inside = _inside(run, module) | {module}
    return any(holder in inside for holder in _holders(other))


def _holders(part: Id) -> Iterator[Id]:
    """`model.encoder.layers`, `model.encoder` and the model."""
    yield part
    while isinstance(part, tuple) and len(part) == 3 and part[0] == "attr":
        base = part[1]
        part = base[1] if base[:1] == ("obj",) else base
        yield part
