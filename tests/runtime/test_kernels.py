"""Tensor cores by the names of kernels, on names that people have posted. Not run on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpaudit.runtime.kernels import (
    has_tensor_cores_for,
    judge,
    judge_all,
    multiplies_matrices,
    uses_tensor_cores,
    why_unused,
)

CORPUS = json.loads((Path(__file__).parent / "data" / "kernel_names.json").read_text())
T4, A100, H100, P100 = (7, 5), (8, 0), (9, 0), (6, 0)


@pytest.mark.parametrize("entry", CORPUS["names"], ids=lambda entry: entry["name"][:60])
def test_the_name_tells(entry: dict[str, str]) -> None:
    assert uses_tensor_cores(entry["name"]) == entry["tensor_cores"]


def test_every_name_has_a_source() -> None:
    assert {entry["source"] for entry in CORPUS["names"]} == set(CORPUS["sources"])


@pytest.mark.parametrize(
    ("dtype", "capability", "tf32", "expected"),
    [
        ("float16", T4, False, True),
        ("bfloat16", T4, False, False),
        ("float32", T4, True, False),
        ("bfloat16", A100, False, True),
        ("float32", A100, True, True),
        ("float32", A100, False, False),
        ("float64", A100, False, True),
        ("float64", (8, 6), False, False),
        ("float8_e4m3fn", A100, False, False),
        ("float8_e4m3fn", H100, False, True),
        ("float16", P100, False, False),
    ],
)
def test_what_a_gpu_has(dtype: str, capability: tuple[int, int], tf32: bool, expected: bool) -> None:
    assert has_tensor_cores_for(dtype, capability, tf32) is expected


@pytest.mark.parametrize(
    ("kernel", "dtype", "capability", "tf32", "expected"),
    [
        ("matmul_kernel_persistent", "float32", A100, False, "no"),
        ("matmul_kernel_persistent", "bfloat16", T4, False, "no"),
        ("matmul_kernel_persistent", "bfloat16", A100, False, "unknown"),
        ("nvjet_tst_128x24_64x11_2x1_v_bz_TNT", "bfloat16", H100, False, "yes"),
        ("cutlass_80_tensorop_s1688gemm_128x128_16x5_nn_align4", "float32", A100, True, "yes"),
        ("cutlass_80_tensorop_s1688gemm_128x128_16x5_nn_align4", "float32", A100, False, "unknown"),
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80(Params)", "float32", A100, False, "yes"),
        ("ampere_sgemm_128x128_tn", "float16", A100, False, "no"),
        ("ampere_sgemm_128x128_tn", None, A100, False, "no"),
    ],
)
def test_the_dtype_is_a_second_opinion(
    kernel: str, dtype: str | None, capability: tuple[int, int], tf32: bool, expected: str
) -> None:
    assert judge(kernel, dtype, capability, tf32) == expected


def test_an_op_by_its_kernels() -> None:
    assert judge_all(["no", "yes", "unknown"]) == "yes"
    assert judge_all(["no", "unknown"]) == "unknown"
    assert judge_all(["no", "no"]) == "no"
    assert judge_all([]) == "unknown"


@pytest.mark.parametrize(
    ("op", "dtype", "shapes", "capability", "options", "reason"),
    [
        ("aten::mm", "float32", [(64, 64), (64, 64)], A100, {"tf32": False}, "dtype"),
        ("aten::mm", "bfloat16", [(64, 64), (64, 64)], T4, {"tf32": False}, "dtype"),
        ("aten::mm", "bfloat16", [(64, 27), (27, 64)], A100, {"tf32": False}, "shape"),
        ("aten::addmm", "bfloat16", [(10,), (64, 64), (64, 1)], A100, {"tf32": False}, "shape"),
        ("aten::convolution", "float16", [(8, 3, 32, 32), (64, 3, 3, 3)], A100, {"tf32": False}, "shape"),
        ("aten::convolution", "float16", [(8, 64, 9, 9), (64, 1, 3, 3)], A100, {"tf32": False}, "shape"),
        (
            "aten::convolution",
            "float16",
            [(8, 64, 9, 9), (64, 64, 3, 3)],
            A100,
            {"tf32": False, "channels_last": False},
            "layout",
        ),
        ("aten::mm", "float16", [(64, 64), (64, 64)], A100, {"tf32": False}, "unknown"),
    ],
)
def test_why_an_op_that_could_did_not(
    op: str,
    dtype: str,
    shapes: list[tuple[int, ...]],
    capability: tuple[int, int],
    options: dict[str, bool],
    reason: str,
) -> None:
    unused = why_unused(op, dtype, shapes, capability, **options)  # type: ignore[arg-type]
    assert unused is not None and unused.reason == reason


def test_the_size_that_does_not_fit_is_named() -> None:
    unused = why_unused("aten::mm.default", "float16", [(64, 27), (27, 64)], A100, tf32=False)
    assert unused is not None and unused.text == "sizes of 27, no multiple of 8"


def test_a_batch_is_no_channel() -> None:
    shapes = [(3, 64, 9, 9), (3, 64, 9, 9), (64, 64, 3, 3)]
    unused = why_unused("aten::convolution_backward", "float16", shapes, A100, tf32=False)
    assert unused is not None and unused.reason == "unknown"


def test_what_could_not_is_not_eligible() -> None:
    assert why_unused("aten::relu", "float16", [(64, 64)], A100, tf32=False) is None
    assert why_unused("aten::mm", "float16", [(64, 64), (64, 64)], P100, tf32=False) is None


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("aten::mm", True),
        ("aten::_addmm_activation", True),
        ("aten::baddbmm.out", True),
        ("aten::convolution_backward", True),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", True),
        ("aten::addcmul", False),
        ("aten::upsample_linear1d", False),
        ("aten::comm", False),
    ],
)
def test_products_of_matrices(op: str, expected: bool) -> None:
    assert multiplies_matrices(op) is expected
