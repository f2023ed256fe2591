"""What comments in the source hide: `# noqa`, `# noqa: MPA205`, `# mpaudit: ignore[MPA205] reason`.

A comment speaks for the whole statement that it stands in: any physical line of a simple statement, of the header of a
compound one, of the decorators and header of a definition.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator

import msgspec

_NOQA = re.compile(r"#\s*noqa\b(?:\s*:\s*(?P<codes>[A-Z]+[0-9]+\b(?:[,\s]+[A-Z]+[0-9]+\b)*))?", re.IGNORECASE)
_IGNORE = re.compile(r"#\s*mpaudit\s*:\s*ignore\b(?:\s*\[(?P<codes>[^\]]*)\])?", re.IGNORECASE)
_ANY = re.compile(r"#\s*(?:noqa|mpaudit)\b", re.IGNORECASE)
_ALL = ("",)
_BETWEEN = frozenset((tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER))


class Suppressions(msgspec.Struct, frozen=True):
    """The comments of one file: for each line of a statement, the code prefixes and names that are hidden there."""

    by_line: dict[int, tuple[str, ...]]
    """An empty string hides every code."""

    def covers(self, code: str, name: str, line: int, end_line: int) -> bool:
        """Whether a comment in the statement that begins or holds `line`, or on a line up to `end_line`, hides this."""
        for number in range(line, max(line, end_line) + 1):
            for hidden in self.by_line.get(number, ()):
                if code.startswith(hidden) or name == hidden:
                    return True
        return False


def suppressions(text: str) -> Suppressions:
    """The comments of a file, whose newlines are \\n. A file that does not tokenize is read line by line."""
    if not _ANY.search(text):
        return Suppressions({})
    try:
        found = list(_in_statements(text))
    except (tokenize.TokenError, SyntaxError, RecursionError):
        found = [((number, number), _hidden(line)) for number, line in enumerate(text.split("\n"), 1)]
    by_line: dict[int, tuple[str, ...]] = {}
    for (first, last), hidden in found:
        if hidden:
            for number in range(first, last + 1):
                by_line[number] = tuple(sorted({*by_line.get(number, ()), *hidden}))
    return Suppressions(by_line)


def _in_statements(text: str) -> Iterator[tuple[tuple[int, int], tuple[str, ...]]]:
    """First and last line of each statement (a definition begins at its first decorator), and what it hides."""
    first, hidden = 0, ()  # type: tuple[int, tuple[str, ...]]
    begins, decorator = True, False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _BETWEEN:
            continue
        if token.type == tokenize.COMMENT:
            if first:
                hidden += _hidden(token.string)
        elif token.type == tokenize.NEWLINE:
            if not decorator:
                yield (first, token.start[0]), hidden
                first, hidden = 0, ()
            begins = True
        elif begins:
            first = first or token.start[0]
            begins, decorator = False, token.string == "@"


def _hidden(comment: str) -> tuple[str, ...]:
    found: list[str] = []
    for noqa in _NOQA.finditer(comment):
        found += _ALL if noqa["codes"] is None else re.split(r"[,\s]+", noqa["codes"].upper())
    for ignore in _IGNORE.finditer(comment):
        found += _ALL if ignore["codes"] is None else _words(ignore["codes"])
    return tuple(found)


def _words(codes: str) -> list[str]:
    words = [word.strip() for word in codes.split(",")]
    return [word.upper() if word[:3].upper() == "MPA" else word.lower() for word in words if word]
