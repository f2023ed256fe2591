"""An Audit → text. One file per format; each takes the document and gives a string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpaudit.audit import Audit

FORMATS = ("text", "concise", "json")
REPORT_FORMATS = ("table", "markdown", "json")
"""Of an audit with runs."""

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


def report(audit: Audit, form: str, *, lines: Lines, width: int, colour: bool = False, by: str = "line") -> str:
    """The whole audit in one of REPORT_FORMATS, ending in a newline: its findings, where sources were read, and its
    runs. `width` and `colour` are the terminal's; a table is never wider. `by` is how ops are grouped, of
    `evidence.BY`."""
    if form == "json":
        return render(audit, form, lines=lines)
    from mpaudit.render import markdown, profile, terminal

    blocks = profile.blocks(audit, by)
    shown = markdown.write(blocks) if form == "markdown" else terminal.write(blocks, width, colour=colour)
    if not audit.summary.files:
        return shown
    findings = render(audit, "text", lines=lines, width=width if colour and form == "table" else None)
    if form == "markdown":
        findings = "".join(f"    {line}\n" for line in findings.splitlines())
    return "\n".join(filter(None, (findings, shown)))


def escaped(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
