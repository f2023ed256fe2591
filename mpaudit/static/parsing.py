"""LibCST on many chunks: in this process, or in a pool where that pays."""

from __future__ import annotations

from .facts import ir

Lowered = tuple[ir.Stmt, ...] | ir.SyntaxProblem


def lower_all(texts: list[str], jobs: int) -> list[Lowered]:
    """The facts of each chunk, in order."""
    from .facts.lower import lower

    return [lower(text) for text in texts]
