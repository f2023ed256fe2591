"""Which calls need not be followed again: those that did nothing of interest, and those of which all is known."""

from __future__ import annotations

from dataclasses import dataclass

from . import calls
from .frame import Run
from .shapes import Args, Results
from .state import PathState
from .values import Choice, Const, Func, Phi, Ref, Sym, Tensor, Tup, Value, options
from .vocabulary import EVENT_WORDS

INERT = 2
"""A call that did nothing of interest and gave nothing of a network is not followed again with arguments of the same
kinds; one that gave what a network has made only after it has done so twice."""


@dataclass(frozen=True, slots=True)
class Following:
    """A call, and what there was before it was followed."""

    func: Func
    shape: tuple[object, ...]
    """Constants among its arguments, and the kinds of the others."""
    outline: tuple[object, ...]
    """The same without texts and numbers: a call that does nothing of interest for one name or size does nothing for
    another. Of a method that calls what acts on gradients, an optimizer or a scaler, with its object, which may hold
    none; of any other method without."""
    switches: tuple[object, ...]
    """Only the switches among them."""
    plain: bool
    """It gets no object."""
    alone: bool
    """It gets no network, optimizer or scaler to work on, and there is none yet that it could find."""
    before: tuple[int, int, int]
    no_grad: bool
    fed: bool
    """It gets what a network has made."""


def about_to_follow(run: Run, func: Func, everything: Args, st: PathState) -> Following:
    """`everything`: all arguments."""
    info, owner = func.info, func.self_value if isinstance(func.self_value, Ref) else None
    given = tuple(v if isinstance(v, Const) else (type(v).__name__, getattr(v, "kind", "")) for v in everything)
    return Following(
        func,
        (info, func.wraps, owner, given),
        (
            info,
            func.wraps,
            owner if owner is not None and not EVENT_WORDS.isdisjoint(info.names) else func.self_value is None,
            tuple(map(_kind, everything)),
        ),
        (info, func.wraps, *(v.value if isinstance(v, Const) and _is_switch(v) else "" for v in everything)),
        func.self_value is None and all(isinstance(value, Sym | Const) for value in everything),
        not info.rebinds and _brings_nothing(func, everything, st),
        _happened(run),
        st.no_grad,
        any(tensor.uses for tensor in calls.tensors_in(everything)),
    )


def is_known(run: Run, call: Following) -> bool:
    project = run.project
    return (
        (bool(run.stack) and call.func.info in project.exhausting and not run.coarse)
        or call.shape in project.followed
        or project.inert.get(call.outline, 0) >= INERT
        or (call.switches in project.closed and not run.again)
    )


def gives_no_gradient(run: Run, call: Following) -> bool:
    """Whether what a known call gives is a tensor that comes from no network, whatever it gets."""
    return call.outline in run.project.cuts


def remember(run: Run, call: Following, results: Results) -> None:
    """What a call is known for, now that it was followed to its end."""
    if run.lazy or run.coarse:
        return
    project, values = run.project, [value for _, value in results]
    if call.plain:
        run.shapes.add(call.shape)
    if call.alone and _trained_with_its_own(results):
        project.closed.add(call.switches)
    if _happened(run) == call.before and all(map(_is_data, values)):
        used = not call.no_grad and any(tensor.uses for tensor in calls.tensors_in(values))
        twice = used or call.func.info.name == "__init__"  # which has filled the attributes of one object only
        project.inert[call.outline] = project.inert.get(call.outline, 0) + (1 if twice else INERT)
        if call.fed and all(
            isinstance(value, Tensor) and value.uses == frozenset() and not value.grad for value in values
        ):
            project.cuts.add(call.outline)


def _is_data(value: Value) -> bool:
    """Data, whichever way it came about. What a decision makes of constants is a switch, not data."""
    if isinstance(value, Phi | Choice):
        return all(isinstance(option, Sym | Tensor | Tup) for option in options(value))
    return isinstance(value, Sym | Const | Tensor | Tup)


def _happened(run: Run) -> tuple[int, int, int]:
    return run.events, run.withheld, run.notable


def _kind(value: Value) -> object:
    """What may decide which way a call goes: a switch, or what sort of thing it gets."""
    if isinstance(value, Const) and _is_switch(value):
        return value.value
    kinds = {(type(v).__name__, getattr(v, "kind", "")) for v in options(value)}
    return next(iter(kinds)) if len(kinds) == 1 else frozenset(kinds)


def _is_switch(value: Const) -> bool:
    return value.value is None or isinstance(value.value, bool)


def _brings_nothing(func: Func, everything: Args, st: PathState) -> bool:
    if st.protocol.optimizers or st.protocol.scalers or func.self_value is not None or func.closure is not None:
        return False
    held = [v for value in everything if isinstance(value, Ref) for _, v in st.heap.held(value)]
    return all(_is_equipment(option) for value in (*everything, *held) for option in options(value))


def _trained_with_its_own(results: Results) -> bool:
    """Whether a call that began with nothing has made an optimizer, and gives back nothing that is trained."""
    ends = [state.protocol for state, _ in results]
    met = [ident for protocol in ends for ident in (*protocol.optimizers, *protocol.scalers)]
    made = any(protocol.optimizers for protocol in ends) and all(isinstance(ident, Ref) for ident in met)
    return made and all(_is_equipment(option) for _, value in results for option in options(value))


def _is_equipment(value: Value) -> bool:
    return not isinstance(value, Ref) or value.kind in ("instance", "dict", "list")
