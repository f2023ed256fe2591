"""Source text as something to cut: where nodes lie, and edits that keep the formatting around them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

OPEN, CLOSE = "\x00", "\x01"
"""Around a place where the broken line is to be reported; taken out of the text before it is written."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.AsyncFor | ast.While


@dataclass(frozen=True, slots=True)
class Edit:
    """Puts `text` in the place of the characters from `start` to `end` of a file."""

    path: str
    start: int
    end: int
    text: str


class Source:
    """One parsed file. Offsets count characters; newlines are \\n. Raises SyntaxError where `ast` does."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.tree = ast.parse(text)
        self.lines = text.split("\n")
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def line_starts(self) -> list[int]:
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line) + 1)
        return starts

    def offset(self, line: int, column: int) -> int:
        """`line` from 1, `column` in UTF-8 bytes, as `ast` counts them."""
        text = self.lines[line - 1]
        if not text.isascii():
            column = len(text.encode()[:column].decode(errors="ignore"))
        return self.line_starts[line - 1] + column

    def start(self, node: ast.AST) -> int:
        return self.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def code(self, node: ast.AST) -> str:
        return self.text[self.start(node) : self.end(node)]

    # ------------------------------------------------------------- around a node

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def statement(self, node: ast.AST) -> ast.stmt:
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def function(self, node: ast.AST) -> ast.AST:
        """The innermost function around `node`, or the module."""
        return next((n for n in self.above(node) if isinstance(n, Function | ast.Lambda)), self.tree)

    def loops(self, node: ast.AST) -> list[Loop]:
        """The loops of its own function around `node`, innermost first."""
        found: list[Loop] = []
        for outer in self.above(node):
            if isinstance(outer, Function | ast.Lambda | ast.ClassDef):
                break
            if isinstance(outer, Loop):
                found.append(outer)
        return found

    def suite(self, statement: ast.stmt) -> tuple[list[ast.stmt], int]:
        """The block that holds a statement, and its place there."""
        for _, block in ast.iter_fields(self.parents[statement]):
            if isinstance(block, list) and statement in block:
                return block, block.index(statement)
        raise ValueError("a statement without a block")

    def calls(self, within: ast.AST | None = None) -> list[ast.Call]:
        found = [node for node in ast.walk(within or self.tree) if isinstance(node, ast.Call)]
        return sorted(found, key=lambda call: (call.end_lineno or 0, call.end_col_offset or 0))

    def indent(self, statement: ast.stmt) -> str:
        line = self.lines[statement.lineno - 1]
        return line[: len(line) - len(line.lstrip())]

    def own_lines(self, statement: ast.stmt) -> bool:
        """Whether nothing but a comment shares the lines of a statement."""
        before = self.lines[statement.lineno - 1][: self.start(statement) - self.line_starts[statement.lineno - 1]]
        last = statement.end_lineno or statement.lineno
        after = self.text[self.end(statement) : self.line_starts[last] - 1].strip()
        return not before.strip() and (not after or after.startswith("#"))

    # --------------------------------------------------------------------- edits

    def mark(self, node: ast.AST) -> list[Edit]:
        """A finding on one of the lines of `node` is at the right place."""
        start, end = self.start(node), self.end(node)
        return [Edit(self.path, start, start, OPEN), Edit(self.path, end, end, CLOSE)]

    def replace(self, node: ast.AST, text: str) -> list[Edit]:
        return [Edit(self.path, self.start(node), self.end(node), marked(text))]

    def drop(self, call: ast.AST) -> list[Edit]:
        """`pass` for a statement, `None` for an expression in one."""
        whole = isinstance(call, ast.stmt) or isinstance(self.parents[call], ast.Expr)
        return self.replace(call, "pass" if whole else "None")

    def before(self, statement: ast.stmt, text: str) -> list[Edit]:
        if self.own_lines(statement):
            at = self.line_starts[statement.lineno - 1]
            return [Edit(self.path, at, at, _indented(text, self.indent(statement)) + "\n")]
        at = self.start(statement)
        return [Edit(self.path, at, at, text + "; ")]

    def after(self, statement: ast.stmt, text: str) -> list[Edit]:
        if self.own_lines(statement):
            at = self.line_starts[statement.end_lineno or statement.lineno] - 1
            return [Edit(self.path, at, at, "\n" + _indented(text, self.indent(statement)))]
        at = self.end(statement)
        return [Edit(self.path, at, at, "; " + text)]

    def cut(self, statement: ast.stmt) -> list[Edit]:
        """Takes a statement out, leaving `pass` unmarked."""
        return [Edit(self.path, self.start(statement), self.end(statement), "pass")]

    def text_of(self, statement: ast.stmt) -> str:
        """The statement as a block at no indentation."""
        indent = self.indent(statement)
        lines = self.code(statement).split("\n")
        return "\n".join([lines[0], *(line.removeprefix(indent) for line in lines[1:])])

    def indented(self, statements: Iterable[ast.stmt], unit: str) -> list[Edit]:
        """Pushes statements to the right."""
        edits = []
        for statement in statements:
            for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1):
                if self.lines[line - 1].strip():
                    at = self.line_starts[line - 1]
                    edits.append(Edit(self.path, at, at, unit))
        return edits


def marked(text: str) -> str:
    return OPEN + text + CLOSE


def _indented(text: str, indent: str) -> str:
    return "\n".join(indent + line if line.strip(OPEN + CLOSE) else line for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file after edits: its text, the lines where a report is right, and where each old line went."""

    text: str
    places: frozenset[int]
    shifts: tuple[tuple[int, int], ...]
    """(old line, lines added before it)."""

    def line(self, old: int) -> int:
        return old + sum(added for line, added in self.shifts if line <= old)


def rewrite(source: Source, edits: Iterable[Edit]) -> Rewritten:
    """Applies the edits of one file; marks inside replaced text are dropped. Raises ValueError when edits overlap."""
    ranks = {CLOSE: 0, OPEN: 2}  # at one place, what is put in lies outside of both marked neighbours
    pieces, position, shifts = [], 0, []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end, ranks.get(edit.text, 1))):
        if edit.start < position:
            if edit.text in (OPEN, CLOSE):
                continue
            raise ValueError(f"{source.path}: edits overlap")
        pieces += [source.text[position : edit.start], edit.text]
        position = max(position, edit.end)
        added = edit.text.count("\n") - source.text.count("\n", edit.start, edit.end)
        if added:
            line = source.text.count("\n", 0, edit.start) + 1
            at_front = not source.text[source.line_starts[line - 1] : edit.start].strip()
            shifts.append((line if at_front else line + 1, added))
    text = "".join([*pieces, source.text[position:]])
    places: set[int] = set()
    line, opened = 1, 0
    for part in re.split(f"([\n{OPEN}{CLOSE}])", text):
        if part == OPEN:
            opened += 1
        elif part == "\n":
            line += 1
        if opened:
            places.add(line)
        if part == CLOSE:
            opened = max(0, opened - 1)
    clean = text.replace(OPEN, "").replace(CLOSE, "")
    return Rewritten(clean, frozenset(places), tuple(shifts))
