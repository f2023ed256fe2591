"""Does a script need loss scaling for float16, and which scales are safe: from exponent histograms of its gradients.

A loss scale of 2^k shifts every gradient by k binades, so one histogram answers for every scale. What float16 does to a
value follows from its exponent and from two marks on its mantissa (IEEE 754 binary16, ties to even): it becomes zero
up to 2^-25 inclusive, infinite from 65520 = 2^16 - 2^4 on, and loses bits below 2^-14, its smallest normal number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from math import ceil, isfinite, log2
from statistics import median
from typing import Literal

import msgspec

TOLERATED = 0.01
"""Of the non-zero gradients of a module: what may become zero before scaling is called needed."""

_ZERO_BELOW = -25
_NORMAL_FROM = -14
_INFINITE_FROM = 16

HALF = ("float16", "bfloat16")

Kind = Literal["parameter", "activation"]

Which = tuple[str, str, Kind]
"""Module, name and kind: a gradient, in whichever run."""


class Histogram(msgspec.Struct, frozen=True):
    """How many values lie in each binade: 2^e ≤ |x| < 2^(e+1)."""

    zeros: int = 0
    nonfinite: int = 0
    binades: dict[int, tuple[int, int, int]] = {}
    """By exponent e: values that are exactly 2^e; those between; those from 2^e · (2 - 2^-11) on, which round up to
    the next power of two when they keep eleven bits. Below 2^-126 all lie in -127."""

    @property
    def values(self) -> int:
        """Finite and not zero."""
        return sum(sum(counts) for counts in self.binades.values())


class Shares(msgspec.Struct, frozen=True):
    """Of the finite non-zero values, at one scale. Zeros (of ReLU, dropout, unused embeddings) do not count."""

    zero: float
    subnormal: float
    """Below 2^-14 and not zero: fewer than eleven bits are left of them."""
    infinite: float


class Gradients(msgspec.Struct, frozen=True):
    """The gradients of one parameter, or of the outputs of one module, in one backward pass, unscaled."""

    step: int
    module: str
    """Its path from the root, as `layers.0.fc`."""
    name: str
    """Of the parameter; of an output the number."""
    kind: Kind
    dtype: str
    """That it was computed in; autocast hands a parameter's to the optimizer as float32."""
    histogram: Histogram

    @property
    def which(self) -> Which:
        return self.module, self.name, self.kind


class Update(msgspec.Struct, frozen=True):
    """What one optimizer step did to a parameter, and what half weights would have kept of it."""

    step: int
    module: str
    name: str
    ratio: float
    """‖Δw‖ / ‖w‖, Euclidean."""
    moved: int
    """Elements that changed."""
    lost_fp16: int
    """Of those: |Δw| is under half a unit in the last place of a float16 weight, so that w + Δw rounds back to w."""
    lost_bf16: int


class GradientEvidence(msgspec.Struct, frozen=True):
    """What a run saw of gradients and updates, in backward order within a step."""

    gradients: tuple[Gradients, ...] = ()
    updates: tuple[Update, ...] = ()


def merge(histograms: Iterable[Histogram]) -> Histogram:
    zeros = nonfinite = 0
    binades: dict[int, tuple[int, int, int]] = {}
    for histogram in histograms:
        zeros += histogram.zeros
        nonfinite += histogram.nonfinite
        for exponent, counts in histogram.binades.items():
            before = binades.get(exponent, (0, 0, 0))
            binades[exponent] = (before[0] + counts[0], before[1] + counts[1], before[2] + counts[2])
    return Histogram(zeros, nonfinite, dict(sorted(binades.items())))


def shares(histogram: Histogram, log2_scale: int = 0) -> Shares:
    """What float16 makes of these values times 2^log2_scale. All 0 where there is no value."""
    zero = subnormal = infinite = 0
    for exponent, (exact, between, top) in histogram.binades.items():
        scaled = exponent + log2_scale
        everything = exact + between + top
        if scaled < _ZERO_BELOW:
            zero += everything
        elif scaled < _NORMAL_FROM:
            tie = exact if scaled == _ZERO_BELOW else 0
            zero += tie
            subnormal += everything - tie
        elif scaled >= _INFINITE_FROM:
            infinite += everything
        elif scaled == _INFINITE_FROM - 1:
            infinite += top
    total = histogram.values or 1
    return Shares(zero / total, subnormal / total, infinite / total)


def largest_scale(histogram: Histogram) -> int | None:
    """log2 of the largest scale at which nothing becomes infinite; None where there is no value."""
    if not histogram.values:
        return None
    highest = max(exponent for exponent, counts in histogram.binades.items() if any(counts))
    fits = _INFINITE_FROM - 1 - highest
    return fits - 1 if histogram.binades[highest][2] else fits


def smallest_scale(histogram: Histogram, tolerated: float = TOLERATED) -> int | None:
    """log2 of the smallest scale at which no more than `tolerated` of the values become zero; None without a value."""
    if not histogram.values:
        return None
    allowed = tolerated * histogram.values
    for exponent, (exact, between, top) in sorted(histogram.binades.items()):
        if allowed < exact:
            return _ZERO_BELOW + 1 - exponent
        if allowed < exact + between + top:
            return _ZERO_BELOW - exponent
        allowed -= exact + between + top
    return _ZERO_BELOW - max(histogram.binades)


class ModuleRange(msgspec.Struct, frozen=True):
    """One module's gradients over the sampled steps."""

    module: str
    kind: Kind
    values: int
    at_one: Shares
    smallest: int
    """log2 of the smallest scale that keeps all but what is tolerated."""
    largest: int
    """log2 of the largest scale without an infinity."""


class LossScaling(msgspec.Struct, frozen=True):
    """The verdict, with its numbers."""

    needed: bool | None
    """None where no gradient was seen."""
    because: str
    smallest: int | None = None
    largest: int | None = None
    """log2 of the safe scales. Where `smallest` exceeds `largest` no one scale serves every module."""
    modules: tuple[ModuleRange, ...] = ()
    """Those that lose most at scale 1 first."""


def by_module(gradients: Iterable[Gradients]) -> tuple[ModuleRange, ...]:
    """Parameters and activations of a module apart."""
    groups: dict[tuple[str, Kind], list[Histogram]] = {}
    for one in gradients:
        groups.setdefault((one.module, one.kind), []).append(one.histogram)
    ranges = [_range(module, kind, merge(histograms)) for (module, kind), histograms in groups.items()]
    return tuple(
        sorted(
            (one for one in ranges if one is not None),
            key=lambda one: (-one.at_one.zero, -one.at_one.subnormal, one.module, one.kind),
        )
    )


def _range(module: str, kind: Kind, histogram: Histogram) -> ModuleRange | None:
    smallest, largest = smallest_scale(histogram), largest_scale(histogram)
    if smallest is None or largest is None:
        return None
    return ModuleRange(module, kind, histogram.values, shares(histogram), smallest, largest)


def in_half(under_autocast: Iterable[Gradients]) -> frozenset[Which]:
    """The gradients that autocast has computed in a 16-bit dtype: others lose nothing and bound no scale."""
    return frozenset(one.which for one in under_autocast if one.dtype in HALF)


def judge(gradients: Sequence[Gradients], half: Set[Which] | None = None, skipped: Sequence[float] = ()) -> LossScaling:
    """From the gradients of a float32 or bfloat16 run, whose range holds what float16 would lose.

    `half` is what `in_half` found in a run under autocast; None where there was none: all of them are taken then.
    `skipped` are the loss scales at which a float16 run left steps out: each is one that is not safe, whatever the
    gradients of the sampled steps allow.
    """
    modules = by_module(one for one in gradients if half is None or one.which in half)
    if not modules:
        if half is not None and gradients:
            return LossScaling(False, "autocast keeps all of its gradients in float32")
        return LossScaling(None, "no gradient was seen")
    smallest = max(one.smallest for one in modules)
    sampled = min(one.largest for one in modules)
    largest = min([sampled, *(ceil(log2(scale)) - 1 for scale in skipped)])
    safe = _safe(smallest, largest, min(skipped) if largest < sampled else None)
    losing = [one for one in modules if one.at_one.zero > TOLERATED]
    overflowing = [one for one in modules if one.largest < 0]
    if losing:
        worst = losing[0]
        because = (
            f"without it float16 makes {_percent(worst.at_one.zero)} of the non-zero {worst.kind} gradients of "
            f"{worst.module} zero" + _others(len(losing) - 1, len(modules)) + f"; {safe}"
        )
        return LossScaling(True, because, smallest, largest, modules)
    if overflowing:
        worst = min(overflowing, key=lambda one: one.largest)
        because = f"the {worst.kind} gradients of {worst.module} overflow float16 already at scale 1; "
        because += safe
        return LossScaling(True, because, smallest, largest, modules)
    most = modules[0]
    because = (
        f"without it float16 makes at most {_percent(most.at_one.zero)} of a module's non-zero gradients zero "
        f"({most.module}), {_percent(max(one.at_one.subnormal for one in modules))} lose bits, none overflows"
    )
    return LossScaling(False, because, smallest, largest, modules)


class MasterWeights(msgspec.Struct, frozen=True):
    """Whether float32 weights are needed beside half ones: the share of updates that half weights would lose."""

    needed_fp16: bool | None
    needed_bf16: bool | None
    lost_fp16: float = 0.0
    lost_bf16: float = 0.0
    ratio: float | None = None
    """‖Δw‖ / ‖w‖: the median over parameters and steps, those that were zero before left out."""


def judge_updates(updates: Sequence[Update], tolerated: float = 0.05) -> MasterWeights:
    """Needed where more than `tolerated` of all changed elements would round back to what they were."""
    moved = sum(update.moved for update in updates)
    if not moved:
        return MasterWeights(None, None)
    fp16, bf16 = (sum(update.lost_fp16 for update in updates) / moved, sum(u.lost_bf16 for u in updates) / moved)
    ratios = [update.ratio for update in updates if update.moved and isfinite(update.ratio)]
    return MasterWeights(fp16 > tolerated, bf16 > tolerated, fp16, bf16, median(ratios) if ratios else None)


class BySize(msgspec.Struct, frozen=True):
    """Values by the binade they lie in, merged over all modules and the steps of one part of the run."""

    kind: Kind
    late: bool
    zeros: int
    nonfinite: int
    binades: dict[int, int]


def by_size(gradients: Sequence[Gradients]) -> tuple[BySize, ...]:
    """Of parameters and activations, early steps and late: the middle lies between the first step seen and the last.

    Of a run whose sampled steps are all of one part there is that part alone, as early.
    """
    steps = [one.step for one in gradients]
    groups: dict[tuple[Kind, bool], list[Histogram]] = {}
    for one in gradients:
        late = 2 * one.step > min(steps) + max(steps) and max(steps) - min(steps) > 1
        groups.setdefault((one.kind, late), []).append(one.histogram)
    found = []
    for (kind, late), histograms in sorted(groups.items()):
        merged = merge(histograms)
        binades = {exponent: sum(counts) for exponent, counts in merged.binades.items()}
        found.append(BySize(kind, late, merged.zeros, merged.nonfinite, binades))
    return tuple(found)


def sentence(verdict: LossScaling) -> str:
    if verdict.needed is None:
        return f"Whether this script needs loss scaling is not known: {verdict.because}."
    word = "needs" if verdict.needed else "does not need"
    return f"This script {word} loss scaling for float16, because {verdict.because}."


def _others(others: int, modules: int) -> str:
    if not others:
        return ""
    return f", and more than {_percent(TOLERATED)} in {others} more of {modules}"


def _safe(smallest: int, largest: int, skipped: float | None) -> str:
    """`skipped` is the scale that bounds the largest, where it was a step that was left out."""
    if smallest > largest:
        last = f"2^{largest} is the last before an infinity"
        return f"no one scale serves every module (2^{smallest} keeps the smallest, {last}): use bfloat16"
    if skipped is None:
        return f"at the sampled steps scales from 2^{smallest} to 2^{largest} are safe"
    return f"scales from 2^{smallest} to 2^{largest} are safe (at {power(skipped)} a step was left out)"


def power(scale: float) -> str:
    """A loss scale as `2^16`, or as it is where it is no power of two."""
    exponent = log2(scale) if scale > 0 else 0.5
    return f"2^{int(exponent)}" if exponent == int(exponent) else f"{scale:g}"


def _percent(share: float) -> str:
    if 0 < share < 0.0001:
        return "< 0.01 %"
    return f"{100 * share:.3g} %"


def decode_exponents(flat: Mapping[int, int], zeros: int, nonfinite: int) -> Histogram:
    """From counts by 3 · exponent + mark, mark 0 exact, 1 between, 2 top: as the child counts them."""
    binades: dict[int, list[int]] = {}
    for key, count in flat.items():
        exponent, mark = divmod(key, 3)
        binades.setdefault(exponent, [0, 0, 0])[mark] += count
    return Histogram(zeros, nonfinite, {e: (c[0], c[1], c[2]) for e, c in sorted(binades.items())})
