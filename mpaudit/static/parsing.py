"""Parsing as work that may be done elsewhere: `ast` outlines a file, `ast` or LibCST lowers a chunk."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from .facts import ir
from .tasks import Task
from .triggers import Scanner


class Lowered(msgspec.Struct, array_like=True, frozen=True):
    statements: tuple[ir.Stmt, ...]
    problem: ir.SyntaxProblem | None
    by_tree: bool
    """LibCST has read it."""


class ToOutline(msgspec.Struct, array_like=True, frozen=True):
    data: bytes
    triggers: tuple[str, ...]


class Outlined(msgspec.Struct, array_like=True, frozen=True):
    outline: ir.Outline | None
    problem: ir.SyntaxProblem | None = None
    is_syntax: bool = False
    """The problem is a syntax error; otherwise the file is valid but cannot be taken."""


_LIMIT = 10.0


def _seconds(size: int) -> float:
    """Processor time that one piece may take: many times what was ever measured."""
    return _LIMIT + size / 50_000


def outline_file(question: ToOutline) -> Outlined:
    """The triage of one file."""
    from .outline import outline
    from .syntax import decode

    text = decode(question.data)
    if isinstance(text, ir.SyntaxProblem):
        return Outlined(None, text)
    found = outline(text, _scanner(question.triggers))
    if isinstance(found, ir.SyntaxProblem):
        return Outlined(None, found, is_syntax=not found.message.startswith(NOT_SYNTAX))
    return Outlined(found)


NOT_SYNTAX = ("too complex", "LibCST cannot")
"""How problems begin that are not the user's fault."""


def lower_chunk(text: str) -> Lowered:
    """The facts of one chunk, by `ast` where that is sure to give those of LibCST."""
    from .facts.quick import quickly

    found = quickly(text)
    return lower_tree(text) if found is None else Lowered(found, None, by_tree=False)


def lower_tree(text: str) -> Lowered:
    """The facts of one chunk, by LibCST."""
    from .facts.lower import lower

    found = lower(text)
    if isinstance(found, ir.SyntaxProblem):
        return Lowered((), found, by_tree=True)
    return Lowered(found, None, by_tree=True)


OUTLINE = Task[ToOutline, Outlined](
    __name__, "outline_file", ToOutline, Outlined, "the parser", worth=1_000_000, shared=20_000, seconds=_seconds
)
LOWER = Task[str, Lowered](
    __name__, "lower_chunk", str, Lowered, "the parser", worth=1_000_000, dangerous=400_000, shared=20_000,
    seconds=_seconds,
)  # fmt: skip
TREE = Task[str, Lowered](
    __name__, "lower_tree", str, Lowered, "the parser", worth=200_000, dangerous=400_000, seconds=_seconds
)


@lru_cache(maxsize=4)
def _scanner(triggers: tuple[str, ...]) -> Scanner[str]:
    return Scanner(triggers, str)
