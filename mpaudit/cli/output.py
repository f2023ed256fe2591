"""Where commands write, and what the terminal there can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import click

from mpaudit.errors import UsageError
from mpaudit.static.sources import decode, read

PLAIN_WIDTH = 100
"""Columns where there is no terminal."""


def write(text: str, output: str | None) -> None:
    """To the terminal, or to a file that is complete or untouched. Raises UsageError where it cannot be written."""
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        if os.path.exists(output) and not os.path.isfile(output):  # /dev/stdout, a pipe
            Path(output).write_text(text, encoding="utf-8")
            return
        temporary = f"{output}.{os.getpid()}.tmp"
        try:
            Path(temporary).write_text(text, encoding="utf-8")
            os.replace(temporary, output)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}") from None


def has_colour() -> bool:
    """Whether standard output is a terminal that wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Columns of standard output."""
    if not sys.stdout.isatty():
        return PLAIN_WIDTH
    from shutil import get_terminal_size

    return get_terminal_size((PLAIN_WIDTH, 24)).columns


@lru_cache(maxsize=8)
def source(cwd: Path, path: str) -> Sequence[str]:
    """The lines of a file as the document names it; empty where it cannot be read."""
    data = read(cwd / path)
    return decode(data).split("\n") if isinstance(data, bytes) else ()
