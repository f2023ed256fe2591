"""How much faster, and how sure: intervals at the level of runs, noise floors, distances between loss curves.

A run is one process. What varies from process to process (clock, placement, neighbours) does not average out over the
steps of one, so each run counts once, by the median of its steps. Runs of a plan lie in rounds, each variant once in
every round, and the interval is Student's t on the differences of logarithms within a round: what both variants of a
round have in common, a slow spell of the machine, cancels. In simulations with the noise that was measured this holds
its coverage where a percentile bootstrap, a pooled t and Welch's t do not (tests/runtime/test_statistics.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev

import msgspec

from mpaudit.measured import LEAST_ROUNDS

LEVEL = 0.955
"""Of what is called a 95 % interval: half a point of room for what Student's t assumes and machines do not keep, so
that identical variants are told apart in fewer than one case in twenty."""


class Ratio(msgspec.Struct, frozen=True):
    """A ratio of times, and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def holds_one(self) -> bool:
        return self.low <= 1 <= self.high


def speedup(baseline: Sequence[float], variant: Sequence[float]) -> Ratio | None:
    """How many times faster the variant is: the ratio of the geometric means of run medians, baseline over variant.

    The n-th run of both is of the same round; times are positive and in one unit. None with fewer than three rounds,
    where next to nothing can be said of their spread. Raises ValueError where the lengths differ.
    """
    differences = [math.log(slow) - math.log(fast) for slow, fast in zip(baseline, variant, strict=True)]
    if len(differences) < LEAST_ROUNDS:
        return None
    centre = fmean(differences)
    half = _half_width(stdev(differences), len(differences))
    return Ratio(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def geometric_ratio(baseline: Sequence[float], variant: Sequence[float]) -> float:
    """The point estimate alone: the ratio of the geometric means. Raises `statistics.StatisticsError` for no run."""
    return math.exp(fmean(map(math.log, baseline)) - fmean(map(math.log, variant)))


def timing_floor(runs: Sequence[float]) -> float | None:
    """The A/A floor: how far, as a factor ≥ 1, two identical variants of this spread and number of runs are told apart
    by chance no more often than one time in twenty. None with fewer than three runs."""
    if len(runs) < LEAST_ROUNDS:
        return None
    return math.exp(_half_width(math.sqrt(2) * stdev(map(math.log, runs)), len(runs)))


def _half_width(deviation: float, count: int) -> float:
    return t_quantile((1 + LEVEL) / 2, count - 1) * deviation / math.sqrt(count)


def loss_distance(losses: Sequence[float | None], reference: Sequence[float | None]) -> float | None:
    """The mean absolute difference of two loss curves over the steps that both have, relative to the mean size of the
    reference there. None where they share no step or a value of them is not finite (None stands for such a value);
    infinity where the reference is zero throughout and the other is not."""
    ours, theirs = [], []
    for own, other in zip(losses, reference, strict=False):
        if own is None or other is None or not (math.isfinite(own) and math.isfinite(other)):
            return None
        ours.append(own)
        theirs.append(other)
    if not ours:
        return None
    difference = fmean(abs(own - other) for own, other in zip(ours, theirs, strict=True))
    scale = fmean(map(abs, theirs))
    if scale == 0:
        return math.inf if difference else 0.0
    return difference / scale


@lru_cache(maxsize=256)
def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t for a whole number of degrees of freedom, to about 1e-12 of its size.

    By bisection on `t_distribution`. Raises ValueError outside 0 < probability < 1 or below one degree of freedom.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise ValueError(f"no t quantile of {probability} for {freedom} degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while t_distribution(high, freedom) < probability:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_distribution(middle, freedom) < probability else (low, middle)
    return high


def t_distribution(value: float, freedom: int) -> float:
    """P(T ≤ value), by the finite sums of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 4."""
    angle = math.atan2(value, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = total = 1.0 if freedom % 2 == 0 else cosine
    for step in range(2 + freedom % 2, freedom - 1, 2):
        term *= cosine * cosine * (step - 1) / step
        total += term
    if freedom % 2 == 0:
        inside = sine * total
    else:
        inside = 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
    return (1 + inside) / 2
