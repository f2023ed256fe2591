"""How large the images of a script are, how many a batch holds, and how narrow the network for them starts, by options
and by calls."""

from __future__ import annotations

import ast
import re

_FIRST_CHANNELS = re.compile(r"(?i)^-*(init(ial)?[-_]?channels?|channels?|growth([-_]?rate)?)$")
_COLOURS = 4
_PIXELS = re.compile(r"(?i)^(in(put)?|im(age|g)?|crop)_?sizes?$")
_CROPS = re.compile(r"^(Resize|CenterCrop|RandomCrop|RandomResizedCrop)$")


_BATCH = re.compile(r"(?i)^-*(train[-_])?(batch[-_]?size|bs|b)$")
_HANDFUL = 16


def is_small_batch(node: ast.Call) -> bool:
    """`parser.add_argument("--batch_size", default=10)`"""
    return 0 < _default(node, _BATCH) <= _HANDFUL


def first_channels(node: ast.Call) -> int:
    """Of `parser.add_argument("--init_channels", default=16)`; 0 of any other call, and of the colours of an image."""
    number = _default(node, _FIRST_CHANNELS)
    return number if number > _COLOURS else 0


def _default(node: ast.Call, option: re.Pattern[str]) -> int:
    """The number that an option with such a name is by default; 0 of any other call, and where it is none."""
    if getattr(node.func, "attr", "") != "add_argument":
        return 0
    names = (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
    if not any(map(option.match, names)):
        return 0
    return max((n for k in node.keywords if k.arg == "default" for n in _numbers(k.value)), default=0)


def pixels(node: ast.Call) -> int:
    """The larger side of the images that a call makes: `Crop(input_size=32)`, `RandomCrop(32, padding=4)`; 0 of any
    other call."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    crops = _CROPS.match(name) is not None
    said = [k.value for k in node.keywords if _PIXELS.match(k.arg or "") or (crops and k.arg == "size")]
    if crops:
        said += node.args[:1]
    elif not said:
        return 0
    return max((number for value in said for number in _numbers(value) or [_UNKNOWN]), default=0)


_UNKNOWN = 1 << 16
"""Pixels of what is not written as a number."""


def _numbers(node: ast.expr) -> list[int]:
    if isinstance(node, (ast.Tuple, ast.List)):
        return [number for part in node.elts for number in _numbers(part)]
    value = node.value if isinstance(node, ast.Constant) else None
    return [value] if type(value) is int else []
