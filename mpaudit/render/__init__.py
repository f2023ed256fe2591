"""An Audit → text. One file per format; each takes the document and gives a string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpaudit.audit import Audit

FORMATS = ("text", "concise", "json")

Lines = Callable[[str], Sequence[str]]
"""The source lines of a path as the document has it; empty where there is no such file."""


def render(audit: Audit, form: str, *, lines: Lines, statistics: bool = False, width: int | None = None) -> str:
    """The audit in one of FORMATS, ending in a newline.

    `statistics` shows counts in place of findings (the json document has both). `width` is that of a colour terminal;
    None gives plain text that does not depend on where it is shown.
    """
    if form == "json":
        from mpaudit.render import json

        return json.render(audit)
    if statistics:
        from mpaudit.render import statistics as counts

        return counts.render(audit)
    if form == "concise":
        from mpaudit.render import concise

        return concise.render(audit)
    from mpaudit.render import text

    return text.render(audit, lines, width)


def escaped(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
