"""A report as data: headings, sentences, tables, lists, verbatim text. `terminal` and `markdown` write them out.

All text in blocks is raw; each writer escapes it as its medium needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Union

Style = Literal["", "good", "bad", "doubt", "dim"]


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    label: str = ""
    """Put before it, set off."""
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Items:
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers are text already. Columns whose header begins with a space are aligned to the right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Lines as they were printed."""

    text: str


Block = Union[Heading, Sentence, Items, Table, Verbatim]
