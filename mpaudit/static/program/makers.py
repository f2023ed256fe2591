"""What makes autocasts, scalers and devices, and the arguments of these calls."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..facts import ir
from . import classes, containers, dtype_choice, events, torch_api
from .definitions import Site
from .frame import Frame, Run, text_of
from .shapes import Args, Keywords
from .state import PathState
from .trace import ApiCall, Basis, CastMade, LossCall
from .values import NONE, Cast, Choice, Const, Device, Dtype, Key, Phi, Ref, Sym, Tup, Value, options, phi


def argument(args: Args, keywords: Keywords, position: int, name: str) -> Value | None:
    for key, value in keywords:
        if key == name:
            return value
    return args[position] if position < len(args) else None


def is_pretrained(name: str, last: str) -> bool:
    if not torch_api.is_of_models(name):
        return False
    if any(map(_BESIDE_A_MODEL.search, name.split("."))):
        return False
    made_by = last in ("from_pretrained", "create_model", "from_config", "load") or "models" in name or "." not in name
    return made_by or last[:1].isupper()


_BESIDE_A_MODEL = re.compile(r"(Tokenizer(Fast)?|Processor(Fast)?|FeatureExtractor|Config|Scheduler|Args|Arguments)$")
"""Classes of model libraries that are no models."""


def is_norm_only(bound: Value | None, expr: ir.Call) -> bool:
    """`clip_grad_norm_(params, inf)` only measures."""
    if isinstance(bound, Const) and isinstance(bound.value, int | float):
        return bound.value > 1e8
    source = next((v for k, v in expr.keywords if k == "max_norm"), expr.args[1] if len(expr.args) > 1 else None)
    text = text_of(source) if source is not None else ""
    return text.endswith(".inf") or (isinstance(source, ir.Call) and any(
        isinstance(a, ir.Const) and a.value in ("inf", "Inf") for a in source.args))  # fmt: skip


def as_params(value: Value, st: PathState) -> Value:
    """Parameters in any of the forms an optimizer takes: a generator, a list, groups."""
    if isinstance(value, Tup):
        return Tup(tuple(as_params(item, st) for item in value.items))
    if isinstance(value, Ref) and value.kind == "dict":
        inner = [v for name, v in containers.held(value, st) if name == containers.slot(Const("params"))]
        return as_params(inner[0], st) if inner else value
    if isinstance(value, Ref) and value.kind == "list":
        # what is in the list on some path may be in it
        lists = [option for option in options(st.heap.get((value, "[]")) or value) if isinstance(option, Tup)]
        items = tuple(dict.fromkeys(item for one in lists for item in one.items))
        return as_params(Tup(items), st) if lists else value
    if isinstance(value, Phi):
        return phi(value.key, as_params(value.yes, st), as_params(value.no, st))
    return value


def make_autocast(
    run: Run, fr: Frame, name: str, args: Args, keywords: Keywords, site: Site, text: str, st: PathState
) -> Value:
    fixed = torch_api.AUTOCAST[name]
    if fixed:
        enabled, dtype = argument(args, keywords, 0, "enabled"), argument(args, keywords, 1, "dtype")
        device = fixed
    else:
        given = argument(args, keywords, 0, "device_type")
        dtype, enabled = argument(args, keywords, 1, "dtype"), argument(args, keywords, 2, "enabled")
        device = device_name(given, st)
    half: Key | None = None
    unknown = any(key == "" for key, _ in keywords) or any(isinstance(v, Sym) and v.key[0] == "star" for v in args)
    if unknown:
        device, named = fixed or "", ""
    elif dtype is None or dtype == NONE:
        named = torch_api.DEFAULT_AUTOCAST_DTYPE.get(device, "")
    else:
        dtype = dtype_choice.on_cuda(st.settle(dtype))
        named = _dtype_name(dtype, run)
        if "|" not in named:
            half = dtype_choice.where_float16(dtype, site, st)
    on: bool | Key = True
    if enabled is not None:
        on = classes.truth_key(st.settle(enabled))
    elif unknown:
        on = ("truth", ("call", site))
    if named in _FULL:
        on = False  # torch warns that it is disabled
    if on is not False:
        run.trace.cast_dtypes.add(named)
    run.trace.casts_made.setdefault(site, CastMade(site, text, False))
    if on is not False:
        run.trace.casts_on.add(site)
    return Ref("autocast", Cast(device, named, on, site, half))


_FULL = frozenset(("float32", "float64"))
"""Dtypes that no autocast can have."""


def _dtype_name(dtype: Value, run: Run) -> str:
    """'float16', 'bfloat16|float16' where the source chooses between them by what the GPU can do, '' where it is not
    known: what an option chooses is not what the script does when it is left alone."""
    names = {option.name if isinstance(option, Dtype) else "" for option in options(dtype)}
    return "|".join(sorted(names)) if "" not in names and (len(names) == 1 or run.project.asks_hardware) else ""


def device_name(value: Value | None, st: PathState) -> str:
    """'cuda', 'cpu', …, or '' where it is not known. A choice between cuda and cpu counts as cuda."""
    if value is None:
        return ""
    names = set()
    for option in options(st.settle(value)):
        if isinstance(option, Const) and isinstance(option.value, str):
            names.add(option.value.split(":")[0])
        elif isinstance(option, Device):
            names.add(option.type.split(":")[0])
        elif isinstance(option, Sym) and (told := [n for n in _DEVICES if st.decided(("eq", option.key, n))]):
            names.add(told[0])  # `autocast(d.type) if d.type == "cuda" else nullcontext()`
        else:
            return ""
    if len(names) == 1:
        return names.pop()
    return "cuda" if "cuda" in names and names <= {"cuda", "cpu", "mps"} else ""


_DEVICES = ("cuda", "cpu", "mps", "xpu")


def make_device(value: Value) -> Value:
    if isinstance(value, Phi):
        return phi(value.key, make_device(value.yes), make_device(value.no))
    if isinstance(value, Choice):
        return Choice(frozenset(make_device(v) for v in value.options))
    if isinstance(value, Const):
        if isinstance(value.value, str):
            return Device(value.value.split(":")[0], ":" in value.value)
        if isinstance(value.value, int):
            return Device("cuda", True)
    if isinstance(value, Device):
        return Device(value.type.split(":")[0], True)
    return Device("", False)


def moves_to_gpu(run: Run, values: Sequence[Value]) -> bool:
    for value in values:
        for option in options(value):
            if isinstance(option, Device) and option.type.startswith("cuda"):
                return True
            if isinstance(option, Device) and not option.type:
                run.maybe_cuda = True
            if isinstance(option, Sym):
                named = str(option.key[-1]).lower()
                if option.key[0] == "pcall" and "torch.cuda.current_device" in option.key:
                    return True
                if any(word in named for word in ("device", "gpu", "rank")):
                    run.maybe_cuda = True
            if isinstance(option, Const) and (
                (isinstance(option.value, str) and option.value.startswith("cuda"))
                or (isinstance(option.value, int) and not isinstance(option.value, bool))
            ):
                return True
    return False


def make_scaler(
    run: Run, expr: ir.Call, name: str, args: Args, keywords: Keywords, site: Site, text: str, st: PathState
) -> Value:
    old = torch_api.GRAD_SCALER[name] in ("cuda", "cpu")
    position = 4 if old else 5
    enabled = argument(args, keywords, position, "enabled")
    if enabled is None and any(key == "" for key, _ in keywords):
        enabled = Sym(("call", site))
    ref = classes.made_once(run, "scaler", site, st)
    on = classes.truth_key(st.settle(enabled)) if enabled is not None else True
    if on is False and any(key == "enabled" and isinstance(given, ir.Const) for key, given in expr.keywords):
        run.trace.off_for_good[ref] = site
    told = "exec" in run.project.modules[site.path].names  # by a file of options that is run, as in nanoGPT
    if not isinstance(on, bool) and not told and dtype_choice.is_of_hardware(on):
        run.trace.for_old_hardware.add(ref)
    events.make_scaler(run, ref, site, on, text, st)
    return ref


def check_update_argument(run: Run, site: Site, value: Value, fr: Frame, expr: ir.Call) -> None:
    if isinstance(value, Const) and isinstance(value.value, int) and not isinstance(value.value, bool):
        text = text_of(expr.func)
        run.trace.calls[ApiCall("GradScaler.update", site, (value,), (), "call", text, run.root)] = None


def bce(run: Run, site: Site, text: str, st: PathState) -> None:
    if not run.lazy:
        run.trace.losses.append(LossCall(site, text, st.casts, Basis.of(st, run.root)))
