"""A dtype that an option chooses: under which decision it is float16."""

from __future__ import annotations

from collections.abc import Mapping

from . import containers
from .definitions import Site
from .state import PathState
from .values import Choice, Dtype, Key, Phi, Ref, Sym, Value, options, phi

HALF = "float16"


def on_cuda(dtype: Value) -> Value:
    """What a dtype is on CUDA; what another device gets is another matter."""
    if not isinstance(dtype, Phi):
        return dtype
    if _is_for_cuda(dtype.key):
        return on_cuda(dtype.yes)
    return phi(dtype.key, on_cuda(dtype.yes), on_cuda(dtype.no))


def _is_for_cuda(key: Key) -> bool:
    """`device.type == "cuda"`, `device.type in ["cuda", "cpu"]`"""
    match key:
        case ("eq", _, "cuda") | ("truth", ("pcall", "torch.cuda.is_available")):
            return True
        case ("truth", ("cmp", "in", _, ("tuple", *devices))):
            return ("const", "cuda") in devices
        case _:
            return False


def where_float16(dtype: Value, site: Site, st: PathState) -> Key | None:
    """The decision under which `dtype` is float16, taken or not; None where no decision is what makes it float16.
    `site` stands for a decision that has no name."""
    found = _where(dtype, ("truth", ("call", site, HALF)), st)
    return None if isinstance(found, bool) else found


def _where(dtype: Value, unnamed: Key, st: PathState) -> bool | Key:
    match dtype:
        case Phi():
            yes, no = _where(dtype.yes, unnamed, st), _where(dtype.no, unnamed, st)
            if yes == no:
                return yes
            parts = [_both(dtype.key, yes), _both(("not", dtype.key), no)]
            keys = [part for part in parts if not isinstance(part, bool)]
            return keys[0] if len(keys) == 1 else ("or", *keys)
        case Choice():
            return unnamed if any(_where(option, unnamed, st) for option in options(dtype)) else False
        case Sym(key=("sub", ("obj", Ref(kind="dict") as table), asked)):
            return _where_asked(table, asked, unnamed, st)
        case _:
            return dtype == Dtype(HALF)


def _both(key: Key, inner: bool | Key) -> bool | Key:
    return key if inner is True else inner and ("and", key, inner)


def _where_asked(table: Ref, asked: Key, unnamed: Key, st: PathState) -> bool | Key:
    """`{"bfloat16": torch.bfloat16, "float16": torch.float16}[asked]`"""
    names = [name for name, value in containers.held(table, st) if value == Dtype(HALF)]
    words = [containers.key_of_slot(name) for name in names]
    if not names:
        return False
    keys: list[Key] = [("eq", asked, word) for word in words if word]
    return unnamed if len(keys) < len(names) else keys[0] if len(keys) == 1 else ("or", *keys)


_BOTH = frozenset((("const", "bfloat16"), ("const", HALF))), frozenset((("name", "bfloat16"), ("name", HALF)))


def is_of_hardware(key: Key) -> bool:
    """Whether a decision asks which of float16 and bfloat16 something has become that no option has told: the one that
    the hardware has."""
    if key[0] == "any":
        return frozenset(key[1:]) in _BOTH
    return any(isinstance(part, tuple) and part != () and is_of_hardware(part) for part in key)


def by_default(key: Key, defaults: Mapping[str, str]) -> bool | None:
    """What a decision on options is where they are left alone; None where their defaults are not known."""
    match key:
        case ("not", inner):
            known = by_default(inner, defaults)
            return None if known is None else not known
        case ("and" | "or", *parts):
            found = [by_default(part, defaults) for part in parts]
            decisive = key[0] == "or"
            return decisive if decisive in found else None if None in found else not decisive
        case ("eq", ("attr", _, str(name)), value) if name in defaults:
            return bool(defaults[name] == value)
        case ("truth", ("attr", _, str(name))) if name in defaults:
            return bool(defaults[name])
        case _:
            return None
