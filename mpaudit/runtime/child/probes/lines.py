"""The line of the user's code that is being executed: the calling line, also where a library is called from it."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import torch.autograd.graph

_OURS = str(Path(__file__).resolve().parents[3])
_PROBES = str(Path(__file__).resolve().parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_INSTALLED = ("site-packages", "dist-packages")
_ENGINE = getattr(torch.autograd.graph, "_engine_run_backward", torch.autograd.backward).__code__

Site = tuple[str, int]
NOWHERE: Site = ("", 0)


def is_user_file(name: str) -> bool:
    """No installed package, nothing of Python's own, nothing of ours, no code without a file."""
    if name.startswith("<") or name.startswith(_OURS):
        return False
    return not name.startswith(_LIBRARIES) and not any(part in _INSTALLED for part in Path(name).parts)


def finder(is_user: Callable[[str], bool] = is_user_file, ours: str = "") -> Callable[[], Site | None]:
    """A function that gives file and line of the innermost frame of the user's code, up to a running backward pass.

    What lies outside of that pass is only where it was started: its ops belong to lines of the forward pass. None
    where a probe is at work (other than the file `ours`, which asks).
    """
    # by identity: to hash a code object is to hash all that it holds. What is kept lives on, so that none is reused
    known: dict[int, bool | None] = {}
    kept: list[CodeType] = []

    def kind(name: str) -> bool | None:
        if name.startswith(_PROBES) and name != ours:
            return None
        return is_user(name)

    unknown: Any = object()

    def find() -> Site | None:
        frame = sys._getframe(1)
        while True:
            code = frame.f_code
            if code is _ENGINE:
                return NOWHERE
            user = known.get(id(code), unknown)
            if user is unknown:
                user = known[id(code)] = kind(code.co_filename)
                kept.append(code)
            if user is None:
                return None
            if user:
                return code.co_filename, frame.f_lineno
            if frame.f_back is None:
                return NOWHERE
            frame = frame.f_back

    return find
