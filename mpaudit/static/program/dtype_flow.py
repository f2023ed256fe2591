"""Where the dtype of an array or tensor is known, and where a float64 one does harm."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts import ir
from . import calls, makers, operators, torch_api
from .frame import Frame, Run, text_of
from .linker import Site
from .shapes import Args, Keywords
from .state import PathState
from .trace import Leak
from .values import NONE, Const, Dtype, Ext, Tensor, Tup, Value


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


def dtype_call(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState
) -> Value | None:
    """Arrays and tensors whose dtype is known by how they are made; None where `name` makes none."""
    site = fr.site(expr.span)
    wanted = dtype_of(next((v for k, v in keywords if k == "dtype"), None))
    if torch_api.is_numpy_float64(name):
        position = {"zeros": 1, "ones": 1, "empty": 1, "full": 2, "eye": 3}.get(name.rsplit(".", 1)[-1])
        if wanted is None and position is not None and position < len(args):
            wanted = dtype_of(args[position])
        if wanted is None and name == "numpy.full":
            fill = args[1] if len(args) > 1 else None
            wanted = None if isinstance(fill, Const) and isinstance(fill.value, float) else "?"
        scalar = not args and not keywords and name.startswith("numpy.random")
        return Tensor(dtype="" if scalar else wanted or "float64", array=not scalar)
    if name in (
        "numpy.array",
        "numpy.asarray",
        "numpy.ascontiguousarray",
        "numpy.stack",
        "numpy.concatenate",
        "numpy.vstack",
    ):
        source = args[0] if args else NONE
        if wanted is not None:
            return Tensor(dtype="" if wanted == "?" else wanted, array=True)
        return Tensor(dtype=_array_dtype(source), array=True)
    if name in ("torch.from_numpy", "torch.as_tensor", "torch.tensor"):
        source = args[0] if args else NONE
        if wanted is None and len(args) > 1 and name != "torch.from_numpy":
            wanted = dtype_of(args[1])
        if any(k == "device" for k, _ in keywords) and makers.moves_to_gpu(
            run, [v for k, v in keywords if k == "device"]
        ):
            run.cuda = True
        if wanted is not None:
            return Tensor(dtype="" if wanted == "?" else wanted, site=site)
        dtype = ""
        if isinstance(source, Tensor) and source.array and source.dtype != operators.SCALAR64:
            dtype = source.dtype
        elif isinstance(source, Tup) and source.items:
            if all(isinstance(i, Tensor) and i.array and i.dtype == "float64" for i in source.items):
                dtype = "float64"
        return Tensor(dtype=dtype, site=site if dtype == "float64" else None)
    if name.startswith("torch.") and wanted == "float64" and name.count(".") == 1:
        return Tensor(dtype="explicit64", site=site)
    return None


def _array_dtype(source: Value) -> str:
    if isinstance(source, Tensor):
        return source.dtype if source.array else ""
    if isinstance(source, Tup) and source.items:
        kinds = {_array_dtype(item) if isinstance(item, Tup | Tensor) else _scalar_kind(item) for item in source.items}
        if kinds <= {"float64", "int64"} and "float64" in kinds:
            return "float64"
    return ""


def _scalar_kind(value: Value) -> str:
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
        return Tensor(array=True)
    sized = any(k == "size" for k, _ in keywords) or len(args) >= (3 if method in ("normal", "uniform") else 1)
    return Tensor(dtype=(wanted or "float64") if sized else "", array=True)


def check_leaks(run: Run, values: Sequence[Value], sink: Site, what: str, st: PathState) -> None:
    """A float64 tensor reached a place where it does harm."""
    if run.lazy or st.no_grad:
        return
    for tensor in calls.tensors_in(values):
        if tensor.dtype == "float64" and not tensor.array and tensor.site is not None:
            text = run.trace.names.get(("tensor", tensor.site), "")
            run.trace.leaks.setdefault((tensor.site, sink), Leak(tensor.site, sink, what, text, run.root))


def dtype_like(expr: ir.Expr) -> bool:
    return "dtype" in text_of(expr)


def array_method(base: Tensor, name: str, args: Args, keywords: Keywords) -> Value:
    if name == "astype":
        wanted = dtype_of(args[0] if args else next((v for k, v in keywords if k == "dtype"), None))
        return Tensor(dtype=wanted if wanted and wanted != "?" else "", array=True)
    if name in ("reshape", "copy", "transpose", "flatten", "ravel", "squeeze", "repeat", "clip", "cumsum", "swapaxes"):
        return base
    if name in ("argmax", "argmin", "argsort", "nonzero", "tolist", "item"):
        return Tensor(array=True)
    if name in ("mean", "sum", "std", "max", "min", "var"):
        whole = not args and not any(k in ("axis", "keepdims") for k, _ in keywords)
        return Tensor(
            dtype=operators.SCALAR64 if whole and base.dtype == "float64" else base.dtype if not whole else "",
            array=True,
        )
    return Tensor(array=True)
