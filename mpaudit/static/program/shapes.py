"""The shapes that evaluation passes around."""

from __future__ import annotations

from .state import PathState
from .values import Value

Results = list[tuple[PathState, Value]]
"""One entry per path that comes out of an expression."""
Args = tuple[Value, ...]
Keywords = tuple[tuple[str, Value], ...]
"""`**x` has the name ''."""
