"""Which runs, in which order: rounds of all variants for the clock, then a run for the noise floor of the losses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec

from mpaudit.measured import LEAST_ROUNDS, PERTURBED
from mpaudit.runtime.evidence import EVIDENCE_STEPS, EVIDENCE_WARMUP
from mpaudit.runtime.hardware import Device
from mpaudit.runtime.protocol import ChildPlan, Kind, Stop, Target, Variant

WARMUP, STEPS, ROUNDS = 5, 20, 5
"""Of a plan for which nothing else is asked. Five rounds: at three, Student's t has an interval twice as wide."""


class Options(msgspec.Struct, frozen=True):
    """What is the same for all runs of a plan."""

    target: Target
    device: Device
    folder: str
    """Absolute; each run has a folder in it."""
    warmup: int = WARMUP
    steps: int = STEPS
    rounds: int = ROUNDS
    seed: int = 0
    stop: Stop = "clean"
    allow_writes: bool = False
    evidence: int = 0
    """Evidence runs of each variant: two give op-time ratios."""
    emulate: tuple[Variant, ...] = ()
    """Variants of which CUDA's autocast is emulated on this CPU, in an evidence run each."""


class Planned(msgspec.Struct, frozen=True):
    """A run and its place: `round` is 1 for the first, 0 for a floor run."""

    plan: ChildPlan
    round: int


def plan(options: Options, variants: Sequence[Variant]) -> list[Planned]:
    """Rounds in ABBA order (A B, B A, A B, …: a steady drift of the machine meets all variants alike), then the floor.

    A second fp32 run is among the rounds where there are two; where there is one, it is added. `variants` are in the
    order of the first round.
    """
    runs = []
    for number in range(1, options.rounds + 1):
        order = variants if number % 2 else tuple(reversed(variants))
        runs += [Planned(_run(options, f"{variant}-{number}", "timing", variant), number) for variant in order]
    if "fp32" in variants:
        if options.rounds == 1:
            runs.append(Planned(_run(options, "fp32-again", "floor", "fp32"), 0))
        runs.append(Planned(_run(options, PERTURBED, "floor", "fp32", perturb=True), 0))
    for number in range(1, options.evidence + 1):
        runs += [Planned(_evidence(_run(options, f"{v}-evidence-{number}", "evidence", v)), 0) for v in variants]
    for variant in options.emulate:
        emulated = _evidence(_run(options, f"{variant}-emulated", "evidence", variant))
        runs.append(Planned(msgspec.structs.replace(emulated, emulate=True), 0))
    return runs


def _evidence(run: ChildPlan) -> ChildPlan:
    """With steps for each probe; how many are measured elsewhere does not matter to it."""
    return msgspec.structs.replace(run, warmup=EVIDENCE_WARMUP, steps=EVIDENCE_STEPS)


TRIAL_WARMUP, TRIAL_STEPS = 1, 1
"""The first makes the optimizer's state, the second is looked at."""


def trial(options: Options, name: str, variant: Variant, target: Target) -> ChildPlan:
    """A run with other arguments, that says what they hold in memory."""
    run = _run(options, name, "batch", variant)
    return msgspec.structs.replace(run, target=target, warmup=TRIAL_WARMUP, steps=TRIAL_STEPS)


def _run(options: Options, name: str, kind: Kind, variant: Variant, *, perturb: bool = False) -> ChildPlan:
    return ChildPlan(
        run=name,
        kind=kind,
        variant=variant,
        target=options.target,
        device=options.device,
        warmup=options.warmup,
        steps=options.steps,
        seed=options.seed,
        stop=options.stop,
        allow_writes=options.allow_writes,
        folder=os.path.join(options.folder, name),
        perturb=perturb,
    )


def shortened(options: Options, steps: int) -> Options:
    """For a script that ended by itself after so few steps that none was measured: a warm-up of a quarter of them.

    Raises ValueError where fewer than two steps were made: nothing lies between two steps.
    """
    if steps < 2:
        raise ValueError("one step has no length")
    warmup = max(1, steps // 4)
    return msgspec.structs.replace(options, warmup=warmup, steps=steps - warmup)


def without(runs: Sequence[Planned], variant: str) -> list[Planned]:
    """Nothing more of a variant that went wrong."""
    return [run for run in runs if run.plan.variant != variant]


def cut(runs: Sequence[Planned], seconds: Callable[[Planned], float], budget_s: float) -> list[Planned]:
    """As much of the rest of a plan as fits into `budget_s`: first whole rounds go, down to the three of an interval,
    then the evidence runs, then the floor, as repeated runs of fp32 are one too. Where three rounds do not fit, two
    with the floor, else one, with the floor or without; what is left of a first round is kept as far as it fits."""
    timing = [run for run in runs if run.round]
    rest = [run for run in runs if not run.round]
    floor = [run for run in rest if run.plan.kind != "evidence"]
    last = max((run.round for run in timing), default=0)
    whole = [(rounds, rest) for rounds in range(last, LEAST_ROUNDS, -1)]
    alone: list[Planned] = [] if last >= LEAST_ROUNDS else floor
    three = [(LEAST_ROUNDS, more) for more in (rest, floor, alone)]
    for rounds, more in (*whole, *three, (2, rest), (2, floor), (1, floor), (1, [])):
        kept = [run for run in timing if run.round <= rounds] + more
        if sum(map(seconds, kept)) <= budget_s:
            return kept
    fitting: list[Planned] = []
    for run in (run for run in timing if run.round == 1):
        if sum(map(seconds, [*fitting, run])) > budget_s:
            break
        fitting.append(run)
    return fitting
