"""What options of the command line say: a precision, and where features lie that were computed before."""

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


_STORED = re.compile(
    r"(?i)^-*(\w+[-_])*(feats?|features?|fea)[-_](paths?|dirs?|folder|root|files?|h5|hdf5|lmdb)$|^-*input_(fc|att)_dir$"
)


def reads_features(node: ast.Call) -> bool:
    """`parser.add_argument("--video_feat_path")`: what is trained is given what another network has computed before."""
    return getattr(node.func, "attr", "") == "add_argument" and any(
        isinstance(arg, ast.Constant) and _STORED.match(str(arg.value)) is not None for arg in node.args
    )
