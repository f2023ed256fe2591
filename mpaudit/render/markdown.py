"""Blocks → Markdown as GitHub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mpaudit.render import escaped
from mpaudit.render.blocks import Block, Heading, Items, Sentence, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")


def write(blocks: Iterable[Block]) -> str:
    """Paragraphs, lists, pipe tables and indented code; text of the user is escaped, in code it is kept."""
    return "\n".join(_block(block) for block in blocks)


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_text(block.text)}\n"
    if isinstance(block, Sentence):
        label = f"**{_text(block.label)}** " if block.label else ""
        return f"{label}{_text(block.text)}\n"
    if isinstance(block, Items):
        return "".join(f"- {_text(text)}\n" for text in block.texts)
    if isinstance(block, Table):
        marks = ["--:" if header.startswith(" ") else ":--" for header in block.headers]
        rows = [[_text(header.strip()) for header in block.headers], marks]
        rows += [[_text(cell) for cell in row] for row in block.rows]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return "".join(f"    {escaped(row)}\n" for row in block.text.splitlines())


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", escaped(text))
