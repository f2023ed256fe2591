"""Peak memory of the process: of the host from the system, of a CUDA device from torch's allocator."""

from __future__ import annotations

import sys

import torch

from mpaudit.runtime.protocol import Memory


def begin() -> None:
    """Forgets the peaks of what came before the measured steps."""
    if _on_cuda():
        torch.cuda.reset_peak_memory_stats()


def read() -> Memory:
    """The peaks so far. Of CUDA those of the device that is current, since `begin`."""
    if _on_cuda():
        return Memory(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), _resident())
    return Memory(resident=_resident())


def _on_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _resident() -> int | None:
    """Bytes. Linux's VmHWM starts anew with the program, which `getrusage` does not; macOS counts in bytes."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # no Linux
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
