"""What only a torch from before autocast runs."""

from __future__ import annotations

import ast
import re

_LOSS = re.compile(r"(?i)loss|^l(_\w+)?$|(^|_)err|(^|_)(cost|nll|bce|kld?|mse|ce|elbo)(_|\d|$)")


def indexes_loss(node: ast.Subscript) -> bool:
    """`loss.data[0]`, which raises IndexError since torch 0.5: a loss has no dimension. Autocast is there since 1.6."""
    data = node.value
    if not isinstance(data, ast.Attribute) or data.attr != "data":
        return False
    loss = data.value
    name = loss.attr if isinstance(loss, ast.Attribute) else getattr(loss, "id", "")
    first = node.slice.value if isinstance(node.slice, ast.Constant) else None
    return type(first) is int and first == 0 and _LOSS.search(name) is not None


_PYTHON_2 = {"iteritems": 0, "iterkeys": 0, "itervalues": 0, "has_key": 1}
"""Methods of dictionaries → how many arguments they take: `six.iteritems(table)` is another function."""


def calls_python_2(node: ast.Call) -> bool:
    """`table.iteritems()`, `table.has_key(name)`: Python 3 has neither, and torch with autocast runs on it alone."""
    return isinstance(node.func, ast.Attribute) and _PYTHON_2.get(node.func.attr) == len(node.args)
