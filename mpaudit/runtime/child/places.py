"""The user's own lines among the frames of a stack."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from functools import lru_cache
from types import FrameType, TracebackType

from mpaudit.runtime.protocol import Place

_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_LIBRARIES = tuple(
    {os.path.join(path, "") for key, path in sysconfig.get_paths().items() if key in ("stdlib", "platstdlib")}
)
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


@lru_cache(maxsize=4096)
def is_ours(path: str) -> bool:
    """Code of mpaudit."""
    return os.path.abspath(path).startswith(_OURS)


@lru_cache(maxsize=4096)
def is_user(path: str) -> bool:
    """Code of the user: no library, nothing of Python's own, nothing of mpaudit."""
    if path.startswith("<") or is_ours(path):
        return False
    path = os.path.abspath(path)
    return not path.startswith(_LIBRARIES) and not any(part in path for part in _INSTALLED)


def caller(what: str, *, imports: bool = True) -> Place | None:
    """The innermost line of the user's code that is being run; None where only libraries are.

    Without `imports` also None for what a library does while it is imported.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not imports and path.startswith("<frozen importlib"):
            return None
        if is_user(path):
            return Place(os.path.abspath(path), frame.f_lineno, what)
        frame = frame.f_back
    return None


def last(trace: TracebackType | None) -> tuple[str, int]:
    """Path and line of the innermost user's frame of a traceback; ("", 0) where there is none."""
    found = ("", 0)
    for frame, line in traceback.walk_tb(trace):
        path = frame.f_code.co_filename
        if is_user(path):
            found = (os.path.abspath(path), line)
    return found


def without_ours(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of mpaudit."""
    shown = traceback.TracebackException.from_exception(error)
    level: traceback.TracebackException | None = shown
    while level is not None:
        frames = list(level.stack)
        if len(frames) > 1 and frames[0].filename == "<string>" and is_ours(frames[1].filename):
            del frames[0]  # the `python -c` that starts a notebook
        level.stack[:] = [frame for frame in frames if not is_ours(frame.filename)]
        level = level.__cause__ or level.__context__
    return "".join(shown.format())
