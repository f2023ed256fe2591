"""Verdicts on loss scaling from histograms."""

from __future__ import annotations

import math

import pytest

from mpaudit.runtime.loss_scaling import (
    Gradients,
    Histogram,
    Update,
    by_size,
    in_half,
    judge,
    judge_updates,
    largest_scale,
    merge,
    sentence,
    shares,
    smallest_scale,
)


def between(*exponents: int) -> Histogram:
    return Histogram(binades=dict.fromkeys(exponents, (0, 1, 0)))


def seen(module: str, histogram: Histogram, kind: str = "activation", dtype: str = "float32") -> Gradients:
    return Gradients(0, module, "0", kind, dtype, histogram)  # type: ignore[arg-type]


def test_what_float16_does_by_exponent() -> None:
    found = shares(between(-30, -26, -25, -15, -14, 15, 16, 20))
    assert (found.zero, found.subnormal, found.infinite) == (2 / 8, 2 / 8, 2 / 8)


def test_a_tie_goes_to_zero_and_a_value_that_rounds_up_to_infinity() -> None:
    assert shares(Histogram(binades={-25: (1, 1, 0)})).zero == 0.5
    assert shares(Histogram(binades={15: (0, 1, 1)})).infinite == 0.5


def test_a_scale_shifts() -> None:
    histogram = between(-40, -30, 0)
    assert shares(histogram, 5).zero == 1 / 3
    assert shares(histogram, 15).zero == 0
    assert shares(histogram, 16).infinite == 1 / 3


def test_zeros_do_not_count() -> None:
    assert shares(Histogram(zeros=10**6, binades={-30: (0, 1, 0), 0: (0, 1, 0)})).zero == 0.5


def test_the_safe_scales() -> None:
    histogram = Histogram(binades={-40: (0, 5, 0), -30: (0, 500, 0), 2: (0, 495, 0)})
    assert largest_scale(histogram) == 13
    assert shares(histogram, 13).infinite == 0 < shares(histogram, 14).infinite
    assert smallest_scale(histogram) == 5
    assert shares(histogram, 5).zero <= 0.01 < shares(histogram, 4).zero


def test_no_value_has_no_scale() -> None:
    assert largest_scale(Histogram(zeros=3)) is None and smallest_scale(Histogram(zeros=3)) is None


def test_needs_scaling() -> None:
    verdict = judge([seen("head", between(-30, -29, -28, 0)), seen("body", between(0, 1))])
    assert verdict.needed and (verdict.smallest, verdict.largest) == (5, 14)
    assert sentence(verdict) == (
        "This script needs loss scaling for float16, because without it float16 makes 75 % of the non-zero activation "
        "gradients of head zero; at the sampled steps scales from 2^5 to 2^14 are safe."
    )


def test_does_not_need_scaling() -> None:
    verdict = judge([seen("head", between(-10, -5)), seen("body", between(-15, 1))])
    assert verdict.needed is False
    assert "50 % lose bits, none overflows" in sentence(verdict)


def test_no_scale_serves_all() -> None:
    verdict = judge([seen("head", between(-60)), seen("body", between(10))])
    assert verdict.needed and "use bfloat16" in verdict.because


def test_a_step_that_was_left_out_bounds_the_scales() -> None:
    gradients = [seen("head", between(-30, -29, -28, -5))]
    verdict = judge(gradients, skipped=[2.0**17, 2.0**16])
    assert (verdict.smallest, verdict.largest) == (5, 15)
    assert verdict.because.endswith("scales from 2^5 to 2^15 are safe (at 2^16 a step was left out)")
    assert judge(gradients, skipped=[40000.0]).largest == 15
    assert judge(gradients, skipped=[2.0**40]) == judge(gradients)


def test_a_step_that_was_left_out_at_every_scale_leaves_none() -> None:
    verdict = judge([seen("head", between(-30, -29, -28, 0))], skipped=[2.0**16, 2.0**3])
    assert "no one scale serves every module (2^5 keeps the smallest, 2^2 is the last" in verdict.because


def test_gradients_by_size_early_and_late() -> None:
    def at(step: int, *exponents: int, kind: str = "activation") -> Gradients:
        return Gradients(step, "m", "0", kind, "float32", between(*exponents))  # type: ignore[arg-type]

    found = by_size([at(1, -3), at(2, -3, -4), at(13, -9), at(14, -9), at(14, 0, kind="parameter")])
    assert [(one.kind, one.late, one.binades) for one in found] == [
        ("activation", False, {-4: 1, -3: 2}),
        ("activation", True, {-9: 2}),
        ("parameter", True, {0: 1}),
    ]
    assert [one.late for one in by_size([at(1, 0), at(2, 0)])] == [False]
    assert by_size([]) == ()


def test_the_median_update_leaves_out_parameters_that_were_zero() -> None:
    updates = [Update(0, "m", str(n), ratio, moved, 0, 0) for n, (ratio, moved) in enumerate([(1e-3, 5), (9e-3, 5)])]
    updates += [Update(0, "m", "bias", math.inf, 5, 0, 0), Update(0, "m", "frozen", 0.0, 0, 0, 0)]
    assert judge_updates(updates).ratio == pytest.approx(5e-3)


def test_overflow_without_a_scale() -> None:
    verdict = judge([seen("body", between(17))])
    assert verdict.needed and "overflow float16 already at scale 1; at the sampled steps scales from" in verdict.because


def test_gradients_that_autocast_keeps_in_float32_bound_no_scale() -> None:
    body, loss = between(-30, -2), between(0)
    under_autocast = [seen("body", body, dtype="bfloat16"), seen("loss", loss, dtype="float32")]
    verdict = judge([seen("body", body), seen("loss", loss)], in_half(under_autocast))
    assert (verdict.smallest, verdict.largest) == (5, 17)
    assert [one.module for one in verdict.modules] == ["body"]


def test_without_a_gradient_in_half_nothing_needs_a_scale() -> None:
    verdict = judge([seen("loss", between(-60))], in_half([seen("loss", between(-60))]))
    assert verdict.needed is False and (verdict.smallest, verdict.largest) == (None, None)
    assert sentence(verdict) == (
        "This script does not need loss scaling for float16, because autocast keeps all of its gradients in float32."
    )


def test_nothing_seen() -> None:
    assert judge([]).needed is None


def test_parameters_and_activations_are_told_apart() -> None:
    verdict = judge([seen("fc", between(-30)), seen("fc", between(0), "parameter")])
    assert [(one.kind, one.at_one.zero) for one in verdict.modules] == [("activation", 1.0), ("parameter", 0.0)]


def test_merging_adds() -> None:
    assert merge([Histogram(1, 2, {0: (1, 2, 3)}), Histogram(1, 0, {0: (1, 0, 0), -3: (0, 1, 0)})]) == Histogram(
        2, 2, {-3: (0, 1, 0), 0: (2, 2, 3)}
    )


@pytest.mark.parametrize(("lost", "needed"), [(90, True), (1, False)])
def test_master_weights(lost: int, needed: bool) -> None:
    verdict = judge_updates([Update(0, "fc", "fc.weight", 1e-4, 100, 0, lost)])
    assert verdict.needed_bf16 is needed and verdict.needed_fp16 is False
    assert math.isclose(verdict.lost_bf16, lost / 100) and verdict.ratio == 1e-4
