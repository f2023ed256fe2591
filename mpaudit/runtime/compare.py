"""What was done → the Audit: every run, what each precision comes to, and each beside its baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean, median

from mpaudit.audit import NOTHING_READ, SCHEMA_VERSION, Audit, Tool, relative, without
from mpaudit.measured import (
    BatchSearch,
    Comparison,
    Failure,
    LeftOut,
    LossVerdict,
    Memory,
    Place,
    Profile,
    Run,
    Variant,
    Verdict,
)
from mpaudit.runtime import protocol
from mpaudit.runtime.evidence_summary import evidence
from mpaudit.runtime.hardware import Hardware
from mpaudit.runtime.protocol import VARIANTS, ChildResult
from mpaudit.runtime.session import Done, Session
from mpaudit.runtime.statistics import Ratio, geometric_ratio, loss_distance, speedup, timing_floor

ROUNDING = {"tf32": 2.0**-11, "amp-fp16": 2.0**-11, "amp-bf16": 2.0**-8}
"""The largest relative error of one rounding: half a unit in the last of 11, 11 and 8 significant bits (IEEE 754)."""

OUTPUT_LINES = 40
"""Kept of what a run printed that went wrong."""


def document(
    session: Session,
    hardware: Hardware,
    left_out: Sequence[LeftOut],
    *,
    budget_s: float | None,
    cwd: Path,
    batch: BatchSearch | None = None,
) -> Audit:
    """The Audit of a session. Paths are relative to `cwd` where they lie in it."""
    runs = tuple(_run(done, cwd) for done in session.done)
    usable = [run for done, run in zip(session.done, runs, strict=True) if done.usable]
    options = session.options
    profile = Profile(
        command=_command(options.target),
        device=hardware.device,
        device_name=hardware.name,
        warmup=options.warmup,
        steps=options.steps,
        rounds=options.rounds,
        seed=options.seed,
        stop=options.stop,
        allow_writes=options.allow_writes,
        budget_s=budget_s,
        planned_runs=session.planned_runs,
        interrupted=session.interrupted,
        left_out=tuple(left_out),
        notes=(*hardware.notes(done.planned.plan.variant for done in session.done), *session.notes),
        ceilings=hardware.ceilings,
        variants=summaries(usable),
        batch_search=batch,
    )
    return Audit(
        schema_version=SCHEMA_VERSION,
        tool=Tool(),
        settings={},
        findings=(),
        errors=(),
        summary=NOTHING_READ,
        environment=_environment(session.done, hardware),
        profile=profile,
        runs=runs,
        comparisons=comparisons(usable),
        evidence=evidence(session, profile.variants, cwd),
    )


def summaries(runs: Iterable[Run]) -> tuple[Variant, ...]:
    """What the timing runs of each variant come to, in the order of VARIANTS. Each run has measured steps."""
    return tuple(_summary(variant, chosen) for variant in VARIANTS if (chosen := _timing(runs, variant)))


def _summary(variant: str, runs: Sequence[Run]) -> Variant:
    medians = [median(run.step_ms) for run in runs]
    step_ms = geometric_mean(medians)
    shares = [
        outside / step
        for run in runs
        for outside, step in zip(run.outside_ms, run.step_ms, strict=False)
        if outside is not None and step > 0
    ]
    peaks = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    return Variant(
        variant=variant,
        runs=len(runs),
        step_ms=step_ms,
        steps_per_s=1000 / step_ms,
        outside_share=median(shares) if shares else None,
        timing_floor=timing_floor(medians),
        peak_memory_bytes=round(median(peaks)) if peaks else None,
    )


def comparisons(runs: Sequence[Run]) -> tuple[Comparison, ...]:
    """Every variant against fp32, or against the first that was measured where fp32 was not; AMP against TF32 too.
    Nothing is said of one in whose precision nothing was computed."""
    measured = [variant for variant in VARIANTS if _timing(runs, variant)]
    pairs = [(baseline, variant) for baseline in measured[:1] for variant in measured[1:]]
    if "tf32" in measured[1:]:
        pairs += [("tf32", variant) for variant in measured if variant.startswith("amp-")]
    named_only = {run.variant for run in runs if run.kind == "timing" and run.nothing}
    return tuple(_comparison(runs, baseline, variant) for baseline, variant in pairs if variant not in named_only)


def _comparison(runs: Sequence[Run], baseline: str, variant: str) -> Comparison:
    slow = {run.round: run for run in _timing(runs, baseline)}
    fast = {run.round: run for run in _timing(runs, variant)}
    rounds = sorted(slow.keys() & fast.keys())
    before = [median(slow[number].step_ms) for number in rounds]
    after = [median(fast[number].step_ms) for number in rounds]
    ratio = speedup(before, after)
    deviation = _worst(loss_distance(fast[number].losses, slow[number].losses) for number in rounds)
    floor = _noise_floor(runs, baseline)
    broke = any(_broke(fast[number], slow[number]) for number in rounds)
    return Comparison(
        baseline=baseline,
        variant=variant,
        rounds=len(rounds),
        speedup=ratio.value if ratio else geometric_ratio(before, after) if rounds else None,
        interval=(ratio.low, ratio.high) if ratio else None,
        verdict=verdict(ratio),
        memory_ratio=_memory_ratio(slow.values(), fast.values()),
        loss_deviation=deviation,
        noise_floor=floor,
        loss_verdict="not finite" if broke else loss_verdict(deviation, floor, variant),
    )


def verdict(ratio: Ratio | None) -> Verdict:
    """What the interval of a speedup says."""
    if ratio is None:
        return "too few runs"
    if ratio.holds_one:
        return "no measurable difference"
    return "faster" if ratio.value > 1 else "slower"


def loss_verdict(deviation: float | None, floor: float | None, variant: str) -> LossVerdict:
    """What a deviation of losses says beside the noise floor and the rounding of the variant's precision. Without a
    floor nothing: a training may be so chaotic that any rounding moves it as far."""
    if deviation is None or floor is None:
        return "unknown"
    if deviation <= floor:
        return "within the noise floor"
    return "within rounding" if deviation <= ROUNDING.get(variant, 0.0) else "beyond rounding"


def _noise_floor(runs: Sequence[Run], baseline: str) -> float | None:
    """The largest distance of a repeated or perturbed run from the first. The perturbed run is always fp32.

    One in which no parameter was moved is a repetition.
    """
    floors = []
    for variant in dict.fromkeys((baseline, "fp32")):
        same = sorted(
            (run for run in runs if run.variant == variant and run.kind != "evidence"),
            key=lambda run: (run.kind != "timing", run.round),
        )
        floors += [loss_distance(other.losses, same[0].losses) for other in same[1:]]
    return _worst(floors)


def _broke(run: Run, baseline: Run) -> bool:
    """Its loss became NaN or infinite at a step where the baseline's was finite."""
    return any(own is None and other is not None for own, other in zip(run.losses, baseline.losses, strict=False))


def _memory_ratio(before: Iterable[Run], after: Iterable[Run]) -> float | None:
    old = [run.peak_memory_bytes for run in before if run.peak_memory_bytes]
    new = [run.peak_memory_bytes for run in after if run.peak_memory_bytes]
    return median(new) / median(old) if old and new else None


def _worst(distances: Iterable[float | None]) -> float | None:
    """The largest that is known and finite."""
    known = [distance for distance in distances if distance is not None and math.isfinite(distance)]
    return max(known, default=None)


def _timing(runs: Iterable[Run], variant: str) -> list[Run]:
    return [run for run in runs if run.variant == variant and run.kind == "timing"]


def _run(done: Done, cwd: Path) -> Run:
    plan, record = done.planned.plan, done.record
    result = record.result or ChildResult(plan.run, "no-steps", 0, "none")
    memory, control, error = result.memory, result.control, result.error
    failed = record.outcome not in ("bounded", "completed")
    return Run(
        run=plan.run,
        variant=plan.variant,
        kind=plan.kind,
        round=done.planned.round,
        perturbed=control.moved > 0,
        outcome=record.outcome,
        sentence=without(cwd, record.sentence),
        steps=result.steps,
        counted=result.counted,
        optimizers=result.optimizers,
        # a run with probes has no times
        step_ms=() if plan.kind == "evidence" else result.step_ms,
        outside_ms=() if plan.kind == "evidence" else result.outside_ms,
        losses=tuple(map(_finite, result.losses)),
        peak_memory_bytes=memory.resident if memory.allocated is None else memory.allocated,
        memory=Memory(memory.allocated, memory.reserved, memory.resident),
        precision=control.mode,
        sites=_places(control.sites, cwd),
        unfaithful=_places(control.unfaithful, cwd),
        scale=_finite(control.scale),
        skipped=control.skipped,
        patched=result.patched,
        unseeded=_places(result.unseeded, cwd),
        redirected=_places(result.redirected, cwd),
        notes=result.notes,
        error=None
        if error is None
        else Failure(error.type, error.message, relative(error.path, cwd), error.line, error.traceback),
        output=_end(record.stderr) or _end(record.stdout) if failed else "",
        wall_s=record.wall_s,
        nothing=control.nothing,
    )


def _places(places: Iterable[protocol.Place], cwd: Path) -> tuple[Place, ...]:
    return tuple(sorted({Place(relative(place.path, cwd), place.line, place.what) for place in places}))


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _end(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-OUTPUT_LINES:])


def _environment(done: Sequence[Done], hardware: Hardware) -> dict[str, str | int | float | bool | None]:
    """As the script's own process saw it; of a plan of which nothing ran, as the probe did."""
    for run in done:
        if run.record.result is not None and run.record.result.environment:
            return dict(run.record.result.environment)
    return {
        "torch": hardware.torch,
        "device": hardware.device,
        "device_name": hardware.name,
        "threads": hardware.threads,
    }


def _command(target: protocol.Target) -> tuple[str, ...]:
    flag = ("-m",) if target.kind == "module" else ()
    return (*flag, target.name, *target.arguments)
