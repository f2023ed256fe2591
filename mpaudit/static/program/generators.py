"""Generators: the block of a `with` and the body of a `for` run at their yields, between what stands before a yield
and what stands after it."""

from __future__ import annotations

from collections.abc import Callable

from . import flow, functions, typestate
from .frame import MAX_DEPTH, Frame, Run
from .merging import merge
from .shapes import Args, Keywords
from .state import PathState
from .values import Func, Ref, Value

Block = Callable[[PathState, Value], list[PathState]]
"""What runs at a yield, given the value that is yielded; the paths after it."""


def can_follow(run: Run, generator: Ref) -> bool:
    info = _made(generator)[0].info
    return info.live and info.node is not None and info not in run.stack and len(run.stack) < MAX_DEPTH


def follow(run: Run, fr: Frame, generator: Ref, st: PathState, block: Block) -> list[PathState]:
    """Paths through a generator of the project from its start to its end, with `block` at each yield."""
    func, args, keywords = _made(generator)
    info = func.info
    assert info.node is not None
    run.reached.add(info)
    frame = functions.open_frame(run, fr, func, args, keywords, st)
    frame.on_yield = block
    outer = (st.casts, st.no_grad)
    functions.enter_decorators(run, frame, info.node, st)
    run.enter(info, None)
    try:
        ends = flow.execute(run, frame, info.node.body, [st])
    finally:
        run.leave()
    run.completed.add(info)
    ends += [s for s, _ in frame.returns]
    for s in (*ends, *frame.raises):
        s.casts, s.no_grad = outer
        s.heap.drop(frame.id)
    fr.raises += frame.raises
    return merge(ends, ("generator", frame.id))


def give(run: Run, fr: Frame, value: Value, st: PathState) -> list[PathState]:
    """`yield value`, or `yield from value` where that is a generator."""
    if fr.on_yield is None:
        return [st]
    if isinstance(value, Ref) and value.kind == "generator" and can_follow(run, value):
        return follow(run, fr, value, st, fr.on_yield)
    return fr.on_yield(st, value)


def drained(st: PathState, value: Value) -> list[PathState]:
    """The block of `list(generator)`: nothing happens between one yield and the next."""
    return [st]


def resumed_by_anyone(st: PathState, value: Value) -> list[PathState]:
    """The block of a generator whose user is not known: it may use whatever objects it got from there."""
    for s in [s for s in st.protocol.scalers if not isinstance(s, Ref)]:
        typestate.forget_scaler(st.protocol, s)
    for o in [o for o in st.protocol.optimizers if not isinstance(o, Ref)]:
        typestate.forget_optimizer(st.protocol, o)
    st.protocol.unseen = typestate.OptimizerState()
    return [st]


def held(generator: Ref) -> list[Value]:
    """What a generator that is not followed may act on."""
    func, args, keywords = _made(generator)
    mine = [func.self_value] if func.self_value is not None else []
    return [*mine, *args, *(value for _, value in keywords)]


def _made(generator: Ref) -> tuple[Func, Args, Keywords]:
    return generator.id  # type: ignore[return-value]
