"""Tables of ops across variants, on evidence made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from mpaudit.runtime.evidence import Kernel, OpEvidence, OpRow
from mpaudit.runtime.optables import By, compare, totals, without_tensor_cores


def row(op: str = "aten::mm", line: int = 1, us: tuple[float, ...] = (1000.0,) * 5, **fields: Any) -> OpRow:
    given = {
        "phase": "forward", "inputs": ("float32", "float32"), "outputs": ("float32",), "shapes": ((8, 8), (8, 8)),
        "path": "/train.py", "module": "fc", "calls": float(len(us)),
    } | fields  # fmt: skip
    return OpRow(op=op, line=line, us=us, **given)


def low(op: str = "aten::mm", line: int = 1, us: tuple[float, ...] = (500.0,) * 5, **fields: Any) -> OpRow:
    return row(op, line, us, **({"inputs": ("bfloat16", "bfloat16"), "outputs": ("bfloat16",)} | fields))


def cast(line: int, us: tuple[float, ...], phase: str = "forward") -> OpRow:
    return row("aten::_to_copy", line, us, inputs=("float32",), outputs=("bfloat16",), phase=phase)


def runs(*rows: OpRow, count: int = 2) -> list[OpEvidence]:
    return [OpEvidence(5, rows)] * count


def test_a_line_in_two_variants() -> None:
    (line,) = compare("line", runs(row()), runs(low(), cast(1, (100.0,) * 5)))
    assert (line.path, line.line, line.op) == ("/train.py", 1, "aten::mm")
    assert (line.baseline_ms, line.variant_ms, line.cast_ms, line.float32_ms) == (1.0, 0.6, 0.1, 0.0)
    assert (line.ratio, line.spread) == (1 / 0.6, (1 / 0.6, 1 / 0.6))
    assert line.dtypes == ("bfloat16",) and line.calls == 2.0


def test_what_still_runs_in_float32_comes_first() -> None:
    base = runs(row(line=1), row("aten::softmax", line=2), row("aten::add_", line=3, phase="optimizer"))
    amp = runs(low(line=1), row("aten::softmax", line=2, us=(900.0,) * 5), row("aten::add_", line=3, phase="optimizer"))
    lines = compare("line", base, amp)
    assert [(one.line, one.float32_ms) for one in lines] == [(2, 0.9), (3, 0.0), (1, 0.0)]


def test_a_hair_of_float32_decides_no_order() -> None:
    both = runs(low(line=1), row("aten::detach", line=2, us=(4.0,) * 5), row("aten::item", line=3, us=(1.0,) * 5))
    assert [one.line for one in compare("line", both, both)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("base", "amp", "known"),
    [
        (runs(row()), runs(low()), True),
        (runs(row(), count=1), runs(low()), False),
        (runs(row()), runs(low(us=(500.0, 1500.0, 400.0, 1600.0, 900.0))), False),
        ([OpEvidence(4, (row(us=(1.0,) * 4),))] * 2, runs(low()), False),
        (runs(row()), runs(low(us=(0.0,) * 5)), False),
    ],
    ids=["clear", "one run", "spread holds 1", "too few steps", "no time"],
)
def test_a_ratio_is_blank_where_it_is_not_known(base: Any, amp: Any, known: bool) -> None:
    (line,) = compare("line", base, amp)
    assert (line.ratio is not None) is known


@pytest.mark.parametrize(("by", "count"), [("op", 2), ("line", 2), ("module", 1), ("shape", 3)])
def test_other_keys(by: By, count: int) -> None:
    rows = (row(line=1), row(line=2, shapes=((4, 4), (4, 4))), row("aten::relu", line=2))
    assert len(compare(by, runs(*rows), runs(*rows))) == count


def test_what_only_one_variant_has_is_kept() -> None:
    lines = compare("line", runs(row(line=7)), runs(low(line=8)))
    assert {(one.line, one.baseline_ms, one.variant_ms) for one in lines} == {(7, 1.0, 0.0), (8, 0.0, 0.5)}


def test_unattributed_time_is_a_row() -> None:
    lines = compare("line", runs(row(path="", line=0)), runs(low(path="", line=0)))
    assert [(one.path, one.line, one.baseline_ms) for one in lines] == [("", 0, 1.0)]


def test_sums_are_set_against_a_clean_step() -> None:
    found = totals("fp32", runs(row(), row(path="", line=0, us=(250.0,) * 5)), step_ms=1.5)
    assert (found.variant, found.runs, found.steps) == ("fp32", 2, 10)
    assert (found.ops_ms, found.attributed, found.step_ms) == (1.25, 0.8, 1.5)


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "expected"),
    [
        ("aten::addmm", ("bfloat16", "bfloat16"), ("bfloat16",), "bfloat16"),
        ("aten::embedding", ("float32", "int64"), ("float32",), "float32"),
        ("aten::mul", ("bfloat16", "float32"), ("float32",), "float32"),
        ("aten::_to_copy", ("float32",), ("bfloat16",), "float32→bfloat16"),
        ("aten::_to_copy", ("float32",), ("float32",), "float32"),
        ("aten::argmax", ("float32",), ("int64",), "float32"),
        ("aten::add_", ("int64",), ("int64",), "int64"),
    ],
)
def test_the_dtype_that_is_used(op: str, inputs: tuple[str, ...], outputs: tuple[str, ...], expected: str) -> None:
    assert row(op, inputs=inputs, outputs=outputs).dtype_used == expected


def on_gpu(*rows: OpRow) -> OpEvidence:
    return OpEvidence(5, rows, "cuda", (8, 0))


NO, YES = Kernel("ampere_sgemm_128x128_tn", 5, 10.0, "no"), Kernel("ampere_bf16_s16816gemm", 5, 10.0, "yes")


def test_eligible_and_unused() -> None:
    evidence = on_gpu(
        row(kernels=(NO,)),
        low(line=2, kernels=(NO,), shapes=((8, 27), (27, 8))),
        low(line=3, kernels=(YES,)),
        low("aten::relu", line=4, kernels=(NO,)),
        low("aten::convolution", 5, kernels=(NO,), shapes=((4, 8, 9, 9), (8, 8, 3, 3)), layout="NCHW"),
    )
    found = {one.line: why.reason for one, why in without_tensor_cores(evidence)}
    assert found == {1: "dtype", 2: "shape", 5: "layout"}


def test_tensor_cores_of_a_line() -> None:
    evidence = [on_gpu(low(kernels=(YES,)), low("aten::add", kernels=(NO,)))] * 2
    assert compare("line", evidence, evidence)[0].tensor_cores == "yes"
    assert compare("line", runs(row()), runs(low()))[0].tensor_cores is None
    elementwise = [on_gpu(low("aten::add", kernels=(NO,)))] * 2
    assert compare("line", elementwise, elementwise)[0].tensor_cores is None
