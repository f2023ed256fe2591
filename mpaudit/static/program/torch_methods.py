"""Methods of tensors, gradients, modules, lists and dicts."""

from __future__ import annotations

import re

from msgspec.structs import replace

from ..facts import ir
from . import (
    arrays,
    calls,
    classes,
    containers,
    contexts,
    dtype_flow,
    events,
    functions,
    halving,
    makers,
    objects,
    operators,
    torch_api,
    unknown,
)
from .definitions import Site
from .frame import Frame, Run, receiver_text, text_of
from .shapes import Args, Keywords, Results
from .state import PathState
from .trace import ApiCall
from .values import (
    GRADIENT_NORM,
    NONE,
    Cast,
    Const,
    Dtype,
    Ext,
    Func,
    Gradient,
    Key,
    Owned,
    Params,
    Ref,
    State,
    Sym,
    Tensor,
    Tup,
    Value,
    choice,
    from_gradients,
    join_tensors,
)

SAME_OBJECT = frozenset(
    [
        "to",
        "cuda",
        "cpu",
        "train",
        "eval",
        "requires_grad_",
        "apply",
        "compile",
        "xpu",
        "mps",
        "npu",
        "share_memory",
        "to_empty",
        "type",
        "float",
        "double",
        "half",
        "bfloat16",
        "enable_input_require_grads",
        "gradient_checkpointing_enable",
    ]
)
"""Methods of a module that give the module."""


def tensor_method(
    run: Run, fr: Frame, expr: ir.Call, base: Tensor, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    site = fr.site(expr.span)
    if base.array:
        return [(st, arrays.method(base, name, args, keywords))]
    if name == "backward":
        gradient = makers.argument(args, keywords, 0, "gradient")
        if gradient is not None and gradient != NONE and base.scaled is None:
            # `y.backward(scaler.scale(g))`: what is handed in carries the scale
            base = replace(base, scaled=gradient.scaled if isinstance(gradient, Tensor) else "?")
        events.backward(run, fr, base, site, _loss_text(expr), st)
        return [(st, NONE)]
    if name in ("detach", "clone_detached"):
        return [(st, replace(base, uses=frozenset(), grad=False))]
    if name in torch_api.NEW:
        return [(st, replace(base, uses=frozenset(), scaled=None, grad=False))]
    if name in torch_api.TESTS:
        return [(st, Sym(("ucall", name, receiver_text(expr))))]
    if name in (
        "item",
        "tolist",
        "size",
        "dim",
        "numel",
        "nelement",
        "get_device",
        "element_size",
        "is_floating_point",
    ):
        return [(st, functions.fresh(site, st) if not run.testing else Sym(("ucall", name, str(site))))]
    if name in ("float", "half", "bfloat16", "double", "long", "int", "bool"):
        dtype = torch_api.DTYPES[name]
        return [(st, replace(base, dtype="explicit64" if dtype == "float64" else dtype, site=None))]
    if name in ("to", "type", "cuda", "cpu", "type_as", "to_dense", "contiguous"):
        if name == "cuda" or makers.moves_to_gpu(run, (*args, *(v for _, v in keywords))):
            run.cuda = True
        dtypes = [
            arrays.dtype_of(v) for v in (*args, *(v for k, v in keywords if k == "dtype")) if isinstance(v, Dtype | Ext)
        ]
        if dtypes and dtypes[0] not in (None, "?"):
            return [(st, replace(base, dtype=str(dtypes[0]), site=None))]
        if dtypes or name in ("type", "type_as") or any(isinstance(v, Tensor) for v in args):
            return [(st, replace(base, dtype="", site=None))]
        if name == "to" and any(isinstance(v, Sym) for v in args) and any(dtype_flow.dtype_like(e) for e in expr.args):
            return [(st, replace(base, dtype="", site=None))]
        return [(st, base)]
    if name in ("numpy",):
        return [(st, Tensor(array=True))]
    others = calls.tensors_in((*args, *(v for _, v in keywords)))
    joined = join_tensors([base, *others]) if others else base
    if joined.scaled == "?" and name in torch_api.NONLINEAR:
        joined = replace(joined, scaled=None)
    if others and joined.scaled == "mixed":
        joined = replace(joined, scaled="mixed" if name in ("add", "add_", "sub") else "?")
    return [(st, replace(joined, dtype=base.dtype, site=base.site))]


def _loss_text(expr: ir.Call) -> str:
    base = expr.func.base if isinstance(expr.func, ir.Attr) else expr.func
    if isinstance(base, ir.Call) and base.args and isinstance(base.func, ir.Attr) and base.func.name == "scale":
        return text_of(base.args[0])
    return text_of(base)


def gradient_method(
    run: Run, fr: Frame, expr: ir.Call, base: Gradient, name: str, args: Args, st: PathState
) -> Results:
    site = fr.site(expr.span)
    if name in ("zero_", "detach_") or (name == "fill_" and args and args[0] == Const(0)):
        if name != "detach_":
            events.zero_params(run, base.params, st, site)
        return [(st, base)]
    by_hand = name in ("mul_", "div_") and (from_gradients(args) or _is_clip(expr))
    if name in ("clamp_", "clip_") or by_hand:
        events.clip(run, base, site, st)
        return [(st, base)]
    if name in ("data", "detach", "clone", "float"):
        return [(st, base)]
    if name in ("norm", "pow", "square", "abs", "sum"):
        return [(st, Sym(GRADIENT_NORM))]
    return [(st, functions.fresh(site, st))]


_CLIPS = re.compile(r"clip|coef|norm|clamp")


_FLOAT64 = re.compile(r"(?i)'(use_|is_)?(float_?64|fp64|f64|double(_precision)?)'")


_NOT_FLOAT32 = frozenset({Dtype("float16"), Dtype("bfloat16"), Dtype("float64")})
"""Weights that autocast has no part in, float64, or that are in 16 bits already."""


def _note_double(run: Run, expr: ir.Call, site: Site, st: PathState) -> None:
    """`model.double()`, unless an option asks for it: `if precision == "float64":`, `if args.double:`. Of an attribute
    that is looked up before its method was followed the conditions are not known."""
    if run.lazy:
        return
    if not any(taken and _FLOAT64.search(repr(key)) for key, taken in st.guards.items()):
        run.trace.calls[_api("Module.double", site, run, text_of(expr.func))] = None


def _is_clip(expr: ir.Call) -> bool:
    """`p.grad.mul_(clip_coef)`: clipping by hand; by a weight or the number of ranks it is none."""
    return any(_CLIPS.search(text_of(arg).lower()) for arg in expr.args)


def module_method(
    run: Run, fr: Frame, expr: ir.Call, module: Value, receiver: Value, name: str, args: Args, keywords: Keywords,
    st: PathState,
) -> Results:  # fmt: skip
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
        return [(st, functions.fresh(site, st))]
    if name == "forward" and isinstance(module, Ref):
        return classes.forward(run, fr, expr, module, args, keywords, st)
    if name in SAME_OBJECT:
        everything = (*args, *(v for _, v in keywords))
        if name == "cuda" or makers.moves_to_gpu(run, everything):
            run.cuda = True
        if name in ("half", "bfloat16") or not _NOT_FLOAT32.isdisjoint(everything):
            halving.lower(run, fr, expr, ident)
        if name == "train" and not args:
            run.in_train_mode.add(ident)
        if name == "half" or Dtype("float16") in everything:
            halving.halve(run, ident, site, st)
        elif name in ("float", "bfloat16", "double") or any(isinstance(v, Dtype) for v in everything):
            run.half.pop(ident, None)
        if name == "float":
            halving.raise_again(run, expr, ident)
        if name == "double":
            halving.lower(run, fr, expr, ident)  # not float32 either, and autocast leaves it alone
            _note_double(run, expr, site, st)
        return [(st, receiver)]
    if isinstance(module, Ref):
        found = objects.attribute(run, fr, module, name, st)
        if isinstance(found, Func):
            return functions.call_function(run, fr, found, args, keywords, st, site)
    if calls.tensors_in(args) or name in ("generate", "encode", "decode", "sample"):
        run.trace.called[site] = receiver_text(expr)
        return [(st, events.uses_of(run, ident, site, st, calls.tensors_in(args)))]
    if name in ("modules", "children", "named_modules", "named_children", "load_state_dict", "register_buffer"):
        return [(st, functions.fresh(site, st))]
    if name in ("no_sync", "join", "summon_full_params"):
        return [(st, Ref("null", ""))]
    return unknown.opaque(run, fr, expr, Ext("torch.module." + name), args, keywords, st)


def _api(name: str, site: Site, run: Run, text: str) -> ApiCall:
    return ApiCall(name, site, (), (), "call", text, run.root)


def _is_scaled_by_hand(loss: Value) -> bool:
    return isinstance(loss, Tensor) and isinstance(loss.scaled, Ref)


_GIVES_PARAMETERS = re.compile(
    r"^(get_)?((trainable|optim(izer)?)_)?param(eter)?(s|_groups)$|^get_optim(izer)?_groups$|^trainable_parameters$"
)
"""Methods by which a network gives what is trained of it, in groups or not."""


def unknown_method(
    run: Run, fr: Frame, expr: ir.Call, base: Sym, role: str, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results | None:
    """A method of a value that nothing is known of, where its name says enough."""
    site = fr.site(expr.span)
    ident = events.identity(base)
    path = receiver_text(expr)
    lowered = path.lower()
    framework = any(word in lowered for word in ("accelerator", "fabric", "engine", "booster", "deepspeed"))
    helps = role == unknown.HELPER
    if framework and name == "backward" and args and (helps or _is_scaled_by_hand(args[0])):
        events.backward(run, fr, args[0], site, path, st)
        return [(st, NONE)]
    if helps and name == "prepare" and args:
        return [(st, args[0] if len(args) == 1 else Tup(args))]
    if helps:
        return [(st, functions.fresh(site, st))]
    if name == "backward":
        if args and isinstance(args[0], Ref) and args[0].kind == "scaler":  # a holder of losses is handed the scaler
            scaled = events.scale(run, args[0], base, site, st)
            for way, loss in scaled:
                events.backward(run, fr, loss, site, path, way)
            return [(way, NONE) for way, _ in scaled]
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
    if framework and name == "autocast":
        run.trace.casts_owned.add(site)
        return [(st, Ref("autocast", Cast("", "", ("truth", ("call", site)), site)))]
    if name in ("parameters", "named_parameters"):
        return [(st, Params(frozenset([ident])))]
    if role in ("", "module") and _GIVES_PARAMETERS.search(name):
        return [(st, Params(frozenset([ident]), filtered=True))]
    if name == "zero_grad":
        if role == "optimizer":
            events.zero(run, ident, site, st)
        else:
            events.zero_modules(run, frozenset([ident]), site, st)
        return [(st, NONE)]
    if name == "detach":
        return [(st, Tensor(frozenset(), grad=False))]
    if name == "state_dict":
        if not role and unknown.is_called_an_optimizer(path):
            run.roles[ident] = "optimizer"
        return [(st, State(base))]
    if name == "clip_grad_norm_":
        events.clip(run, Params(frozenset([ident])), site, st)
        return [(st, functions.fresh(site, st))]
    if name in ("cuda", "to"):
        everything = (*args, *(v for _, v in keywords))
        if name == "cuda" or makers.moves_to_gpu(run, everything):
            run.cuda = True
        if not _NOT_FLOAT32.isdisjoint(everything):
            halving.lower(run, fr, expr, ident)
        if role == "module" and Dtype("float16") in everything:
            halving.halve(run, ident, site, st)
        return [(st, base)]
    if name in ("half", "bfloat16"):
        halving.lower(run, fr, expr, ident)
    if name == "half" and role == "module":
        halving.halve(run, ident, site, st)
        return [(st, base)]
    if name == "double" and role == "module":
        halving.lower(run, fr, expr, ident)
        _note_double(run, expr, site, st)
        return [(st, base)]
    if name in ("float", "bfloat16", "double"):
        run.half.pop(ident, None)
    if name == "float":
        halving.raise_again(run, expr, ident)
    if name == "train" and role == "module" and not args:
        run.in_train_mode.add(ident)
    if name in ("train", "eval", "float", "half", "bfloat16", "double", "cpu", "requires_grad_", "contiguous", "long"):
        return [(st, base)]
    if name == "enter_context" and args:
        return [(st, contexts.hold(run, fr, st.settle(args[0]), expr.args[0], st))]
    if name in (
        "values",
        "items",
        "keys",
        "get",
        "item",
        "size",
        "lower",
        "startswith",
        "endswith",
        "split",
        "strip",
        "format",
        "upper",
        "is_set",
    ):
        key: Key = ("mcall", base.key, name, *(operators.key_of(a) for a in args))
        if name == "get" and args:
            found = st.heap.get((base.key, containers.slot(args[0])))
            return [(st, found if found is not None else Sym(("sub", base.key, operators.key_of(args[0]))))]
        return [(st, Sym(key))]
    if name in ("forward", "training_loss", "compute_loss") and role == "module":
        run.trace.called[site] = path
        return [(st, events.uses_of(run, ident, site, st, calls.tensors_in(args)))]
    return None


def list_method(run: Run, ref: Ref, name: str, args: Args, st: PathState) -> Results:
    items = st.heap.get((ref, "[]"))
    known = items.items if isinstance(items, Tup) else ()
    if name == "append" and args:
        if args[0] not in known and len(known) < 6:
            st.heap[ref, "[]"] = Tup((*known, args[0]))
    elif name == "extend" and args:
        more = containers.iterate(run, st.settle(args[0]), st)
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
                for slot, item in containers.held(value, st):
                    st.heap[ref, slot] = item
            else:
                st.heap[ref, "[** update]"] = value
        for key, value in keywords:
            st.heap[ref, containers.slot(Const(key))] = value
        return [(st, NONE)]
    if name in ("get", "pop", "setdefault") and args:
        found = st.heap.get((ref, containers.slot(args[0])))
        if found is None and len(args) > 1 and not any(held.startswith("[**") for held, _ in containers.held(ref, st)):
            return [(st, args[1])]
        return [(st, found if found is not None else Sym(("sub", ("obj", ref), operators.key_of(args[0]))))]
    if name == "copy":
        return [(st, ref)]
    if name == "values":
        return [(st, Tup(tuple(value for _, value in _each_once(containers.held(ref, st)))))]
    if name == "items":
        return [(st, Tup(tuple(Tup((_key(slot), value)) for slot, value in _each_once(containers.held(ref, st)))))]
    return [(st, Sym(("mcall", ("obj", ref), name)))]


def _each_once(held: list[tuple[str, Value]]) -> list[tuple[str, Value]]:
    """What a dict holds that has an optimizer under one name on one path and under another on another path, and now,
    where the paths have met, under both."""
    seen: set[Value] = set()
    found = []
    for slot, value in held:
        if isinstance(value, Ref) and value.kind in ("optimizer", "scaler"):
            if value in seen:
                continue
            seen.add(value)
        found.append((slot, value))
    return found


def _key(slot: str) -> Value:
    name = containers.key_of_slot(slot)
    return Const(name) if name else Sym(("key", slot))
