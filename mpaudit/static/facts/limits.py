"""Bounds that both ways to read a chunk keep to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

MAX_DEPTH = 100
"""Expressions below this depth are Opaque."""
MAX_ITEMS = 64
"""Items of a display that are kept."""
MAX_TEXT = 200
"""Characters of a string that are kept."""

_DEEP = 30_000
"""Frames: LibCST's code generator uses about seven for each operator of a sum (`complexity.MAX_CHAIN`)."""


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Room for what recurses in Python, on the deepest expression that is parsed."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEP))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
