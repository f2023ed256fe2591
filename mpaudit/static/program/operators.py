"""Operators and comparisons over abstract values; values as parts of symbolic expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from . import arrays
from .state import PathState
from .values import (
    MAX_ITEMS,
    NONE,
    Choice,
    Cls,
    Const,
    Device,
    Dtype,
    Ext,
    Func,
    Key,
    Method,
    Mod,
    Owned,
    Params,
    Phi,
    Ref,
    Sym,
    Tensor,
    Tup,
    Value,
    folded,
    join_tensors,
    options,
    phi,
)

MAX_PHI_DEPTH = 4
"""Decisions that the result of arithmetic still depends on."""


def binary(op: str, a: Value, b: Value, depth: int = 0) -> Value:
    """What depends on a decision gives what depends on it: a loss that is divided was still computed in one way or the
    other."""
    decided = next((v for v in (a, b) if isinstance(v, Phi) and any(isinstance(o, Tensor) for o in options(v))), None)
    if decided is None or depth == MAX_PHI_DEPTH:
        return _binary(op, a, b)
    yes, no = (binary(op, _side(a, decided.key, t), _side(b, decided.key, t), depth + 1) for t in (True, False))
    return phi(decided.key, yes, no)


def _side(value: Value, key: Key, truth: bool) -> Value:
    return (value.yes if truth else value.no) if isinstance(value, Phi) and value.key == key else value


def _binary(op: str, a: Value, b: Value) -> Value:
    if isinstance(a, Params) and isinstance(b, Params):
        if op == "-":
            return Params(a.modules, a.optimizer, filtered=True)
        both = None if a.modules is None or b.modules is None else a.modules | b.modules
        return Params(both, filtered=a.filtered or b.filtered or op == "&")
    if isinstance(a, Tup) and isinstance(b, Tup) and op == "+" and len(a.items) + len(b.items) <= MAX_ITEMS:
        return Tup(a.items + b.items)
    tensors = [v for v in (a, b) if isinstance(v, Tensor)]
    for value in (a, b):
        if isinstance(value, Phi | Choice):
            tensors.extend(v for v in options(value) if isinstance(v, Tensor))
    if tensors:
        if any(t.array for t in tensors):
            return arrays.arithmetic(op, a, b)
        joined = join_tensors(tensors)
        if joined.scaled == "mixed" and op not in ("+", "-"):
            joined = Tensor(joined.uses, "?")
        other = [v for v in (a, b) if not isinstance(v, Tensor)]
        if joined.scaled is None and op in ("*", "/") and other and may_be_scale(other[0]):
            return Tensor(joined.uses, "?", joined.dtype)
        if any(t.dtype == "float64" for t in tensors) and len(tensors) == 2:
            wide = next(t for t in tensors if t.dtype == "float64")
            return Tensor(joined.uses, joined.scaled, "float64", site=wide.site, grad=joined.grad)
        if len(tensors) == 1:
            return Tensor(joined.uses, joined.scaled, tensors[0].dtype, site=tensors[0].site, grad=joined.grad)
        return joined
    if isinstance(a, Const) and isinstance(b, Const):
        return _fold(op, a, b)
    if op in ("%", "+") and is_cuda_text(a):
        return CUDA_BY_INDEX
    if op == "%" and isinstance(a, Const) and isinstance(a.value, str):
        return Sym(("op", "format", key_of(b)))
    return Sym(("op", op, key_of(a), key_of(b)))


MAX_TEXT = 1024
"""Characters of a text that is put together: longer ones name nothing."""
MAX_BITS = 64
"""Of a whole number that is computed with: larger ones may not even be a float."""

CUDA_BY_INDEX = Device("cuda:str", True)
"""`f"cuda:{i}"`, `"cuda:%d" % i`, `"cuda:{}".format(i)`, `"cuda:" + str(i)`."""


def is_cuda_text(value: Value) -> bool:
    return isinstance(value, Const) and isinstance(value.value, str) and value.value.startswith("cuda:")


def text_method(name: str, base: Const, args: Sequence[Value]) -> Value:
    """What a method of a constant gives: `"cuda:0".startswith("cuda")`."""
    given = [arg.value for arg in args if isinstance(arg, Const) and isinstance(arg.value, str)]
    text = base.value
    if isinstance(text, str) and len(given) == len(args) < 2:
        match name, given:
            case "startswith", [part]:
                return Const(text.startswith(part))
            case "endswith", [part]:
                return Const(text.endswith(part))
            case "lower", []:
                return Const(text.lower())
            case "upper", []:
                return Const(text.upper())
            case "strip", []:
                return Const(text.strip())
            case _:
                pass
    return Sym(("op", name, key_of(base), *map(key_of, args)))


def may_be_scale(value: Value) -> bool:
    """A loss multiplied by hand (`loss * 1024`) is a static loss scale; by a weight it is not, but who knows."""
    if isinstance(value, Const):
        return isinstance(value.value, int | float) and not isinstance(value.value, bool) and abs(value.value) >= 64
    if not isinstance(value, Sym) or _is_of_network(value.key):
        return False
    return any("scale" in part and "logit" not in part for part in _words(value.key))


def _is_of_network(key: Key) -> bool:
    """`self.scale` of a layer: attention has one, and CLIP a temperature."""
    match key:
        case ("attr", ("obj", Ref(kind="module")), _):
            return True
        case ("attr" | "sub", tuple() as base, _):
            return _is_of_network(base)
        case _:
            return False


def _words(key: Key) -> Iterable[str]:
    for part in key:
        if isinstance(part, str):
            yield part
        elif isinstance(part, tuple):
            yield from _words(part)


def _fold(op: str, a: Const, b: Const) -> Value:
    x, y = a.value, b.value
    numbers = isinstance(x, int | float) and isinstance(y, int | float)
    if op == "+" and isinstance(x, str) and isinstance(y, str) and len(x) + len(y) <= MAX_TEXT:
        return Const(x + y)
    if op == "%" and is_cuda_text(a):
        return CUDA_BY_INDEX
    if numbers and any(isinstance(n, int) and n.bit_length() > MAX_BITS for n in (x, y)):
        numbers = False
    if numbers and op in ("+", "-", "*") and abs(float(x)) < 1e9 and abs(float(y)) < 1e9:  # type: ignore[arg-type]
        return Const({"+": x + y, "-": x - y, "*": x * y}[op])  # type: ignore[operator]
    if numbers and op == "**" and 0 <= float(y) <= 64 and abs(float(x)) <= 1024:  # type: ignore[arg-type]
        return Const(x**y)  # type: ignore[operator]
    if numbers and op == "/" and y:
        return Const(x / y)  # type: ignore[operator]
    return Sym(("op", op, ("const", x), ("const", y)))


def key_of(value: Value) -> Key:
    """A value as a part of a symbolic expression."""
    match value:
        case Const():
            return ("const", value.value)
        case Ref():
            return ("obj", value)
        case Ext() | Dtype():
            return ("name", value.name)
        case Device():
            return ("device", value.type)
        case Sym() | Method() | Tup() | Phi() | Choice():
            return _composed(value)
        case _:
            return ("ucall", type(value).__name__, ("site", hash_free(value)))


@lru_cache(maxsize=16384)
def _composed(value: Sym | Method | Tup | Phi | Choice) -> Key:
    match value:
        case Sym():
            return folded(value.key)
        case Method():
            return folded(("attr", key_of(value.base), value.name))
        case Tup():
            return folded(("tuple", *(key_of(item) for item in value.items[:8])))
        case Phi():
            return folded(("if", value.key, key_of(value.yes), key_of(value.no)))
        case Choice():
            return folded(("any", *sorted((key_of(option) for option in value.options), key=repr)))


def hash_free(value: Value) -> str:
    return str(getattr(value, "site", None))


def compare(op: str, a: Value, b: Value, st: PathState) -> Value:
    left, right = st.settle(a), st.settle(b)
    if op in ("is", "is not", "==", "!="):
        known = _identical(left, right)
        if known is not None:
            return Const(known == (op in ("is", "==")))
        if isinstance(left, Phi | Choice) or isinstance(right, Phi | Choice):
            merged = _compare_options(op, left, right, st)
            if merged is not None:
                return merged
    if op in ("in", "not in") and isinstance(right, Tup) and isinstance(left, Const):
        if all(isinstance(item, Const) for item in right.items):
            return Const((left in right.items) == (op == "in"))
    if op in ("in", "not in") and isinstance(right, Tup) and isinstance(left, Sym):
        if right.items and all(isinstance(item, Const) for item in right.items):
            parts = tuple(("eq", left.key, item.value) for item in right.items if isinstance(item, Const))
            either: Key = ("or", *parts)
            return Sym(either if op == "in" else ("not", either))
    return Sym(("cmp", op, key_of(left), key_of(right)))


def _compare_options(op: str, left: Value, right: Value, st: PathState) -> Value | None:
    """`x is None` where x is a Phi or a Choice of known things."""
    value, other = (left, right) if isinstance(left, Phi | Choice) else (right, left)
    if isinstance(value, Phi):
        yes, no = compare(op, value.yes, other, st), compare(op, value.no, other, st)
        if isinstance(yes, Const) and isinstance(no, Const):
            if yes == no:
                return yes
            return Sym(value.key if yes.value else ("not", value.key))
        return phi(value.key, yes, no)
    assert isinstance(value, Choice)
    results = {_identical(option, other) for option in value.options}
    if len(results) == 1:
        known = results.pop()
        return None if known is None else Const(known == (op in ("is", "==")))
    return None


def _identical(a: Value, b: Value) -> bool | None:
    """Whether two values are the same thing; None: not known."""
    if isinstance(a, Const) and isinstance(b, Const):
        return a.value == b.value
    objects = (Ref, Func, Cls, Mod, Tensor, Params, Dtype, Device, Owned, Tup)
    if (isinstance(a, objects) and b == NONE) or (isinstance(b, objects) and a == NONE):
        return False
    if (b == NONE and _is_part_of_network(a)) or (a == NONE and _is_part_of_network(b)):
        return False
    if isinstance(a, Dtype) and isinstance(b, Dtype):
        return a == b
    if isinstance(a, Device) and isinstance(b, Const) and isinstance(b.value, str):
        return a.type == b.value if a.type in ("cuda", "cpu", "mps") and not a.index else None
    return None


def _is_part_of_network(value: Value) -> bool:
    """`model[-1]`."""
    if not isinstance(value, Sym) or value.key[0] != "sub":
        return False
    base: Key = value.key[1]
    return base[0] == "obj" and isinstance(base[1], Ref) and base[1].kind == "module"


def format_string(parts: tuple[Value, ...]) -> Value:
    text = ""
    for part in parts:
        if not isinstance(part, Const):
            if is_cuda_text(parts[0]):
                return CUDA_BY_INDEX
            return Sym(("op", "format", *(key_of(p) for p in parts)))
        text += str(part.value)
    return Const(text) if len(text) <= MAX_TEXT else Sym(("op", "format", *(key_of(p) for p in parts)))
