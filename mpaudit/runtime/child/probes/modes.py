"""Dispatch modes that are left again, wherever the script is."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


def leave(mode: Any) -> None:
    """Exits a mode. While an op is under way, as where the time is over or the process is ended in it, the modes around
    it are off the stack: then the process ends, and there is nothing to exit."""
    if any(one is mode for one in _get_current_dispatch_mode_stack()):
        mode.__exit__(None, None, None)
