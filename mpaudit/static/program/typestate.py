"""The two automata of loss scaling: what a GradScaler knows, and what the gradients hold.

Source of the transitions: `torch/amp/grad_scaler.py` (unchanged in substance from 2.0 to 2.13), tried event by event
against torch 2.13. Every event is a pure function on a `Protocol`: it changes a copy of the state of the objects it
names and gives the violations that the event commits. TOP is «unknown»: it never violates anything, and an event
proves what it proves whatever was before (had the state been another, the call would have raised).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain
from typing import Any

Id = Hashable
"""Identity of a scaler or an optimizer."""
Site = Any
"""Where an event stands; only carried, never looked into."""


class Scale(Enum):
    UNSET = "unset"
    SET = "set"
    TOP = "top"


class Recorded(Enum):
    """Whether an inf check was recorded since the last update."""

    NO = "no"
    YES = "yes"
    TOP = "top"


class Stage(Enum):
    """What a scaler knows of an optimizer since its last update."""

    READY = "ready"
    UNSCALED = "unscaled"
    STEPPED = "stepped"
    TOP = "top"


class Kind(Enum):
    """What the gradients of an optimizer's parameters hold."""

    EMPTY = "empty"
    RAW = "raw"
    SCALED = "scaled"
    UNSCALED = "unscaled"
    STALE = "stale"
    MIXED = "mixed"
    TOP = "top"


class Used(Enum):
    """Whether a step has applied the gradients since the last backward or zero_grad."""

    NO = "no"
    YES = "yes"
    TOP = "top"


class Sure(Enum):
    """How well it is known that a backward feeds this optimizer."""

    PROVEN = 2
    ONLY_ONE = 1
    """No other optimizer was in sight; wrong if one turns up."""
    GUESS = 0


@dataclass(frozen=True, slots=True)
class Grad:
    kind: Kind
    scaler: Id | None = None
    code: str = ""
    """For MIXED: the rule that made it so; `site` is then the place of the cause."""
    site: Site = field(default=None, compare=False)


EMPTY = Grad(Kind.EMPTY)
RAW = Grad(Kind.RAW)
UNKNOWN = Grad(Kind.TOP)


@dataclass(frozen=True, slots=True)
class ScalerState:
    scale: Scale = Scale.TOP
    recorded: Recorded = Recorded.TOP


@dataclass(frozen=True, slots=True)
class PairState:
    stage: Stage = Stage.TOP
    crossed: bool = False
    """A loop's back edge was passed since the stage was reached."""
    site: Site = field(default=None, compare=False)
    """The call that reached the stage."""
    left: Site = field(default=None, compare=False)
    """Where a path left the iteration with the stage UNSCALED and no update."""


@dataclass(frozen=True, slots=True)
class OptimizerState:
    grad: Grad = UNKNOWN
    used: Used = Used.TOP
    zeroed: bool = False
    """A zero_grad follows the last backward in sight."""
    fed: bool = False
    """A backward is in sight."""
    sure: Sure = Sure.PROVEN
    clip: Site = None
    """A clip of still scaled gradients that no step has applied yet."""
    backward: Site = field(default=None, compare=False)
    zero: Site = field(default=None, compare=False)
    step: Site = field(default=None, compare=False)
    crossed: bool = field(default=False, compare=False)
    """A loop's back edge was passed since the step."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`site` is where the finding stands; `other` is the event that the message also speaks of."""

    code: str
    site: Site
    variant: str
    scaler: Id | None = None
    optimizer: Id | None = None
    other: Site = None
    sure: Sure = Sure.PROVEN


Report = Callable[[Violation], None]


@dataclass(slots=True)
class Protocol:
    """The typestate of all scalers and optimizers on one path. `unseen` is what holds for an optimizer not met yet."""

    scalers: dict[Id, ScalerState] = field(default_factory=dict)
    pairs: dict[tuple[Id, Id], PairState] = field(default_factory=dict)
    optimizers: dict[Id, OptimizerState] = field(default_factory=dict)
    unseen: OptimizerState = OptimizerState()

    def copy(self) -> Protocol:
        return Protocol(dict(self.scalers), dict(self.pairs), dict(self.optimizers), self.unseen)

    # -- reading

    def scaler(self, s: Id) -> ScalerState:
        return self.scalers.get(s, ScalerState())

    def pair(self, s: Id, o: Id) -> PairState:
        known = self.pairs.get((s, o))
        if known is not None:
            return known
        constructed = self.scaler(s).scale is not Scale.TOP or self.scaler(s).recorded is Recorded.NO
        return PairState(Stage.READY) if constructed and o in self.optimizers else PairState()

    def optimizer(self, o: Id) -> OptimizerState:
        return self.optimizers.get(o, self.unseen)


def _distinct(a: Id | None, b: Id | None) -> bool:
    """Two scalers that are not one under two names: an unknown one, whose identity is a symbolic key, may be any."""
    return a != b and not isinstance(a, tuple) and not isinstance(b, tuple)


def new_scaler(p: Protocol, s: Id) -> None:
    """Construction in sight."""
    p.scalers[s] = ScalerState(Scale.UNSET, Recorded.NO)
    for key in [k for k in p.pairs if k[0] == s]:
        del p.pairs[key]
    for o, state in p.optimizers.items():
        if state.grad.scaler == s:
            p.optimizers[o] = replace(state, grad=UNKNOWN)
        p.pairs[s, o] = PairState(Stage.READY)


def fresh_scalers(p: Protocol) -> frozenset[Id]:
    """The scalers that have scaled nothing since they were made."""
    return frozenset(s for s, state in p.scalers.items() if state.scale is Scale.UNSET)


def new_optimizer(p: Protocol, o: Id) -> None:
    """Construction in sight: gradients empty, nothing stepped."""
    p.optimizers[o] = OptimizerState(EMPTY, Used.NO)
    p.unseen = OptimizerState()
    for s, state in p.scalers.items():
        p.pairs[s, o] = PairState(Stage.READY if state.scale is not Scale.TOP else Stage.TOP)


def meet_optimizer(p: Protocol, o: Id) -> None:
    """An optimizer that was not in sight until now: it may have been fed by every backward so far."""
    if o not in p.optimizers:
        p.optimizers[o] = p.unseen
        p.unseen = OptimizerState()


def objects(p: Protocol) -> Iterator[Id]:
    """The identities that a path knows; some more than once."""
    return chain(p.optimizers, p.scalers, chain.from_iterable(p.pairs))


def drop(p: Protocol, gone: Callable[[Id], bool]) -> None:
    """Objects that the path has left behind: the target of a loop is another object in the next iteration."""
    for o in [o for o in p.optimizers if gone(o)]:
        del p.optimizers[o]
    for s in [s for s in p.scalers if gone(s)]:
        del p.scalers[s]
    for key in [key for key in p.pairs if gone(key[0]) or gone(key[1])]:
        del p.pairs[key]


def forget_scaler(p: Protocol, s: Id) -> None:
    p.scalers[s] = ScalerState()
    for key in p.pairs:
        if key[0] == s:
            p.pairs[key] = PairState()


def forget_optimizer(p: Protocol, o: Id) -> None:
    p.optimizers[o] = OptimizerState()
    for key in p.pairs:
        if key[1] == o:
            p.pairs[key] = PairState()


def doubt_record(p: Protocol, s: Id) -> None:
    """Whether an inf check was recorded is unknown from here."""
    p.scalers[s] = replace(p.scaler(s), recorded=Recorded.TOP)


def forget_gradients(p: Protocol, o: Id) -> None:
    """What the gradients hold is unknown from here; the stages stay."""
    p.optimizers[o] = replace(p.optimizer(o), grad=UNKNOWN, used=Used.TOP, clip=None, zeroed=False)


# ------------------------------------------------------------------ backward


def _fed(state: OptimizerState, scaler: Id | None, site: Site, sure: Sure) -> OptimizerState:
    grad, used = state.grad, state.used
    stale = used is Used.YES

    def mixed(code: str, at: Site) -> Grad:
        return Grad(Kind.MIXED, scaler or grad.scaler, "MPA228" if stale else code, site if stale else at)

    match grad.kind:
        case Kind.EMPTY | Kind.TOP:
            new = RAW if scaler is None else Grad(Kind.SCALED, scaler, site=site)
        case Kind.RAW:
            new = RAW if scaler is None else mixed("MPA224", site)
        case Kind.SCALED:
            other = scaler is None or _distinct(scaler, grad.scaler)
            new = Grad(Kind.MIXED, grad.scaler, "MPA224", site) if other else grad
        case Kind.UNSCALED:
            if scaler is None:
                new = mixed("MPA228", site) if stale else grad
            else:
                new = mixed("MPA212", site)
        case Kind.STALE:
            new = Grad(Kind.MIXED, grad.scaler, "MPA210", grad.site)
        case Kind.MIXED:
            new = grad
    unsure = min(sure.value, state.sure.value) if grad.kind is not Kind.EMPTY else sure.value
    return replace(state, grad=new, used=Used.NO, zeroed=False, fed=True, sure=Sure(unsure), backward=site, zero=None)


def _doubt_unseen(p: Protocol) -> None:
    """An event of an optimizer in sight may be one of the optimizer that a guess was made of, under another name."""
    if p.unseen.sure is Sure.GUESS:
        p.unseen = OptimizerState()


def doubt_zeroed(p: Protocol, fed: Collection[Id]) -> None:
    """A backward may feed more than is seen of its loss: what optimizers other than `fed` had zeroed may not be empty
    any more."""
    for o, state in p.optimizers.items():
        if state.zeroed and o not in fed:
            p.optimizers[o] = replace(state, zeroed=False)


def backward(p: Protocol, o: Id, scaler: Id | None, site: Site, sure: Sure = Sure.PROVEN) -> None:
    """A backward of a loss proven scaled by `scaler`, or proven unscaled where that is None."""
    p.optimizers[o] = _fed(p.optimizer(o), scaler, site, sure)


def backward_unseen(p: Protocol, scaler: Id | None, site: Site, sure: Sure = Sure.ONLY_ONE) -> None:
    """Followed for the first optimizer that is met; beside others, that this backward feeds it is a guess."""
    p.unseen = _fed(p.unseen, scaler, site, Sure.GUESS if p.optimizers else sure)


def backward_unknown(p: Protocol, o: Id, site: Site) -> None:
    """A backward of a loss of which it is not known whether it is scaled."""
    p.optimizers[o] = replace(p.optimizer(o), grad=UNKNOWN, used=Used.NO, zeroed=False, fed=True, backward=site)


def backward_mixed(p: Protocol, o: Id, scaler: Id, site: Site, sure: Sure = Sure.PROVEN) -> None:
    """A backward of a sum of a scaled and an unscaled loss."""
    p.optimizers[o] = replace(
        p.optimizer(o),
        grad=Grad(Kind.MIXED, scaler, "MPA224", site),
        used=Used.NO, zeroed=False, fed=True, sure=sure, backward=site,
    )  # fmt: skip


def zero(p: Protocol, o: Id, site: Site) -> None:
    _doubt_unseen(p)
    state = p.optimizer(o)
    p.optimizers[o] = OptimizerState(
        EMPTY, Used.NO, zeroed=state.fed, fed=state.fed, backward=state.backward, zero=site, step=state.step
    )


def zero_unseen(p: Protocol, site: Site) -> None:
    p.unseen = OptimizerState()


# -------------------------------------------------------------------- scaler


def scale(p: Protocol, s: Id) -> None:
    p.scalers[s] = replace(p.scaler(s), scale=Scale.SET)


def unscale(p: Protocol, s: Id, o: Id, site: Site, report: Report) -> None:
    meet_optimizer(p, o)
    _doubt_unseen(p)
    state, pair, scaler = p.optimizers[o], p.pair(s, o), p.scaler(s)
    grad = state.grad
    recorded = Recorded.YES
    if scaler.scale is Scale.UNSET:
        if state.fed:
            report(Violation("MPA202", state.backward or site, "unset-unscale", s, o, site))
        new = Grad(Kind.UNSCALED, s)
    elif pair.stage is Stage.UNSCALED:
        if pair.left is not None:
            report(Violation("MPA207", pair.left, "left", s, o, pair.site))
        else:
            report(Violation("MPA206", site, "again" if pair.crossed else "twice", s, o, pair.site))
        new = Grad(Kind.UNSCALED, s)
    elif pair.stage is Stage.STEPPED:
        if pair.crossed:
            report(Violation("MPA204", pair.site or site, "unscale", s, o, site))
        else:
            report(Violation("MPA208", site, "unscale", s, o, pair.site))
            state = replace(state, used=Used.TOP)  # the clip that follows is late for the same reason
        new = Grad(Kind.UNSCALED, s)
    else:
        match grad.kind:
            case Kind.EMPTY:
                new, recorded = grad, scaler.recorded
            case Kind.RAW:
                new = Grad(Kind.MIXED, s, "MPA202", state.backward or site)
            case Kind.SCALED if _distinct(grad.scaler, s):
                new = Grad(Kind.MIXED, s, "MPA224", state.backward or site)
            case Kind.UNSCALED if state.fed:
                new = Grad(Kind.MIXED, s, "MPA228", site)
            case Kind.STALE:
                new = Grad(Kind.MIXED, s, "MPA210", grad.site)
            case Kind.MIXED:
                new = grad
            case _:
                new = Grad(Kind.UNSCALED, s)
    p.scalers[s] = ScalerState(Scale.SET, recorded)
    p.pairs[s, o] = PairState(Stage.UNSCALED, site=site)
    p.optimizers[o] = replace(state, grad=new)


def step(p: Protocol, s: Id, o: Id, site: Site, report: Report) -> None:
    meet_optimizer(p, o)
    _doubt_unseen(p)
    state, pair, scaler = p.optimizers[o], p.pair(s, o), p.scaler(s)
    grad, sure = state.grad, state.sure
    if scaler.scale is Scale.UNSET:
        if state.fed:
            report(Violation("MPA202", state.backward or site, "unset-step", s, o, site, sure))
    elif pair.stage is Stage.STEPPED:
        if pair.crossed:
            report(Violation("MPA204", pair.site or site, "step", s, o, site))
        elif grad.kind is Kind.SCALED and state.used is Used.NO:  # the gradients of another backward
            report(Violation("MPA204", pair.site or site, "next-step", s, o, site))
        else:
            report(Violation("MPA209", site, "scaler", s, o, pair.site))
    elif state.used is Used.YES:
        report(Violation("MPA209", site, "used", s, o, state.step, sure))
    else:
        divides = pair.stage is not Stage.UNSCALED
        match grad.kind:
            case Kind.EMPTY if state.zeroed:
                report(Violation("MPA211", state.zero or site, "scaler" if divides else "silent", s, o, site, sure))
            case Kind.RAW if divides:
                report(Violation("MPA202", state.backward or site, "divided", s, o, site, sure))
            case Kind.SCALED if _distinct(grad.scaler, s):
                report(Violation("MPA224", state.backward or site, "other-scaler", s, o, site, sure))
            case Kind.SCALED if not divides:
                report(Violation("MPA212", state.backward or site, "scaled", s, o, site, sure))
            case Kind.UNSCALED if divides and pair.stage is Stage.READY and state.fed:
                report(Violation("MPA228", site, "divided-twice", s, o, state.step, sure))
            case Kind.STALE if not _distinct(grad.scaler, s):
                report(Violation("MPA210", grad.site or site, "stale", s, o, site, sure))
            case Kind.MIXED:
                report(Violation(grad.code, grad.site or site, "mixed", s, o, site, sure))
            case _:
                if state.clip is not None:
                    report(Violation("MPA205", state.clip, "clip", s, o, site, sure))
    p.scalers[s] = ScalerState(Scale.SET, Recorded.YES)
    p.pairs[s, o] = PairState(Stage.STEPPED, site=site)
    used = Used.YES if state.fed else Used.TOP
    p.optimizers[o] = replace(
        state, grad=Grad(Kind.UNSCALED, s), used=used, clip=None, step=site, crossed=False, zeroed=False
    )


def raw_step(p: Protocol, o: Id, site: Site, report: Report, *, checked: bool = False) -> None:
    """`checked`: the step is under a condition on this iteration, which may ask whether the gradients are finite."""
    meet_optimizer(p, o)
    _doubt_unseen(p)
    state = p.optimizers[o]
    grad, sure = state.grad, state.sure
    known = not isinstance(o, tuple)  # what a call gives that is not in sight may be another each time
    if state.used is Used.YES:
        # where the step before was the scaler's, it is one too many whatever the gradients are of
        level = Sure.PROVEN if known and p.pair(grad.scaler, o).stage is Stage.STEPPED else sure
        report(Violation("MPA209", site, "raw", grad.scaler, o, state.step, level))
    else:
        match grad.kind:
            case Kind.SCALED | Kind.STALE:
                report(Violation("MPA203", site, "raw", grad.scaler, o, state.backward, sure))
                # an update that now finds no inf check recorded has the same cause
                p.scalers[grad.scaler] = replace(p.scaler(grad.scaler), recorded=Recorded.TOP)
            case Kind.MIXED:
                report(Violation(grad.code, grad.site or site, "mixed", grad.scaler, o, site, sure))
            case Kind.EMPTY if state.zeroed:
                report(Violation("MPA211", state.zero or site, "raw", None, o, site, sure))
            case Kind.UNSCALED if not checked and p.pair(grad.scaler, o).stage is Stage.UNSCALED:
                level = Sure.PROVEN if known else sure  # unscale_ was called for it, whatever it was fed
                report(Violation("MPA203", site, "unskipped", grad.scaler, o, p.pair(grad.scaler, o).site, level))
            case _:
                pass
    p.optimizers[o] = replace(state, used=Used.YES if state.fed else Used.TOP, clip=None, step=site, crossed=False)


def update(p: Protocol, s: Id, site: Site, report: Report, *, new_scale: bool = False) -> None:
    scaler = p.scaler(s)
    if not new_scale:
        fed = any(state.fed for state in p.optimizers.values()) or p.unseen.fed
        if not fed:
            pass  # no backward in sight: whatever trains is elsewhere
        elif scaler.scale is Scale.UNSET:
            report(Violation("MPA202", site, "unset-update", s))
        elif scaler.recorded is Recorded.NO:
            report(Violation("MPA210", site, "nothing-recorded", s))
    p.scalers[s] = ScalerState(Scale.SET, Recorded.NO)
    for key in p.pairs:
        if key[0] == s:
            p.pairs[key] = PairState(Stage.READY, site=site)
    for o in p.optimizers:
        if (s, o) not in p.pairs:
            p.pairs[s, o] = PairState(Stage.READY, site=site)
        p.optimizers[o] = _aged(p.optimizers[o], s, site)
    _doubt_unseen(p)
    p.unseen = _aged(p.unseen, s, site)


def _aged(state: OptimizerState, s: Id, site: Site) -> OptimizerState:
    if state.grad.kind is Kind.SCALED and state.grad.scaler == s:
        return replace(state, grad=Grad(Kind.STALE, s, site=site))
    return state


def clip(p: Protocol, o: Id, site: Site, report: Report, sure: Sure = Sure.PROVEN) -> None:
    state = p.optimizer(o)
    level = Sure(min(sure.value, state.sure.value))
    if state.used is Used.YES and state.fed:
        if state.crossed:
            return  # no backward since: another one's turn in a loop over optimizers
        report(Violation("MPA208", site, "clip", state.grad.scaler, o, state.step, level))
    elif state.grad.kind is Kind.SCALED:
        p.optimizers[o] = replace(state, clip=state.clip or site, sure=level)


def clip_unseen(p: Protocol, site: Site) -> None:
    """A clip of the gradients of an optimizer that turns up later."""
    if p.unseen.grad.kind is Kind.SCALED:
        p.unseen = replace(p.unseen, clip=p.unseen.clip or site)


# --------------------------------------------------------------------- paths


def cross_back_edge(p: Protocol) -> None:
    for key, pair in p.pairs.items():
        if pair.stage in (Stage.STEPPED, Stage.UNSCALED) and not pair.crossed:
            p.pairs[key] = replace(pair, crossed=True)
    next_turn(p)


def next_turn(p: Protocol) -> None:
    """The next element of a loop: what is done to it comes after no step of its own."""
    for o, state in p.optimizers.items():
        if state.used is Used.YES and not state.crossed:
            p.optimizers[o] = replace(state, crossed=True)


def leave_iteration(p: Protocol, site: Site) -> None:
    """A path jumps out of the iteration: a scaler that has unscaled and not updated is remembered."""
    for key, pair in p.pairs.items():
        if pair.stage is Stage.UNSCALED and pair.left is None:
            p.pairs[key] = replace(pair, left=site)


def leave_loop(p: Protocol) -> None:
    """A path breaks off a loop: whether what follows goes on with the gradients of its last step is not known. `if lr
    == 0: break` between step and zero_grad ends a training."""
    for o in [o for o, state in p.optimizers.items() if state.used is Used.YES]:
        forget_gradients(p, o)


def stay_in_iteration(p: Protocol) -> None:
    """Takes `leave_iteration` back."""
    for key, pair in p.pairs.items():
        if pair.left is not None:
            p.pairs[key] = replace(pair, left=None)


def key(p: Protocol) -> tuple[Hashable, ...]:
    """Two paths with equal keys agree on the automaton and may be merged (ESP's property simulation)."""
    return (
        frozenset(p.scalers.items()),
        frozenset(p.pairs.items()),
        frozenset(p.optimizers.items()),
        p.unseen,
    )


def rename(p: Protocol, names: Mapping[Any, Any]) -> None:
    """Objects under other identities."""
    p.scalers = {names.get(s, s): state for s, state in p.scalers.items()}
    p.optimizers = {names.get(o, o): _renamed(state, names) for o, state in p.optimizers.items()}
    p.pairs = {(names.get(s, s), names.get(o, o)): pair for (s, o), pair in p.pairs.items()}


def _renamed(state: OptimizerState, names: Mapping[Any, Any]) -> OptimizerState:
    if state.grad.scaler in names:
        return replace(state, grad=replace(state.grad, scaler=names[state.grad.scaler]))
    return state


def agree(a: Protocol, b: Protocol) -> bool:
    """As equal keys, but an object that one of the paths has not met is no disagreement, unless the other path is
    between its unscale_ or step and the update, or between its step and zero_grad."""
    if a.unseen != b.unseen:
        return False
    if a.scalers == b.scalers and a.pairs == b.pairs and a.optimizers == b.optimizers:  # nearly always
        return True
    return (
        all(b.scalers.get(k, v) == v for k, v in a.scalers.items())
        and all(_same_stage(pair, b.pairs.get(k)) for k, pair in a.pairs.items())
        and all(_same_stage(pair, a.pairs.get(k)) for k, pair in b.pairs.items())
        and all(_same_gradients(o, b.optimizers.get(k)) for k, o in a.optimizers.items())
        and all(_same_gradients(o, a.optimizers.get(k)) for k, o in b.optimizers.items())
    )


def _same_gradients(ours: OptimizerState, theirs: OptimizerState | None) -> bool:
    """Gradients that a step has applied already are no matter of a path that has not met the optimizer yet."""
    return ours.used is not Used.YES if theirs is None else ours == theirs


def _same_stage(ours: PairState, theirs: PairState | None) -> bool:
    return ours.stage not in (Stage.UNSCALED, Stage.STEPPED) if theirs is None else ours == theirs


def join(a: Protocol, b: Protocol) -> Protocol:
    """The weakest state that both paths satisfy: what they disagree on becomes TOP."""
    if a == b:
        return a.copy()
    out = Protocol(unseen=a.unseen if a.unseen == b.unseen else OptimizerState())
    for s in {**a.scalers, **b.scalers}:
        x, y = a.scalers.get(s), b.scalers.get(s)
        out.scalers[s] = _join_scaler(x or y, y or x)
    for k in {**a.pairs, **b.pairs}:
        x2, y2 = a.pairs.get(k), b.pairs.get(k)
        out.pairs[k] = (x2 or y2 or PairState()) if x2 is None or y2 is None or x2 == y2 else PairState()
    for o in {**a.optimizers, **b.optimizers}:
        x3, y3 = a.optimizers.get(o), b.optimizers.get(o)
        out.optimizers[o] = _join_optimizer(x3 or y3, y3 or x3)
    return out


def _join_scaler(x: ScalerState | None, y: ScalerState | None) -> ScalerState:
    assert x is not None and y is not None
    return ScalerState(
        x.scale if x.scale == y.scale else Scale.TOP, x.recorded if x.recorded == y.recorded else Recorded.TOP
    )


def _join_optimizer(x: OptimizerState | None, y: OptimizerState | None) -> OptimizerState:
    assert x is not None and y is not None
    if x == y:
        return x
    return OptimizerState(
        grad=x.grad if x.grad == y.grad else UNKNOWN,
        used=x.used if x.used == y.used else Used.TOP,
        zeroed=x.zeroed and y.zeroed,
        fed=x.fed and y.fed,
        sure=min(x.sure, y.sure, key=lambda sure: sure.value),
        clip=x.clip if x.clip == y.clip else None,
        backward=x.backward,
        zero=x.zero,
        step=x.step,
    )
