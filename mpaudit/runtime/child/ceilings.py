"""The best that a device gives: short matrix products and a convolution in each precision, in a process of its own.

Rates are the best of several repetitions, not a median: a ceiling is what nothing got above. fp16 on a CPU is left out.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F

from mpaudit.measured import Ceiling
from mpaudit.runtime.hardware import Device, Hardware, Refusal, choose
from mpaudit.runtime.protocol import VARIANTS

SECONDS = 0.25
"""Spent on each operation in each precision, after one call to warm up."""

MATMULS = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192), "xpu": (2048, 4096), "mps": (1024, 2048)}
"""n of n×n×n products: 2n³ floating point operations."""

CONVOLUTIONS = {
    "cpu": (8, 64, 56, 128),
    "cuda": (64, 256, 56, 256),
    "xpu": (32, 128, 56, 128),
    "mps": (16, 64, 56, 128),
}
"""Images, channels in, height and width, channels out of a 3×3 convolution with padding 1."""

_DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "amp-bf16": torch.bfloat16,
    "amp-fp16": torch.float16,
}


def main(device: str, answer: str) -> None:
    """Writes a `Hardware`, or a `Refusal`, to the file `answer`."""
    found = _look(device)
    if isinstance(found, Hardware):
        found = msgspec.structs.replace(found, ceilings=tuple(measure(found)))
    Path(answer).write_bytes(msgspec.json.encode(found))


def _look(device: str) -> Hardware | Refusal:
    there = _available()
    if device != "auto" and device not in there:
        return Refusal(f"torch {torch.__version__} sees no {device} device here; it sees: {', '.join(there)}")
    kind = there[0] if device == "auto" else next(name for name in there if name == device)
    capability = torch.cuda.get_device_capability() if kind == "cuda" else None
    return Hardware(str(torch.__version__), kind, _name(kind), torch.get_num_threads(), capability, _native_bf16(kind))


def _native_bf16(device: Device) -> bool | None:
    """Whether this CPU has instructions for bf16; None where torch does not say."""
    if device != "cpu":
        return None
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return None


def _available() -> list[Device]:
    there: list[Device] = []
    if torch.cuda.is_available():
        there.append("cuda")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        there.append("xpu")
    if torch.backends.mps.is_available():
        there.append("mps")
    return [*there, "cpu"]


def _name(device: Device) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    if device == "xpu":
        return torch.xpu.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure(hardware: Hardware, seconds: float = SECONDS) -> Iterator[Ceiling]:
    """The ceilings of each precision that runs on this device, `seconds` for each operation. Where a precision is slow
    (bf16 on a CPU without instructions for it), what would take much longer is made smaller or left out."""
    variants, _ = choose(hardware, VARIANTS)
    device = torch.device(hardware.device)
    for variant in variants:
        with torch.no_grad(), _tf32(variant == "tf32"):
            rate = float("inf")
            for n in MATMULS[device.type]:
                operations = 2 * n**3
                if operations / rate > 2 * seconds:
                    break
                a, b = (torch.randn(n, n, device=device).to(_DTYPES[variant]) for _ in range(2))
                rate = _rate(partial(torch.matmul, a, b), operations, device, seconds)
                yield Ceiling("matmul", f"{n}×{n}×{n}", variant, rate / 1e12)
            images, channels, side, out = CONVOLUTIONS[device.type]
            operations = 2 * out * side * side * channels * 9
            images = max(1, min(images, int(seconds * rate / operations)))
            x = torch.randn(images, channels, side, side, device=device).to(_DTYPES[variant])
            w = torch.randn(out, channels, 3, 3, device=device).to(_DTYPES[variant])
            rate = _rate(partial(F.conv2d, x, w, padding=1), images * operations, device, seconds)
            yield Ceiling("convolution", f"{images}×{channels}×{side}×{side}, {out} filters 3×3", variant, rate / 1e12)


def _rate(call: Callable[[], torch.Tensor], operations: int, device: torch.device, seconds: float) -> float:
    """Operations per second of the fastest call; the first is for warming up, unless it is long."""
    best, end = float("inf"), time.perf_counter() + seconds
    for repetition in itertools.count():
        begin = time.perf_counter()
        call()
        _wait(device)
        now = time.perf_counter()
        if repetition or now >= end:
            best = min(best, now - begin)
        if now >= end:
            break
    return operations / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "xpu":
        torch.xpu.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Matrix products and convolutions of fp32 tensors in TF32, or strictly not; as before afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
