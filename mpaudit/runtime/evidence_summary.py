"""The evidence runs of a session → what the Audit says of ops, memory and loss scaling."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import StatisticsError

import msgspec

from mpaudit import measured
from mpaudit.audit import relative
from mpaudit.runtime import log_directory, loss_scaling, optables
from mpaudit.runtime.evidence import EVIDENCE_FILE, MemoryByCategory, OpEvidence, Overflow, RunEvidence
from mpaudit.runtime.loss_scaling import GradientEvidence, Gradients, in_half
from mpaudit.runtime.optables import By
from mpaudit.runtime.session import Session

TABLES: tuple[By, ...] = ("line", "op", "module", "shape")


def evidence(session: Session, variants: Sequence[measured.Variant], cwd: Path) -> measured.Evidence | None:
    """None where no evidence run left anything. `variants` are the results of the timing runs."""
    found = [one for done in session.done if (one := read(done.planned.plan.folder)) is not None]
    if not found:
        return None
    ops: dict[str, list[OpEvidence]] = {}
    for run in found:
        if run.ops is not None and run.ops.steps and not run.emulated:
            ops.setdefault(run.variant, []).append(run.ops)
    traces = os.path.join(session.options.folder, log_directory.FOLDER)
    clean = {variant.variant: variant.step_ms for variant in variants}
    baseline = next(iter(ops), None)
    return measured.Evidence(
        totals=tuple(_totals(name, runs, clean.get(name)) for name, runs in ops.items()),
        tables=tuple(
            measured.OpTable(by, baseline, name, _rows(by, ops[baseline], runs, cwd))
            for name, runs in ops.items()
            if baseline is not None and name != baseline
            for by in TABLES
        ),
        without_tensor_cores=tuple(one for name, runs in ops.items() for one in _without(name, runs[0], cwd)),
        memory=tuple(_memory(found)),
        loss_scaling=tuple(_scaling(found, cwd)),
        traces=relative(traces, cwd) if os.path.isdir(traces) else None,
    )


def read(folder: str) -> RunEvidence | None:
    """What the run in `folder` left; None where it left nothing that can be read."""
    try:
        with open(os.path.join(folder, EVIDENCE_FILE), "rb") as file:
            return msgspec.json.decode(file.read(), type=RunEvidence)
    except (OSError, msgspec.DecodeError):
        return None


def _totals(variant: str, runs: Sequence[OpEvidence], step_ms: float | None) -> measured.OpTotals:
    try:
        return optables.totals(variant, runs, step_ms)
    except StatisticsError:
        return measured.OpTotals(variant, len(runs), 0, 0.0, 1.0, step_ms)


def _rows(
    by: By, baseline: Sequence[OpEvidence], variant: Sequence[OpEvidence], cwd: Path
) -> tuple[measured.ComparedOps, ...]:
    return tuple(
        msgspec.structs.replace(row, path=relative(row.path, cwd) if row.path else "")
        for row in optables.compare(by, baseline, variant)
    )


def _without(variant: str, run: OpEvidence, cwd: Path) -> Iterable[measured.WithoutTensorCores]:
    for row, why in optables.without_tensor_cores(run):
        yield measured.WithoutTensorCores(
            variant,
            row.op,
            relative(row.path, cwd) if row.path else "",
            row.line,
            row.shapes,
            row.total_us / run.steps / 1000,
            why.reason,
            why.text,
        )


def _memory(found: Iterable[RunEvidence]) -> Iterable[measured.HeldMemory]:
    """Of the first run of each variant: sizes do not vary."""
    first = {run.variant: run.memory for run in reversed(list(found)) if run.memory is not None}
    baseline: MemoryByCategory | None = None
    for variant, held in reversed(first.items()):
        yield measured.HeldMemory(
            variant,
            held.parameters,
            held.gradients,
            held.optimizer_state,
            held.activations,
            held.casts,
            batch_ratio(baseline, held) if baseline is not None else None,
        )
        baseline = baseline or held


def batch_ratio(baseline: MemoryByCategory, held: MemoryByCategory) -> float | None:
    """How many times its batch a variant could train with in what the baseline holds. Casts of weights are counted as
    if they grew with the batch: the estimate is low rather than high. None where nothing grows."""
    grows = held.activations + held.casts
    fixed = held.parameters + held.gradients + held.optimizer_state
    return (baseline.total - fixed) / grows if grows and baseline.total > fixed else None


def _scaling(found: Sequence[RunEvidence], cwd: Path) -> Iterable[measured.LossScaling]:
    """One for each precision, each judged on the gradients that autocast computes in 16 bits, where a run shows those:
    float16 before bfloat16, and of two equals the emulation, whose policy is CUDA's. Steps that any float16 run left
    out, though its loss was finite, bound the scales of all."""
    groups: dict[tuple[str, bool], list[tuple[RunEvidence, GradientEvidence]]] = {}
    for run in found:
        if run.gradients is not None and run.gradients.gradients:
            groups.setdefault((run.variant, run.emulated), []).append((run, run.gradients))
    autocast = max((key for key in groups if key[0].startswith("amp-")), default=None)
    half = in_half(_gradients(groups[autocast])) if autocast else None
    skipped = [step.scale for run in found for step in run.scaler if step.skipped and step.loss_finite]
    for (variant, emulated), runs in groups.items():
        verdict = loss_scaling.judge(_gradients(runs), half, skipped)
        masters = loss_scaling.judge_updates([update for _, seen in runs for update in seen.updates])
        overflow = next((run.overflow for run, _ in runs if run.overflow is not None), None)
        yield measured.LossScaling(
            variant=variant,
            emulated=emulated,
            needed=verdict.needed,
            sentence=loss_scaling.sentence(verdict),
            smallest=verdict.smallest,
            largest=verdict.largest,
            modules=tuple(map(_module_range, verdict.modules)),
            sizes=tuple(
                measured.GradientSizes(one.kind, one.late, one.zeros, one.nonfinite, one.binades)
                for one in loss_scaling.by_size(_gradients(runs))
            ),
            update_ratio=masters.ratio,
            masters_fp16=masters.needed_fp16,
            masters_bf16=masters.needed_bf16,
            lost_updates_fp16=masters.lost_fp16,
            lost_updates_bf16=masters.lost_bf16,
            scaler=tuple(
                measured.Scaled(step.step, step.scale, step.skipped, step.loss_finite) for step in runs[0][0].scaler
            ),
            overflow=None if overflow is None else _overflow(overflow, cwd),
        )


def _overflow(seen: Overflow, cwd: Path) -> measured.FirstOverflow:
    path = relative(seen.path, cwd) if seen.path else ""
    return measured.FirstOverflow(seen.step, seen.op, seen.backward, path, seen.line, seen.parameter)


def _gradients(runs: Iterable[tuple[RunEvidence, GradientEvidence]]) -> list[Gradients]:
    return [one for _, seen in runs for one in seen.gradients]


def _module_range(one: loss_scaling.ModuleRange) -> measured.ModuleRange:
    shares = one.at_one
    return measured.ModuleRange(
        one.module, one.kind, one.values, shares.zero, shares.subnormal, shares.infinite, one.smallest, one.largest
    )
