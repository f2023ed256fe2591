"""The ops of two variants side by side: by op, line, module or shape, with what a precision gains on each.

A ratio here is one of op times under a profiler, not of steps: it is called op-time ratio, and is left out where its
spread holds 1, or where fewer than ten steps in two runs were profiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median, quantiles
from typing import Literal

from mpaudit.measured import ComparedOps, OpTotals
from mpaudit.runtime.evidence import OpEvidence, OpRow
from mpaudit.runtime.kernels import Unused, judge_all, multiplies_matrices, why_unused

By = Literal["op", "line", "module", "shape"]

NEGLIGIBLE = 0.01
"""Of all op time of the variant: less than this in float32 decides no order."""

ENOUGH_STEPS = 10
ENOUGH_RUNS = 2

Key = tuple[str | int, ...]


_KEYS: dict[By, Callable[[OpRow], Key]] = {
    "op": lambda row: (row.op,),
    "line": lambda row: (row.path, row.line),
    "module": lambda row: (row.module,),
    "shape": lambda row: (row.op, str(row.shapes)),
}


def compare(by: By, baseline: Sequence[OpEvidence], variant: Sequence[OpEvidence]) -> tuple[ComparedOps, ...]:
    """One row for each key that either has, that with most time still in float32 under the variant first, where that is
    not negligible; then by the variant's time.

    Each argument holds the evidence of the runs of one variant; paths stay absolute. What could not be attributed to a
    line is a row of its own (an empty path) and is never left out. Casts appear in the variant alone and count there.
    """
    key = _KEYS[by]
    ours = [_by_key(run, key) for run in baseline]
    theirs = [_by_key(run, key) for run in variant]
    keys = dict.fromkeys(name for run in (*theirs, *ours) for name in run)
    rows = [
        _compare([run.get(name, []) for run in ours], [run.get(name, []) for run in theirs], baseline, variant)
        for name in keys
    ]
    least = NEGLIGIBLE * sum(row.variant_ms for row in rows)

    def order(row: ComparedOps) -> tuple[object, ...]:
        notable = row.float32_ms if row.float32_ms >= least else 0.0
        return -notable, -row.variant_ms, -row.baseline_ms, row.path, row.line

    return tuple(sorted(rows, key=order))


def totals(variant: str, runs: Sequence[OpEvidence], step_ms: float | None) -> OpTotals:
    """Of the runs of one variant. `step_ms` is a step of its timing runs, None where there are none.

    Raises `statistics.StatisticsError` where no step was profiled.
    """
    steps = [us for run in runs for us in _steps(run.rows, run.steps)]
    everything = sum(row.total_us for run in runs for row in run.rows) + sum(run.unlinked_us for run in runs)
    known = sum(row.total_us for run in runs for row in run.rows if row.path)
    return OpTotals(
        variant=variant,
        runs=len(runs),
        steps=len(steps),
        ops_ms=median(steps) / 1000,
        attributed=known / everything if everything else 1.0,
        step_ms=step_ms,
    )


def without_tensor_cores(run: OpEvidence) -> tuple[tuple[OpRow, Unused], ...]:
    """Ops that could have used tensor cores on this GPU and did not, with the reason, the longest first."""
    if run.capability is None:
        return ()
    found: list[tuple[OpRow, Unused]] = []
    for row in run.rows:
        if row.tensor_cores != "no":
            continue
        tf32 = run.tf32_convolution if "conv" in row.op else run.tf32_matmul
        channels_last = {"NHWC": True, "NCHW": False}.get(row.layout)
        why = why_unused(row.op, row.dtype_used, row.shapes, run.capability, tf32=tf32, channels_last=channels_last)
        if why is not None:
            found.append((row, why))
    return tuple(sorted(found, key=lambda one: -one[0].total_us))


def _by_key(run: OpEvidence, key: Callable[[OpRow], Key]) -> dict[Key, list[OpRow]]:
    groups: dict[Key, list[OpRow]] = {}
    for row in run.rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _compare(
    ours: list[list[OpRow]], theirs: list[list[OpRow]], baseline: Sequence[OpEvidence], variant: Sequence[OpEvidence]
) -> ComparedOps:
    rows = [row for run in theirs for row in run]
    shown = max(rows or [row for run in ours for row in run], key=lambda row: row.total_us)
    before = [us for run, seen in zip(ours, baseline, strict=True) for us in _steps(run, seen.steps)]
    after = [us for run, seen in zip(theirs, variant, strict=True) for us in _steps(run, seen.steps)]
    enough = min(len(before), len(after)) >= ENOUGH_STEPS and min(len(baseline), len(variant)) >= ENOUGH_RUNS
    steps = sum(run.steps for run in variant) or 1
    matrices = [row.tensor_cores for row in rows if row.tensor_cores is not None and multiplies_matrices(row.op)]
    ratio, spread = _ratio(before, after) if enough else (None, None)
    return ComparedOps(
        op=shown.op,
        path=shown.path,
        line=shown.line,
        module=shown.module,
        shapes=shown.shapes,
        dtypes=_dtypes(rows),
        calls=sum(row.calls for row in rows) / steps,
        baseline_ms=median(before or [0.0]) / 1000,
        variant_ms=median(after or [0.0]) / 1000,
        ratio=ratio,
        spread=spread,
        float32_ms=sum(row.total_us for row in rows if _still_float32(row)) / steps / 1000,
        cast_ms=sum(row.total_us for row in rows if row.is_cast) / steps / 1000,
        tensor_cores=judge_all(matrices) if matrices else None,
    )


def _steps(rows: Iterable[OpRow], steps: int) -> list[float]:
    """Microseconds of each step."""
    sums = [0.0] * steps
    for row in rows:
        for step, us in enumerate(row.us):
            sums[step] += us
    return sums


def _ratio(before: Sequence[float], after: Sequence[float]) -> tuple[float, tuple[float, float]] | tuple[None, None]:
    """Of the medians, with its spread: the quartiles of the steps of one against the opposite ones of the other."""
    slow, fast = quantiles(before, n=4), quantiles(after, n=4)
    if min(slow[0], fast[0]) <= 0:
        return None, None
    low, high = slow[0] / fast[2], slow[2] / fast[0]
    return (None, None) if low <= 1 <= high else (slow[1] / fast[1], (low, high))


def _dtypes(rows: Iterable[OpRow]) -> tuple[str, ...]:
    time: dict[str, float] = {}
    for row in rows:
        if not row.is_cast and "float" in row.dtype_used:
            time[row.dtype_used] = time.get(row.dtype_used, 0.0) + row.total_us
    return tuple(sorted(time, key=lambda dtype: (-time[dtype], dtype)))


def _still_float32(row: OpRow) -> bool:
    return row.dtype_used == "float32" and row.phase in ("forward", "backward") and not row.is_cast
