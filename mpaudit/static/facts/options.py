"""What options of the command line that speak of a precision are unless they are told otherwise."""

from __future__ import annotations

import ast
import re

_PRECISION = re.compile(r"(?i)dtype|precision|amp|fp16|half")


def precision_default(node: ast.Call) -> tuple[str, str] | None:
    """`parser.add_argument("--amp-dtype", default="float16")`: the attribute that the option sets, and its default;
    None for any other call."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr != "add_argument":
        return None
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    default, dest = given.get("default"), given.get("dest")
    flags = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    name = dest.value if isinstance(dest, ast.Constant) else next((f for f in flags if f.startswith("--")), "")
    if not isinstance(name, str) or not _PRECISION.search(name):
        return None
    if not isinstance(default, ast.Constant) or not isinstance(default.value, str):
        return None
    return name.lstrip("-").replace("-", "_"), default.value
