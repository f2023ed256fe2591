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
    """Columns as wide as their cells; the last one takes what is left, over several rows where it must."""
    right = [header.startswith(" ") for header in table.headers]
    headers = [header.strip() for header in table.headers]
    rows = [[escaped(cell) for cell in row] for row in table.rows]
    widths = [max(columns(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    before = 2 + sum(widths[:-1]) + _GAP * (len(widths) - 1)
    widths[-1] = min(widths[-1], max(width - before, _LEAST))
    yield _row(headers, widths, right), "dim"
    for row in rows:
        first, *more = _wrapped(row[-1], widths[-1], "") or [""]
        yield _row([*row[:-1], first], widths, right), ""
        for line in more:
            yield " " * before + f"{line}\n", ""


def _row(cells: list[str], widths: list[int], right: list[bool]) -> str:
    padded = [
        " " * (width - columns(cell)) + cell if to_right else cell + " " * (width - columns(cell))
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  " + (" " * _GAP).join(padded).rstrip() + "\n"
