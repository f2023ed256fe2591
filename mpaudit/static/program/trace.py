"""What was seen while the program was followed: the record from which checks make findings."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from .definitions import ClassInfo, Site
from .state import Decision, PathState, is_counter
from .typestate import Sure, Violation
from .values import Cast, Key, Tensor, Use, Value, mentions, roots


class Basis(Struct, frozen=True, gc=False):
    """What a path rested on when something was seen on it."""

    guards: tuple[tuple[Key, bool], ...]
    trail: frozenset[Decision]
    exceptional: bool
    inexact: bool
    root: int
    """Number of the analysis (one per entry point) in which it was seen."""

    @staticmethod
    def of(state: PathState, root: int) -> Basis:
        return Basis(tuple(state.guards.items()), state.trail, state.exceptional, state.inexact, root)


@dataclass(frozen=True, slots=True)
class Halved:
    """A call that made the weights of a module float16."""

    site: Site
    older: frozenset[Hashable] | None
    """The optimizers that there were by then; None where an object is reconstructed out of order."""
    guards: tuple[tuple[Key, bool], ...]
    """What had been decided for the whole run."""


@dataclass(slots=True)
class Hit:
    """A violation at one event, over all the paths that reached the event."""

    violation: Violation
    bases: list[Basis] = field(default_factory=list)
    event: Site | None = None


class ApiCall(Struct, frozen=True, gc=False):
    """A call of something outside the project. `how`: 'call', 'decorator' (called), 'bare' (a decorator or context
    manager that is named and not called)."""

    name: str
    site: Site
    args: tuple[Value, ...]
    keywords: tuple[tuple[str, Value], ...]
    how: str
    text: str
    root: int
    shim: bool = False
    """The name is one of several candidates of an ambiguous import."""
    arg_texts: tuple[str, ...] = ()
    spread: bool = False
    """Some of its arguments stand elsewhere: `*args`, `**kwargs`."""


class Backward(Struct, frozen=True, gc=False):
    site: Site
    text: str
    loss: Tensor | None
    casts: tuple[Cast | None, ...]
    scaled: Hashable | None
    loops: tuple[Hashable, ...]
    owned: bool
    basis: Basis
    function: str


class Step(Struct, frozen=True, gc=False):
    site: Site
    scaler: Hashable | None
    """None for a raw step."""
    optimizer: Hashable
    casts: tuple[Cast | None, ...]
    loops: tuple[Hashable, ...]
    half: Any
    """Where the weights of the optimizer were made half, or None."""
    loss: Tensor | None
    """The loss of the last backward that fed the optimizer."""
    backward: Site | None
    basis: Basis
    text: str
    outer_unknown: bool
    trained: frozenset[Hashable] = frozenset()
    """Of the modules that the loss came from, those whose parameters the optimizer is known to have."""
    off: Site | None = None
    """Where the scaler was made whose step it is, and turned off for good."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A forward without gradients."""

    use: Use
    loops: tuple[Hashable, ...]
    root: int


class Scaled(Struct, frozen=True, gc=False):
    """`s.scale(loss)` with an enabled scaler."""

    site: Site
    scaler: Hashable
    loss: Tensor | None
    casts: tuple[Cast | None, ...]
    basis: Basis
    outer_unknown: bool = False


class Made(Struct, frozen=True, gc=False):
    """An object that was constructed in sight."""

    kind: str
    id: Hashable
    site: Site
    loops: tuple[Hashable, ...]
    text: str
    enabled: bool | Key = True
    root: int = 0


class LossCall(Struct, frozen=True, gc=False):
    """A call of binary cross entropy."""

    site: Site
    text: str
    casts: tuple[Cast | None, ...]
    basis: Basis


class Saved(Struct, frozen=True, gc=False):
    """A checkpoint: which objects' state it holds; `open` where it may hold more than was seen."""

    site: Site
    optimizers: frozenset[Hashable]
    scalers: frozenset[Hashable]
    open: bool
    basis: Basis
    fresh_scalers: frozenset[Hashable]
    """Those that are there by then and have scaled nothing: their state is what a new one has."""
    owned: bool = False
    """It holds the state of an optimizer that a framework drives."""


class Leak(Struct, frozen=True, gc=False):
    """A float64 tensor, made at `site`, that reached `sink`."""

    site: Site
    sink: Site
    what: str
    text: str
    root: int


class CastMade(Struct, frozen=True, gc=False):
    """An autocast object; `entered` is filled in when some path enters it."""

    site: Site
    text: str
    statement: bool


@dataclass(slots=True)
class Trace:
    hits: dict[tuple[str, Site, Site], Hit] = field(default_factory=dict)
    visits: dict[Site, int] = field(default_factory=dict)
    """How many paths reached an event."""
    names: dict[Hashable, str] = field(default_factory=dict)
    """What the user calls a scaler, an optimizer, a module."""
    calls: dict[ApiCall, None] = field(default_factory=dict)
    backwards: list[Backward] = field(default_factory=list)
    backward_sites: dict[int, set[Site]] = field(default_factory=dict)
    """Where the backwards of each root stand."""
    steps: list[Step] = field(default_factory=list)
    scaled: list[Scaled] = field(default_factory=list)
    made: dict[Hashable, Made] = field(default_factory=dict)
    made_in: dict[Hashable, set[tuple[Hashable, ...]]] = field(default_factory=dict)
    """Optimizer or scaler → the loops in which it is made, of each script that has it made."""
    sources: dict[Hashable, str] = field(default_factory=dict)
    """Module → the file of its class."""
    followed: dict[Hashable, bool] = field(default_factory=dict)
    """Modules whose forward was followed → whether every module that it calls is known."""
    lowered: set[Hashable] = field(default_factory=set)
    """Modules whose weights were made fp16, bf16 or float64: what is said of float32 does not hold for them."""
    remade: set[Hashable] = field(default_factory=set)
    """Objects whose construction was reached again on a path that had them already."""
    frozen: dict[Frozen, None] = field(default_factory=dict)
    called: dict[Site, str] = field(default_factory=dict)
    """What is called at the place of a forward, as the user wrote it."""
    layers: dict[Hashable, frozenset[str]] = field(default_factory=dict)
    """Module → the names of the layers and other classes that it is made of, where they are in sight."""
    made_of: dict[Hashable, frozenset[ClassInfo]] = field(default_factory=dict)
    """Module → its class and those of the modules that it was given, where they are the project's."""
    losses: list[LossCall] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    leaks: dict[tuple[Site, Site], Leak] = field(default_factory=dict)
    cast_dtypes: set[str] = field(default_factory=set)
    """Dtypes of all autocasts that may be on; '' where one is not known."""
    casts_made: dict[Site, CastMade] = field(default_factory=dict)
    casts_on: set[Site] = field(default_factory=set)
    """Autocast calls that are not turned off for good."""
    casts_owned: set[Site] = field(default_factory=set)
    """Autocasts that a framework gives, of its own dtype and while it is told to: `accelerator.autocast()`."""
    told_precision: bool = False
    """A framework is told a precision where it is made, and does not have its default, float32."""
    told_fp16: Site | None = None
    """Where a framework is told float16, always or by default."""
    casts_entered: set[Site] = field(default_factory=set)
    entered_under: dict[tuple[int, Site], set[tuple[Key, bool]]] = field(default_factory=dict)
    """What has been decided wherever an autocast is entered, per root."""
    entered_in: dict[Site, tuple[Hashable, ...]] = field(default_factory=dict)
    """Autocast → the loops in which it is entered; the innermost where there are several places."""
    discarded: set[Site] = field(default_factory=set)
    """Backwards whose gradients are emptied, on some path, before any step: they are read or measured."""
    casts_dropped: set[Site] = field(default_factory=set)
    """Autocast calls that are a statement of their own."""
    dropped_in_owned: set[Site] = field(default_factory=set)
    """Those in code that a framework runs, with a precision of its own around it where it is told one."""
    casts_held: set[Site] = field(default_factory=set)
    """Those that something other than a `with` statement enters."""
    contexts_dropped: dict[Site, tuple[str, frozenset[Site]]] = field(default_factory=dict)
    """Calls that are a statement of their own and give an autocast: their text, and where it is made."""
    arms: dict[Key, dict[bool, bool]] = field(default_factory=dict)
    """Decision → branch → whether the scaler's protocol runs in it."""
    unscale_arms: dict[Key, dict[bool, bool]] = field(default_factory=dict)
    unscaled: set[Hashable] = field(default_factory=set)
    """Scalers that unscale an optimizer by a call of their own."""
    updated: set[Hashable] = field(default_factory=set)
    """Scalers whose update is called."""
    clip_arms: dict[Key, dict[bool, bool]] = field(default_factory=dict)
    for_old_hardware: set[Hashable] = field(default_factory=set)
    """Scalers that are on where the hardware has no bfloat16."""
    off_for_good: dict[Hashable, Site] = field(default_factory=dict)
    """Scalers that are made with `enabled=False`, in so many words, and where."""
    on_by_default: set[Key] = field(default_factory=set)
    """Switches that some call leaves at their default, which is True."""
    relevant: set[Key] = field(default_factory=set)
    """Decisions under which any event of the protocol happens."""
    loose: set[Hashable] = field(default_factory=set)
    """Optimizers of tensors that were made by hand: an input or a latent is fitted, no network is trained."""
    entries: dict[int, str] = field(default_factory=dict)
    """Root → the file of the function that was followed from there, because no script reaches it."""
    scripts: dict[int, str] = field(default_factory=dict)
    """Root → the file that it starts in."""
    unfinished: set[int] = field(default_factory=set)
    """Roots whose budget ran out: there may be paths that were not followed."""
    cuda_roots: set[int] = field(default_factory=set)
    optimizers: dict[int, set[Hashable]] = field(default_factory=dict)
    """Optimizers met, per root."""
    several_optimizers: set[int] = field(default_factory=set)
    """Roots with a backward in code that uses more than one optimizer, whether or not they can be told apart."""
    born: dict[Hashable, set[tuple[Hashable, ...]]] = field(default_factory=dict)
    """Unknown value → the loops in which it was made, by each script that has it made."""
    owned_roots: set[int] = field(default_factory=set)
    short: set[Hashable] = field(default_factory=set)
    """Loops that are over after a few rounds, by a number in the text."""
    differentiated: set[Site] = field(default_factory=set)
    """Forwards whose output `torch.autograd.grad` takes, as gradient penalties do."""
    cuda_modules: set[Hashable] = field(default_factory=set)
    module_info: dict[Hashable, Any] = field(default_factory=dict)

    def hit(self, violation: Violation, event: Site, state: PathState, root: int) -> None:
        entry = self.hits.setdefault((violation.code, violation.site, event), Hit(violation, event=event))
        entry.bases.append(Basis.of(state, root))
        if violation.sure.value > entry.violation.sure.value:
            entry.violation = violation

    def backward(self, event: Backward) -> None:
        self.backwards.append(event)
        self.backward_sites.setdefault(event.basis.root, set()).add(event.site)

    def visit(self, event: Site) -> None:
        self.visits[event] = self.visits.get(event, 0) + 1


def is_mode(key: Key) -> bool:
    """A decision that holds for a whole run (`use_amp`), not one per iteration or per batch."""
    return (
        not mentions(key, "ucall")
        and not mentions(key, "%")
        and all(root[0] in ("param", "global", "free") for root in roots(key))
    )


def _is_switch(trace: Trace, key: Key) -> dict[bool, bool] | None:
    """Branch → whether the scaler's protocol runs in it, for a decision that turns the scaler on or off."""
    branches = dict(trace.arms.get(key, {}))
    unscaled, clipped = trace.unscale_arms.get(key, {}), trace.clip_arms.get(key, {})
    if is_mode(key) and len(unscaled) == 1 and len(clipped) == 2:
        return dict(unscaled)  # `if fp16: scaler.unscale_(optimizer)`, and the clip that follows is for both
    for taken in unscaled:
        if not clipped.get(taken, False):
            branches[taken] = True  # unscale_ without the clip it is for: the scaler is what the branch is about
    if not is_mode(key) or branches.get(True, False) == branches.get(False, False):
        return None
    return branches


def is_feasible(basis: Basis, trace: Trace) -> bool:
    """Whether nothing speaks against the path having been meant.

    Two doubts make a path unlikely: it takes the branch with the scaler of one mode switch and the branch without it
    of another (the switches are set together in practice, which the source does not show); or it rests on two
    different conditions on a loop counter (`i % k == 0` here, `(i + 1) % k == 0` there), whose relation is arithmetic.
    One condition that is asked again in a later iteration, when the counter has another value, is no other condition.
    """
    with_scaler: set[Key] = set()
    without: set[Key] = set()
    for key, taken in basis.guards:
        branches = _is_switch(trace, key)
        if branches is None:
            continue
        (with_scaler if branches.get(taken, False) else without).add(key)
    if with_scaler and without:
        return False
    counters = {(key, taken) for key, taken in basis.guards if is_counter(key) and key in trace.relevant}
    asked: dict[Key, set[bool]] = {}
    for key, taken in counters | {(d.key, d.taken) for d in basis.trail}:
        plain, truth = _unnegated(key, taken)
        asked.setdefault(plain, set()).add(truth)
    if len(frozenset().union(*map(_of_counters, asked))) < 2:
        return True  # however it is combined with others: what contradicts itself was not followed
    whole = {key: truths for key, truths in asked.items() if not any(_is_part(other, key) for other in asked)}
    questions = {_question(key, truths) for key, truths in whole.items()}
    if len(questions) < 2 or len(_without_order(questions)) < 2:
        return True
    return bool(_common_places(basis, set(whole)))


def _common_places(basis: Basis, keys: set[Key]) -> set[Hashable]:
    """Places in the source where all of `keys` are asked."""
    places: dict[Key, set[Hashable]] = {key: set() for key in keys}
    for decision in basis.trail:
        plain, _ = _unnegated(decision.key)
        if plain in places:
            places[plain].add(decision.node)
    return set.intersection(*places.values())


def _of_counters(key: Key) -> frozenset[Key]:
    """The conditions on a counter that a condition is made of."""
    if key[0] == "not" or _is_compound(key):
        return frozenset().union(*(_of_counters(part) for part in key[1:]))
    return frozenset((key,)) if is_counter(key) else frozenset()


def _unnegated(key: Key, taken: bool = True) -> tuple[Key, bool]:
    return _unnegated(key[1], not taken) if key[0] == "not" else (key, taken)


def _question(key: Key, truths: set[bool]) -> Key:
    """What a condition on a counter asks. That no whole number of k was reached is one question, however it is
    counted: where the last iteration did not step, a remainder is left to step after the loop."""
    match key:
        case ("truth", ("op", "%", _, k)) if truths == {True}:
            return ("remainder", k)
        case _:
            return key


def _without_order(questions: set[Key]) -> set[Key]:
    """Of remainders and one more question, the remainders: how far the loop has come, or that it is not at its
    beginning (`step % k == 0 and step`), leaves every remainder open."""
    rest = {key for key in questions if not _is_progress(key)}
    return rest if all(key[0] == "remainder" or key[1][:2] == ("op", "%") for key in rest) else questions


def _is_progress(key: Key) -> bool:
    return key[0] == "truth" and (key[1][:2] == ("cmp", "<") or key[1][0] in ("iter", "sub"))


def _is_part(part: Key, key: Key) -> bool:
    """Whether `key` is `part and something`, which is no other condition on a counter than `part` is. What is nested
    deeper may contradict another condition in ways that are not seen."""
    if not _is_compound(key):
        return False
    parts = [_unnegated(own)[0] for own in key[1:] if isinstance(own, tuple)]
    return part in parts and not any(_is_compound(other) for other in parts if other != part)


def _is_compound(key: Key) -> bool:
    return key[0] in ("and", "or")


def is_sure(violation: Violation, basis: Basis, trace: Trace) -> bool:
    """Whether the backward is known to feed the optimizer. What a script makes in the branches of one choice and calls
    by one name is one optimizer; and where there is one backward, it feeds every optimizer that is stepped. A zero_grad
    may have been called by another name, so that a guess is never enough to miss one; nor an unscale_ where the scaler
    has one. Optimizers that are made in the branches of one choice by other names are one where it is stepped."""
    if violation.sure is Sure.PROVEN:
        return True
    if violation.sure is Sure.GUESS and violation.code in ("MPA211", "MPA228"):
        return False
    if violation.sure is Sure.GUESS and violation.code == "MPA205" and violation.scaler in trace.unscaled:
        return False
    met = trace.optimizers.get(basis.root, set())
    names = {trace.names.get(o, repr(o)).rsplit(".", 1)[-1] for o in met}
    alone = len(names) < 2 or _take_turns(met, basis.root, trace)
    if alone and basis.root not in trace.several_optimizers:
        return True
    return violation.sure is Sure.GUESS and len(trace.backward_sites.get(basis.root, ())) == 1


def _take_turns(optimizers: set[Hashable], root: int, trace: Trace) -> bool:
    """Whether all that are stepped are stepped at the same places."""
    places: dict[Hashable, set[Site]] = {}
    for step in trace.steps:
        if step.basis.root == root and step.optimizer in optimizers:
            places.setdefault(step.optimizer, set()).add(step.site)
    return len({frozenset(sites) for sites in places.values()}) == 1
