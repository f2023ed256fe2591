"""Hashes of contents, and of the sources of this package that an answer depends on."""

from __future__ import annotations

from functools import cache as once
from hashlib import blake2b
from pathlib import Path

from .sources import read

PARSING = ("outline.py", "syntax.py", "complexity.py", "triggers.py", "parsing.py", "facts")
"""The sources of this package that the facts of a file depend on."""


def digest_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


@once
def fingerprint(places: tuple[str, ...]) -> bytes:
    """The hash of sources of this package: what was worked out by others than these is not read again."""
    here = Path(__file__).parent
    files = {
        file for place in places for file in ([here / place] if place.endswith(".py") else (here / place).rglob("*.py"))
    }
    found = blake2b(digest_size=16)
    for file in sorted(files):
        data = read(file)
        found.update(file.name.encode() + (data if isinstance(data, bytes) else b"") + b"\0")
    return found.digest()
