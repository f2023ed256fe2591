"""What calls of torch, NumPy, Python and the training frameworks do and give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..facts import ir
from . import events, torch_api
from .expressions import SCALAR64, Results, attribute, held, iterate, key_of
from .frame import Frame, Run, text_of
from .linker import Site
from .state import PathState
from .trace import ApiCall, Basis, CastMade, Leak, LossCall
from .values import (
    NONE,
    Cast,
    Choice,
    Const,
    Device,
    Dtype,
    Ext,
    Func,
    Gradient,
    Key,
    Owned,
    Params,
    Phi,
    Ref,
    State,
    Sym,
    Tensor,
    Tup,
    Value,
    choice,
    join_tensors,
    mentions,
    options,
)  # fmt: skip

Args = tuple[Value, ...]
Keywords = tuple[tuple[str, Value], ...]

SAME_OBJECT = frozenset(
    ["to", "cuda", "cpu", "train", "eval", "requires_grad_", "apply", "compile", "xpu", "mps", "npu", "share_memory", "to_empty", "type", "float", "double", "half", "bfloat16", "enable_input_require_grads", "gradient_checkpointing_enable"]
)
"""Methods of a module that give the module."""


def argument(args: Args, keywords: Keywords, position: int, name: str) -> Value | None:
    for key, value in keywords:
        if key == name:
            return value
    return args[position] if position < len(args) else None


def call_external(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState, shim: bool = False
) -> Results:
    from .calls import fresh, opaque, tensors_in

    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    top = name.split(".", maxsplit=1)[0]
    last = name.rsplit(".", 1)[-1]
    if name in torch_api.AUTOCAST or name in torch_api.GRAD_SCALER or name in torch_api.DEPRECATED or name in _RECORDED:
        texts = tuple(text_of(e) for e in expr.args)
        run.trace.calls[ApiCall(name, site, args, keywords, "call", text_of(expr.func), run.root, shim, texts)] = None
    if name in torch_api.AUTOCAST:
        return [(st, make_autocast(run, fr, name, args, keywords, site, text_of(expr.func), st))]
    if name in torch_api.GRAD_SCALER:
        return [(st, make_scaler(run, name, args, keywords, site, text_of(expr.func), st))]
    if name in torch_api.NO_GRAD:
        return [(st, Ref("no_grad", ""))]
    if name == "torch.set_grad_enabled":
        if args and args[0] == Const(False):
            st.no_grad = True
            return [(st, Ref("no_grad", ""))]
        return [(st, Ref("null", ""))]
    if name == "contextlib.ExitStack":
        return [(st, Ref("exitstack", site))]
    if name in torch_api.NULL_CONTEXT:
        return [(st, Ref("null", ""))]
    if torch_api.OPTIMIZER.match(name):
        from .calls import allocation

        if args and isinstance(args[0], Ref) and args[0].kind == "optimizer":
            return [(st, args[0])]  # a wrapper (Lookahead, ZeRO …) steps what it wraps

        if last.startswith("create_optimizer"):
            models = [v for v in everything if isinstance(v, Ref) and v.kind == "module"]
            params: list[Value] = [Params(frozenset(models))] if models else []
        else:
            given = argument(args, keywords, 0, "params")
            params = [] if given is None else [_as_params(given, st)]
        ref = Ref("optimizer", allocation(run, site))
        events.make_optimizer(run, ref, site, params, text_of(expr.func), st)
        return [(st, ref)]
    if torch_api.CLIP.match(name):
        target = argument(args, keywords, 0, "parameters")
        bound = argument(args, keywords, 1, "max_norm")
        by_scale = isinstance(bound, Sym) and mentions(bound.key, "get_scale")  # the bound is scaled, as the gradients
        if not by_scale and not _is_norm_only(bound, expr):
            events.clip(run, target if target is not None else NONE, site, st)
        return [(st, fresh(site, st))]
    if torch_api.MODULE_WRAPPERS.search(name) and top in ("torch", "apex", "fairscale"):
        if args and isinstance(args[0], Ref | Phi | Choice | Sym):
            return [(st, args[0])]
        if args and isinstance(args[0], Func):
            return [(st, args[0])]
    if name == "torch.device":
        return [(st, make_device(args[0] if args else NONE))]
    if name == "torch.utils.data.DataLoader" or name == "torch.utils.data.dataloader.DataLoader":
        dataset = argument(args, keywords, 0, "dataset")
        own = argument(args, keywords, 7, "collate_fn")
        if isinstance(dataset, Ref) and dataset in run.classes and own is None:
            return [(st, Ref("loader", dataset))]
        return [(st, fresh(site, st))]
    if name in ("torch.cuda.current_device",):
        return [(st, Sym(("pcall", name)))]
    if name in torch_api.BCE:
        bce(run, site, text_of(expr.func), st)
        check_leaks(run, everything, site, "a loss", st)
        return [(st, join_tensors(tensors_in(everything)))]
    if name == "torch.save":
        if args:
            events.save(run, args[0], site, st)
        return [(st, NONE)]
    if name == "torch.autograd.backward":
        given = argument(args, keywords, 0, "tensors")
        for tensor in tensors_in([given]) if given is not None else ():
            events.backward(run, fr, tensor, site, text_of(expr.args[0]) if expr.args else "loss", st)
        return [(st, NONE)]
    made = dtype_call(run, fr, expr, name, args, keywords, st)
    if made is not None:
        return [(st, made)]
    if torch_api.MODULE_BASE.match(name) or _is_pretrained(name, last):
        from .calls import allocation

        ref = Ref("module", allocation(run, site))
        if last.endswith("Loss"):
            check_leaks(run, everything, site, "a loss", st)
        if name in torch_api.BCE_MODULES:
            run.trace.module_info[ref] = "bce"
        for value in everything:
            for option in options(value):
                if isinstance(option, Ref) and option.kind == "module":
                    run.contains.setdefault(ref, set()).add(option)
        wanted = next((v for k, v in keywords if k in ("torch_dtype", "dtype")), None)
        if wanted is not None and wanted != Dtype("float32"):
            run.trace.lowered.add(ref)
        if wanted == Dtype("float16"):
            run.half[ref] = site
        return [(st, ref)]
    if torch_api.owner(name) or name.startswith("apex.amp"):
        run.trace.owned_roots.add(run.root)
        for value in everything:
            events.havoc(run, [value], st)
        return [(st, Owned(torch_api.owner(name) or "apex"))]
    if top == "timm" and last in ("NativeScaler", "ApexScaler"):
        return [(st, Ref("native_scaler", site))]
    builtin = _python(run, fr, expr, name, args, keywords, st)
    if builtin is not None:
        return builtin
    if torch_api.LOSSES.match(name):
        check_leaks(run, everything, site, "a loss", st)
    tensors = tensors_in(everything)
    if name in ("torch.nn.functional.linear", "torch.matmul", "torch.mm", "torch.nn.functional.conv2d", "torch.bmm"):
        check_leaks(run, everything, site, "a matrix product", st)
    if top == "torch":
        if tensors:
            joined = join_tensors(tensors)
            if joined.scaled is not None and joined.scaled != "?" and last not in ("sum", "mean", "stack", "add"):
                joined = replace(joined, scaled="?")
            return [(st, joined)]
        if run.testing:
            return [(st, Sym(("pcall", name, *(key_of(v) for v in everything[:4]))))]
        return [(st, fresh(site, st))]
    if top in _QUIET:
        return [(st, join_tensors(tensors) if tensors else _structural(run, name, everything, site, st))]
    return opaque(run, fr, expr, Ext(name), args, keywords, st)


_RECORDED = frozenset({"torch.set_default_dtype", "torch.set_default_tensor_type"})
_QUIET = frozenset(
    ["numpy", "logging", "os", "sys", "math", "time", "json", "random", "re", "copy", "pathlib", "shutil", "datetime", "collections", "itertools", "functools", "glob", "argparse", "yaml", "wandb", "tensorboard", "tensorboardX", "tqdm", "matplotlib", "PIL", "cv2", "scipy", "pandas", "sklearn", "mlflow", "comet_ml", "neptune", "torchvision", "torchaudio", "einops", "typing", "dataclasses", "warnings", "gc", "pickle", "string", "hashlib", "subprocess", "socket", "platform", "termcolor", "colorama", "prettytable", "tabulate", "rich", "loguru", "psutil", "signal", "builtins", "contextlib", "albumentations"]
)
"""Packages that act on no gradient: Python, NumPy, logging, progress, tracking, images."""


def _structural(run: Run, name: str, values: Sequence[Value], site: Site, st: PathState) -> Value:
    from .calls import fresh

    if run.testing:
        return Sym(("pcall", name, *(key_of(v) for v in values[:4])))
    return fresh(site, st)


def _is_pretrained(name: str, last: str) -> bool:
    if not torch_api.PRETRAINED.match(name):
        return False
    made_by = last in ("from_pretrained", "create_model", "from_config", "load") or "models" in name or "." not in name
    return made_by or (last[:1].isupper() and not last.endswith(("Config", "Tokenizer", "Processor", "Args", "Arguments")))


def _is_norm_only(bound: Value | None, expr: ir.Call) -> bool:
    """`clip_grad_norm_(params, inf)` only measures."""
    if isinstance(bound, Const) and isinstance(bound.value, int | float):
        return bound.value > 1e8
    source = next((v for k, v in expr.keywords if k == "max_norm"), expr.args[1] if len(expr.args) > 1 else None)
    text = text_of(source) if source is not None else ""
    return text.endswith(".inf") or (isinstance(source, ir.Call) and any(
        isinstance(a, ir.Const) and a.value in ("inf", "Inf") for a in source.args))  # fmt: skip


def _as_params(value: Value, st: PathState) -> Value:
    """Parameters in any of the forms an optimizer takes: a generator, a list, groups."""
    if isinstance(value, Tup):
        return Tup(tuple(_as_params(item, st) for item in value.items))
    if isinstance(value, Ref) and value.kind == "dict":
        inner = [v for slot, v in held(value, st) if slot == "[Const(value='params')]"]
        return _as_params(inner[0], st) if inner else value
    if isinstance(value, Ref) and value.kind == "list":
        items = st.heap.get((value, "[]"))
        return _as_params(items, st) if isinstance(items, Tup) else value
    return value


# ------------------------------------------------------------------ autocast


def make_autocast(
    run: Run, fr: Frame, name: str, args: Args, keywords: Keywords, site: Site, text: str, st: PathState
) -> Value:
    from .calls import truth_key

    fixed = torch_api.AUTOCAST[name]
    if fixed:
        enabled, dtype = argument(args, keywords, 0, "enabled"), argument(args, keywords, 1, "dtype")
        device = fixed
    else:
        given = argument(args, keywords, 0, "device_type")
        dtype, enabled = argument(args, keywords, 1, "dtype"), argument(args, keywords, 2, "enabled")
        device = device_name(given, st)
    unknown = any(key == "" for key, _ in keywords) or any(isinstance(v, Sym) and v.key[0] == "star" for v in args)
    if unknown:
        device, named = fixed or "", ""
    elif dtype is None or dtype == NONE:
        named = torch_api.DEFAULT_AUTOCAST_DTYPE.get(device, "")
    else:
        settled = st.settle(dtype)
        named = settled.name if isinstance(settled, Dtype) else ""
    on: bool | Key = True
    if enabled is not None:
        on = truth_key(st.settle(enabled))
    elif unknown:
        on = ("truth", ("call", site))
    run.trace.casts_made.setdefault(site, CastMade(site, text, False))
    return Ref("autocast", Cast(device, named, on, site))


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
        else:
            return ""
    if len(names) == 1:
        return names.pop()
    return "cuda" if "cuda" in names and names <= {"cuda", "cpu", "mps"} else ""


def make_device(value: Value) -> Value:
    if isinstance(value, Phi):
        return Phi(value.key, make_device(value.yes), make_device(value.no))
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


# -------------------------------------------------------------------- scaler


def make_scaler(run: Run, name: str, args: Args, keywords: Keywords, site: Site, text: str, st: PathState) -> Value:
    from .calls import allocation, truth_key

    old = torch_api.GRAD_SCALER[name] in ("cuda", "cpu")
    position = 4 if old else 5
    enabled = argument(args, keywords, position, "enabled")
    if enabled is None and any(key == "" for key, _ in keywords):
        enabled = Sym(("call", site))
    ref = Ref("scaler", allocation(run, site))
    on = truth_key(st.settle(enabled)) if enabled is not None else True
    events.make_scaler(run, ref, site, on, text, st)
    return ref


def check_update_argument(run: Run, site: Site, value: Value, fr: Frame, expr: ir.Call) -> None:
    if isinstance(value, Const) and isinstance(value.value, int) and not isinstance(value.value, bool):
        text = text_of(expr.func)
        run.trace.calls[ApiCall("GradScaler.update", site, (value,), (), "call", text, run.root)] = None


def bce(run: Run, site: Site, text: str, st: PathState) -> None:
    if not run.lazy:
        run.trace.losses.append(LossCall(site, text, st.casts, Basis.of(st, run.root)))


# ---------------------------------------------------------------- dtype flow


def dtype_of(value: Value | None) -> str | None:
    """A dtype argument by name: torch or NumPy dtype, or the Python type; None: no argument, '?': unknown."""
    if value is None or value == NONE:
        return None
    if isinstance(value, Dtype):
        return value.name
    if isinstance(value, Ext):
        return {"builtins.float": "float64", "builtins.int": "int64", "builtins.bool": "bool"}.get(value.name, "?")
    if isinstance(value, Const) and isinstance(value.value, str):
        return torch_api.NUMPY_DTYPES.get(value.value, {"float": "float64", "f4": "float32", "f8": "float64"}.get(value.value, "?"))
    return "?"


def dtype_call(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState
) -> Value | None:
    """Arrays and tensors whose dtype is known by how they are made; None where `name` makes none."""
    site = fr.site(expr.span)
    wanted = dtype_of(next((v for k, v in keywords if k == "dtype"), None))
    if torch_api.NUMPY_FLOAT64.match(name):
        position = {"zeros": 1, "ones": 1, "empty": 1, "full": 2, "eye": 3}.get(name.rsplit(".", 1)[-1])
        if wanted is None and position is not None and position < len(args):
            wanted = dtype_of(args[position])
        if wanted is None and name == "numpy.full":
            fill = args[1] if len(args) > 1 else None
            wanted = None if isinstance(fill, Const) and isinstance(fill.value, float) else "?"
        scalar = not args and not keywords and name.startswith("numpy.random")
        return Tensor(dtype="" if scalar else wanted or "float64", array=not scalar)
    if name in ("numpy.array", "numpy.asarray", "numpy.ascontiguousarray", "numpy.stack", "numpy.concatenate", "numpy.vstack"):
        source = args[0] if args else NONE
        if wanted is not None:
            return Tensor(dtype="" if wanted == "?" else wanted, array=True)
        return Tensor(dtype=_array_dtype(source), array=True)
    if name in ("torch.from_numpy", "torch.as_tensor", "torch.tensor"):
        source = args[0] if args else NONE
        if wanted is None and len(args) > 1 and name != "torch.from_numpy":
            wanted = dtype_of(args[1])
        if any(k == "device" for k, _ in keywords) and moves_to_gpu(run, [v for k, v in keywords if k == "device"]):
            run.cuda = True
        if wanted is not None:
            return Tensor(dtype="" if wanted == "?" else wanted, site=site)
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


def check_leaks(run: Run, values: Sequence[Value], sink: Site, what: str, st: PathState) -> None:
    """A float64 tensor reached a place where it does harm."""
    from .calls import tensors_in

    if run.lazy or st.no_grad:
        return
    for tensor in tensors_in(values):
        if tensor.dtype == "float64" and not tensor.array and tensor.site is not None:
            text = run.trace.names.get(("tensor", tensor.site), "")
            run.trace.leaks.setdefault((tensor.site, sink), Leak(tensor.site, sink, what, text, run.root))


# ------------------------------------------------------------------- methods


def tensor_method(
    run: Run, fr: Frame, expr: ir.Call, base: Tensor, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    from .calls import fresh, tensors_in

    site = fr.site(expr.span)
    if base.array:
        return [(st, _array_method(base, name, args, keywords))]
    if name == "backward":
        assert isinstance(expr.func, ir.Attr)
        events.backward(run, fr, base, site, _loss_text(expr), st)
        return [(st, NONE)]
    if name in ("detach", "clone_detached"):
        return [(st, replace(base, uses=frozenset(), grad=False))]
    if name in ("item", "tolist", "size", "dim", "numel", "nelement", "get_device", "element_size", "is_floating_point"):
        return [(st, fresh(site, st) if not run.testing else Sym(("ucall", name, str(site))))]
    if name in ("float", "half", "bfloat16", "double", "long", "int", "bool"):
        dtype = torch_api.DTYPES[name]
        return [(st, replace(base, dtype="explicit64" if dtype == "float64" else dtype, site=None))]
    if name in ("to", "type", "cuda", "cpu", "type_as", "to_dense", "contiguous"):
        if name == "cuda" or moves_to_gpu(run, (*args, *(v for _, v in keywords))):
            run.cuda = True
        dtypes = [dtype_of(v) for v in (*args, *(v for k, v in keywords if k == "dtype")) if isinstance(v, Dtype | Ext)]
        if dtypes and dtypes[0] not in (None, "?"):
            return [(st, replace(base, dtype=str(dtypes[0]), site=None))]
        if dtypes or name in ("type", "type_as") or any(isinstance(v, Tensor) for v in args):
            return [(st, replace(base, dtype="", site=None))]
        if name == "to" and any(isinstance(v, Sym) for v in args) and any(_dtype_like(e) for e in expr.args):
            return [(st, replace(base, dtype="", site=None))]
        return [(st, base)]
    if name in ("numpy",):
        return [(st, Tensor(array=True))]
    others = tensors_in((*args, *(v for _, v in keywords)))
    joined = join_tensors([base, *others]) if others else base
    if others and joined.scaled == "mixed":
        joined = replace(joined, scaled="mixed" if name in ("add", "add_", "sub") else "?")
    return [(st, replace(joined, dtype=base.dtype, site=base.site))]


def _dtype_like(expr: ir.Expr) -> bool:
    return "dtype" in text_of(expr)


def _loss_text(expr: ir.Call) -> str:
    base = expr.func.base if isinstance(expr.func, ir.Attr) else expr.func
    if isinstance(base, ir.Call) and base.args and isinstance(base.func, ir.Attr) and base.func.name == "scale":
        return text_of(base.args[0])
    return text_of(base)


def _array_method(base: Tensor, name: str, args: Args, keywords: Keywords) -> Value:
    if name == "astype":
        wanted = dtype_of(args[0] if args else next((v for k, v in keywords if k == "dtype"), None))
        return Tensor(dtype=wanted if wanted and wanted != "?" else "", array=True)
    if name in ("reshape", "copy", "transpose", "flatten", "ravel", "squeeze", "repeat", "clip", "cumsum", "swapaxes"):
        return base
    if name in ("argmax", "argmin", "argsort", "nonzero", "tolist", "item"):
        return Tensor(array=True)
    if name in ("mean", "sum", "std", "max", "min", "var"):
        whole = not args and not any(k in ("axis", "keepdims") for k, _ in keywords)
        return Tensor(dtype=SCALAR64 if whole and base.dtype == "float64" else base.dtype if not whole else "", array=True)
    return Tensor(array=True)


def gradient_method(
    run: Run, fr: Frame, expr: ir.Call, base: Gradient, name: str, args: Args, st: PathState
) -> Results:
    from .calls import fresh

    site = fr.site(expr.span)
    if name in ("zero_", "detach_") or (name == "fill_" and args and args[0] == Const(0)):
        if name != "detach_":
            events.zero_params(run, base.params, st, site)
        return [(st, base)]
    if name in ("clamp_", "clip_"):
        events.clip(run, base, site, st)
        return [(st, base)]
    if name in ("data", "detach", "clone", "float"):
        return [(st, base)]
    return [(st, fresh(site, st))]


def module_method(
    run: Run, fr: Frame, expr: ir.Call, module: Value, receiver: Value, name: str, args: Args, keywords: Keywords,
    st: PathState,
) -> Results:  # fmt: skip
    from .calls import call_function, forward, fresh, opaque, tensors_in

    site = fr.site(expr.span)
    ident = events.identity(module)
    assert ident is not None
    if name in ("parameters", "named_parameters", "trainable_parameters"):
        return [(st, Params(frozenset([ident])))]
    if name == "state_dict":
        return [(st, State(module))]
    if name == "zero_grad":
        events.zero_modules(run, frozenset([ident]), site, st)
        return [(st, NONE)]
    if name == "clip_grad_norm_":
        events.clip(run, Params(frozenset([ident])), site, st)
        return [(st, fresh(site, st))]
    if name == "forward" and isinstance(module, Ref):
        return forward(run, fr, expr, module, args, keywords, st)
    if name in SAME_OBJECT:
        everything = (*args, *(v for _, v in keywords))
        if name == "cuda" or moves_to_gpu(run, everything):
            run.cuda = True
        if name in ("half", "bfloat16") or Dtype("float16") in everything or Dtype("bfloat16") in everything:
            run.trace.lowered.add(ident)
        if name == "half" or Dtype("float16") in everything:
            run.half[ident] = site
        elif name in ("float", "bfloat16", "double") or any(isinstance(v, Dtype) for v in everything):
            run.half.pop(ident, None)
        if name == "double":
            run.trace.calls[_api("Module.double", site, run, text_of(expr.func))] = None
        return [(st, receiver)]
    if isinstance(module, Ref):
        found = attribute(run, fr, module, name, st)
        if isinstance(found, Func):
            return call_function(run, fr, found, args, keywords, st, site)
    if tensors_in(args) or name in ("generate", "encode", "decode", "sample"):
        return [(st, events.uses_of(ident, site, st, tensors_in(args)))]
    if name in ("modules", "children", "named_modules", "named_children", "load_state_dict", "register_buffer"):
        return [(st, fresh(site, st))]
    if name in ("no_sync", "join", "summon_full_params"):
        return [(st, Ref("null", ""))]
    return opaque(run, fr, expr, Ext("torch.module." + name), args, keywords, st)


def _api(name: str, site: Site, run: Run, text: str) -> ApiCall:
    return ApiCall(name, site, (), (), "call", text, run.root)


def unknown_method(
    run: Run, fr: Frame, expr: ir.Call, base: Sym, role: str, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results | None:
    """A method of a value that nothing is known of, where its name says enough."""
    from .calls import fresh, tensors_in

    site = fr.site(expr.span)
    assert isinstance(expr.func, ir.Attr)
    path = text_of(expr.func.base)
    lowered = path.lower()
    framework = any(word in lowered for word in ("accelerator", "fabric", "engine", "booster", "deepspeed"))
    if name == "backward":
        if (args and not any(word in lowered for word in ("loss", "err", "cost", "grad"))) or framework:
            events.backward(run, fr, args[0] if args else base, site, path, st, owned=True)
        else:
            events.backward(run, fr, base, site, path, st)
        return [(st, NONE)]
    if name == "manual_backward":
        events.backward(run, fr, args[0] if args else base, site, path, st, owned=True)
        return [(st, NONE)]
    if framework and name in ("prepare", "setup", "setup_module", "setup_optimizers", "step", "boost"):
        run.trace.owned_roots.add(run.root)
        return [(st, Owned("framework"))]
    if framework and name in ("autocast",):
        return [(st, Owned("framework"))]
    if name in ("parameters", "named_parameters"):
        return [(st, Params(frozenset([base.key])))]
    if name == "zero_grad":
        if role == "optimizer":
            events.zero(run, base.key, site, st)
        else:
            events.zero_modules(run, frozenset([base.key]), site, st)
        return [(st, NONE)]
    if name == "detach":
        return [(st, Tensor(frozenset(), grad=False))]
    if name == "state_dict":
        return [(st, State(base))]
    if name == "clip_grad_norm_":
        events.clip(run, Params(frozenset([base.key])), site, st)
        return [(st, fresh(site, st))]
    if name in ("cuda", "to"):
        everything = (*args, *(v for _, v in keywords))
        if name == "cuda" or moves_to_gpu(run, everything):
            run.cuda = True
        if Dtype("float16") in everything or Dtype("bfloat16") in everything:
            run.trace.lowered.add(base.key)
        if role == "module" and Dtype("float16") in everything:
            run.half[base.key] = site
        return [(st, base)]
    if name in ("half", "bfloat16"):
        run.trace.lowered.add(base.key)
    if name == "half" and role == "module":
        run.half[base.key] = site
        return [(st, base)]
    if name == "double" and role == "module":
        run.trace.calls[_api("Module.double", site, run, text_of(expr.func))] = None
        return [(st, base)]
    if name in ("train", "eval", "float", "half", "bfloat16", "double", "cpu", "requires_grad_", "contiguous", "long"):
        return [(st, base)]
    if name == "enter_context" and args:
        from .flow import enter_context

        return [(st, enter_context(run, fr, st.settle(args[0]), expr.args[0], st))]
    if name in ("values", "items", "keys", "get", "item", "size", "lower", "startswith", "endswith", "split", "strip", "format", "upper", "is_set"):
        key: Key = ("mcall", base.key, name, *(key_of(a) for a in args))
        if name == "get" and args:
            found = st.heap.get((base.key, f"[{args[0]!r}]")) if isinstance(args[0], Const) else None
            return [(st, found if found is not None else Sym(("sub", base.key, key_of(args[0]))))]
        return [(st, Sym(key))]
    if name in ("forward", "training_loss", "compute_loss") and role == "module":
        return [(st, events.uses_of(base.key, site, st, tensors_in(args)))]
    return None


def list_method(run: Run, ref: Ref, name: str, args: Args, st: PathState) -> Results:
    items = st.heap.get((ref, "[]"))
    known = items.items if isinstance(items, Tup) else ()
    if name == "append" and args:
        if args[0] not in known and len(known) < 6:
            st.heap[ref, "[]"] = Tup((*known, args[0]))
    elif name == "extend" and args:
        more = iterate(run, st.settle(args[0]), st)
        if more is not None:
            st.heap[ref, "[]"] = Tup((*known, *more)[:6])
        elif isinstance(args[0], Params):
            st.heap[ref, "[]"] = Tup((*known, args[0])[:6])
    elif name == "pop" and known:
        return [(st, choice(list(known), ("sub", ("list",), "pop")))]
    elif name == "copy":
        return [(st, ref)]
    return [(st, NONE)]


def dict_method(
    run: Run, fr: Frame, expr: ir.Call, ref: Ref, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    if name == "update":
        for value in args:
            if isinstance(value, Ref) and value.kind == "dict":
                for slot, item in held(value, st):
                    st.heap[ref, slot] = item
            else:
                st.heap[ref, "[** update]"] = value
        for key, value in keywords:
            st.heap[ref, f"[{Const(key)!r}]"] = value
        return [(st, NONE)]
    if name in ("get", "pop", "setdefault") and args:
        found = st.heap.get((ref, f"[{args[0]!r}]"))
        if found is None and len(args) > 1:
            return [(st, args[1])]
        return [(st, found if found is not None else Sym(("sub", ("obj", ref), key_of(args[0]))))]
    if name == "copy":
        return [(st, ref)]
    if name == "values":
        return [(st, Tup(tuple(value for _, value in held(ref, st))))]
    if name == "items":
        return [(st, Tup(tuple(Tup((Const(slot), value)) for slot, value in held(ref, st))))]
    return [(st, Sym(("mcall", ("obj", ref), name)))]


# ------------------------------------------------------------- plain Python


def _python(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results | None:
    last = name.rsplit(".", 1)[-1]
    if name in ("functools.partial", "torch.optim.lr_scheduler.partial"):
        return [(st, Ref("partial", (args[0], args[1:], keywords)))] if args else None
    if name == "itertools.chain" or name == "itertools.chain.from_iterable":
        sources = args[0].items if len(args) == 1 and isinstance(args[0], Tup) else args
        modules = events.parameter_modules(sources)
        return [(st, Params(modules))] if any(events._all_params(s) for s in sources) else None
    if not name.startswith("builtins."):
        if name in ("copy.deepcopy", "copy.copy") and args:
            from .calls import fresh

            if isinstance(args[0], Ref) and args[0].kind == "module":
                return [(st, Ref("module", fr.site(expr.span)))]
            return [(st, args[0] if isinstance(args[0], Tensor | Tup | Const) else fresh(fr.site(expr.span), st))]
        if name == "tqdm.tqdm" or last == "tqdm" or last == "trange":
            return [(st, args[0])] if args else None
        if last == "Namespace":
            return None
        return None
    match last:
        case "list" | "tuple" | "iter" | "reversed" | "sorted" | "set":
            if not args:
                ref = Ref("list", fr.site(expr.span))
                st.heap.pop((ref, "[]"), None)
                return [(st, ref)]
            return [(st, args[0])] if isinstance(args[0], Tup | Params | Tensor | Ref) else None
        case "filter":
            source = args[1] if len(args) > 1 else NONE
            return [(st, replace(source, filtered=True))] if isinstance(source, Params) else None
        case "map":
            source = args[1] if len(args) > 1 else NONE
            return [(st, source)] if isinstance(source, Params) else None
        case "enumerate":
            items = iterate(run, args[0], st) if args else None
            if args and isinstance(args[0], Ref) and args[0].kind == "loader":
                return [(st, Ref("enumerated", args[0]))]
            if items is not None:
                return [(st, Tup(tuple(Tup((Const(i), item)) for i, item in enumerate(items))))]
            return [(st, Sym(("enumerate", key_of(args[0]))))] if args and isinstance(args[0], Sym) else None
        case "zip":
            lists = [iterate(run, st.settle(a), st) for a in args]
            if lists and any(known is not None for known in lists):
                n = min(len(known) for known in lists if known is not None)
                rows = [
                    Tup(tuple(known[i] if known is not None else Sym(("sub", key_of(a), ("const", i))) for known, a in zip(lists, args, strict=True)))
                    for i in range(n)
                ]  # fmt: skip
                return [(st, Tup(tuple(rows)))]
            return None
        case "sum":
            from .calls import tensors_deep

            tensors = tensors_deep(args, st)
            return [(st, join_tensors(tensors))] if tensors else None
        case "getattr":
            if len(args) > 1 and isinstance(args[1], Const) and isinstance(args[1].value, str):
                return [(st, st.settle(attribute(run, fr, args[0], args[1].value, st)))]
            return None
        case "setattr":
            if len(args) > 2 and isinstance(args[1], Const) and isinstance(args[1].value, str):
                from .expressions import store_attribute

                store_attribute(run, fr, args[0], args[1].value, args[2], st)
            return [(st, NONE)]
        case "bool":
            return [(st, args[0])] if args else None
        case "dict":
            ref = Ref("dict", fr.site(expr.span))
            st.heap.drop(ref)
            for key, value in keywords:
                st.heap[ref, f"[{Const(key)!r}]" if key else "[**]"] = value
            for value in args:
                if isinstance(value, Ref) and value.kind == "dict":
                    for slot, item in held(value, st):
                        st.heap[ref, slot] = item
            return [(st, ref)]
        case "isinstance" | "hasattr" | "len" | "callable" | "any" | "all" | "type" | "issubclass" | "id" | "abs" | "max" | "min" | "int" | "float" | "str":
            from .calls import fresh, tensors_in

            if last in ("max", "min", "abs"):
                tensors = tensors_in(args)
                if tensors:
                    return [(st, join_tensors(tensors))]
            if last == "isinstance" and len(args) == 2:
                known = _isinstance(args[0], args[1])
                if known is not None:
                    return [(st, Const(known))]
            if last == "str" and args:
                for option in options(st.settle(args[0])):
                    if isinstance(option, Device):
                        return [(st, Device(option.type + ":str", option.index))]
            return [(st, Sym(("pcall", last, *(key_of(a) for a in args))))]
        case "range":
            return [(st, Sym(("pcall", "range", *(key_of(a) for a in args))))]
        case "print":
            return [(st, NONE)]
        case _:
            return None


def _isinstance(value: Value, kind: Value) -> bool | None:
    if isinstance(kind, Ext):
        if kind.name in ("builtins.dict",) and isinstance(value, Ref):
            return value.kind == "dict"
        if kind.name in ("builtins.list", "builtins.tuple") and isinstance(value, Ref | Tensor):
            return isinstance(value, Ref) and value.kind == "list"
    return None
