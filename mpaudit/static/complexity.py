"""A guard in front of LibCST, whose parser recurses in C: an expression nested too deeply ends the process.

Measured with LibCST 1.9 on a stack of 8 MiB: 3,000 nested brackets, 10,000 branches of an `if` and 10,000 terms joined
by `and` overflow it; 6,000 terms of a sum keep it busy for a minute.
"""

from __future__ import annotations

import ast
import re
from itertools import accumulate, islice

from mpaudit.static.facts.ir import SyntaxProblem

MAX_BRACKETS = 200
"""Open brackets at one place, as in CPython."""
MAX_CHAIN = 1_000
"""Operators that wait for each other at one place: those between the last comma and here, in every open bracket."""
MAX_BRANCHES = 1_000
"""`elif`s in the whole text."""

_TOKEN = re.compile(
    r"""
    [A-Za-z]{0,2} (?: \"{3} (?: [^\\] | \\. )*? \"{3} | '{3} (?: [^\\] | \\. )*? '{3}
                    | " (?: [^"\\\n] | \\. )* " | ' (?: [^'\\\n] | \\. )* ' )
    | \#[^\n]* | \\\n | [()\[\]{},;\n] | [-+~] | [*/%@&|^.<>]+
    | \b (?: and | or | not | if | else | for | lambda | await ) \b
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCKS = ("body", "orelse", "finalbody", "handlers")
_ELIF = re.compile(r"\belif\b")
_IGNORED = frozenset("#\\")
_QUOTES = frozenset("\"'")


def is_surely_simple(text: str, tree: ast.Module) -> bool:
    """Whether `too_complex` need not be asked of a valid text: no statement, the blocks in it aside, has the characters
    that so many operators take, or brackets and their ends."""
    if text.count("elif") > MAX_BRANCHES:
        return False
    ends = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    pending: list[ast.stmt | ast.excepthandler] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        inner = [part for name in _BLOCKS for part in getattr(node, name, ())]
        pending += inner
        first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])
        last = inner[0].lineno if inner else node.end_lineno or node.lineno
        if ends[last] - ends[first - 1] > 2 * MAX_BRACKETS:
            return False
    return True


def too_complex(text: str) -> SyntaxProblem | None:
    """Whether some expression of the text is nested more deeply than the parser can be trusted with."""
    if len(text) <= MAX_BRACKETS:
        return None
    found = _first_overflow(_TOKEN.findall(text))
    if found is not None:
        index, message = found
        offset = next(islice(_TOKEN.finditer(text), index, None)).start()
    else:
        branches = [match.start() for match in islice(_ELIF.finditer(text), MAX_BRANCHES + 1)]
        if len(branches) <= MAX_BRANCHES:
            return None
        offset, message = branches[0], f"more than {MAX_BRANCHES:,} branches"
    line_start = text.rfind("\n", 0, offset) + 1
    message = f"too complex to be analysed: {message}"
    return SyntaxProblem(text.count("\n", 0, offset) + 1, offset - line_start + 1, message)


def _first_overflow(tokens: list[str], depth: int = 0) -> tuple[int, str] | None:
    """The first token, by its number, at which a limit is passed; `depth` brackets are open before the first."""
    # `chain` counts the operators of the innermost bracket, `outer` holds the counts of those around it.
    outer: list[int] = []
    chain = waiting = 0
    for index, token in enumerate(tokens):
        first = token[0]
        if first in _IGNORED:
            continue
        if first == ",":
            chain = 0
            continue
        if first in "\n;":
            if not outer:
                chain = 0
            continue
        if first in "([{":
            outer.append(chain)
            waiting += chain
            chain = 0
            if len(outer) + depth > MAX_BRACKETS:
                return index, f"more than {MAX_BRACKETS} nested brackets"
            continue
        if first in ")]}" and outer:
            chain = outer.pop()
            waiting -= chain
        elif "{" in token and token[-1] in _QUOTES and first in "fFtTrR":
            inner = _first_overflow(_TOKEN.findall(token, token.index(token[-1]) + 1), depth + len(outer))
            if inner is not None:
                return index, inner[1]
        chain += 1
        if chain + waiting > MAX_CHAIN:
            return index, f"more than {MAX_CHAIN:,} operators in one expression"
    return None
