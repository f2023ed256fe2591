"""Writes into the folder of the run: whole or not at all."""

from __future__ import annotations

import os
import sys

from mpaudit.runtime.child import real
from mpaudit.runtime.outcome import CANNOT_WRITE


def write(path: str, data: bytes) -> None:
    """Puts `data` at `path` atomically. A disk that takes no more ends the process with a sentence for the parent."""
    draft = f"{path}.{os.getpid()}.draft"
    try:
        real.makedirs(os.path.dirname(path), exist_ok=True)  # the script may have deleted it
        descriptor = real.open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[real.write(descriptor, rest) :]
        finally:
            real.close(descriptor)
        real.replace(draft, path)
    except OSError as error:
        real.write(2, f"mpaudit: cannot write {os.path.basename(path)}: {error.strerror}\n".encode())
        leave(CANNOT_WRITE)


def leave(status: int) -> None:
    """Ends the process at once, as `os._exit`, but with what it has printed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or taken away, by the script
            continue
    real.exit_now(status)
