"""Carries a plan out: run after run, with an estimate after the first, within a budget, until done or interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Union

import msgspec

from mpaudit.runtime import launch
from mpaudit.runtime.plan import Options, Planned, cut, plan, shortened, without
from mpaudit.runtime.protocol import Variant

LEAST = 3
"""Measured steps that make a run count."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins: the `number`-th of `total`. `left_s` is the time until the plan's end, None before the first."""

    planned: Planned
    number: int
    total: int
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Stepped:
    """The script has made `steps` steps of `total`, warm-up included."""

    steps: int
    total: int


@dataclass(frozen=True, slots=True)
class Ended:
    done: Done
    left_s: float


@dataclass(frozen=True, slots=True)
class Changed:
    """The plan is no longer what it was; says how and why."""

    note: str


@dataclass(frozen=True, slots=True)
class Estimated:
    """After the first run: how long the whole plan takes, that run included, in how many runs."""

    total_s: float
    runs: int


Event = Union["Started", "Stepped", "Ended", "Changed", "Estimated"]
Watch = Callable[[Event], None]
Launch = Callable[..., launch.RunRecord]


class Done(msgspec.Struct, frozen=True):
    """A run that was made."""

    planned: Planned
    record: launch.RunRecord

    @property
    def usable(self) -> bool:
        """Its times count: the script went on to the bound or its own end, and steps were measured."""
        result = self.record.result
        return (
            result is not None
            and self.record.outcome in ("bounded", "completed", "time-limit")
            and len(result.step_ms) >= LEAST
        )


@dataclass(slots=True)
class Session:
    """What has been done so far; complete when `carry_out` returns."""

    options: Options
    planned_runs: int
    done: list[Done] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    over_budget: int = 0
    """Runs that the budget left out."""
    interrupted: bool = False


def carry_out(
    options: Options,
    variants: Sequence[Variant],
    *,
    time_limit_s: float,
    budget_s: float | None = None,
    watch: Watch = lambda event: None,
    run: Launch = launch.run,
    clock: Callable[[], float] = time.monotonic,
) -> Session:
    """Runs the plan of `options` over `variants`.

    A variant whose run cannot be used is not run again. With a budget, what does not fit any more is left out
    (`plan.cut`) and no run goes on beyond it. An interrupt ends the run in progress and keeps what was measured.
    """
    queue = plan(options, variants)
    session = Session(options, len(queue))
    begin = clock()

    def change(note: str, instead_of: str = "") -> None:
        session.notes[:] = [*(other for other in session.notes if other != instead_of), note]
        watch(Changed(note))

    def leave_out(number: int) -> None:
        before = _over_budget(session, budget_s)
        session.over_budget += number
        change(_over_budget(session, budget_s), instead_of=before)

    try:
        while queue:
            planned = informed(queue.pop(0), session)
            rest_s = float("inf") if budget_s is None else budget_s - (clock() - begin)
            if session.done and rest_s <= 0:
                leave_out(1 + len(queue))
                break
            total = len(session.done) + 1 + len(queue)
            left = sum(map(_expected(session), [planned, *queue])) if session.done else None
            watch(Started(planned, len(session.done) + 1, total, left))
            steps = planned.plan.warmup + planned.plan.steps
            record = run(
                planned.plan,
                time_limit_s=min(time_limit_s, rest_s),
                on_progress=lambda made, steps=steps: watch(Stepped(made, steps)),
            )
            done = Done(planned, record)
            session.done.append(done)
            if not done.usable:
                shorter = _shorter(session) if len(session.done) == 1 else None
                if shorter is not None:
                    session.options = shorter
                    queue = plan(shorter, variants)
                    change(
                        f"the script ended by itself after {record.result.steps if record.result else 0} steps: "
                        f"runs were planned anew with {shorter.warmup} warm-up and {shorter.steps} measured steps"
                    )
                    session.done.clear()
                    session.planned_runs = len(queue)
                    continue
                if len(session.done) == 1 and _fails_by_itself(done):
                    watch(Ended(done, 0.0))
                    change("nothing else was run: the script ended by itself before its first step")
                    break
            rest = queue if done.usable else without(queue, planned.plan.variant)
            kept = rest if budget_s is None else cut(rest, _expected(session), budget_s - (clock() - begin))
            left_s = sum(map(_expected(session), kept))
            watch(Ended(done, left_s))
            if len(rest) < len(queue):
                note = f"{planned.plan.variant} was not run again: {planned.plan.run} could not be used"
                if any(other.usable for other in session.done if other.planned.plan.variant == planned.plan.variant):
                    change(note)
                else:  # the report says of the variant that it was not measured
                    watch(Changed(note))
            if len(kept) < len(rest):
                leave_out(len(rest) - len(kept))
            queue = kept
            if len(session.done) == 1 and queue:
                watch(Estimated(clock() - begin + left_s, 1 + len(queue)))
    except KeyboardInterrupt:
        session.interrupted = True
    return session


def informed(planned: Planned, session: Session) -> Planned:
    """With what earlier runs have shown of the script: its own precision, and what its steps are."""
    results = [done.record.result for done in session.done if done.record.result is not None]
    own = any(result.control.own_amp for result in results) if results else None
    counted = next((found for result in results if (found := result.counted) != "none"), None)
    return msgspec.structs.replace(planned, plan=msgspec.structs.replace(planned.plan, own_amp=own, counted=counted))


def _shorter(session: Session) -> Options | None:
    record = session.done[0].record
    if record.outcome != "completed" or record.result is None or record.result.steps <= LEAST:
        return None
    return shortened(session.options, record.result.steps)


def _fails_by_itself(done: Done) -> bool:
    """Before its first step, with nothing in it that the precision of the run has changed. Where memory ran out,
    autocast may need less."""
    result = done.record.result
    return (
        done.record.outcome in ("exception", "exit", "no-steps")
        and result is not None
        and not result.steps
        and result.control.mode == "as-is"
    )


def _expected(session: Session) -> Callable[[Planned], float]:
    """How long a run will take: as the last one of its variant, else as all did on average."""
    last = {done.planned.plan.variant: _again_s(done) for done in session.done}
    average = fmean(last.values()) if last else 0.0
    return lambda planned: last.get(planned.plan.variant, average)


def _again_s(done: Done) -> float:
    """How long the run would take now: without the backward passes by which it found that they are its steps."""
    result, plan, wall_s = done.record.result, done.planned.plan, done.record.wall_s
    if result is None or result.counted != "backward" or plan.counted is not None or not result.step_ms:
        return wall_s
    more = max(result.steps - max(plan.warmup, 1) - plan.steps, 0)
    return max(wall_s - more * median(result.step_ms) / 1000, 0.0)


def _over_budget(session: Session, budget_s: float | None) -> str:
    return f"the budget of {budget_s:g} s leaves no time for {_runs(session.over_budget)} of the plan"


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
