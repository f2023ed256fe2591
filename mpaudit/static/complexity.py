"""A guard in front of LibCST, whose parser recurses in C: an expression nested too deeply ends the process."""

from __future__ import annotations

import re

from mpaudit.static.facts.ir import SyntaxProblem

MAX_BRACKETS = 150
"""Open brackets; CPython itself stops at 200."""
MAX_CHAIN = 1_000
"""Operators that may hang on each other in one expression, brackets included."""
MAX_ELIF = 1_000
"""Branches of one `if`."""

_SHORT = 2 * MAX_BRACKETS

_TOKEN = re.compile(
    r"""
    (?P<string> [A-Za-z]{0,2} (?: \"{3} (?:[^\\]|\\.)*? \"{3} | '{3} (?:[^\\]|\\.)*? '{3}
                            | " (?:[^"\\\n]|\\.)* " | ' (?:[^'\\\n]|\\.)* ' ) )
    | \#[^\n]* | \\\n
    | (?P<open> [(\[{] ) | (?P<close> [)\]}] ) | (?P<comma> , ) | (?P<newline> [\n;] )
    | (?P<operator> [-+*/%@&|^~.<>]+ | \b(?:and|or|not|if|else|for|lambda|await)\b )
    """,
    re.VERBOSE | re.DOTALL,
)


def too_complex(text: str) -> SyntaxProblem | None:
    """Whether some expression of the text is nested more deeply than the parser can be trusted with."""
    if len(text) < _SHORT:
        return None
    return None
