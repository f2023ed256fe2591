"""Blocks → text for a terminal or a plain file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from mpaudit.render import escaped
from mpaudit.render.blocks import Block, Heading, Items, Sentence, Style, Table, Verbatim
from mpaudit.render.text import Piece, coloured, columns

_STYLES: dict[Style, str] = {"": "", "good": "bold green", "bad": "bold red", "doubt": "bold yellow", "dim": "dim"}
_GAP = 2
_LEAST = 16
"""Columns that the last column of a table keeps, however narrow the terminal is."""
_SHORTEST = 16
"""Columns that the first one keeps."""


def write(blocks: Iterable[Block], width: int, *, colour: bool) -> str:
    """At most `width` columns wide, except for words and verbatim lines that are longer."""
    pieces = [piece for block in blocks for piece in _block(block, max(width, 40))]
    return coloured(pieces) if colour else "".join(text for text, _ in pieces)


def _block(block: Block, width: int) -> Iterator[Piece]:
    if isinstance(block, Heading):
        yield f"\n{escaped(block.text)}\n", "bold"
    elif isinstance(block, Sentence):
        label = f"{escaped(block.label)}  " if block.label else ""
        first, *rest = _wrapped(label + escaped(block.text), width, "  ") or [""]
        yield label, "bold"
        yield "".join(f"{row}\n" for row in (first.removeprefix(label), *rest)), _STYLES[block.style]
    elif isinstance(block, Items):
        for text in block.texts:
            yield "".join(f"{row}\n" for row in _wrapped(f"  {escaped(text)}", width, "    ")), ""
    elif isinstance(block, Table):
        yield from _table(block, width)
    elif isinstance(block, Verbatim):
        yield "".join(f"  | {escaped(row)}\n" for row in block.text.splitlines()), "dim"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Rows of at most `width`. A number and its per cent sign stay together."""
    joined = text.replace(" %", "\N{NO-BREAK SPACE}%")
    rows = wrap(joined, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [row.replace("\N{NO-BREAK SPACE}%", " %") for row in rows]


def _table(table: Table, width: int) -> Iterator[Piece]:
    """Columns as wide as their cells; the last one takes what is left, over several rows where it must. Where the table
    is wider than `width`, headers are broken into several rows, then the first column is shortened."""
    right = [header.startswith(" ") for header in table.headers]
    headers = [[header.strip()] for header in table.headers]
    rows = [[escaped(cell) for cell in row] for row in table.rows]
    cells = [max((columns(row[i]) for row in rows), default=0) for i in range(len(headers))]
    if _sum(_widths(headers, cells)) > width:
        # one that is wider than its cells; the first column and one with its last cells over several rows stay
        headers = [
            wrap(text, max(cell, _longest(text)), break_long_words=False, break_on_hyphens=False) or [""]
            for (text,), cell in zip(headers, cells, strict=True)
        ]
    over = _sum([*_widths(headers, cells)[:-1], min(_widths(headers, cells)[-1], _LEAST)]) - width
    if over > 0 and cells[0] > _SHORTEST:
        cells[0] = max(cells[0] - over, _SHORTEST)
        rows = [[_elided(row[0], cells[0]), *row[1:]] for row in rows]
    widths = _widths(headers, cells)
    before = _sum(widths) - widths[-1]
    widths[-1] = min(widths[-1], max(width - before, _LEAST))
    for line in range(max(map(len, headers))):
        # short headers stand at the bottom
        shown = [header[line - high] if line >= high else "" for header in headers for high in [_high(headers, header)]]
        yield _row(shown, widths, right), "dim"
    for row in rows:
        first, *more = _wrapped(row[-1], widths[-1], "") or [""]
        yield _row([*row[:-1], first], widths, right), ""
        for text in more:
            yield " " * before + f"{text}\n", ""


def _widths(headers: list[list[str]], cells: list[int]) -> list[int]:
    return [max(*map(columns, header), cell) for header, cell in zip(headers, cells, strict=True)]


def _sum(widths: list[int]) -> int:
    """Of a whole row."""
    return 2 + sum(widths) + _GAP * (len(widths) - 1)


def _high(headers: list[list[str]], header: list[str]) -> int:
    """Rows above it."""
    return max(map(len, headers)) - len(header)


def _longest(text: str) -> int:
    """The columns of its longest word."""
    return max(map(columns, text.split()), default=1)


def _elided(text: str, width: int) -> str:
    """Its begin and its end: the names of ops and modules differ in both."""
    if columns(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _row(cells: list[str], widths: list[int], right: list[bool]) -> str:
    padded = [
        " " * (width - columns(cell)) + cell if to_right else cell + " " * (width - columns(cell))
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  " + (" " * _GAP).join(padded).rstrip() + "\n"
