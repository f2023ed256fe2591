"""What evidence runs left in their folders, in the Audit."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from mpaudit import measured
from mpaudit.measured import Variant
from mpaudit.runtime.evidence import (
    EVIDENCE_FILE,
    MemoryByCategory,
    OpEvidence,
    OpRow,
    Overflow,
    RunEvidence,
    ScalerStep,
)
from mpaudit.runtime.evidence_summary import TABLES, batch_ratio, evidence, read
from mpaudit.runtime.loss_scaling import GradientEvidence, Gradients, Histogram, Update
from mpaudit.runtime.plan import Options, plan
from mpaudit.runtime.protocol import Target
from mpaudit.runtime.session import Done, Session
from tests.runtime.fakes import record


def ops(us: float, dtype: str = "float32", wild: bool = False) -> OpEvidence:
    times = (us / 4, us / 4, us, 4 * us, 4 * us) if wild else (us,) * 5
    made = [OpRow("aten::mm", "forward", (dtype, dtype), (dtype,), ((8, 8), (8, 8)), "/p/train.py", 7, "fc", 5, times)]
    made.append(OpRow("aten::add", "other", ("float32",), ("float32",), ((8,),), "", 0, "", 5, (100.0,) * 5))
    return OpEvidence(5, tuple(made))


def gradients(dtype: str) -> GradientEvidence:
    def one(module: str, exponent: int, dtype: str) -> Gradients:
        return Gradients(1, module, "0", "activation", dtype, Histogram(binades={exponent: (0, 100, 0)}))

    return GradientEvidence((one("loss", 0, "float32"), one("fc", -30, dtype)), (Update(1, "fc", "w", 0.1, 10, 1, 4),))


def summary(tmp_path: Path, left: Iterable[RunEvidence], clean: Iterable[Variant] = ()) -> measured.Evidence | None:
    """Of a session whose runs left these, by the name of the run."""
    options = Options(Target("script", "train.py"), "cpu", str(tmp_path), rounds=1, evidence=2, emulate=("amp-fp16",))
    by_run = {one.run: one for one in left}
    done = []
    for planned in plan(options, ("fp32", "amp-bf16")):
        os.makedirs(planned.plan.folder)
        if planned.plan.run in by_run:
            Path(planned.plan.folder, EVIDENCE_FILE).write_bytes(msgspec.json.encode(by_run[planned.plan.run]))
        done.append(Done(planned, record(planned.plan)))
    return evidence(Session(options, len(done), done), tuple(clean), Path("/p"))


def usual(wild: bool = False) -> list[RunEvidence]:
    held = MemoryByCategory(4, 4, 8, 100, 2)
    runs = []
    for number in (1, 2):
        runs.append(RunEvidence(f"fp32-evidence-{number}", "fp32", ops(1000.0), gradients("float32"), held))
        lower = ops(500.0, "bfloat16", wild)
        runs.append(RunEvidence(f"amp-bf16-evidence-{number}", "amp-bf16", lower, gradients("bfloat16"), held))
    scaler = (ScalerStep(0, 65536.0, True), ScalerStep(1, 32768.0, False))
    first = Overflow(0, "aten::mm", True, "/p/train.py", 7, "fc.weight")
    emulated = gradients("float16")
    given = {"scaler": scaler, "overflow": first, "emulated": True}
    return [*runs, RunEvidence("amp-fp16-emulated", "amp-fp16", ops(9e9), emulated, **given)]


def clean(variant: str, step_ms: float) -> Variant:
    return Variant(variant, 2, step_ms, 1000 / step_ms, 0.0, 0.0, 1)


def of(tmp_path: Path, left: Iterable[RunEvidence], times: Iterable[Variant] = ()) -> measured.Evidence:
    found = summary(tmp_path, left, times)
    assert found is not None
    return found


def test_nothing_left_is_no_evidence(tmp_path: Path) -> None:
    assert summary(tmp_path, []) is None


def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / EVIDENCE_FILE).write_text("{")
    assert read(str(broken)) is None and read(str(tmp_path / "none")) is None


def test_sums_are_set_against_the_step_of_the_timing_runs(tmp_path: Path) -> None:
    found = of(tmp_path, usual(), [clean("fp32", 2.5)])
    assert [(t.variant, t.runs, t.steps, t.ops_ms, t.step_ms) for t in found.totals] == [
        ("fp32", 2, 10, 1.1, 2.5),
        ("amp-bf16", 2, 10, 0.6, None),
    ]
    assert found.totals[0].attributed == 10 / 11


def test_a_table_for_each_way_to_group(tmp_path: Path) -> None:
    tables = of(tmp_path, usual()).tables
    assert [(table.by, table.baseline, table.variant) for table in tables] == [
        (by, "fp32", "amp-bf16") for by in TABLES
    ]
    line, unattributed = tables[0].rows
    assert (line.path, line.line, line.baseline_ms, line.variant_ms) == ("train.py", 7, 1.0, 0.5)
    assert (line.ratio, line.spread, line.dtypes) == (2.0, (2.0, 2.0), ("bfloat16",))
    assert (unattributed.path, unattributed.ratio) == ("", None)


def test_a_ratio_whose_spread_holds_one_is_blank(tmp_path: Path) -> None:
    row = of(tmp_path, usual(wild=True)).tables[0].rows[0]
    assert (row.line, row.variant_ms, row.ratio, row.spread) == (7, 0.5, None, None)


def test_of_an_emulation_no_time_is_told(tmp_path: Path) -> None:
    found = of(tmp_path, usual())
    assert "amp-fp16" not in {total.variant for total in found.totals} | {table.variant for table in found.tables}


def test_memory_of_each_precision_once(tmp_path: Path) -> None:
    held = of(tmp_path, usual()).memory
    assert [(one.variant, one.parameters, one.activations, one.casts) for one in held] == [
        ("fp32", 4, 100, 2),
        ("amp-bf16", 4, 100, 2),
    ]
    assert [one.batch_ratio for one in held] == [None, 1.0]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (MemoryByCategory(10, 10, 20, 50, 0), 2.0),
        (MemoryByCategory(10, 10, 20, 50, 50), 1.0),
        (MemoryByCategory(10, 10, 20, 0, 0), None),
        (MemoryByCategory(100, 20, 20, 50, 0), None),
    ],
    ids=["half the activations", "as much in casts", "nothing grows", "no room"],
)
def test_the_batch_that_a_saving_allows(held: MemoryByCategory, expected: float | None) -> None:
    assert batch_ratio(MemoryByCategory(10, 10, 20, 100, 0), held) == expected


def test_loss_scaling_looks_at_what_autocast_computes_in_half(tmp_path: Path) -> None:
    found = of(tmp_path, usual()).loss_scaling
    assert [(one.variant, one.emulated, one.needed) for one in found] == [
        ("fp32", False, True),
        ("amp-bf16", False, True),
        ("amp-fp16", True, True),
    ]
    assert {(one.smallest, one.largest) for one in found} == {(5, 15)}  # 45 but for the step that was left out
    assert {module.module for one in found for module in one.modules} == {"fc"}
    assert (found[0].lost_updates_fp16, found[0].lost_updates_bf16) == (0.1, 0.4)
    assert [(step.scale, step.skipped) for step in found[2].scaler] == [(65536.0, True), (32768.0, False)]
    assert found[2].overflow == measured.FirstOverflow(0, "aten::mm", True, "train.py", 7, "fc.weight")


def test_a_step_left_out_for_a_loss_that_was_not_finite_bounds_no_scale(tmp_path: Path) -> None:
    *others, emulated = usual()
    lost = ScalerStep(0, 65536.0, True, loss_finite=False)
    found = of(tmp_path, [*others, msgspec.structs.replace(emulated, scaler=(lost,))]).loss_scaling
    assert {(one.smallest, one.largest) for one in found} == {(5, 45)}


def test_without_a_run_under_autocast_every_gradient_counts(tmp_path: Path) -> None:
    (found,) = of(tmp_path, usual()[:1]).loss_scaling
    assert (found.smallest, found.largest) == (5, 15)
    assert {module.module for module in found.modules} == {"fc", "loss"}


def test_a_run_that_saw_no_gradient_gives_no_verdict(tmp_path: Path) -> None:
    empty = RunEvidence("amp-bf16-evidence-1", "amp-bf16", gradients=GradientEvidence())
    (found,) = of(tmp_path, [usual()[0], empty]).loss_scaling
    assert found.variant == "fp32" and found.needed
