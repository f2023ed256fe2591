"""An Audit's runs → blocks: first the verdicts, then what they rest on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from statistics import median

from mpaudit.audit import Audit
from mpaudit.measured import LEAST_ROUNDS, PERTURBED, Comparison, Place, Profile, Run
from mpaudit.render import batch_size, evidence
from mpaudit.render.blocks import Block, Heading, Items, Sentence, Style, Table, Verbatim

DATA_BOUND = 0.3
"""From this share of a step on, what lies outside of forward, backward and optimizer is spoken of."""
UNSTEADY = 1.5
"""From this ratio of the slowest to the fastest run of a precision on, that is spoken of."""
_SHOWN = 10
"""Places listed; the rest is counted. The document has them all."""
_FORMATS = {"tf32": "TF32", "amp-bf16": "bf16", "amp-fp16": "fp16"}


def blocks(audit: Audit, by: str = "line") -> Iterator[Block]:
    """The report of an Audit that has a profile; nothing of one that has none."""
    profile = audit.profile
    if profile is None:
        return
    yield Sentence(_headline(audit, profile), style="dim")
    yield from _verdicts(audit, profile)
    for note in profile.notes:
        yield Sentence(note, "note")
    if profile.interrupted:
        yield Sentence(f"interrupted after {len(audit.runs)} of {profile.planned_runs} runs", "note", "doubt")
    yield from _failures(audit)
    yield from _timing(audit, profile)
    yield from _ceilings(audit, profile)
    yield from _losses(audit)
    yield from evidence.blocks(audit, by)
    yield from batch_size.blocks(profile.batch_search)
    yield from _precision(audit)
    yield from _safety(audit)
    yield from _runs(audit)


def _headline(audit: Audit, profile: Profile) -> str:
    command = shlex.join(profile.command)
    facts = [f"torch {audit.environment['torch']}"] if "torch" in audit.environment else []
    return " · ".join([command, f"{profile.device} ({profile.device_name})", *facts])


def _verdicts(audit: Audit, profile: Profile) -> Iterator[Block]:
    if not profile.variants:
        yield Sentence("nothing could be measured", style="bad")
    elif len(profile.variants) == 1:
        only = profile.variants[0]
        yield Sentence(f"{_ms(only.step_ms)} ms per step; no other precision to compare with", only.variant)
    measured = {variant.variant for variant in profile.variants}
    nothing = {run.variant: run.nothing for run in audit.runs if run.nothing and run.variant in measured}
    for variant, why in nothing.items():
        beside = "; it is not compared" if len(profile.variants) > 1 else ""
        yield Sentence(f"{why}{beside}", variant, "doubt")
    unfaithful = {run.variant for run in audit.runs if run.kind == "timing" and run.unfaithful}
    for comparison in audit.comparisons:
        doubt = "; not faithfully in this precision: see below" if comparison.variant in unfaithful else ""
        yield Sentence(verdict(comparison, profile.device) + doubt, comparison.variant, _style(comparison))
    timed = [run for run in audit.runs if run.kind != "evidence"]
    failed: dict[str, list[str]] = {}
    for run in {run.variant: run for run in timed if run.variant not in measured}.values():
        failed.setdefault(run.sentence, []).append(run.variant)
    for sentence, variants in failed.items():
        yield Sentence(f"not measured: {sentence}", ", ".join(variants), "bad")
    for left in profile.left_out:
        yield Sentence(f"left out: {left.reason}", left.variant, "dim")


def verdict(comparison: Comparison, device: str) -> str:
    """«1.63× faster than fp32 [1.51, 1.76], peak memory −24 %, losses agree within the noise floor»."""
    memory = "resident memory" if device == "cpu" else "memory"
    parts = [_speed(comparison)]
    if comparison.memory_ratio is not None:
        change = round(100 * (comparison.memory_ratio - 1))
        parts.append(f"peak {memory} {f'{change:+d} %'.replace('-', '−') if change else 'the same'}")
    parts.append(_LOSSES[comparison.loss_verdict](comparison))
    return ", ".join(filter(None, parts))


def _speed(comparison: Comparison) -> str:
    speedup, baseline = comparison.speedup, comparison.baseline
    if speedup is None:
        return f"not measured in the same round as {baseline}"
    if comparison.interval is None:
        word = f"{speedup:.2f}× faster than" if speedup >= 1 else f"{1 / speedup:.2f}× slower than"
        if word.startswith("1.00"):
            word = "as fast as"
        made = _count(comparison.rounds, "round")
        return f"{word} {baseline} in {made}: too few for an interval, which takes {LEAST_ROUNDS}"
    low, high = comparison.interval
    if comparison.verdict == "no measurable difference":
        return f"no measurable difference in speed from {baseline} (speedup {speedup:.2f} [{low:.2f}, {high:.2f}])"
    if comparison.verdict == "slower":
        return f"{1 / speedup:.2f}× slower than {baseline} [{1 / high:.2f}, {1 / low:.2f}]"
    return f"{speedup:.2f}× faster than {baseline} [{low:.2f}, {high:.2f}]"


_LOSSES: dict[str, Callable[[Comparison], str]] = {
    "within the noise floor": lambda c: "losses agree within the noise floor",
    "within rounding": lambda c: f"losses differ by {_percent(c.loss_deviation)} on average",
    "beyond rounding": lambda c: (
        f"losses differ by {_percent(c.loss_deviation)}, those of fp32 runs by {_percent(c.noise_floor)}"
        if _chaotic(c)
        else f"losses differ by {_percent(c.loss_deviation)}, more than one rounding does"
    ),
    "not finite": lambda c: "the loss becomes infinite or NaN",
    "unknown": lambda c: (
        "" if c.loss_deviation is None else f"losses differ by {_percent(c.loss_deviation)}, with no noise floor beside"
    ),
}


def _chaotic(comparison: Comparison) -> bool:
    """The losses of fp32 runs differ about as much: what the precision does to them cannot be told."""
    deviation, floor = comparison.loss_deviation, comparison.noise_floor
    return deviation is not None and floor is not None and deviation <= 10 * floor


def _style(comparison: Comparison) -> Style:
    if comparison.verdict == "slower" or comparison.loss_verdict == "not finite":
        return "bad"
    return "good" if comparison.verdict == "faster" else "doubt"


def _failures(audit: Audit) -> Iterator[Block]:
    """What a run that went wrong printed: once for each way of going wrong."""
    failed = {run.sentence: run for run in reversed(audit.runs) if run.error is not None or run.output}
    for run in reversed(failed.values()):
        yield Heading(f"{run.run}: {run.sentence}")
        yield Verbatim(run.error.traceback if run.error is not None and run.error.traceback else run.output)


def _timing(audit: Audit, profile: Profile) -> Iterator[Block]:
    if not profile.variants:
        return
    yield Heading("Steps")
    speed = {c.variant: c for c in reversed(audit.comparisons)}
    has_noise = any(variant.timing_floor is not None for variant in profile.variants)
    has_outside = any(variant.outside_share is not None for variant in profile.variants)
    rows = []
    for variant in profile.variants:
        comparison = speed.get(variant.variant)
        floor, share, peak = variant.timing_floor, variant.outside_share, variant.peak_memory_bytes
        rows.append(
            (
                variant.variant,
                _ms(variant.step_ms),
                _per_second(variant.steps_per_s),
                *([_interval(comparison) if comparison else ""] if speed else []),
                *([_noise(floor)] if has_noise else []),
                *([_percent(share) if share is not None else ""] if has_outside else []),
                _bytes(peak) if peak is not None else "",
            )
        )
    noise = (" noise",) if has_noise else ()
    speedups = (" speedup [95 %]",) if any(c.interval for c in speed.values()) else (" speedup",) if speed else ()
    outside = (" outside",) if has_outside else ()
    headers = ("precision", " ms/step", " steps/s", *speedups, *noise, *outside, " peak memory")
    yield Table(headers, tuple(rows))
    made = max(variant.runs for variant in profile.variants)
    yield Sentence(
        f"{'' if made == profile.rounds else f'{made} of '}{_count(profile.rounds, 'round')}, "
        f"neighbours in time, each with {profile.warmup} warm-up and {_measured_steps(audit, profile)}; a run counts "
        "by its median step. "
        + ("Noise: identical variants would differ by less in 95 % of cases. " if has_noise else "")
        + ("Outside: the share of a step that is not forward, backward or optimizer." if has_outside else ""),
        style="dim",
    )
    if any(run.counted == "backward" for run in audit.runs):
        yield Sentence(
            "A step is a backward pass here: the script has no optimizer that torch knows, or one that makes many "
            "passes in a single step.",
            style="dim",
        )
    yield from _unsteady(audit, profile)
    yield from _data_bound(profile)


def _measured_steps(audit: Audit, profile: Profile) -> str:
    """Of the timing runs; a script may end by itself, or reach a limit, before the planned ones are made."""
    went_on = ("bounded", "completed", "time-limit")
    made = [len(r.step_ms) for r in audit.runs if r.kind == "timing" and r.outcome in went_on and r.step_ms]
    least, most = min(made), max(made)
    if least == profile.steps:
        return f"{profile.steps} measured steps"
    return f"{least if least == most else f'{least} to {most}'} measured steps ({profile.steps} were planned)"


def _unsteady(audit: Audit, profile: Profile) -> Iterator[Block]:
    """Runs of one precision that differ so much that no interval between precisions can be narrow."""
    has_threads = profile.device == "cpu" and audit.environment.get("threads", 1) != 1
    fewer = ", fewer threads (OMP_NUM_THREADS=1, or the cores that are idle)" if has_threads else ""
    for variant, runs in _by_variant(audit.runs).items():
        medians = [median(run.step_ms) for run in runs if run.kind == "timing" and run.step_ms]
        if len(medians) > 1 and max(medians) > UNSTEADY * min(medians):
            yield Sentence(
                f"its runs took from {_ms(min(medians))} to {_ms(max(medians))} ms per step: the machine was busy with "
                f"something else, or the script does different work in each run. A quiet machine{fewer} and more "
                "--runs make the interval narrower.",
                variant,
                "doubt",
            )


def _data_bound(profile: Profile) -> Iterator[Block]:
    shares = {
        variant.variant: variant.outside_share
        for variant in profile.variants
        if variant.outside_share is not None and variant.outside_share >= DATA_BOUND
    }
    if not shares:
        return
    least, most = _percent(min(shares.values())), _percent(max(shares.values()))
    yield Sentence(
        f"{least if least == most else f'{least} to {most}'} of a step lies outside of forward, backward and "
        "optimizer: loading data, logging, anything else. No precision makes that part faster: with all the rest for "
        f"nothing, a step would be {1 / min(shares.values()):.1f}× faster.",
        ", ".join(shares),
        "doubt",
    )


def _ceilings(audit: Audit, profile: Profile) -> Iterator[Block]:
    """The best rate of each operation by precision, and what the script got."""
    best: dict[tuple[str, str], float] = {}
    measured = {variant.variant for variant in profile.variants}
    for ceiling in profile.ceilings:
        if ceiling.variant not in measured:
            continue
        key = ceiling.operation, ceiling.variant
        best[key] = max(best.get(key, 0.0), ceiling.tflop_per_s)
    variants = dict.fromkeys(variant for _, variant in best)
    if not variants:
        return
    baseline, several = next(iter(variants)), len(variants) > 1
    got = {c.variant: c.speedup for c in reversed(audit.comparisons) if c.baseline == baseline}
    rows = []
    for variant in variants:
        row = [variant]
        for operation in ("matmul", "convolution"):
            rate, base = best.get((operation, variant)), best.get((operation, baseline))
            row.append("" if rate is None else _rate(rate))
            if several:
                row.append("" if variant == baseline or not rate or not base else f"{rate / base:.2f}×")
        if several:
            speedup = got.get(variant)
            row.append("" if speedup is None else f"{speedup:.2f}×")
        rows.append(tuple(row))
    yield Heading("At best on this device")
    ratio, own = ((" ",), (" this script",)) if several else ((), ())
    yield Table(("precision", " matmul", *ratio, " convolution", *ratio, *own), tuple(rows))
    relative = f"; × is relative to {baseline}" if several else ""
    yield Sentence(f"Fastest large operation measured here before the runs{relative}.", style="dim")


def _losses(audit: Audit) -> Iterator[Block]:
    compared = [c for c in audit.comparisons if c.loss_deviation is not None or c.loss_verdict == "not finite"]
    if not compared:
        return
    yield Heading("Losses")
    rows = tuple(
        (
            f"{c.variant} – {c.baseline}",
            "" if c.loss_deviation is None else _percent(c.loss_deviation),
            "" if c.noise_floor is None else _percent(c.noise_floor),
            _loss_sentence(c),
        )
        for c in compared
    )
    yield Table(("between", " differ by", " noise floor", "which is"), rows)
    yield Sentence(
        f"Mean difference of the losses of same steps, relative to their size. {_noise_floor(audit.runs)}", style="dim"
    )


def _noise_floor(runs: Iterable[Run]) -> str:
    """Between which runs it was measured."""
    fp32 = [run for run in runs if run.variant == "fp32" and run.kind != "evidence" and run.losses]
    if any(run.run == PERTURBED and not run.perturbed for run in fp32):
        return (
            "Noise floor: the same between fp32 runs, repeated alone: there is no optimizer whose parameters could be "
            "moved."
        )
    if not fp32:
        return "fp32 did not run, so that there is no noise floor."
    if len(fp32) < 2:
        return "fp32 ran once, so that there is no noise floor."
    perturbed = sum(run.perturbed for run in fp32)
    repeated = "repeated" if len(fp32) - perturbed > 1 else ""
    moved = "from parameters moved by one unit in the last place" if perturbed else ""
    how = f"{repeated} and {moved}" if repeated and moved else repeated or f"one {moved}"
    return f"Noise floor: the same between fp32 runs, {how}."


def _loss_sentence(comparison: Comparison) -> str:
    name = _FORMATS.get(comparison.variant, comparison.variant)
    return {
        "within the noise floor": "no more than between fp32 runs",
        "within rounding": f"less than one rounding to {name}",
        "beyond rounding": f"more than one rounding to {name}"
        + (", but fp32 runs differ about as much" if _chaotic(comparison) else ""),
        "not finite": "a loss that becomes infinite or NaN",
        "unknown": "not judged: there is no noise floor",
    }[comparison.loss_verdict]


_MODES = {
    "as-is": "ran as it is",
    "injected": "autocast was put around forward and loss",
    "overridden": "the script's own autocast was set to this precision",
    "neutralised": "the script's own autocast and scaler were switched off",
}


def _precision(audit: Audit) -> Iterator[Block]:
    rows = []
    for variant, runs in _by_variant(audit.runs).items():
        ran = next((run for run in runs if run.steps), None)
        if ran is None:
            continue
        text = _MODES.get(ran.precision, ran.precision)
        if ran.sites:
            text += f": {_listed(ran.sites)}"
        if ran.scale is not None:
            text += f"; loss scale {ran.scale:g} at the end"
        if ran.skipped:
            text += f"; {_count(ran.skipped, 'step')} skipped for gradients that were not finite"
        rows.append((variant, text))
    unfaithful = _gathered(audit.runs, lambda run: run.unfaithful)
    if rows or unfaithful:
        yield Heading("Precision")
    if rows:
        yield Table(("precision", "how it came about"), tuple(rows))
    if unfaithful:
        yield Sentence("could not be brought to this precision faithfully:", style="doubt")
        yield Items(_cut([f"{_place(place)} ({', '.join(variants)})" for place, variants in unfaithful.items()]))


def _safety(audit: Audit) -> Iterator[Block]:
    redirected = _gathered(audit.runs, lambda run: run.redirected)
    if redirected:
        yield Heading("Kept away from your files")
        yield Items(_cut([_place(place) for place in redirected]))
    unseeded = _gathered(audit.runs, lambda run: run.unseeded)
    if unseeded:
        yield Heading("Not reached by the seed")
        yield Items(_cut([_place(place) for place in unseeded]))
    notes = dict.fromkeys(note for run in audit.runs for note in run.notes)
    if notes:
        yield Heading("Notes")
        yield Items(_cut(list(notes)))


def _runs(audit: Audit) -> Iterator[Block]:
    yield Heading("Runs")
    yield Table(
        ("run", " ms/step", " wall s", "outcome"),
        tuple((run.run, _median(run), f"{run.wall_s:.1f}", run.sentence) for run in audit.runs),
    )
    patched = {name for run in audit.runs for name in run.patched}
    if patched:
        yield Sentence(
            f"mpaudit replaced {len(patched)} functions in these processes; the JSON names them.", style="dim"
        )


def _median(run: Run) -> str:
    return _ms(median(run.step_ms)) if run.step_ms else ""


def _by_variant(runs: Iterable[Run]) -> dict[str, list[Run]]:
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.variant, []).append(run)
    return grouped


def _gathered(runs: Iterable[Run], places: Callable[[Run], Iterable[Place]]) -> dict[Place, list[str]]:
    """Each place once, with the variants in which it was met."""
    found: dict[Place, dict[str, None]] = {}
    for run in runs:
        for place in places(run):
            found.setdefault(place, {})[run.variant] = None
    return {place: list(variants) for place, variants in found.items()}


def _place(place: Place) -> str:
    where = f"{place.path}:{place.line}" if place.line else place.path
    return f"{where}  {place.what}" if where else place.what


def _listed(places: Iterable[Place]) -> str:
    return "; ".join(_cut([_place(place) for place in places]))


def _cut(texts: list[str]) -> tuple[str, ...]:
    more = len(texts) - _SHOWN
    return (*texts[:_SHOWN], f"and {more} more, in the JSON") if more > 0 else tuple(texts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _interval(comparison: Comparison) -> str:
    if comparison.speedup is None:
        return ""
    if comparison.interval is None:
        return f"{comparison.speedup:.2f}×"
    return f"{comparison.speedup:.2f}× [{comparison.interval[0]:.2f}, {comparison.interval[1]:.2f}]"


def _percent(share: float | None) -> str:
    """Two digits; of the very small the power of ten."""
    if share is None:
        return ""
    percent = 100 * share
    if percent == 0:
        return "0 %"
    if percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.2g} %" if percent >= 0.001 else f"{percent:.0e} %"


def _noise(floor: float | None) -> str:
    return "" if floor is None else f"±{_percent(floor - 1)}" if floor < 2 else "> 100 %"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _per_second(steps: float) -> str:
    return f"{steps:,.0f}" if steps >= 100 else f"{steps:.3g}"


def _rate(tflop_per_s: float) -> str:
    return f"{tflop_per_s:.3g} TFLOP/s" if tflop_per_s >= 1 else f"{1000 * tflop_per_s:.3g} GFLOP/s"


def _bytes(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
