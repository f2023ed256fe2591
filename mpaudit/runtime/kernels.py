"""Which CUDA kernels run on tensor cores: from the kernel's name, checked against the op's dtype and the GPU.

Names are no contract. Each pattern below stands for a family whose instruction is known: what a name does not give away
is `unknown` and shown as such. The corpus with the source of every name is tests/runtime/data/kernel_names.json.
Not run on a GPU: the answer for a real one is its hardware counters (Nsight Compute's tensor-pipe metric).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

TensorCores = Literal["yes", "no", "unknown"]
Capability = tuple[int, int]
"""Compute capability as torch gives it: (8, 0) is sm80."""
Shape = tuple[int, ...]

_NEVER = re.compile(
    r"simt|ffma|_dgemm|dgemm_|splitkreduce|"
    # what prepares, combines or finishes an attention or a Winograd transform, beside the kernel that multiplies
    r"flash_(?:fwd_splitkv_combine|bwd_(?:dot_do_o|convert_d[qkv]|preprocess|postprocess))|"
    r"nchwtonhwc|nhwctonchw|elementwise|reduce_kernel|softmax_warp|layer_norm|catarray|memcpy|memset|"
    r"bn_[fb]w|batch_norm|multi_tensor_apply|indexselect|embedding|"
    # CUTLASS attention takes tensor cores from sm70 on for half, from sm80 on for float32 (as three TF32 products)
    r"fmha_cutlass[fb]_\w+_sm50\b|fmha_cutlass[fb]_f32_\w+_sm7\d\b",
    re.IGNORECASE,
)
_MATRIX = re.compile(
    r"nvjet|wgmma|umma|tcgen05|utcmma|wmma|[hib]mma|dmma|tensorop|tensor\d+x\d+x\d+|warpgroupsize|sm100_s\d+x\d+|"
    # the shape of the instruction: h884, s1688, s16816, i16832, d884, s161616, with no digit around it
    r"(?<![a-z0-9])[a-z]{1,2}(?:884|1684|1688|16816|16832|16864|161616)(?!\d)|"
    r"fmha_cutlass[fb]|fmhasm\d|flash_(?:fwd|bwd)|flash_[fd]prop|flash_attn|fmha_(?:fwd|bwd|v2)|"
    r"xmma_\w*?(?:f16f16|bf16bf16|tf32|i8i8|e4m3|e5m2)",
    re.IGNORECASE,
)
_SCALAR = re.compile(
    r"sgemm|gemv|gemmk1|gemmsn|dot_kernel|scudnn|convolve_\w*gemm|convolvend_\w*gemm|winograd|fft[12]d|grouped_direct|"
    r"depthwise|[dw]grad_(?:engine|alg)|c1_k1|direct_copy|reduce|copy_kernel",
    re.IGNORECASE,
)


def uses_tensor_cores(kernel: str) -> TensorCores:
    """By the name alone. Triton's and untagged CUTLASS kernels, and names nobody has told us of, are `unknown`."""
    if _NEVER.search(kernel):
        return "no"
    if kernel.startswith("triton_") or "triton" in kernel.lower():
        # what Inductor calls pointwise, reduction and persistent reduction multiplies no matrices
        return "no" if re.match(r"triton_(?:poi|red|per)_", kernel) else "unknown"
    if _MATRIX.search(kernel):
        return "yes"
    if _SCALAR.search(kernel):
        return "no"
    return "unknown"


def has_tensor_cores_for(dtype: str, capability: Capability, tf32: bool) -> bool:
    """Whether the GPU multiplies matrices of this dtype (`float16`, `bfloat16`, `float32`, …) on tensor cores.

    V100 and T4 (7.x): float16 alone. From 8.0 on bfloat16 too, and float32 where TF32 is allowed; float64 on the data
    centre parts (8.0, 9.0, 10.0). As NVIDIA's CUDA C++ programming guide has it, «Compute Capabilities».
    """
    if dtype == "float16":
        return capability >= (7, 0)
    if dtype == "bfloat16":
        return capability >= (8, 0)
    if dtype == "float32":
        return tf32 and capability >= (8, 0)
    if dtype == "float64":
        return capability in ((8, 0), (9, 0), (10, 0))
    if dtype.startswith("float8"):
        return capability >= (8, 9)
    return dtype in ("int8", "uint8") and capability >= (7, 2)


def judge(kernel: str, dtype: str | None, capability: Capability, tf32: bool) -> TensorCores:
    """The name, with the dtype of the op's matrices as a second opinion.

    Where the GPU has no tensor cores for the dtype an unnamed kernel uses none; a name that says it does contradicts
    the dtype, and nothing is known. CUTLASS attention in float32 is no contradiction: it splits into TF32 by itself.
    """
    named = uses_tensor_cores(kernel)
    if dtype is None or has_tensor_cores_for(dtype, capability, tf32):
        return named
    if named == "unknown":
        return "no"
    if named == "yes" and not (dtype == "float32" and "fmha_cutlass" in kernel and capability >= (8, 0)):
        return "unknown"
    return named


def judge_all(answers: Sequence[TensorCores]) -> TensorCores:
    """Of an op by its kernels: one that multiplies on tensor cores decides, one that is unknown leaves it open."""
    if "yes" in answers:
        return "yes"
    return "unknown" if "unknown" in answers or not answers else "no"


class Unused(msgspec.Struct, frozen=True):
    """Why an op that multiplies matrices did so without tensor cores."""

    reason: Literal["dtype", "shape", "layout", "unknown"]
    text: str


_MATRIX_OP = re.compile(
    r"_?(?:add|b|baddb|addb|scaled_|grouped_)?mm(?:_activation)?|linear|matmul|(?:add)?mv|dot|einsum|"
    r"\w*convolution\w*|\w*attention\w*|\w*(?:lstm|gru|rnn)\w*"
)


def multiplies_matrices(op: str) -> bool:
    """Whether the work of an aten op, named as `aten::mm` or `aten::mm.out`, is products of matrices."""
    return _MATRIX_OP.fullmatch(_bare(op)) is not None


def _bare(op: str) -> str:
    return op.removeprefix("aten::").split(".")[0]


def why_unused(
    op: str,
    dtype: str,
    shapes: Sequence[Shape],
    capability: Capability,
    *,
    tf32: bool,
    channels_last: bool | None = None,
) -> Unused | None:
    """Why `op` (an aten name) of these inputs ran on no tensor cores where its GPU has some; None where it could not
    have: no product of matrices, or a GPU without.

    `shapes` are those of its tensor inputs, in order. `channels_last` is the layout of a convolution's input, None
    where that is unknown. A size that is no multiple of 8 is named as what makes cuBLAS and cuDNN choose slower
    kernels: since cuBLAS 11 and cuDNN 7.6.3 it forbids tensor cores no more.
    """
    name = _bare(op)
    if not multiplies_matrices(op) or capability < (7, 0):
        return None
    if not has_tensor_cores_for(dtype, capability, tf32):
        return Unused("dtype", _about_dtype(dtype, capability))
    if "conv" in name:
        known = [shape for shape in shapes if len(shape) > 2]
        given, weight = known[-2:] if len(known) > 1 else ((), ())  # a backward has the gradient before them
        if len(given) > 1 and weight[1] and given[1] > weight[1]:
            count = given[1] // weight[1]
            return Unused("shape", f"{count} groups: grouped and depthwise convolutions seldom have such kernels")
        if odd := [size for size in weight[:2] if size % 8]:
            return Unused("shape", f"channels of {_sizes(odd)}, no multiple of 8")
        if channels_last is False:
            return Unused("layout", "input in NCHW: tensor cores work on NHWC (torch.channels_last)")
        return Unused("unknown", "no reason is seen in its dtype, shapes or layout")
    matrices = [shape[-2:] for shape in shapes if len(shape) >= 2]
    if any(1 in matrix for matrix in matrices) or name in ("mv", "addmv", "dot"):
        return Unused("shape", "a product with a vector: bound by memory, no matrix instruction helps")
    if odd := sorted({size for matrix in matrices for size in matrix if size % 8}):
        return Unused("shape", f"sizes of {_sizes(odd)}, no multiple of 8")
    return Unused("unknown", "no reason is seen in its dtype or shapes")


def _about_dtype(dtype: str, capability: Capability) -> str:
    gpu = f"a GPU of compute capability {capability[0]}.{capability[1]}"
    if dtype == "float32":
        tensor = "and TF32 is not allowed" if capability >= (8, 0) else f"and {gpu} has no TF32"
        return f"float32 inputs, {tensor}: no autocast reaches this op"
    return f"{dtype} inputs: {gpu} has no tensor cores for them"


def _sizes(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
