"""The largest batch that fits under autocast, tried: larger and larger ones in short runs, then between the last two.

On a GPU what fits is what does not run out of its memory. On a CPU, whose memory is not what limits a batch, it is what
holds no more than fp32 does with the batch that the script has: the tensors of the largest backward pass are counted,
so that a figure is the same each time. The runs are watched, so that none of them is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mpaudit.measured import BatchFate, BatchSearch, BatchTrial
from mpaudit.runtime import launch
from mpaudit.runtime.batch_argument import BatchArgument, find
from mpaudit.runtime.evidence_summary import read
from mpaudit.runtime.plan import Planned, trial
from mpaudit.runtime.protocol import Variant
from mpaudit.runtime.session import Changed, Done, Ended, Launch, Session, Started, Stepped, Watch, informed

DOUBLINGS = 10
"""At most: a thousand times the batch. A script whose memory does not grow is stopped at far less."""

GRAIN = 8
"""The answer is known to an eighth of itself."""

GROWS = 1.02
"""Less growth than this at twice the batch is none: the data holds no larger one, or the argument is another."""


def sizes(size: int, fits: Callable[[int], bool]) -> Iterator[int]:
    """The batch sizes to try, one after the other, beyond one that fits; `fits` is asked of each that was given."""
    low, high = size, 0
    for _ in range(DOUBLINGS):
        yield 2 * low
        if not fits(2 * low):
            high = 2 * low
            break
        low *= 2
    while high - low > max(low // GRAIN, 1):
        middle = (low + high) // 2
        yield middle
        low, high = (middle, high) if fits(middle) else (low, middle)


@dataclass(slots=True)
class _Trials:
    session: Session
    argument: BatchArgument
    time_limit_s: float
    budget_s: float | None
    """Until when, by the clock."""
    watch: Watch
    run: Launch
    clock: Callable[[], float]
    limit: int | None = None
    made: list[BatchTrial] = field(default_factory=list)
    longest_s: float = 0.0

    @property
    def left_s(self) -> float:
        return float("inf") if self.budget_s is None else self.budget_s - self.clock()

    def make(self, variant: Variant, batch: int) -> BatchTrial:
        options = self.session.options
        target = msgspec.structs.replace(
            options.target, arguments=self.argument.arguments(options.target.arguments, batch)
        )
        name = f"{variant}-batch-{batch}"
        planned = informed(Planned(trial(options, name, variant, target), 0), self.session)
        steps = planned.plan.warmup + planned.plan.steps
        number = len(self.session.done) + len(self.made) + 1
        self.watch(Started(planned, number, number, None))
        record = self.run(
            planned.plan,
            time_limit_s=min(self.time_limit_s, self.left_s),
            on_progress=lambda made: self.watch(Stepped(made, steps)),
        )
        self.watch(Ended(Done(planned, record), 0.0))
        self.longest_s = max(self.longest_s, record.wall_s)
        result = self._judge(variant, batch, record)
        self.made.append(result)
        return result

    def _judge(self, variant: str, batch: int, record: launch.RunRecord) -> BatchTrial:
        size = _bytes(record)
        if record.outcome == "out-of-memory" or (record.outcome == "killed" and "SIGKILL" in record.sentence):
            fate: BatchFate = "too large"
        elif record.outcome not in ("bounded", "completed") or (size is None and self.session.options.device == "cpu"):
            fate = "failed"
        elif self.limit is not None and size is not None and size > self.limit:
            fate = "too large"
        else:
            before = [t.bytes for t in self.made if t.variant == variant and t.bytes and t.batch <= batch // 2]
            fate = "no larger" if size is not None and before and size < GROWS * max(before) else "fits"
        return BatchTrial(variant, batch, fate, size, record.sentence)


def search(
    session: Session,
    *,
    cwd: Path,
    time_limit_s: float,
    left_s: float | None = None,
    watch: Watch = lambda event: None,
    run: Launch = launch.run,
    clock: Callable[[], float] = time.monotonic,
) -> BatchSearch:
    """To be called after the session's plan. `left_s` is what remains of its budget: no trial goes on beyond it, and
    none begins that by the longest one so far would. An interrupt keeps what was tried."""
    variant = next((name for name in _measured(session) if name.startswith("amp-")), None)
    if variant is None:
        return _none("no run under autocast could be used")
    argument = find(session.options.target, cwd)
    if isinstance(argument, str):
        watch(Changed(f"--find-batch-size: {argument}"))
        return _none(argument)
    until = None if left_s is None else clock() + left_s
    trials = _Trials(session, argument, time_limit_s, until, watch, run, clock)
    try:
        why = _carry_out(trials, variant)
    except KeyboardInterrupt:
        session.interrupted = True
        why = "the search was interrupted"
    fitted = [one.batch for one in trials.made if one.variant == variant and one.fate == "fits"]
    return BatchSearch(
        argument=argument.flag,
        batch=argument.value,
        given=argument.given is not None,
        variant=variant,
        limit_bytes=trials.limit,
        largest=max(fitted, default=None),
        trials=tuple(trials.made),
        why=why,
    )


def _none(why: str) -> BatchSearch:
    return BatchSearch(None, None, False, "", None, None, (), why)


def _carry_out(trials: _Trials, variant: Variant) -> str:
    """Why the search ended; empty where it found the border."""
    own = trials.argument.value
    if trials.left_s <= 0:
        return "the budget left no time to try a batch"
    if trials.session.options.device == "cpu":
        baseline = trials.make("fp32", own)
        if baseline.bytes is None or baseline.fate == "failed":
            return _failed(trials, baseline)
        trials.limit = baseline.bytes
    first = trials.make(variant, own)
    if first.fate == "failed":
        return _failed(trials, first)
    if first.fate == "too large":
        return f"with its own batch of {own} it holds more than fp32 does" if trials.limit else ""
    for batch in sizes(own, lambda size: trials.made[-1].fate == "fits"):
        if trials.left_s < trials.longest_s:
            return f"the budget left no time to try {batch}"
        tried = trials.make(variant, batch)
        if tried.fate == "no larger":
            return (
                f"{batch} holds no more memory than {batch // 2}: the data gives no larger batch, or "
                f"{trials.argument.flag} sets something else"
            )
        if tried.fate == "failed":
            return _failed(trials, tried)
    return "" if any(one.fate == "too large" for one in trials.made) else f"no more than {batch} was tried"


def _failed(trials: _Trials, one: BatchTrial) -> str:
    if trials.left_s <= 0:
        return f"the budget ended in the run with {trials.argument.flag} {one.batch} under {one.variant}"
    argument = trials.argument
    return f"the run with {argument.flag} {one.batch} under {one.variant} gave no figure: {one.sentence}"


def _measured(session: Session) -> list[Variant]:
    return list(dict.fromkeys(done.planned.plan.variant for done in session.done if done.usable))


def _bytes(record: launch.RunRecord) -> int | None:
    if record.result is not None and record.result.memory.allocated is not None:
        return record.result.memory.allocated
    found = read(record.plan.folder)
    return found.memory.total if found is not None and found.memory is not None and found.memory.total else None
