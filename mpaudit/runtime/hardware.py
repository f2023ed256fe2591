"""What this machine can run, and which precisions are worth running on it: asked of a child, for torch stays there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from mpaudit.errors import UsageError
from mpaudit.measured import Ceiling, LeftOut
from mpaudit.runtime.protocol import VARIANTS, Variant

Device = Literal["cpu", "cuda", "mps", "xpu"]

PROBE_LIMIT_S = 180.0
"""For the import of torch and the ceilings; they take seconds."""

NATIVE_FP16 = "fp16 on a CPU is about a hundred times slower than fp32: its times would say nothing"


EMULATED_BUDGET_S = 600.0
"""For a plan with runs in bf16 that is emulated, where no budget is given: one such step can take minutes."""


class Hardware(msgspec.Struct, frozen=True):
    """One device, as torch sees it, and what it gave at best."""

    torch: str
    device: Device
    name: str
    threads: int
    capability: tuple[int, int] | None = None
    """Of a CUDA device: (8, 0) is sm80."""
    native_bf16: bool | None = None
    """Of a CPU: whether oneDNN finds instructions for bf16. None where that is not known."""
    ceilings: tuple[Ceiling, ...] = ()

    def notes(self, variants: Iterable[str]) -> tuple[str, ...]:
        """What the reader of its figures for `variants` should know."""
        if self.native_bf16 is False and "amp-bf16" in variants:
            return ("this CPU has no bf16 instructions: bf16 is emulated, much slower than fp32",)
        return ()


class Refusal(msgspec.Struct, frozen=True):
    """Why the device that was asked for cannot be used."""

    refused: str


def probe(device: str, *, limit_s: float = PROBE_LIMIT_S) -> Hardware:
    """The device (`auto` takes CUDA, XPU, MPS, CPU in this order), with its ceilings measured in a process of its own.

    Raises UsageError where torch cannot be imported or the device is not there.
    """
    root = str(Path(__file__).parents[2])
    # not -m: a module of the user's working directory must not stand in for one of ours
    start = f"import sys; sys.path[:1] = []; sys.path.append({root!r}); from mpaudit.runtime.child.ceilings import main"
    with tempfile.TemporaryDirectory(prefix="mpaudit-", ignore_cleanup_errors=True) as scratch:
        answer = Path(scratch, "hardware.json")
        command = [sys.executable, "-c", f"{start}; main({device!r}, {str(answer)!r})"]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=limit_s, cwd=scratch, env=_absolute_paths(), check=False
            )
            return _read(answer.read_bytes())
        except subprocess.TimeoutExpired:
            raise UsageError(f"the device {device} did not answer within {limit_s:g} s") from None
        except (OSError, msgspec.DecodeError):
            last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UsageError(f"torch cannot be used: {last}") from None


def _read(answer: bytes) -> Hardware:
    found = msgspec.json.decode(answer, type=dict[str, object])
    if "refused" in found:
        raise UsageError(msgspec.convert(found, Refusal).refused)
    return msgspec.convert(found, Hardware)


def _absolute_paths() -> dict[str, str]:
    """The environment for another working directory."""
    env = dict(os.environ)
    if paths := env.get("PYTHONPATH"):
        env["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep) if path)
    return env


def choose(hardware: Hardware, wanted: Sequence[Variant] | None) -> tuple[tuple[Variant, ...], tuple[LeftOut, ...]]:
    """The precisions to run, fp32 first, and those that are left out with the reason: of those wanted, or of all.

    What is asked for by name runs where it has a meaning at all; by default only what this device does at full speed.
    """
    kept: list[Variant] = []
    left_out = []
    for variant in VARIANTS:
        if wanted is not None and variant not in wanted:
            continue
        reason = _impossible(hardware, variant) or (None if wanted is not None else _pointless(hardware, variant))
        if reason is None:
            kept.append(variant)
        else:
            left_out.append(LeftOut(variant, reason))
    return tuple(kept), tuple(left_out)


def default_budget(hardware: Hardware, chosen: Sequence[Variant]) -> float | None:
    """Seconds for a plan to which no budget is given; None is no bound."""
    return EMULATED_BUDGET_S if hardware.native_bf16 is False and "amp-bf16" in chosen else None


def _impossible(hardware: Hardware, variant: Variant) -> str | None:
    if variant == "amp-fp16" and hardware.device == "cpu":
        return NATIVE_FP16
    if variant == "tf32":
        if hardware.device != "cuda":
            return "TF32 is a format of CUDA devices"
        if _below(hardware, (8, 0)):
            return f"TF32 needs compute capability 8.0, this GPU has {_shown(hardware)}"
    return None


def _pointless(hardware: Hardware, variant: Variant) -> str | None:
    if variant == "amp-bf16" and hardware.device == "cuda" and _below(hardware, (8, 0)):
        return f"bf16 is emulated below compute capability 8.0, this GPU has {_shown(hardware)}"
    if variant == "amp-bf16" and hardware.device == "mps":
        return "not every MPS device has bf16; ask for it with --variants"
    if variant == "amp-fp16" and hardware.device == "cuda" and _below(hardware, (7, 0)):
        return f"tensor cores begin with compute capability 7.0, this GPU has {_shown(hardware)}"
    return None


def _below(hardware: Hardware, capability: tuple[int, int]) -> bool:
    return hardware.capability is not None and hardware.capability < capability


def _shown(hardware: Hardware) -> str:
    return ".".join(map(str, hardware.capability or ()))
