"""Values of which nothing is known but their use, and calls that cannot be followed."""

from __future__ import annotations

import re

from msgspec.structs import replace

from ..facts import ir
from . import calls, dtype_flow, events, functions, operators, protocol, torch_api, torch_methods, usages
from .frame import Frame, Run, text_of
from .shapes import Args, Keywords, Results
from .state import PathState
from .values import Key, Method, Owned, Params, Phi, Ref, Sym, Tensor, Value, from_gradients, join_tensors, options

MODEL_NAME = re.compile(
    r"(?i)(^|[._])(model|net|generator|discriminator|encoder|decoder|backbone|critic|actor|unet|vae|policy|student"
    r"|teacher|gpt|network|mpd|msd|transformer|resnet|vit)(_?\w{0,6})$|net(_?[a-z0-9])?$|model"
)


OPTIMIZER_NAME = re.compile(r"(?i)(^|[._])(opt|optim|optimi[sz]er)s?\d*(_?\w{0,12})$|optim|optimi[sz]er$|_opt$|^opt")


_OF_OPTIMIZERS = frozenset(("step", "zero_grad", "state_dict", "load_state_dict"))
"""Methods by which what is called an optimizer is one."""


SCALER_METHODS = frozenset(
    ["scale", "step", "update", "unscale_", "get_scale", "is_enabled", "state_dict", "load_state_dict"]
)


def _usage(run: Run, fr: Frame, path: str) -> set[str]:
    """Methods called on an access path anywhere in the function, and for `self.x` anywhere in the class."""
    found: set[str] = set()
    info = fr.info
    if path.startswith("self."):
        while info is not None and info.cls is None:
            info = info.parent
        if info is not None and info.cls is not None:
            return usages.of(run, info.cls).get(path, set())
    while info is not None:
        found |= usages.of(run, info).get(path, set())
        info = info.parent
    if fr.info is None or found <= {"()"}:
        found |= usages.of(run, fr.module).get(path, set())
    return found


_OF_NETWORKS = frozenset(("parameters", "named_parameters", "train", "eval"))


def keeps_network(run: Run, fr: Frame, targets: tuple[ir.Expr, ...]) -> bool:
    """Whether what is assigned is used as a network: then the call that gives it makes one, and runs none."""
    return any(
        isinstance(target, ir.Name | ir.Attr) and not _OF_NETWORKS.isdisjoint(_usage(run, fr, text_of(target)))
        for target in targets
    )


_VERBS = re.compile(
    r"^_?(get|build|create|make|load|init|setup|set|define|prepare|save|train|eval|test|run|update|print|count|freeze"
    r"|unwrap|wrap|compile|select|construct|instantiate|from|to|is|has|log|plot|convert|export|register|fuse)_?"
)


_REGISTRY_NAME = re.compile(
    r"(?i)(__dict__|globals\(\)|registry|(^|[._])\w*(dict|map|zoo|classes|factory|factories|types|table|builders"
    r"|constructors|entrypoints))$"
)
"""`MODEL_MAP[name](args)` makes a model; `models["net"](x)` runs one."""


def _is_model_name(path: str) -> bool:
    """`model(x)`, `self.netG(z)`; not `Model()`, which makes one, nor `build_model()`."""
    if "[" in path:
        path = path.split("[", 1)[0]
        if _REGISTRY_NAME.search(path):
            return False
    last = path.rsplit(".", 1)[-1]
    if last in _ARITHMETIC or ("." in path and last in _OF_CONTAINERS):
        return False
    return last[:1].islower() and not _VERBS.match(last) and MODEL_NAME.search(path) is not None


_OF_CONTAINERS = frozenset(
    ("append", "copy", "count", "extend", "format", "get", "index", "insert", "items", "keys", "pop", "popitem",
     "remove", "setdefault", "split", "startswith", "update", "values"))  # fmt: skip
"""Methods of dicts, lists and texts: `model_kwargs.pop("name")` is no forward."""
_ARITHMETIC = frozenset(
    ("abs", "add", "clamp", "clone", "div", "dot", "exp", "log", "max", "mean", "min", "mul", "norm", "permute", "pow",
     "prod", "reshape", "sqrt", "square", "std", "sub", "sum", "transpose", "var", "view")
)  # fmt: skip
"""Methods of tensors: `model.embedding.norm(p=3)` is no forward of a network."""


def _makes_by_name(expr: ir.Call) -> bool:
    """`models[name](**options)`, `lib.models.unet(channels=3)`: what is looked up is what makes a network, which is
    given no tensor; `models[name](config.width, 10)`, which is given settings alone."""
    if expr.args:
        return isinstance(expr.func, ir.Sub) and all(map(_is_setting, expr.args))
    if isinstance(expr.func, ir.Sub):
        return any(name == "" for name, _ in expr.keywords)
    return isinstance(expr.func, ir.Attr) and _OF_MAKERS.search(text_of(expr.func.base)) is not None


def _is_setting(expr: ir.Expr) -> bool:
    """A constant, or a part of what holds settings, by its name."""
    while isinstance(expr, ir.Attr | ir.Sub):
        expr = expr.base
    return isinstance(expr, ir.Const) or (isinstance(expr, ir.Name) and _SETTINGS.search(expr.id) is not None)


_SETTINGS = re.compile(
    r"(?i)(^|_)(args?|argv|cfg|conf|configs?|configuration|flags|opts?|options|hparams|params|settings)$"
)
_OF_MAKERS = re.compile(r"(^|\.)(models|networks|nets|archs|architectures|backbones)(\.\w+)?$")
"""Modules that hold what makes networks."""


HELPER = "helper"
"""The role of what a framework gives to place networks and data, and no more."""


def is_called_an_optimizer(path: str) -> bool:
    return bool(OPTIMIZER_NAME.search(path)) and not _SCHEDULES.search(path)


_SCHEDULES = re.compile(r"(?i)sched|lr_")


def role_of(run: Run, fr: Frame, key: Key, path: str) -> str:
    """What an unknown value is, by how it is used: 'scaler', 'optimizer', 'module' or ''."""
    known = run.roles.get(key)
    if known is not None:
        return known
    methods = _usage(run, fr, path)
    role = ""
    if (
        "unscale_" in methods
        or "scale.backward" in methods
        or ("scale" in methods and methods & {"step", "update"})
        or ({"step", "update"} <= methods and "scaler" in path.lower() and "zero_grad" not in methods)
    ):
        role = "scaler"
    elif (
        "<step>" in methods
        or "<unscale_>" in methods
        or {"zero_grad", "step"} <= methods
        or (methods & _OF_OPTIMIZERS and is_called_an_optimizer(path))
    ):
        role = "optimizer"
    elif methods & _OF_NETWORKS or ("()" in methods and _is_model_name(path)):
        role = "module"
    if role:
        run.roles[key] = role
    return role


def call_unknown(
    run: Run, fr: Frame, expr: ir.Call, callee: Sym, args: Args, keywords: Keywords, st: PathState
) -> Results:
    key = callee.key
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    if key[0] == "attr" and isinstance(expr.func, ir.Attr) and isinstance(key[2], str):
        base = Sym(key[1])
        if from_gradients([base]):
            return [(st, base)]
        path = text_of(expr.func.base)
        name = key[2]
        if name.startswith("merge_from_"):  # what yacs is told by a file or by hand outweighs what was set before
            st.heap.forget_below(key[1])
        role = role_of(run, fr, key[1], path)
        made = role == "module" and name == "parameters" and key[1][0] == "call"
        if made or (role == "scaler" and name in SCALER_METHODS):
            if st.decided(("truth", key[1])) is None:
                st.record(("truth", key[1]), True)  # a method of None would raise
        if role == "scaler" and name in SCALER_METHODS:
            return protocol.scaler_method(run, fr, expr, base, name, args, keywords, st)
        if role == "optimizer" and name in ("step", "zero_grad", "state_dict", "load_state_dict", "add_param_group"):
            return protocol.optimizer_method(run, fr, expr, base, name, args, keywords, st)
        handled = torch_methods.unknown_method(run, fr, expr, base, role, name, args, keywords, st)
        if handled is not None:
            return handled
        if role == "module" and everything and st.no_grad:
            events.uses_of(run, key[1], site, st, [])  # `model.features(x)`, or whatever else it is called
    path = text_of(expr.func)
    role = run.roles.get(key, "")
    if (
        everything
        and expr is not run.renewing
        and not _makes_by_name(expr)
        and (role == "module" or (not role and role_of(run, fr, key, path) == "module"))
    ):
        dtype_flow.check_leaks(run, everything, site, "a forward pass", st)
        run.trace.called[site] = path
        return [(st, events.uses_of(run, events.identity(callee), site, st, calls.tensors_in(everything)))]
    return opaque(run, fr, expr, callee, args, keywords, st)


def _has_scaler(run: Run, values: Args) -> bool:
    found = [option for value in values for option in options(value)]
    return any(
        o.kind == "scaler" if isinstance(o, Ref) else isinstance(o, Sym) and run.roles.get(o.key) == "scaler"
        for o in found
    )


_CLIP = re.compile(r"^_?(clip_grad|grad_clip)[a-z_]*$")


def _is_clip(fr: Frame, expr: ir.Call) -> bool:
    """`self.clip_grad_norm(parameters)` of an attribute that the class sets: whatever a configuration makes it."""
    if not (isinstance(expr.func, ir.Attr) and _CLIP.match(expr.func.name) and isinstance(expr.func.base, ir.Name)):
        return False
    cls = fr.info.cls if fr.info is not None else None
    return expr.func.base.id == "self" and cls is not None and expr.func.name in cls.attribute_assigns


_SETS_OR_TELLS = re.compile(r"(?i)(^|[._])(\w*sched(uler)?s?|lr|ema|logger|writer|meters?)$")
"""`scheduler.step(step, optimizer)` sets rates, `logger.log(optimizer)` tells of them."""


def opaque(run: Run, fr: Frame, expr: ir.Call, callee: Value, args: Args, keywords: Keywords, st: PathState) -> Results:
    """A call that cannot be followed."""
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    name = text_of(expr.func)
    last = name.rsplit(".", 1)[-1]
    if _is_clip(fr, expr) and any(isinstance(v, Params) for v in everything) and not _has_scaler(run, everything):
        events.clip(run, next(v for v in everything if isinstance(v, Params)), site, st)
        return [(st, functions.fresh(site, st))]
    harmless = torch_api.is_harmless(last) or _SETS_OR_TELLS.search(name.rpartition(".")[0])
    if not harmless or (torch_api.is_step(last) and _has_scaler(run, everything)):
        events.havoc(run, everything, st)
    tensors = calls.tensors_deep(everything, st)
    if isinstance(callee, Method) and isinstance(callee.base, Tensor):
        tensors.append(callee.base)
    if tensors:
        joined = join_tensors(tensors)
        if joined.scaled is not None and not run.testing:
            joined = replace(joined, scaled="?")
        return [(st, joined)]
    if any(isinstance(o, Owned) for v in everything for o in options(v)) and last in ("prepare", "setup", "initialize"):
        return [(st, Owned("framework"))]
    if run.testing and not any(isinstance(o, Ref) for v in everything for o in options(v) if not isinstance(v, Phi)):
        return [(st, Sym(("ucall", operators.key_of(callee), *(operators.key_of(v) for v in everything[:6]))))]
    run.trace.born.setdefault(("call", site), set()).add(tuple(run.loops))
    return [(st, functions.fresh(site, st))]
