"""Numbers that may be the width of a layer, by the name or the place at which they stand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_WIDTH = re.compile(
    r"(?i)hid|width|d_?model|embd|emb(ed(ding)?)?_?(dim|size)|emsize|n?units$|channels?|filters?|features?$|planes?$"
    r"|(^|_)dims?($|_)|(^|_)nf$|^n[gd]f$|^nf$|factor_?num|num_?factors?|rnn_?size|cell_?size"
)
_CHANNELS = re.compile(
    r"(?i)channels?|filters?|features?$|planes?$|(^|_)nf$|^n[gd]f$|^dims?$|(^|_)(conv|base)_(dim|width)$"
)
"""Those of convolutions."""
_PLACED = frozenset(("Linear", "LazyLinear", "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "LayerNorm"))
_CONVOLVES = re.compile(
    r"(?i)conv|^BatchNorm[123]d$|block|bottleneck|make_?\w*layer|stage|^(down|up|enc|dec)(sample)?_?\d?$"
)
"""Calls that take numbers of channels by their place."""
_MOST = 1 << 16
_MOST_CHANNELS = 1 << 13
GROWN = 511
"""Stands for `width * 2`, which is more than any number in sight."""
_SMALL_DATA = re.compile(r"(?i)^(fashion|k|e|q)?[-_]?mnist$")


class Width(NamedTuple):
    number: int
    of_channels: bool
    """It may be a number of channels of a convolution."""


def widths_of_call(node: ast.Call) -> Iterator[Width]:
    """Of `nn.Linear(300, 512)`, of `hidden=512`, of `parser.add_argument("--hidden", default=512)`."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for keyword in node.keywords:
        yield from _named(keyword.arg or "", keyword.value)
    if name in _PLACED:
        yield Width(max(map(_number, node.args[:2]), default=0), of_channels=False)
    elif name == "add_argument":
        option = next((arg.value for arg in node.args if _is_width(arg)), "")  # type: ignore[attr-defined]
        yield from (w for k in node.keywords if k.arg == "default" for w in _named(option, k.value))
    elif _CONVOLVES.search(name):
        yield Width(max((n for n in map(_number, node.args[:3]) if n <= _MOST_CHANNELS), default=0), of_channels=True)


def widths_of_defaults(args: ast.arguments) -> Iterator[Width]:
    """Of `def __init__(self, hidden=512)`."""
    plain = [*args.posonlyargs, *args.args]
    pairs = [*zip(plain[len(plain) - len(args.defaults) :], args.defaults, strict=True),
             *zip(args.kwonlyargs, args.kw_defaults, strict=True)]  # fmt: skip
    for arg, value in pairs:
        yield from _named(arg.arg, value)


def widths_of_assignment(node: ast.Assign | ast.AnnAssign) -> Iterator[Width]:
    """Of `hidden = 512`, of `self.hidden = 512`."""
    targets: Iterable[ast.expr] = node.targets if isinstance(node, ast.Assign) else (node.target,)
    for target in targets:
        yield from _named(target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", ""), node.value)


def widths_of_growth(node: ast.AugAssign) -> Iterator[Width]:
    """Of `width *= 2`."""
    name = node.target.attr if isinstance(node.target, ast.Attribute) else getattr(node.target, "id", "")
    if isinstance(node.op, ast.Mult) and _WIDTH.search(name):
        yield Width(GROWN, bool(_CHANNELS.search(name)))


def _named(name: str, value: ast.expr | None) -> Iterator[Width]:
    number = _number(value)
    if number and name and _WIDTH.search(name):
        yield Width(number, bool(_CHANNELS.search(name)))


def steps_through_time(loop: ast.For | ast.While) -> bool:
    """`for t in range(n): out, state = self.cell(out, state)`: what the network gives is what it takes next."""
    pending: list[ast.stmt] = list(loop.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.If, ast.With)):
            pending += node.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _is_own(node.value.func):
            given = {name for target in node.targets for name in _names(target)}
            if len(given) > 1 and given & {name for arg in node.value.args for name in _names(arg)}:
                return True
    return False


def _is_own(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "self"


def _names(node: ast.expr) -> list[str]:
    if isinstance(node, (ast.Tuple, ast.List)):
        return [name for part in node.elts for name in _names(part)]
    return [node.id] if isinstance(node, ast.Name) else []


def is_small_data(node: ast.Call) -> bool:
    """`parser.add_argument("--dataset", default="mnist")`"""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return (
        name == "add_argument"
        and any(isinstance(arg, ast.Constant) and "data" in str(arg.value) for arg in node.args)
        and any(
            keyword.arg == "default" and isinstance(keyword.value, ast.Constant)
            and bool(_SMALL_DATA.match(str(keyword.value.value)))
            for keyword in node.keywords
        )
    )  # fmt: skip


def _is_width(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_WIDTH.search(node.value))


def _number(node: ast.expr | None) -> int:
    """A whole number, or the largest of a list of such."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return max(map(_number, node.elts), default=0)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Pow)):
        lists = [part for part in (node.left, node.right) if isinstance(part, (ast.List, ast.Tuple))]
        return _number(lists[0]) if lists else GROWN
    value = node.value if isinstance(node, ast.Constant) else None
    return value if type(value) is int and 1 < value <= _MOST else 0
