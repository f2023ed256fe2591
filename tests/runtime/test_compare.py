"""From runs to an Audit: what counts, what is compared with what, and in which words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mpaudit.audit import Audit, from_json, to_json
from mpaudit.measured import Ceiling, LeftOut, Place, Run
from mpaudit.runtime import protocol
from mpaudit.runtime.compare import ROUNDING, document, loss_verdict
from mpaudit.runtime.hardware import Hardware
from mpaudit.runtime.launch import RunRecord
from mpaudit.runtime.plan import Options, plan
from mpaudit.runtime.protocol import ChildPlan, Control, Memory, ScriptError, Target, Variant
from mpaudit.runtime.session import Done, Session
from tests.runtime.fakes import MB, dead, record

HARDWARE = Hardware("2.13.0", "cpu", "a CPU", 2, ceilings=(Ceiling("matmul", "512×512×512", "fp32", 0.1),))
CWD = Path("/home/me/project")
LOSSES = tuple(1 / (step + 1) for step in range(25))


def audited(answer: Any, variants: tuple[Variant, ...] = ("fp32", "amp-bf16"), rounds: int = 3) -> Audit:
    options = Options(Target("script", "train.py", ("--lr", "1")), "cpu", "/out", rounds=rounds)
    runs = plan(options, variants)
    session = Session(options, len(runs), [Done(run, answer(run.plan)) for run in runs])
    left_out = (LeftOut("amp-fp16", "slow"),)
    audit = document(session, HARDWARE, left_out, budget_s=None, cwd=CWD)
    assert from_json(to_json(audit)) == audit
    return audit


def timed(**speed: float) -> Any:
    """Runs of 12 ms, divided by the speed of their variant; a run is the slower the later its round is, by 1 %."""

    def answer(run: ChildPlan) -> RunRecord:
        number = run.run.rpartition("-")[2]
        slow = 1.01 ** int(number) if number.isdigit() else 1
        step = 12 * slow / speed.get(run.variant.replace("-", "_"), 1)
        return record(run, [step] * 20, losses=LOSSES)

    return answer


def test_a_speedup() -> None:
    audit = audited(timed(amp_bf16=1.5))
    (comparison,) = audit.comparisons
    assert (comparison.baseline, comparison.variant, comparison.rounds) == ("fp32", "amp-bf16", 3)
    assert comparison.speedup == pytest.approx(1.5)
    assert comparison.interval == pytest.approx((1.5, 1.5))  # what rounds have in common cancels
    assert comparison.verdict == "faster"
    fp32, bf16 = audit.profile.variants if audit.profile else ()
    assert (fp32.variant, fp32.runs, fp32.step_ms) == ("fp32", 3, pytest.approx(12 * 1.01**2))
    assert bf16.steps_per_s == pytest.approx(1000 * 1.5 / (12 * 1.01**2))
    assert fp32.outside_share == pytest.approx(0.1)
    assert fp32.timing_floor is not None and 1.02 < fp32.timing_floor < 1.06
    assert fp32.peak_memory_bytes == 100 * MB


def test_no_difference_and_slower() -> None:
    def noisy(run: ChildPlan) -> RunRecord:
        return record(run, [12 + (run.run in ("fp32-1", "amp-bf16-2"))] * 20)

    (comparison,) = audited(noisy).comparisons
    assert comparison.verdict == "no measurable difference"
    assert audited(timed(amp_bf16=0.5)).comparisons[0].verdict == "slower"


def test_one_round_has_no_interval() -> None:
    (comparison,) = audited(timed(amp_bf16=2), rounds=1).comparisons
    assert comparison.speedup == pytest.approx(2)
    assert (comparison.interval, comparison.verdict) == (None, "too few runs")


def test_amp_is_compared_with_tf32_too() -> None:
    audit = audited(timed(tf32=2, amp_bf16=3), ("fp32", "tf32", "amp-bf16"))
    assert [(c.baseline, c.variant, round(c.speedup or 0, 6)) for c in audit.comparisons] == [
        ("fp32", "tf32", 2),
        ("fp32", "amp-bf16", 3),
        ("tf32", "amp-bf16", 1.5),
    ]


def test_a_baseline_that_failed_is_not_one() -> None:
    audit = audited(lambda run: dead(run) if run.variant == "fp32" else record(run), ("fp32", "tf32", "amp-bf16"))
    assert [(c.baseline, c.variant) for c in audit.comparisons] == [("tf32", "amp-bf16")]
    assert len(audit.runs) == 10


def test_only_rounds_of_both_are_compared() -> None:
    def answer(run: ChildPlan) -> RunRecord:
        return dead(run) if run.run == "amp-bf16-2" else timed(amp_bf16=2)(run)

    audit = audited(answer)
    assert audit.comparisons[0].rounds == 2
    assert audit.comparisons[0].speedup == pytest.approx(2)


def with_losses(**losses: list[float]) -> Any:
    def answer(run: ChildPlan) -> RunRecord:
        key = run.run.replace("-", "_")
        return record(run, [12.0] * 20, losses=losses.get(key, losses.get(run.variant.replace("-", "_"), [1.0, 1.0])))

    return answer


@pytest.mark.parametrize(
    ("losses", "deviation", "floor", "verdict"),
    [
        ({"amp_bf16": [1.0, 1.001], "fp32_perturbed": [1.0, 1.002]}, 0.0005, 0.001, "within the noise floor"),
        ({"amp_bf16": [1.0, 1.001], "fp32_2": [1.0, 1.002]}, 0.0005, 0.001, "within the noise floor"),
        ({"amp_bf16": [1.0, 1.001]}, 0.0005, 0.0, "within rounding"),
        ({"amp_bf16": [1.0, 1.1]}, 0.05, 0.0, "beyond rounding"),
        ({}, 0.0, 0.0, "within the noise floor"),
        ({"amp_bf16": [1.0, math.nan]}, None, 0.0, "not finite"),
        ({"amp_bf16": [1.0, math.inf], "fp32": [1.0, math.inf]}, None, None, "unknown"),
        ({"amp_bf16": [], "fp32": []}, None, None, "unknown"),
    ],
)
def test_losses(losses: dict[str, list[float]], deviation: float | None, floor: float | None, verdict: str) -> None:
    (comparison,) = audited(with_losses(**losses)).comparisons
    assert comparison.loss_deviation == (deviation if deviation is None else pytest.approx(deviation, rel=1e-2))
    assert comparison.noise_floor == (floor if floor is None else pytest.approx(floor, rel=1e-2))
    assert comparison.loss_verdict == verdict


def test_a_perturbation_that_moved_nothing_is_a_repetition() -> None:
    (*_, unmoved) = audited(lambda run: record(run, control=Control("as-is"))).runs
    (*_, moved) = audited(record).runs
    assert (unmoved.run, unmoved.kind, unmoved.perturbed) == ("fp32-perturbed", "floor", False)
    assert moved.perturbed


def test_rounding_is_what_torch_says() -> None:
    import torch

    assert ROUNDING["amp-bf16"] == torch.finfo(torch.bfloat16).eps / 2
    assert ROUNDING["amp-fp16"] == torch.finfo(torch.float16).eps / 2
    assert loss_verdict(ROUNDING["amp-fp16"], 0.0, "amp-fp16") == "within rounding"
    assert loss_verdict(1e-3, 0.0, "fp32") == "beyond rounding"
    assert loss_verdict(1e-3, None, "amp-bf16") == "unknown"


def test_memory() -> None:
    def answer(run: ChildPlan) -> RunRecord:
        peak = 300 if run.variant == "fp32" else 240
        return record(run, memory=Memory(allocated=peak * MB, reserved=512 * MB, resident=4000 * MB))

    audit = audited(answer)
    assert audit.comparisons[0].memory_ratio == pytest.approx(0.8)
    assert audit.runs[0].peak_memory_bytes == 300 * MB
    assert audit.runs[0].memory.resident == 4000 * MB
    assert audited(lambda run: record(run, memory=Memory())).comparisons[0].memory_ratio is None


def run_of(answer: Any) -> Run:
    return audited(answer).runs[0]


def test_what_a_run_keeps() -> None:
    seen = protocol.Place(str(CWD / "src" / "train.py"), 41, "half weights")
    elsewhere = protocol.Place("/lib/amp.py", 7, "autocast")
    control = Control("overridden", (elsewhere, seen, seen), (seen,), scale=math.inf, skipped=3)
    run = run_of(lambda run: record(run, control=control, losses=(1.0, math.nan), patched=("torch.save",)))
    assert run.sites == (Place("/lib/amp.py", 7, "autocast"), Place("src/train.py", 41, "half weights"))
    assert run.unfaithful == (Place("src/train.py", 41, "half weights"),)
    assert (run.precision, run.scale, run.skipped) == ("overridden", None, 3)
    assert run.losses == (1.0, None)
    assert run.patched == ("torch.save",)
    assert run.output == ""


def test_what_a_run_that_failed_keeps() -> None:
    error = ScriptError("ValueError", "bad", str(CWD / "train.py"), 3, "Traceback …")
    run = run_of(
        lambda run: record(
            run, outcome="exception", sentence="raised ValueError", error=error, stderr="x\n" * 99 + "last\n"
        )
    )
    assert run.error is not None and run.error.path == "train.py"
    assert len(run.output.splitlines()) == 40 and run.output.endswith("last")
    assert run_of(lambda run: dead(run)).output == "usage: train.py"


def test_what_the_profile_says() -> None:
    audit = audited(timed())
    profile = audit.profile
    assert profile is not None
    assert profile.command == ("train.py", "--lr", "1")
    assert (profile.device, profile.device_name, profile.rounds, profile.planned_runs) == ("cpu", "a CPU", 3, 7)
    assert profile.left_out == (LeftOut("amp-fp16", "slow"),)
    assert profile.ceilings == HARDWARE.ceilings
    assert audit.environment == {"torch": "2.13.0", "device": "cpu", "device_name": "a CPU", "threads": 2}
    assert audited(lambda run: record(run, environment={"torch": "x", "tf32": False})).environment == {
        "torch": "x",
        "tf32": False,
    }


def test_a_plan_of_which_nothing_could_be_measured() -> None:
    audit = audited(dead)
    assert audit.comparisons == () and audit.profile is not None and audit.profile.variants == ()
    assert {run.outcome for run in audit.runs} == {"exit"}


def test_a_precision_in_which_nothing_was_computed_is_compared_with_nothing() -> None:
    def double(run: ChildPlan) -> RunRecord:
        return record(run, control=Control("injected", nothing="nothing was computed in it" * (run.variant != "tf32")))

    audit = audited(double, ("fp32", "tf32", "amp-bf16"))
    assert [(c.baseline, c.variant) for c in audit.comparisons] == [("fp32", "tf32")]
    assert {run.nothing for run in audit.runs if run.variant == "amp-bf16"} == {"nothing was computed in it"}
