"""Whether something unknown is a loss that nothing has scaled."""

from __future__ import annotations

from collections.abc import Hashable

from . import operators
from .values import (
    Const,
    Key,
    Sym,
    Tensor,
    Value,
    mentions,
)

Id = Hashable


def scaled_of_unknown(loss: Value) -> Id | None:
    """A loss that a function got, or that lives on an object, may have been scaled elsewhere."""
    return None if isinstance(loss, Sym) and _is_computed(loss.key) else "?"


def stays_unscaled(op: str, loss: Value, other: Value) -> bool:
    """Whether `loss op= other` is a loss that nothing has scaled, where one of them is an unknown value."""
    known = (Const, Tensor)
    if not isinstance(loss, known) and scaled_of_unknown(loss) is not None:
        return False
    if op in ("*", "/"):
        return not operators.may_be_scale(other)
    return isinstance(other, known) or scaled_of_unknown(other) is None


def _is_computed(key: Key) -> bool:
    """What a call gave, or arithmetic on that, unless it is scaled by hand."""
    if key[0] == "aug":
        return key[-1] is True
    if key[0] == "sub":
        return isinstance(key[1], tuple) and _is_computed(key[1])
    if key[0] in ("if", "any"):
        ways = key[2:] if key[0] == "if" else key[1:]
        return all(_is_computed(way) for way in ways if way[:1] != ("const",))
    if key[:2] == ("op", "/") and not operators.may_be_scale(Sym(key[3])):
        return _is_computed(key[2])
    if key[0] == "op":
        parts = [part for part in key[2:] if isinstance(part, tuple) and part[:1] != ("const",)]
        return bool(parts) and all(_is_computed(part) for part in parts)
    return key[0] in ("call", "ucall") and not mentions(key, "get_scale")
