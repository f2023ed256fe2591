"""Which runs, in which order, and what goes first when time is short."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit.runtime.evidence import EVIDENCE_STEPS, EVIDENCE_WARMUP
from mpaudit.runtime.plan import Options, Planned, cut, plan, shortened, without
from mpaudit.runtime.protocol import Target, Variant

OPTIONS = Options(Target("script", "train.py", ("--epochs", "3")), "cpu", "/out")


def names(runs: list[Planned]) -> list[str]:
    return [run.plan.run for run in runs]


def planned(variants: tuple[Variant, ...] = ("fp32", "amp-bf16"), rounds: int = 3) -> list[Planned]:
    return plan(Options(OPTIONS.target, "cpu", "/out", rounds=rounds), variants)


def test_rounds_turn_round() -> None:
    assert names(planned()) == [
        *("fp32-1", "amp-bf16-1"),
        *("amp-bf16-2", "fp32-2"),
        *("fp32-3", "amp-bf16-3"),
        "fp32-perturbed",
    ]
    three = planned(("fp32", "tf32", "amp-fp16"), 2)
    assert names(three)[:6] == ["fp32-1", "tf32-1", "amp-fp16-1", "amp-fp16-2", "tf32-2", "fp32-2"]


@given(st.integers(1, 6), st.integers(1, 4))
def test_a_steady_drift_meets_all_variants_alike(pairs: int, count: int) -> None:
    variants: tuple[Variant, ...] = ("fp32", "tf32", "amp-bf16", "amp-fp16")[:count]  # type: ignore[assignment]
    places: dict[str, list[int]] = {variant: [] for variant in variants}
    for place, run in enumerate(run for run in planned(variants, 2 * pairs) if run.round):
        places[run.plan.variant].append(place)
    assert len({sum(where) for where in places.values()}) == 1


def test_one_round_needs_another_fp32_run() -> None:
    assert names(planned(rounds=1)) == ["fp32-1", "amp-bf16-1", "fp32-again", "fp32-perturbed"]


def test_no_floor_without_fp32() -> None:
    assert names(planned(("amp-bf16",), 2)) == ["amp-bf16-1", "amp-bf16-2"]


def test_what_a_run_is_told() -> None:
    first, *_, floor = planned()
    assert (first.plan.kind, first.plan.perturb, first.round) == ("timing", False, 1)
    assert (floor.plan.kind, floor.plan.perturb, floor.round) == ("floor", True, 0)
    assert first.plan.folder == "/out/fp32-1"
    assert first.plan.target.arguments == ("--epochs", "3")
    assert len({run.plan.folder for run in planned()}) == len(planned())


def test_nothing_more_of_a_variant() -> None:
    assert names(without(planned(rounds=2), "fp32")) == ["amp-bf16-1", "amp-bf16-2"]


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (7, ["fp32-1", "amp-bf16-1", "amp-bf16-2", "fp32-2", "fp32-3", "amp-bf16-3", "fp32-perturbed"]),
        (6, ["fp32-1", "amp-bf16-1", "amp-bf16-2", "fp32-2", "fp32-3", "amp-bf16-3"]),
        (5, ["fp32-1", "amp-bf16-1", "amp-bf16-2", "fp32-2", "fp32-perturbed"]),
        (4, ["fp32-1", "amp-bf16-1", "fp32-perturbed"]),
        (3, ["fp32-1", "amp-bf16-1", "fp32-perturbed"]),
        (2, ["fp32-1", "amp-bf16-1"]),
        (1, ["fp32-1"]),
        (0, []),
    ],
)
def test_what_goes_first(budget: float, kept: list[str]) -> None:
    assert names(cut(planned(), lambda run: 1.0, budget)) == kept


def test_the_floor_is_kept_when_the_rounds_are_done() -> None:
    floor = planned()[-1:]
    assert cut(floor, lambda run: 1.0, 1) == floor
    assert cut(floor, lambda run: 1.0, 0.5) == []
    rest = planned(rounds=4)[7:]
    assert names(rest) == ["fp32-4", "fp32-perturbed"]
    assert names(cut(rest, lambda run: 1.0, 1)) == ["fp32-perturbed"]


def test_the_third_round_makes_an_interval_and_goes_before_evidence_and_floor() -> None:
    runs = plan(msgspec.structs.replace(OPTIONS, rounds=3, evidence=1), ("fp32", "amp-bf16"))[5:]
    assert names(runs) == ["amp-bf16-3", "fp32-perturbed", "fp32-evidence-1", "amp-bf16-evidence-1"]
    assert names(cut(runs, lambda run: 1.0, 3)) == ["amp-bf16-3", "fp32-perturbed"]
    assert names(cut(runs, lambda run: 1.0, 1)) == ["amp-bf16-3"]


def test_the_floor_goes_before_a_second_round_that_makes_no_interval() -> None:
    for rounds in (2, 3, 5):
        assert names(cut(planned(rounds=rounds), lambda run: 1.0, 4)) == ["fp32-1", "amp-bf16-1", "fp32-perturbed"]
        assert names(cut(planned(rounds=rounds)[2:], lambda run: 1.0, 2)) == ["fp32-perturbed"]


@given(st.integers(1, 5), st.floats(0, 30), st.integers(0, 10))
def test_a_cut_plan_fits_and_keeps_the_order(rounds: int, budget: float, done: int) -> None:
    runs = planned(rounds=rounds)[done:]
    kept = cut(runs, lambda run: 1.5, budget)
    assert 1.5 * len(kept) <= budget or not kept
    assert kept == [run for run in runs if run in kept]


def test_a_short_script_gets_a_short_warm_up() -> None:
    short = shortened(OPTIONS, 12)
    assert (short.warmup, short.steps) == (3, 9)
    assert (shortened(OPTIONS, 2).warmup, shortened(OPTIONS, 2).steps) == (1, 1)
    with pytest.raises(ValueError):
        shortened(OPTIONS, 1)


def test_evidence_runs_come_last_with_steps_for_every_probe() -> None:
    runs = plan(msgspec.structs.replace(OPTIONS, evidence=2, emulate=("amp-fp16",)), ("fp32", "amp-bf16"))
    last = [run for run in runs if run.plan.kind == "evidence"]
    assert names(last) == [
        "fp32-evidence-1",
        "amp-bf16-evidence-1",
        "fp32-evidence-2",
        "amp-bf16-evidence-2",
        "amp-fp16-emulated",
    ]
    assert last == runs[-5:]
    assert {(run.plan.warmup, run.plan.steps) for run in last} == {(EVIDENCE_WARMUP, EVIDENCE_STEPS)}
    assert [run.plan.emulate for run in last] == [False] * 4 + [True]


def test_evidence_goes_before_the_floor() -> None:
    runs = plan(msgspec.structs.replace(OPTIONS, rounds=2, evidence=1), ("fp32", "amp-bf16"))
    assert names(cut(runs, lambda run: 1.0, 7)) == names(runs)
    assert names(cut(runs, lambda run: 1.0, 6)) == [*names(runs)[:4], "fp32-perturbed"]
