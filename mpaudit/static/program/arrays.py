"""Which dtype a NumPy array has. What PIL and OpenCV read counts as an array too: of bytes, as nearly every image."""

from __future__ import annotations

from collections.abc import Sequence

from . import torch_api
from .shapes import Args, Keywords
from .values import NONE, Const, Dtype, Ext, Tensor, Tup, Value

INTEGERS = frozenset({"bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64"})
SCALAR64 = "float64 scalar"
"""A NumPy float64 scalar: in arithmetic with arrays it is float64, as a tensor of no dimension it promotes none."""

UNKNOWN = Tensor(array=True)

_READ = frozenset({"PIL.Image.open", "cv2.imread"})
_COUNTED = frozenset({"numpy.bincount", "numpy.random.randint", "numpy.argmax", "numpy.argmin", "numpy.argsort"})
_COPIES = frozenset(
    f"numpy.{name}"
    for name in (
        "array", "asarray", "asanyarray", "ascontiguousarray", "copy", "stack", "concatenate", "vstack", "hstack",
        "dstack", "transpose", "moveaxis", "swapaxes", "expand_dims", "squeeze", "reshape", "ravel", "flip", "fliplr",
        "flipud", "rot90", "roll", "tile", "repeat", "zeros_like", "ones_like", "empty_like", "rollaxis",
    )
) | {"cv2.cvtColor", "cv2.resize", "cv2.flip", "cv2.rotate", "cv2.copyMakeBorder"}  # fmt: skip
"""The result has the dtype of the first argument."""
_FLOATING = frozenset(
    f"numpy.{name}" for name in ("sqrt", "exp", "log", "log2", "log10", "log1p", "sin", "cos", "tanh", "true_divide")
)
"""Of float64 they give float64, of wide integers too (`sqrt` of bytes is float16)."""

_KEEPS = frozenset(
    {
        "reshape", "copy", "transpose", "flatten", "ravel", "squeeze", "repeat", "clip", "cumsum", "swapaxes",
        "resize", "crop", "rotate",
    }
)  # fmt: skip
_MODES = frozenset({"RGB", "L", "RGBA", "P", "YCbCr", "HSV", "LAB", "CMYK", "1"})
"""Of Pillow, of eight bits a channel or one."""


def dtype_of(value: Value | None) -> str | None:
    """A dtype argument by name: torch or NumPy dtype, or the Python type; None: no argument, '?': unknown."""
    if value is None or value == NONE:
        return None
    if isinstance(value, Dtype):
        return value.name
    if isinstance(value, Ext):
        return {"builtins.float": "float64", "builtins.int": "int64", "builtins.bool": "bool"}.get(value.name, "?")
    if isinstance(value, Const) and isinstance(value.value, str):
        return torch_api.NUMPY_DTYPES.get(
            value.value, {"float": "float64", "f4": "float32", "f8": "float64"}.get(value.value, "?")
        )
    return "?"


def made(name: str, args: Args, keywords: Keywords) -> Value | None:
    """The array that a function of a library makes; None where `name` makes none whose dtype is known here."""
    wanted = dtype_of(next((v for k, v in keywords if k == "dtype"), None))
    first = args[0] if args else NONE
    if torch_api.is_numpy_float64(name):
        position = {"zeros": 1, "ones": 1, "empty": 1, "full": 2, "eye": 3}.get(name.rsplit(".", 1)[-1])
        if wanted is None and position is not None and position < len(args):
            wanted = dtype_of(args[position])
        if wanted is None and name == "numpy.full":
            fill = args[1] if len(args) > 1 else None
            wanted = None if isinstance(fill, Const) and isinstance(fill.value, float) else "?"
        if name.startswith("numpy.random.") and not _sized(name.rsplit(".", 1)[-1], args, keywords):
            return Tensor()  # a number
        return Tensor(dtype=wanted or "float64", array=True)
    if name in _READ:
        return Tensor(dtype="uint8" if _of_bytes(name, args, keywords) else "", array=True)
    if name in _COPIES:
        if wanted is not None:
            return Tensor(dtype="" if wanted == "?" else wanted, array=True)
        return Tensor(dtype=_dtype_in(first), array=True)
    if name in _COUNTED:
        weighted = name == "numpy.bincount" and (len(args) > 1 or any(k == "weights" for k, _ in keywords))
        return UNKNOWN if weighted or wanted is not None else Tensor(dtype="int64", array=True)
    if name == "numpy.arange" and args and not keywords and len(args) < 4:
        kinds = {_kind(value) for value in args}
        return Tensor(dtype=("float64" if "float64" in kinds else "int64") if kinds <= _PLAIN else "", array=True)
    if name == "numpy.unique" and any(k == "return_counts" and v == Const(True) for k, v in keywords):
        if len(keywords) == 1 and len(args) == 1:
            return Tup((Tensor(dtype=_dtype_in(first), array=True), Tensor(dtype="int64", array=True)))
    if name in _FLOATING and isinstance(first, Tensor) and first.array and wanted is None and len(args) == 1:
        return Tensor(dtype="float64" if first.dtype in ("float64", "int64", "int32") else "", array=True)
    return None


def _of_bytes(name: str, args: Args, keywords: Keywords) -> bool:
    if name != "cv2.imread":
        return True
    flags = [*args[1:], *(v for k, v in keywords if k == "flags")]
    plain = (Const(0), Const(1), Ext("cv2.IMREAD_COLOR"), Ext("cv2.IMREAD_GRAYSCALE"))
    return all(flag in plain for flag in flags)


_PLAIN = frozenset({"float64", "int64"})


def _dtype_in(source: Value) -> str:
    if isinstance(source, Tensor):
        return source.dtype if source.array else ""
    if isinstance(source, Tup) and source.items:
        kinds = {_dtype_in(item) if isinstance(item, Tup | Tensor) else _kind(item) for item in source.items}
        if kinds <= _PLAIN and "float64" in kinds:
            return "float64"
        if kinds == {"uint8"}:
            return "uint8"
    return ""


def _kind(value: Value) -> str:
    if isinstance(value, Const) and isinstance(value.value, float):
        return "float64"
    if isinstance(value, Const) and isinstance(value.value, int):
        return "int64"
    return ""


def generated(method: str, args: Args, keywords: Keywords) -> Value:
    """What a NumPy generator's method gives: float64 arrays, where it draws floats and is asked for a shape."""
    wanted = dtype_of(next((v for k, v in keywords if k == "dtype"), None))
    if method not in (
        "random",
        "rand",
        "randn",
        "normal",
        "uniform",
        "standard_normal",
        "exponential",
        "random_sample",
    ):
        return UNKNOWN
    return Tensor(dtype=(wanted or "float64") if _sized(method, args, keywords) else "", array=True)


def _sized(draw: str, args: Args, keywords: Keywords) -> bool:
    """Whether what is drawn is an array and not one number: the size comes after the parameters of the law."""
    parameters = {"normal": 2, "uniform": 2, "beta": 2, "gamma": 2, "exponential": 1}.get(draw, 0)
    return any(k == "size" for k, _ in keywords) or len(args) > parameters


def method(base: Tensor, name: str, args: Args, keywords: Keywords) -> Value:
    """What a method of an array gives."""
    if name == "astype":
        wanted = dtype_of(args[0] if args else next((v for k, v in keywords if k == "dtype"), None))
        return Tensor(dtype=wanted if wanted and wanted != "?" else "", array=True)
    if name in _KEEPS:
        return base
    if name == "convert":  # of Pillow
        mode = args[0] if args else NONE
        return base if isinstance(mode, Const) and mode.value in _MODES else UNKNOWN
    if name in ("argmax", "argmin", "argsort", "nonzero", "tolist", "item"):
        return UNKNOWN
    if name in ("mean", "sum", "std", "max", "min", "var"):
        whole = not args and not any(k in ("axis", "keepdims") for k, _ in keywords)
        if base.dtype in INTEGERS:
            return UNKNOWN
        return Tensor(
            dtype=SCALAR64 if whole and base.dtype == "float64" else base.dtype if not whole else "",
            array=True,
        )
    return UNKNOWN


def arithmetic(op: str, a: Value, b: Value) -> Value:
    """What an operator gives of two values, at least one of which is an array. By NumPy's rules of promotion, the same
    before and since version 2: a Python number does not widen floats, and makes float64 of integers where it is a
    float; true division makes float64 of them in any case."""
    arrays: Sequence[Tensor] = [v for v in (a, b) if isinstance(v, Tensor)]
    others = [v for v in (a, b) if not isinstance(v, Tensor)]
    kinds = {v.dtype for v in arrays}
    if op in _COMPARISONS or not arrays:
        return UNKNOWN
    if kinds <= INTEGERS and (op == "/" or (others and _kind(others[0]) == "float64")):
        known = len(arrays) == 2 or _kind(others[0]) in _PLAIN
        return Tensor(dtype="float64", array=True) if known else UNKNOWN
    if len(arrays) == 2 and kinds <= {"float64", SCALAR64}:
        return next((v for v in arrays if v.dtype == "float64"), arrays[0])
    if len(arrays) == 1 and isinstance(others[0], Const):
        return arrays[0]
    wide = [v for v in arrays if v.dtype == "float64"]
    if wide and all(v.dtype in INTEGERS | {"float64", "float32"} for v in arrays) and len(arrays) == 2:
        return wide[0]
    return UNKNOWN


_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not"})
