"""What stays on the CPU unless it is told otherwise, and what is told a device."""

from __future__ import annotations

import ast
import re

from .widths import defaults_of

_DEVICE = re.compile(r"(?i)(^|_)dev(ice)?(_?str)?$")
_OF_TENSORS = re.compile(r"^(torch|th|np|nn|F)$")
_MOVES = frozenset(("to", "device", "__init__", "load", "isinstance", "print", "str", "format", "set_device"))
"""Calls that hand a device to torch, or on to a base class, whose default is what its heir was told."""

ANYTHING = "?"
"""Stands for what is called without a name: `kinds[name](net, device=device)`."""


def rests_on_cpu(args: ast.arguments) -> bool:
    """`def __init__(self, net, device="cpu")`"""
    return any(_DEVICE.search(arg.arg) is not None and _is_cpu(value) for arg, value in defaults_of(args))


def told_device(node: ast.Call) -> str:
    """The name of what a call hands a device to that may be another than the CPU, or arguments that may hold one; ""
    where it does not."""
    for arg in node.args:
        if _may_be_device(arg):
            break
    else:
        for keyword in node.keywords:
            if keyword.arg is None or (_DEVICE.search(keyword.arg) is not None and not _is_cpu(keyword.value)):
                break
        else:
            return ""
    name = _called(node.func)
    return "" if name in _MOVES or _is_of_torch(node.func) else name


def _may_be_device(node: ast.expr) -> bool:
    if isinstance(node, ast.Starred):
        return True
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.startswith("cuda")
    if isinstance(node, ast.Call):
        return _called(node.func) == "device" and not _is_cpu(node)
    return _DEVICE.search(_called(node)) is not None


def _is_cpu(node: ast.expr | None) -> bool:
    """`"cpu"`, `torch.device("cpu")`"""
    if isinstance(node, ast.Call):
        return _called(node.func) == "device" and len(node.args) == 1 and _is_cpu(node.args[0])
    return isinstance(node, ast.Constant) and node.value == "cpu"


def _called(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ANYTHING


def _is_of_torch(node: ast.expr) -> bool:
    """`torch.zeros`, `torch.cuda.synchronize`"""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and _OF_TENSORS.match(node.id) is not None
