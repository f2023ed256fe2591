"""Intervals against simulated runs of known speedup, with noise as it was measured; quantiles against SciPy."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mpaudit.runtime.statistics import (
    geometric_ratio,
    loss_distance,
    speedup,
    t_distribution,
    t_quantile,
    timing_floor,
)

TRUE = 1.63
DRAWS = 1000
STEPS = 20

# measured on a shared two-core machine: medians of processes differ with a CV of 3-8 %, steps within one with 3-13 %
NOISE = {
    "quiet": (0.03, 0.03, 0.03, 0.03),
    "loud": (0.08, 0.08, 0.13, 0.13),
    "loud baseline": (0.08, 0.03, 0.13, 0.03),
    "loud variant": (0.03, 0.08, 0.03, 0.13),
}
"""Between-run deviation of baseline and variant, then within-run deviation of both."""


def run_medians(random: np.random.Generator, runs: int, between: float, within: float) -> np.ndarray:
    """Medians of DRAWS x runs simulated runs around 100 ms; steps are autocorrelated, and one in twenty takes 1.5 to 4
    times as long."""
    steps = _steps(random, (DRAWS, runs), within)
    return 100 * np.exp(random.normal(0, between, (DRAWS, runs)) - _shift(within)) * np.median(steps, axis=-1)


@cache
def _shift(within: float) -> float:
    """How far slow steps move the median of a run, as a logarithm: by more where there is more noise."""
    return float(np.mean(np.log(np.median(_steps(np.random.default_rng(0), (50_000,), within), axis=-1))))


def _steps(random: np.random.Generator, shape: tuple[int, ...], within: float) -> np.ndarray:
    noise = np.empty((*shape, STEPS))
    state = random.normal(size=shape)
    for step in range(STEPS):
        state = 0.5 * state + math.sqrt(0.75) * random.normal(size=shape)
        noise[..., step] = state
    slow = np.where(random.random(noise.shape) < 0.05, random.uniform(1.5, 4, noise.shape), 1)
    return np.exp(within * noise) * slow


def drift(random: np.random.Generator, runs: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    """What a machine that slows and recovers does to the runs of both variants, in ABBA order."""
    state = random.normal(size=DRAWS)
    spells = np.empty((DRAWS, 2 * runs))
    for place in range(2 * runs):
        state = 0.8 * state + 0.6 * random.normal(size=DRAWS)
        spells[:, place] = state
    first = [2 * number + number % 2 for number in range(runs)]
    second = [2 * number + 1 - number % 2 for number in range(runs)]
    return np.exp(size * spells[:, first]), np.exp(size * spells[:, second])


def draws(runs: int, noise: str, spells: float, true: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([seed, runs, *noise.encode(), int(100 * spells)])
    between, other, within, other_within = NOISE[noise]
    common, other_common = drift(random, runs, spells)
    baseline = true * common * run_medians(random, runs, between, within)
    return baseline, other_common * run_medians(random, runs, other, other_within)


@pytest.mark.parametrize("spells", [0, 0.05])
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("runs", [3, 5, 10])
def test_the_interval_covers_the_true_ratio(runs: int, noise: str, spells: float) -> None:
    covered = 0
    for baseline, variant in zip(*draws(runs, noise, spells, TRUE), strict=True):
        ratio = speedup(baseline, variant)
        assert ratio is not None
        covered += ratio.low <= TRUE <= ratio.high
    assert 930 <= covered <= 970  # a level of 95.5 %: 955 are expected, with a deviation of 6.6


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_identical_variants_are_seldom_called_different(runs: int) -> None:
    different = total = 0
    for noise in ("quiet", "loud"):
        for spells in (0, 0.05):
            for baseline, variant in zip(*draws(runs, noise, spells, 1.0, seed=7), strict=True):
                ratio = speedup(baseline, variant)
                assert ratio is not None
                different += not ratio.holds_one
                total += 1
    assert different <= 0.05 * total


def _coverage(runs: int, noise: str, spells: float, half_widths: object) -> float:
    baseline, variant = (np.log(side) for side in draws(runs, noise, spells, TRUE))
    centre = baseline.mean(axis=1) - variant.mean(axis=1)
    return float((abs(centre - math.log(TRUE)) <= half_widths(baseline, variant)).mean())  # type: ignore[operator]


def test_why_not_the_usual_intervals() -> None:
    """Where they are too sure, or wide for nothing."""

    def bootstrap(baseline: np.ndarray, variant: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(1)
        runs = baseline.shape[1]
        means = [
            np.stack([side[:, random.integers(runs, size=runs)].mean(axis=1) for _ in range(400)])
            for side in (baseline, variant)
        ]
        low, high = np.quantile(means[0] - means[1], [0.025, 0.975], axis=0)
        return (high - low) / 2

    def variances(baseline: np.ndarray, variant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        runs = baseline.shape[1]
        return baseline.var(axis=1, ddof=1) / runs, variant.var(axis=1, ddof=1) / runs

    def pooled(baseline: np.ndarray, variant: np.ndarray) -> np.ndarray:
        return stats.t.ppf(0.975, 2 * baseline.shape[1] - 2) * np.sqrt(sum(variances(baseline, variant)))

    def welch(baseline: np.ndarray, variant: np.ndarray) -> np.ndarray:
        one, other = variances(baseline, variant)
        freedom = (one + other) ** 2 / ((one**2 + other**2) / (baseline.shape[1] - 1))
        return stats.t.ppf(0.975, freedom) * np.sqrt(one + other)

    assert _coverage(3, "quiet", 0, bootstrap) < 0.85
    assert _coverage(5, "loud variant", 0, pooled) < 0.94
    assert _coverage(10, "quiet", 0.05, welch) > 0.97


def test_the_timing_floor_is_the_width_of_an_interval_between_likes() -> None:
    """Two samples of such runs differ by more than their floor in about one case in twenty."""
    beyond = 0
    for baseline, variant in zip(*draws(5, "loud", 0, 1.0, seed=3), strict=True):
        floor = timing_floor(baseline)
        assert floor is not None and floor >= 1
        beyond += not 1 / floor <= geometric_ratio(baseline, variant) <= floor
    assert 20 <= beyond <= 80


def test_a_worked_example() -> None:
    ratio = speedup([100, 110, 121], [50, 50, 50])
    assert ratio is not None
    half = stats.t.ppf(0.9775, 2) * math.log(1.1) / math.sqrt(3)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.2, 2.2 * math.exp(-half), 2.2 * math.exp(half)))
    assert geometric_ratio([100, 110, 121], [50]) == pytest.approx(2.2)


def test_too_few_runs_say_nothing() -> None:
    assert speedup([100], [50]) is None
    assert speedup([100, 110], [50, 50]) is None
    assert speedup([], []) is None
    assert timing_floor([100, 110]) is None
    with pytest.raises(ValueError):
        speedup([100, 100], [50])


@given(st.lists(st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)), min_size=3, max_size=12), st.floats(1e-3, 1e3))
def test_units_do_not_matter_and_the_inverse_is_the_inverse(pairs: list[tuple[float, float]], unit: float) -> None:
    baseline, variant = zip(*pairs, strict=True)
    ratio, inverse = speedup(baseline, variant), speedup(variant, baseline)
    scaled = speedup([unit * x for x in baseline], [unit * x for x in variant])
    assert ratio and inverse and scaled
    assert ratio.low <= ratio.value <= ratio.high
    assert (1 / inverse.value, 1 / inverse.high, 1 / inverse.low) == pytest.approx(
        (ratio.value, ratio.low, ratio.high), rel=1e-6
    )
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((ratio.value, ratio.low, ratio.high), rel=1e-6)
    assert ratio.value == pytest.approx(geometric_ratio(baseline, variant))


@pytest.mark.parametrize("freedom", [*range(1, 31), 60, 119, 120, 1001])
def test_t_against_scipy(freedom: int) -> None:
    for probability in (1e-4, 0.025, 0.1, 0.3, 0.5, 0.6, 0.95, 0.975, 0.9995):
        assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-9, abs=1e-12)
    for value in (-9.0, -1.0, 0.0, 0.3, 2.0, 40.0):
        assert t_distribution(value, freedom) == pytest.approx(stats.t.cdf(value, freedom), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("probability", "freedom"), [(0, 3), (1, 3), (1.5, 3), (0.5, 0)])
def test_quantiles_that_do_not_exist(probability: float, freedom: int) -> None:
    with pytest.raises(ValueError):
        t_quantile(probability, freedom)


def test_distances_between_loss_curves() -> None:
    assert loss_distance([1, 2, 3], [1, 2, 3]) == 0
    assert loss_distance([1.1, 1.9, 3], [1, 2, 3]) == pytest.approx(0.2 / 6)
    assert loss_distance([1, 2], [1, 2, 99]) == 0
    assert loss_distance([-1, -1], [-2, -2]) == 0.5
    assert loss_distance([], [1]) is None
    assert loss_distance([1, math.nan], [1, 1]) is None
    assert loss_distance([1, None], [1, 1]) is None
    assert loss_distance([math.inf], [math.inf]) is None
    assert loss_distance([0, 0], [0, 0]) == 0
    assert loss_distance([1], [0]) == math.inf
