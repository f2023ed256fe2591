"""Runs that were never made: records as `launch.run` gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpaudit.runtime.launch import RunRecord
from mpaudit.runtime.protocol import ChildPlan, ChildResult, Control, Memory

MB = 1 << 20


def record(plan: ChildPlan, step_ms: Sequence[float] = (10.0, 10.0, 11.0), **changes: Any) -> RunRecord:
    """A run that reached its bound, unless `changes` says otherwise: fields of the record, the rest of its result."""
    outer = {
        name: changes.pop(name) for name in ("outcome", "sentence", "stdout", "stderr", "wall_s") if name in changes
    }
    steps = plan.warmup + len(step_ms)
    result = {
        "run": plan.run,
        "ending": "bounded",
        "steps": steps,
        "counted": "optimizer",
        "step_ms": tuple(step_ms),
        "outside_ms": tuple(0.1 * step for step in step_ms),
        "losses": tuple(1.0 / (step + 1) for step in range(steps)),
        "memory": Memory(resident=100 * MB),
        "control": Control("as-is", moved=int(plan.perturb)),
    } | changes
    return RunRecord(
        plan,
        **{"outcome": "bounded", "sentence": f"made its {steps} steps", "stdout": "", "stderr": "", "wall_s": 4.0}
        | outer,
        result=ChildResult(**result),
    )


def dead(
    plan: ChildPlan, outcome: str = "exit", sentence: str = "ended with exit code 2 after 0 of 25 steps"
) -> RunRecord:
    """A run whose process left nothing."""
    return RunRecord(plan, outcome, sentence, None, "", "usage: train.py\n", 1.0)


class Clock:
    """Time that passes only when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def machine(
    clock: Clock, answer: Callable[[ChildPlan], RunRecord] = record
) -> tuple[list[str], Callable[..., RunRecord]]:
    """A `launch.run` that takes the time it says, and the names of the runs it was asked for."""
    asked: list[str] = []

    def run(plan: ChildPlan, *, time_limit_s: float, on_progress: Callable[[int], None]) -> RunRecord:
        asked.append(plan.run)
        made = answer(plan)
        on_progress(1)
        clock.now += min(made.wall_s, time_limit_s)
        return made

    return asked, run
