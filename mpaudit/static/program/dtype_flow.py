"""Where the dtype of a tensor is known, and where a float64 one does harm."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts import ir
from . import arrays, calls, makers
from .arrays import SCALAR64
from .definitions import Site
from .frame import Frame, Run, text_of
from .shapes import Args, Keywords
from .state import PathState
from .trace import Leak
from .values import NONE, Tensor, Tup, Value


def dtype_call(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState
) -> Value | None:
    """Arrays and tensors whose dtype is known by how they are made; None where `name` makes none."""
    site = fr.site(expr.span)
    wanted = arrays.dtype_of(next((v for k, v in keywords if k == "dtype"), None))
    array = arrays.made(name, args, keywords)
    if array is not None:
        return array
    if name in ("torch.from_numpy", "torch.as_tensor", "torch.tensor"):
        source = args[0] if args else NONE
        if wanted is None and len(args) > 1 and name != "torch.from_numpy":
            wanted = arrays.dtype_of(args[1])
        if any(k == "device" for k, _ in keywords) and makers.moves_to_gpu(
            run, [v for k, v in keywords if k == "device"]
        ):
            run.cuda = True
        if wanted is not None:
            named = {"?": "", "float64": "explicit64"}.get(wanted, wanted)
            return Tensor(dtype=named, site=site)
        dtype = ""
        if isinstance(source, Tensor) and source.array and source.dtype != SCALAR64:
            dtype = source.dtype
        elif isinstance(source, Tup) and source.items:
            if all(isinstance(i, Tensor) and i.array and i.dtype == "float64" for i in source.items):
                dtype = "float64"
        return Tensor(dtype=dtype, site=site if dtype == "float64" else None)
    if name.startswith("torch.") and wanted == "float64" and name.count(".") == 1:
        return Tensor(dtype="explicit64", site=site)
    return None


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
