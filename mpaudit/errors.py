"""What the user got wrong, as opposed to what the program did."""

from __future__ import annotations

from collections.abc import Iterable

FAILURE = 2
"""The exit code of a usage or internal error."""


class UsageError(Exception):
    """Bad input from the user. Its text is one sentence; the command line shows it and exits with FAILURE."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A closing «did you mean …?» for a misspelled word, or '' where nothing is near."""
    from difflib import get_close_matches

    matches = get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
