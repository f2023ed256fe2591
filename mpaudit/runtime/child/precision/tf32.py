"""TF32 as the variant has it, whatever the script sets.

torch >= 2.9 has two ways to say it, `allow_tf32` and `fp32_precision`, and raises on a read of the one where the other
was written and they disagree. Both are written here, and say the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ..patches import Patches
from .record import Record

_SWITCHES = (
    "_set_cublas_allow_tf32",
    "_set_cudnn_allow_tf32",
    "_set_onednn_allow_tf32",
    "_set_float32_matmul_precision",
    "_set_fp32_precision_setter",
)
"""Of `torch._C`: all that the public settings end in."""


def force(allowed: bool, patches: Patches, record: Record) -> None:
    """Sets TF32 of matmuls and convolutions on or off, and keeps it so."""
    _set(allowed)

    def keep(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def ignored(*args: Any) -> None:
            record.site("sets the precision of float32 matrix multiplications: held as the variant has it")

        return ignored

    for name in _SWITCHES:
        if hasattr(torch._C, name):
            patches.replace(torch._C, name, keep)
    # this module took the function itself at its import
    setting = vars(type(torch.backends.cudnn)).get("allow_tf32")
    if hasattr(setting, "setter"):
        patches.replace(setting, "setter", keep)


def _set(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    if hasattr(torch._C, "_set_fp32_precision_setter"):
        for operation in ("matmul", "conv", "rnn"):
            torch._C._set_fp32_precision_setter("cuda", operation, "tf32" if allowed else "ieee")
        for operation in ("matmul", "conv", "rnn"):  # the CPU has no TF32, but may be told to use bfloat16
            torch._C._set_fp32_precision_setter("mkldnn", operation, "ieee")


def read() -> dict[str, str | bool]:
    """The settings in force, by their public names; those that torch refuses to read are left out."""
    found: dict[str, str | bool] = {}
    for name, get in _SETTINGS.items():
        try:
            found[name] = get()
        except (AttributeError, RuntimeError):  # an older torch; the two ways mixed by the script
            continue
    return found


_SETTINGS: dict[str, Callable[[], Any]] = {
    "torch.get_float32_matmul_precision": torch.get_float32_matmul_precision,
    "torch.backends.cuda.matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
    "torch.backends.cudnn.allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
    "torch.backends.cuda.matmul.fp32_precision": lambda: torch.backends.cuda.matmul.fp32_precision,
    "torch.backends.cudnn.conv.fp32_precision": lambda: torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
    "torch.backends.mkldnn.matmul.fp32_precision": lambda: torch.backends.mkldnn.matmul.fp32_precision,  # type: ignore[attr-defined]
}
