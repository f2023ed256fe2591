"""For people: each finding with its source line, what follows from it, and what to do."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from textwrap import wrap

from mpaudit.audit import Audit, Entry, Summary
from mpaudit.render import Lines, escaped

_WINDOW = 160
"""Of a longer source line, this many columns around the finding are shown."""
_TAB = "    "
_INDENT = "  "
_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}

Piece = tuple[str, str]
"""Text and its style ('' is none)."""


def render(audit: Audit, lines: Lines, width: int | None = None) -> str:
    """Findings, what could not be read, and a closing line; coloured and wrapped where `width` is a terminal's."""
    pieces: list[Piece] = []
    for entry in audit.findings:
        pieces += [*_finding(entry, lines, width), ("\n", "")]
    for error in audit.errors:
        place = escaped(error.path) + (f":{error.line}" if error.line else "")
        pieces += [(place, "bold"), (f" not audited: {escaped(error.message)}\n", "")]
    if audit.errors:
        pieces.append(("\n", ""))
    pieces.append((closing(audit.summary) + "\n", "bold"))
    return "".join(text for text, _ in pieces) if width is None else coloured(pieces)


def closing(summary: Summary) -> str:
    """«3 errors, 1 warning in 12 files (1,204 files without precision code)»."""
    counts = ", ".join(_count(number, name) for name, number in summary.by_severity.items() if number)
    notes = []
    if summary.without_precision_code:
        notes.append(f"{_count(summary.without_precision_code, 'file')} without precision code")
    if summary.suppressed:
        notes.append(f"{_count(summary.suppressed, 'finding')} suppressed")
    if summary.errors:
        notes.append(f"{summary.errors:,} not audited")
    return f"{counts or 'no findings'} in {_count(summary.analysed, 'file')}" + (
        f" ({', '.join(notes)})" if notes else ""
    )


def _count(number: int, noun: str) -> str:
    plural = "" if number == 1 or noun == "info" else "s"
    return f"{number:,} {noun}{plural}"


def _finding(entry: Entry, lines: Lines, width: int | None) -> Iterator[Piece]:
    style = _STYLES[entry.severity.value]
    yield f"{escaped(entry.path)}:{entry.line}:{entry.column}", "bold"
    yield f" {entry.code} {entry.name}", style
    yield f" [{entry.severity.value}, {entry.confidence.value}]\n", "dim"
    source = lines(entry.path)
    if 0 < entry.line <= len(source):
        yield from _snippet(entry, source[entry.line - 1], style)
    yield from _paragraph("", entry.message, width)
    if entry.remedy:
        yield from _paragraph("help: ", entry.remedy, width)
    for other in entry.related:
        yield from _paragraph("note: ", f"{other.path}:{other.line}:{other.column}: {other.message}", width)


def _paragraph(label: str, text: str, width: int | None) -> Iterator[Piece]:
    """A label and its text; at most 100 columns wide on a terminal, one line elsewhere."""
    body = escaped(text)
    if width is not None:
        columns = max(min(width, 100), 40) - len(_INDENT)
        rows = wrap(label + body, columns, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)
        body = f"\n{_INDENT}".join(rows).removeprefix(label)
    yield _INDENT + label, "bold" if label else ""
    yield f"{body}\n", ""


def _snippet(entry: Entry, line: str, style: str) -> Iterator[Piece]:
    """The source line and a caret under each of its columns that the finding covers."""
    first = min(entry.column - 1, len(line))
    last = entry.end_column - 1 if entry.end_line == entry.line else len(line.rstrip())
    last = min(max(last, first + 1), max(len(line), first + 1))
    begin = 0 if len(line) <= _WINDOW else max(0, first - _WINDOW // 4)
    end = min(len(line), begin + _WINDOW)
    last = min(last, end + 1)
    head, before, under, after = ("…" if begin else ""), line[begin:first], line[first:last], line[last:end]
    if end < len(line):
        after += "…"
    if not begin:  # without the indentation that the line shares with nothing
        stripped = before.lstrip()
        before = stripped if stripped or not before else ""
    shown_before, shown_under = head + _shown(before), _shown(under)
    number = f"{entry.line:>5}"
    yield f"{number} | ", "dim"
    yield f"{shown_before}{shown_under}{_shown(after)}\n", ""
    yield f"{' ' * len(number)} | ", "dim"
    yield " " * columns(shown_before), ""
    yield "^" * max(1, columns(shown_under)) + "\n", style


def _shown(source: str) -> str:
    return escaped(source.replace("\t", _TAB))


def columns(text: str) -> int:
    """How many terminal columns a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    combining = sum(unicodedata.combining(char) != 0 for char in text)
    return len(text) + wide - combining


def coloured(pieces: list[Piece]) -> str:
    """The pieces with the codes that a terminal takes for their styles."""
    from rich.console import Console
    from rich.text import Text

    console = Console(force_terminal=True, highlight=False)
    with console.capture() as capture:
        console.print(Text.assemble(*pieces), end="", soft_wrap=True)
    return capture.get()
