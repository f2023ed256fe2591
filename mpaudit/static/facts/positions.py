"""Where each node of a LibCST tree stands, from one run of LibCST's code generator.

LibCST's nodes do not know their place; its PositionProvider costs several parses. Here the generator appends its
tokens to a plain list and only the *number* of tokens is noted at each node's borders; the few numbers that are asked
for become lines and columns afterwards.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from types import TracebackType
from typing import Any

import libcst as cst
from libcst._nodes.internal import CodegenState

from mpaudit.static.facts.ir import Span


class _Tokens(CodegenState):
    """Notes the token range of every node that has a syntactic position, in `ranges` by `id`.

    The state is its own context manager: positions are opened and closed in strictly nested order.
    """

    def __init__(self, module: cst.Module) -> None:
        super().__init__(default_indent=module.default_indent, default_newline=module.default_newline)
        self.ranges: dict[int, tuple[int, int]] = {}
        self._open: list[tuple[int, int]] = []
        # Called for every token and twice for every node: builtins spare the frames.
        self.add_token = self.tokens.append  # type: ignore[assignment, method-assign]
        self.before_codegen = id  # type: ignore[assignment, method-assign]
        self.after_codegen = id  # type: ignore[assignment, method-assign]

    def record_syntactic_position(self, node: cst.CSTNode, **_: object) -> Any:
        self._open.append((id(node), len(self.tokens)))
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        node, first = self._open.pop()
        self.ranges[node] = (first, len(self.tokens))


class Positions:
    """The spans of the nodes of one module."""

    def __init__(self, module: cst.Module) -> None:
        """Raises RecursionError for a tree deeper than the code generator can follow."""
        state = _Tokens(module)
        module._codegen(state)
        self._ranges = state.ranges
        self._tokens = state.tokens
        self._offsets = list(accumulate(map(len, state.tokens), initial=0))
        code = "".join(state.tokens)
        self._lines = [0, *(i + 1 for i, char in enumerate(code) if char == "\n")]

    def span(self, node: cst.CSTNode) -> Span:
        """From the node's first to past its last character, without the parentheses around it."""
        first, last = self._ranges[id(node)]
        return (*self._place(first), *self._place(last))

    def header(self, statement: cst.CSTNode, last: cst.BaseExpression) -> Span:
        """From the statement's first character past the last expression of its header and that one's parentheses."""
        end = self._ranges[id(last)][1]
        for _ in last.rpar:
            end = self._tokens.index(")", end) + 1
        return (*self._place(self._ranges[id(statement)][0]), *self._place(end))

    def _place(self, token: int) -> tuple[int, int]:
        offset = self._offsets[token]
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1
