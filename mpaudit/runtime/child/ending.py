"""How the script ended, from what Python knows at the end of the process."""

from __future__ import annotations

import sys

from mpaudit.runtime.protocol import Ending, ScriptError

from . import places

_NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "CUDA error: out of memory")


def uncaught() -> BaseException | None:
    """The exception that ended the main thread, where one did."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def show(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """`sys.excepthook` that leaves out the frames of mpaudit."""
    sys.stderr.write(places.without_ours(error))


def describe(error: BaseException) -> ScriptError:
    path, line = places.last(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        path, line = error.filename, error.lineno or 0
    return ScriptError(
        type=type(error).__qualname__,
        message=str(error),
        path=path,
        line=line,
        traceback=places.without_ours(error),
    )


def classify(error: BaseException) -> Ending:
    """Out of memory, on the host or on the device, or any other exception."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out-of-memory"
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY):
        return "out-of-memory"
    return "exception"
