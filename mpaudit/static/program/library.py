"""What calls of torch, NumPy, Python and the training frameworks do and give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from ..facts import ir
from . import (
    calls,
    classes,
    dtype_flow,
    events,
    functions,
    halving,
    makers,
    operators,
    plain,
    python,
    saving,
    torch_api,
    unknown,
)
from .definitions import Site
from .frame import Frame, Run, text_of
from .networks import LIBRARY
from .shapes import Args, Keywords, Results
from .state import PathState
from .trace import ApiCall
from .values import (
    GRADIENT_NORM,
    NONE,
    Choice,
    Const,
    Dtype,
    Ext,
    Func,
    Gradient,
    Owned,
    Params,
    Phi,
    Ref,
    Sym,
    Tup,
    Value,
    from_gradients,
    join_tensors,
    mentions,
    options,
)


def call_external(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState, shim: bool = False
) -> Results:
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    top = name.split(".", maxsplit=1)[0]
    last = name.rsplit(".", 1)[-1]
    if top in _PLAIN:
        return _call_plain(run, fr, expr, name, args, keywords, st)
    if name in torch_api.AUTOCAST or name in torch_api.GRAD_SCALER or name in torch_api.DEPRECATED or name in _RECORDED:
        texts = tuple(text_of(e) for e in expr.args)
        spread = any(isinstance(e, ir.Star) for e in expr.args) or any(not key for key, _ in expr.keywords)
        seen = ApiCall(name, site, args, keywords, "call", text_of(expr.func), run.root, shim, texts, spread)
        run.trace.calls[seen] = None
    if name in torch_api.AUTOCAST:
        return [(st, makers.make_autocast(run, fr, name, args, keywords, site, text_of(expr.func), st))]
    if name in torch_api.GRAD_SCALER:
        return [(st, makers.make_scaler(run, expr, name, args, keywords, site, text_of(expr.func), st))]
    if top == "timm" and last in ("NativeScaler", "ApexScaler"):
        return [(st, Ref("native_scaler", site))]
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
    if torch_api.is_optimizer(name):
        if args and isinstance(args[0], Ref) and args[0].kind == "optimizer":
            return [(st, args[0])]  # a wrapper (Lookahead, ZeRO …) steps what it wraps

        if last.startswith("create_optimizer"):
            models = [v for v in everything if isinstance(v, Ref) and v.kind == "module"]
            params: list[Value] = [Params(frozenset(models))] if models else []
        else:
            given = makers.argument(args, keywords, 0, "params")
            params = [] if given is None else [makers.as_params(given, st)]
        ref = classes.made_once(run, "optimizer", site, st)
        events.make_optimizer(run, ref, site, params, text_of(expr.func), st)
        return [(st, ref)]
    if torch_api.is_clip(name):
        target = makers.argument(args, keywords, 0, "parameters")
        bound = makers.argument(args, keywords, 1, "max_norm")
        by_scale = isinstance(bound, Sym) and mentions(bound.key, "get_scale")  # the bound is scaled, as the gradients
        if not by_scale and not makers.is_norm_only(bound, expr):
            events.clip(run, target if target is not None else NONE, site, st)
        return [(st, functions.fresh(site, st))]
    if name in ("torch.clamp", "torch.clip") and args and isinstance(args[0], Gradient):
        events.clip(run, args[0], site, st)
        return [(st, args[0])]
    if name in torch_api.APPLIED:
        module, inputs = makers.argument(args, keywords, 0, "module"), makers.argument(args, keywords, 1, "inputs")
        items: Args = inputs.items if isinstance(inputs, Tup) else () if inputs is None else (inputs,)
        if module is not None:
            return [r for s, m in calls.split(st, module) for r in calls.dispatch(run, fr, expr, m, items, (), s)]
    if torch_api.is_module_wrapper(name) and top in ("torch", "apex", "fairscale"):
        wrapped = makers.argument(args, keywords, 0, "module")
        if isinstance(wrapped, Ref | Phi | Choice | Sym | Func):
            return [(st, wrapped)]
    if name == "torch.device":
        return [(st, makers.make_device(args[0] if args else NONE))]
    if name == "torch.utils.data.DataLoader" or name == "torch.utils.data.dataloader.DataLoader":
        dataset = makers.argument(args, keywords, 0, "dataset")
        own = makers.argument(args, keywords, 7, "collate_fn")
        if isinstance(dataset, Ref) and dataset in run.classes and own is None:
            return [(st, Ref("loader", dataset))]
        return [(st, functions.fresh(site, st))]
    if name in ("torch.cuda.current_device",):
        return [(st, Sym(("pcall", name)))]
    if name in torch_api.BCE:
        makers.bce(run, site, text_of(expr.func), st)
        dtype_flow.check_leaks(run, everything, site, "a loss", st)
        return [(st, join_tensors(calls.tensors_in(everything)))]
    if name == "torch.save":
        if args:
            saving.save(run, args[0], site, st)
        return [(st, NONE)]
    if name in ("numpy.random.default_rng", "numpy.random.RandomState"):
        return [(st, Ref("rng", site))]
    if name == "torch.autograd.grad":
        for tensor in calls.tensors_in(everything):
            run.trace.differentiated |= {use.site for use in tensor.uses or ()}
    if name == "torch.autograd.backward":
        given = makers.argument(args, keywords, 0, "tensors")
        for tensor in calls.tensors_in([given]) if given is not None else ():
            events.backward(run, fr, tensor, site, text_of(expr.args[0]) if expr.args else "loss", st)
        return [(st, NONE)]
    made = dtype_flow.dtype_call(run, fr, expr, name, args, keywords, st)
    if made is not None:
        return [(st, made)]
    if torch_api.is_module(name) or makers.is_pretrained(name, last):
        ref = Ref("module", classes.allocation(run, site))
        if last.endswith("Loss"):
            dtype_flow.check_leaks(run, everything, site, "a loss", st)
        if name in torch_api.BCE_MODULES:
            run.trace.module_info[ref] = "bce"
        run.trace.layers[ref] = frozenset([last] if torch_api.is_module(name) else [last, LIBRARY])
        run.trace.made_of[ref] = frozenset()
        for value in _items(everything):
            for option in options(value):
                if last in _CONTAINERS and not isinstance(option, Ref | Const):
                    run.trace.layers[ref] |= {"?"}
                if isinstance(option, Ref) and option.kind == "module":
                    run.contains.setdefault(ref, set()).add(option)
                    run.trace.layers[ref] |= run.trace.layers.get(option, {"?"})
                    run.trace.made_of[ref] |= run.trace.made_of.get(option, frozenset())
        wanted = next((v for k, v in keywords if k in ("torch_dtype", "dtype")), None)
        if wanted is not None and wanted != Dtype("float32") and not _is_default(fr, wanted):
            halving.lower(run, fr, expr, ref)
        if wanted == Dtype("float16"):
            halving.halve(run, ref, site, st)
        return [(st, ref)]
    if name == "accelerate.Accelerator" and _leaves_precision(fr, keywords):
        helper = functions.fresh(site, st)
        run.roles[helper.key] = unknown.HELPER
        return [(st, helper)]
    if torch_api.owner(name) or name.startswith("apex.amp"):
        run.trace.owned_roots.add(run.root)
        for value in everything:
            events.havoc(run, [value], st)
        run.trace.told_precision |= any(keyword in ("mixed_precision", "precision", "fp16") for keyword, _ in keywords)
        if any(keyword == "mixed_precision" and _is_fp16(fr, value) for keyword, value in keywords):
            run.trace.told_fp16 = run.trace.told_fp16 or site
        return [(st, Owned(torch_api.owner(name) or "apex"))]
    builtin = python.call_python(run, fr, expr, name, args, keywords, st)
    if builtin is not None:
        return builtin
    if torch_api.is_loss(name):
        dtype_flow.check_leaks(run, everything, site, "a loss", st)
    tensors = calls.tensors_in(everything)
    if name in ("torch.nn.functional.linear", "torch.matmul", "torch.mm", "torch.nn.functional.conv2d", "torch.bmm"):
        dtype_flow.check_leaks(run, everything, site, "a matrix product", st)
    if top == "torch" and last in torch_api.TESTS:
        return [(st, Sym(("ucall", last, text_of(expr.args[0]) if expr.args else "")))]
    if top == "torch":
        if tensors:
            joined = join_tensors(tensors)
            if torch_api.is_like(name):
                return [(st, replace(joined, uses=frozenset(), scaled=None, grad=False))]
            if joined.scaled == "?" and (torch_api.is_loss(name) or last in torch_api.NONLINEAR):
                joined = replace(joined, scaled=None)  # what it was multiplied by is no scale of a loss
            if joined.scaled is not None and joined.scaled != "?" and last not in ("sum", "mean", "stack", "add"):
                joined = replace(joined, scaled="?")
            return [(st, joined)]
        if from_gradients(everything):
            return [(st, Sym(GRADIENT_NORM))]
        if run.testing:
            return [(st, Sym(("pcall", name, *(operators.key_of(v) for v in everything[:4]))))]
        made = functions.fresh(site, st)
        if last in torch_api.FACTORIES:
            run.tensors.add(made.key)
        return [(st, made)]
    if top in _QUIET:
        return [(st, join_tensors(tensors) if tensors else _structural(run, name, everything, site, st))]
    return unknown.opaque(run, fr, expr, Ext(name), args, keywords, st)


def _call_plain(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    """A function of Python itself."""
    made = python.call_python(run, fr, expr, name, args, keywords, st)
    if made is not None:
        return made
    everything = (*args, *(v for _, v in keywords))
    tensors = calls.tensors_in(everything)
    value = join_tensors(tensors) if tensors else _structural(run, name, everything, fr.site(expr.span), st)
    plain.note(run, name, args, keywords, value)
    return [(st, value)]


_PLAIN = frozenset(
    ["builtins", "os", "sys", "math", "time", "logging", "pathlib", "json", "re", "random", "copy", "shutil",
     "datetime", "collections", "glob", "argparse", "yaml", "warnings"]
)  # fmt: skip
"""Those of `_QUIET` in which no name means anything to an audit."""

_RECORDED = frozenset(
    {"torch.set_default_dtype", "torch.set_default_tensor_type", "torch.amp.custom_fwd", "torch.amp.custom_bwd"}
)


_QUIET = frozenset(
    [
        "numpy",
        "logging",
        "os",
        "sys",
        "math",
        "time",
        "json",
        "random",
        "re",
        "copy",
        "pathlib",
        "shutil",
        "datetime",
        "collections",
        "itertools",
        "functools",
        "importlib",
        "glob",
        "argparse",
        "yaml",
        "wandb",
        "tensorboard",
        "tensorboardX",
        "tqdm",
        "matplotlib",
        "PIL",
        "cv2",
        "scipy",
        "pandas",
        "sklearn",
        "mlflow",
        "comet_ml",
        "neptune",
        "torchvision",
        "torchaudio",
        "einops",
        "typing",
        "dataclasses",
        "warnings",
        "gc",
        "pickle",
        "string",
        "hashlib",
        "subprocess",
        "socket",
        "platform",
        "termcolor",
        "colorama",
        "prettytable",
        "tabulate",
        "rich",
        "loguru",
        "psutil",
        "signal",
        "builtins",
        "contextlib",
        "albumentations",
    ]
)
"""Packages that act on no gradient: Python, NumPy, logging, progress, tracking, images."""


def _structural(run: Run, name: str, values: Sequence[Value], site: Site, st: PathState) -> Value:
    if run.testing:
        return Sym(("pcall", name, *(operators.key_of(v) for v in values[:4])))
    return functions.fresh(site, st)


_CONTAINERS = frozenset(("Sequential", "ModuleList", "ModuleDict"))


def _is_fp16(fr: Frame, value: Value) -> bool:
    """`"fp16"`, in one branch or as the default of a parameter."""
    return any(option == Const("fp16") or _default(fr, option) == ir.Const("fp16") for option in options(value))


def _is_default(fr: Frame, dtype: Value) -> bool:
    """`dtype=None`, also where a parameter has it by default and no caller is in sight: what is torch's default."""
    return all(option == Const(None) or _default(fr, option) == ir.Const(None) for option in options(dtype))


def _default(fr: Frame, value: Value) -> ir.Expr | None:
    """What a parameter of the function is unless a caller says otherwise."""
    node = fr.info.node if fr.info is not None else None
    if node is None or not isinstance(value, Sym) or value.key[0] != "param":
        return None
    return next((param.default for param in node.params if param.name == value.key[-1]), None)


def _items(values: Iterable[Value]) -> Iterator[Value]:
    """The values, and in the place of a list or a tuple what is in it."""
    for value in values:
        if isinstance(value, Tup):
            yield from _items(value.items)
        else:
            yield value


def _leaves_precision(fr: Frame, keywords: Keywords) -> bool:
    """Whether it is told nothing of precision beside a scaler of one's own: what it prepares is used by hand."""
    told = {keyword for keyword, _ in keywords} & {"mixed_precision", "fp16", ""}
    return not told and "GradScaler" in fr.module.names
