"""What the run ran on: versions, device, and the switches that decide about precision and speed, as the script left
them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

import torch

Value = str | int | float | bool | None

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "asimd", "bf16", "sve")
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE")


def read() -> dict[str, Value]:
    """Names and values. What this build or device does not have is left out."""
    found: dict[str, Value] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu("model name") or platform.processor() or platform.machine(),
        "cpu_flags": " ".join(flag for flag in _FLAGS if flag in (_cpu("flags") or _cpu("Features") or "").split()),
        "cpus": os.cpu_count(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    readings: dict[str, Callable[[], Value]] = {
        "cpu_capability": torch.backends.cpu.get_cpu_capability,
        "float32_matmul_precision": torch.get_float32_matmul_precision,
        "matmul_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "cudnn_tf32": lambda: torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": lambda: torch.backends.cudnn.benchmark,
        "cudnn_deterministic": lambda: torch.backends.cudnn.deterministic,
        "fp16_reduced_precision_reduction": lambda: bool(
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
        ),
        "bf16_reduced_precision_reduction": lambda: bool(
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        ),
    }
    for name, reading in readings.items():
        try:
            found[name] = reading()
        except (RuntimeError, AttributeError):  # torch >= 2.9 refuses the old name once the script used the new one
            continue
    found |= {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    if torch.cuda.is_available():
        found |= _cuda()
    return found


def _cuda() -> dict[str, Value]:
    properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "driver": _driver(),
        "gpu": properties.name,
        "gpus": torch.cuda.device_count(),
        "capability": f"{properties.major}.{properties.minor}",
        "gpu_memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
    }


def _driver() -> str | None:
    try:
        with open("/sys/module/nvidia/version") as file:
            return file.read().strip()
    except OSError:
        return None


def _cpu(key: str) -> str | None:
    """The first value of `key` in Linux's /proc/cpuinfo."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass  # no Linux
    return None
