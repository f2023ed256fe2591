"""The evidence part of a report: tables by line or otherwise, sums, memory, the sentence on loss scaling."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mpaudit.audit import Audit
from mpaudit.measured import (
    ComparedOps,
    Evidence,
    FirstOverflow,
    GradientSizes,
    HeldMemory,
    LossScaling,
    ModuleRange,
    OpTable,
    OpTotals,
    Scaled,
)
from mpaudit.measured import WithoutTensorCores as Without
from mpaudit.render import terminal
from mpaudit.render.blocks import Table
from mpaudit.render.evidence import BY, SHOWN, blocks
from mpaudit.runtime.compare import document
from mpaudit.runtime.hardware import Hardware
from mpaudit.runtime.plan import Options
from mpaudit.runtime.protocol import Target
from mpaudit.runtime.session import Session

LINEAR = ComparedOps(
    *("aten::mm", "src/model.py", 7, "fc", ((8, 4), (4, 2)), ("bfloat16", "float32"), 2.0),
    *(10.0, 5.0, 2.0, (1.9, 2.1), 0.25, 0.5, None),
)
UNSURE = msgspec.structs.replace(LINEAR, line=8, op="aten::relu", ratio=None, spread=None, baseline_ms=4.0)
NOWHERE = msgspec.structs.replace(UNSURE, path="", line=0, module="", baseline_ms=0.0, variant_ms=0.002, float32_ms=0.0)
SMALL = msgspec.structs.replace(UNSURE, line=9, baseline_ms=0.01, variant_ms=0.02, float32_ms=0.02, cast_ms=0.0)
ROWS = (LINEAR, UNSURE, SMALL, msgspec.structs.replace(SMALL, line=10), NOWHERE)
HEAD = ModuleRange("head", "activation", 100, 0.5, 0.25, 0.0, 5, 17)
SIZES = (GradientSizes("activation", False, 9, 0, {-30: 1, -20: 3, -5: 4}), GradientSizes("activation", True, 0, 0, {}))
FP32 = LossScaling("fp32", False, True, "It needs it.", 5, 17, (HEAD,), SIZES, 1e-3, False, True, 0.04, 0.16, (), None)
BF16 = msgspec.structs.replace(FP32, variant="amp-bf16")
EMULATED = msgspec.structs.replace(
    FP32,
    variant="amp-fp16",
    emulated=True,
    scaler=(Scaled(0, 65536.0, True, True), Scaled(1, 32768.0, False, True)),
    overflow=FirstOverflow(0, "aten::_to_copy", True, "src/model.py", 7, "fc.weight"),
)


def shown(by: str = "line", width: int = 100, **changes: object) -> str:
    given = {
        "totals": (OpTotals("fp32", 2, 10, 14.0, 0.98, 20.0), OpTotals("amp-bf16", 2, 10, 10.0, 0.97, None)),
        "tables": tuple(OpTable(way, "fp32", "amp-bf16", ROWS) for way in BY),
        "without_tensor_cores": (),
        "memory": (HeldMemory("fp32", 2**20, 2**20, 0, 2**31, 512),),
        "loss_scaling": (FP32, BF16, EMULATED),
    } | changes
    audit = msgspec.structs.replace(empty(), evidence=Evidence(**given))  # type: ignore[arg-type]
    return terminal.write(blocks(audit, by), width, colour=False)


def empty() -> Audit:
    session = Session(Options(Target("script", "train.py"), "cpu", "/out"), 0)
    return document(session, Hardware("2.13.0", "cpu", "a CPU", 2), (), budget_s=None, cwd=Path("/p"))


def test_without_evidence_nothing_is_said() -> None:
    assert list(blocks(empty(), "line")) == []


LONG = msgspec.structs.replace(LINEAR, op="aten::_scaled_dot_product_flash_attention_for_cpu_backward")


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("width", [80, 100])
def test_no_table_is_wider_than_the_terminal(width: int, by: str) -> None:
    tables = tuple(OpTable(way, "fp32", "amp-bf16", (LONG, *ROWS)) for way in BY)
    module = msgspec.structs.replace(HEAD, module="encoder.layers.0.self_attention.projection.out")
    scaling = (msgspec.structs.replace(FP32, modules=(module,)), EMULATED)
    text = shown(by, width, tables=tables, loss_scaling=scaling)
    assert max(map(len, text.splitlines())) <= width
    if width == 80:
        assert "encoder" in text and "ection.out" in text


def test_headers_are_broken_and_names_shortened_only_where_they_must_be() -> None:
    """Of a narrow terminal the last row of the headers stands above the cells."""
    rows = [("aten::convolution_backward_overrideable", "1.00 ms", "fits")]
    table = Table(("the op", " time in fp32", "what is it"), tuple(rows))
    assert terminal.write([table], 80, colour=False).splitlines() == [
        "  the op                                   time in fp32  what is it",
        "  aten::convolution_backward_overrideable       1.00 ms  fits",
    ]
    assert terminal.write([table], 40, colour=False).splitlines() == [
        "                                    what",
        "                           time in  is",
        "  the op                      fp32  it",
        "  aten::convo…verrideable  1.00 ms  fits",
    ]


def test_the_table_by_line() -> None:
    text = shown()
    cells = [row.split() for row in text.splitlines()]
    assert ["model.py:7", "bf16", "fp32", "0.5", "10", "5", "2.00×", "[1.90,", "2.10]", "0.25"] in cells
    assert ["model.py:8", "bf16", "fp32", "0.5", "4", "5", "0.25"] in cells
    assert "(unattributed)" in text and "src/" not in text.split("Loss scaling")[0]


def test_what_takes_next_to_no_time_is_one_row() -> None:
    text = shown()
    assert "model.py:9" not in text
    (others,) = [row.split() for row in text.split("\nOps:")[0].splitlines() if "(2 others)" in row]
    assert others == ["(2", "others)", "0.020", "0.040", "0.040"]


def test_a_table_has_its_end() -> None:
    many = tuple(msgspec.structs.replace(LINEAR, line=line) for line in range(1, SHOWN + 4))
    text = shown(tables=(OpTable("line", "fp32", "amp-bf16", many),))
    assert "(3 others)" in text and f"model.py:{SHOWN} " in text and f"model.py:{SHOWN + 1} " not in text


def test_a_table_without_rows() -> None:
    assert "Ops by line" in shown(tables=(OpTable("line", "fp32", "amp-bf16", ()),))


@pytest.mark.parametrize(
    ("by", "headings", "cell"),
    [
        ("line", ["Ops by line", "Ops"], "model.py:7 "),
        ("op", ["Ops"], "relu "),
        ("module", ["Ops by module"], "(outside of modules) "),
        ("shape", ["Ops by shape"], "mm 8×4 4×2 "),
    ],
)
def test_by(by: str, headings: list[str], cell: str) -> None:
    text = shown(by)
    assert [row.split(":")[0] for row in text.splitlines() if row.startswith("Ops")] == headings
    assert cell in text


def test_sums_beside_the_clean_step() -> None:
    text = " ".join(shown().split())
    assert "fp32: ops sum up to 14 ms in a step that takes 20 ms without a profiler; 98.0 % of it has a line" in text
    assert "amp-bf16: ops sum up to 10 ms; 97.0 % of it has a line of yours" in text


def test_tensor_cores_are_told_where_there_are_some() -> None:
    assert "tensor cores" not in shown()
    row = msgspec.structs.replace(LINEAR, tensor_cores="no")
    unused = Without("amp-bf16", "aten::mm", "src/model.py", 7, ((8, 4),), 5.0, "shape", "4 is not a multiple of 8")
    text = shown(tables=(OpTable("line", "fp32", "amp-bf16", (row,)),), without_tensor_cores=(unused,))
    assert "in fp32  tensor cores" in text and "0.25  no\n" in text
    assert "src/model.py:7  mm   5  shape   4 is not a multiple of 8" in text


def test_memory() -> None:
    assert "  fp32          1.0 MiB    1.0 MiB          0     2.00 GiB  0.5 KiB\n" in shown()


def test_the_batch_that_fits() -> None:
    memory = (HeldMemory("fp32", 1, 1, 0, 9, 0), HeldMemory("amp-bf16", 1, 1, 0, 4, 1, 1.8))
    assert "In what fp32 holds, amp-bf16 would hold a batch about 1.8 times as large" in shown(memory=memory)


def test_loss_scaling_is_said_once() -> None:
    text = shown()
    assert text.count("It needs it.") == 1
    assert "From the gradients of fp32; those of amp-bf16 and amp-fp16 (emulated) agree." in text
    cells = [row.split() for row in text.splitlines()]
    assert ["head", "activation", "50", "%", "25", "%", "0", "%", "2^5", "…", "2^17"] in cells
    assert "those that stay float32 under autocast are left out" in " ".join(text.split())


def test_the_scaler_has_its_history() -> None:
    text = " ".join(shown().split())
    assert (
        "amp-fp16 (emulated): the loss scale was 2^16 at the start and 2^15 at the last of 2 steps; 1 step was left "
        "out, at 2^16" in text
    )
    assert (
        "the first overflow, in step 1, was a rounding to 16 bits in the backward pass of src/model.py:7; the first "
        "parameter it reached was fc.weight" in text
    )
    quiet = msgspec.structs.replace(EMULATED, scaler=(Scaled(0, 1000.0, False, True),), overflow=None)
    text = " ".join(shown(loss_scaling=(FP32, quiet)).split())
    assert "the loss scale was 1000 at the start; no step was left out" in text and "overflow," not in text


def test_an_overflow_in_a_step_that_was_not_looked_at_is_said() -> None:
    native = msgspec.structs.replace(EMULATED, emulated=False, overflow=None)
    assert "amp-fp16: where it overflowed is not known" in " ".join(shown(loss_scaling=(FP32, native)).split())


def test_a_loss_that_was_not_finite_is_not_laid_to_the_scale() -> None:
    lost = msgspec.structs.replace(EMULATED, scaler=(Scaled(0, 65536.0, True, False),))
    assert "the loss itself was not finite" in " ".join(shown(loss_scaling=(FP32, lost)).split())


def test_gradients_by_size() -> None:
    cells = [row.split() for row in shown().splitlines()]
    assert ["activations,", "first", "steps", "12.5", "%", "37.5", "%", "50", "%"] in cells
    assert ["activations,", "last", "steps"] in cells


@pytest.mark.parametrize(
    ("fp16", "bf16", "said"),
    [
        (False, True, "Weights in float32 are needed beside bfloat16 ones: 4 % of the changes"),
        (True, True, "Weights in float32 are needed beside float16 and bfloat16 ones:"),
        (False, False, "Weights in float32 are not needed beside 16-bit ones:"),
    ],
)
def test_whether_float32_weights_are_needed(fp16: bool, bf16: bool, said: str) -> None:
    seen = msgspec.structs.replace(FP32, masters_fp16=fp16, masters_bf16=bf16)
    text = " ".join(shown(loss_scaling=(seen,)).split())
    assert said in text and "moves a parameter by 1.0e-03 of its norm" in text
    unknown = msgspec.structs.replace(FP32, masters_fp16=None, masters_bf16=None)
    assert "Weights in" not in shown(loss_scaling=(unknown,))


def test_a_precision_that_disagrees_is_heard() -> None:
    other = msgspec.structs.replace(EMULATED, needed=False, sentence="It does not.")
    text = shown(loss_scaling=(FP32, BF16, other))
    assert "amp-fp16 (emulated)  It does not." in text
    assert "those of amp-bf16 agree." in text


def test_without_a_run_under_autocast_it_is_told() -> None:
    text = " ".join(shown(loss_scaling=(FP32,)).split())
    assert "as no run was under autocast" in text and "left out" not in text and "From the gradients" not in text


def test_one_precision_alone_has_sums_and_no_ratios() -> None:
    text = shown(tables=())
    assert "\nOps\n  fp32: ops sum up to 14 ms" in text and "ratios are" not in text


def test_traces_are_told_where_they_were_kept() -> None:
    assert "Traces" not in shown()
    assert "Traces\ntensorboard --logdir out/traces shows them" in shown(traces="out/traces")
