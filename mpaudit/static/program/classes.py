"""Objects of the user's classes, and the forward of modules."""

from __future__ import annotations

import re

from msgspec.structs import replace

from ..facts import ir
from . import calls, coarse, dtype_flow, events, functions, makers, objects, operators, torch_api
from .definitions import ClassInfo, Site
from .frame import Frame, Run, text_of
from .shapes import Args, Keywords, Results
from .state import PathState
from .values import Cls, Const, Func, Key, Phi, Ref, Sym, Tensor, Tup, Value, options


def is_module_class(run: Run, cls: ClassInfo, st: PathState) -> bool:
    bases = objects.external_bases(run, cls, st)
    return any(
        torch_api.is_module(base) or torch_api.is_of_models(base) or base.endswith((".Module", "Model"))
        for base in bases
    ) or ("?" in bases and "forward" in cls.methods)


def allocation(run: Run, site: Site) -> object:
    """Identity of an object made at `site`; the two elements that stand for a comprehension's are two objects."""
    numbers = tuple(loop[1] for loop in run.loops if isinstance(loop, tuple) and loop and loop[0] == "comp")
    return (site, numbers) if numbers else site


def made_once(run: Run, kind: str, site: Site, st: PathState) -> Ref:
    """An optimizer or a scaler that is made at `site`. What a function makes that is called from two places is two
    objects, where the path still has the first when it comes to the second."""
    ref = Ref(kind, allocation(run, site))
    caller = Sym(("made for", run.callers[-1] if run.callers else None))
    before = st.heap.get((ref, _MADE_FOR))
    if before is not None and caller not in options(before) and _is_there(ref, st):
        return Ref(kind, (ref.id, caller.key[1]))
    st.heap[ref, _MADE_FOR] = caller
    return ref


_MADE_FOR = "(made for)"
"""Slot of an optimizer or a scaler: the call of the function that made it."""


def _is_there(ref: Ref, st: PathState) -> bool:
    known = st.protocol.optimizers if ref.kind == "optimizer" else st.protocol.scalers
    return ref in known or any(_holds(value, ref) for _, value in st.heap.items())


def _holds(value: Value, ref: Ref) -> bool:
    return any(o == ref or (isinstance(o, Tup) and any(_holds(item, ref) for item in o.items)) for o in options(value))


def instantiate(
    run: Run, fr: Frame, expr: ir.Call, callee: Cls, args: Args, keywords: Keywords, st: PathState
) -> Results:
    cls = callee.info
    site = fr.site(expr.span)
    ident = allocation(run, site)
    bases = objects.external_bases(run, cls, st)
    if any(base in torch_api.GRAD_SCALER for base in bases) and "__call__" not in cls.methods:
        ref = made_once(run, "scaler", site, st)
        enabled = dict(keywords).get("enabled", Const(True))
        events.make_scaler(run, ref, site, truth_key(enabled), text_of(expr.func), st)
        return [(st, ref)]
    if any(base == "torch.optim.Optimizer" or torch_api.is_optimizer(base) for base in bases):
        for given in (*args[:1], *(value for key, value in keywords if key == "optimizer")):
            if isinstance(given, Ref) and given.kind == "optimizer":
                return [(st, given)]  # a wrapper (Lookahead, …) steps what it wraps
        ref = made_once(run, "optimizer", site, st)
        events.make_optimizer(run, ref, site, list(args[:1]) or [v for _, v in keywords], text_of(expr.func), st)
        return [(st, ref)]
    kind = "module" if is_module_class(run, cls, st) else "instance"
    ref = Ref(kind, ident)
    st.heap.drop(ref)
    run.classes[ref] = cls
    run.trace.sources[ref] = cls.module.path
    run.trace.layers[ref] = cls.layers
    run.trace.made_of[ref] = frozenset([cls])
    run.contains.pop(ref, None)
    for value in (*args, *(v for _, v in keywords)):
        if isinstance(value, Ref) and value.kind in ("module", "instance"):
            run.contains.setdefault(ref, set()).add(value)
            run.trace.made_of[ref] |= run.trace.made_of.get(value, frozenset())
    init = objects.find_method(run, cls, "__init__", st)
    if init is not None and init.node is not None and (cls.live or init.live):
        results = functions.call_function(run, fr, Func(init, ref), args, keywords, st, site)
        return [(s, ref) for s, _ in results]
    if init is None:
        for name, value in keywords:
            if name:
                st.heap[ref, name] = value
        for name, value in zip(fields(run, cls, st), args, strict=False):
            st.heap[ref, name] = value
        after = objects.find_method(run, cls, "__post_init__", st)
        if after is not None and after.node is not None and (cls.live or after.live):
            return [(s, ref) for s, _ in functions.call_function(run, fr, Func(after, ref), (), (), st, site)]
    elif kind == "instance":
        events.havoc(run, (*args, *(v for _, v in keywords)), st) if not torch_api.is_harmless(cls.name) else None
    return [(st, ref)]


def fields(run: Run, cls: ClassInfo, st: PathState) -> list[str]:
    """The parameters of a class that writes its `__init__` itself (a dataclass, a NamedTuple, attrs): the annotated
    names, those of the bases first; none where a base is not known, since its `__init__` may be any."""
    if any(base == "?" or not _HAS_NO_FIELDS.search(base) for base in objects.external_bases(run, cls, st)):
        return []
    owners = reversed(list(objects.mro(run, cls, st)))
    return list(dict.fromkeys(name for owner in owners if owner.node is not None for name in owner.node.fields))


_HAS_NO_FIELDS = re.compile(r"^(builtins\.object|typing(_extensions)?\.\w+|abc\.ABC|msgspec\.Struct)$")


def is_named_tuple(run: Run, cls: ClassInfo, st: PathState) -> bool:
    return any(base.endswith("NamedTuple") for base in objects.external_bases(run, cls, st))


def truth_key(value: Value) -> bool | Key:
    """Whether a flag is on: known, or the decision that says so."""
    from .state import decision, truth_of

    if isinstance(value, Phi):
        yes, no = truth_key(value.yes), truth_key(value.no)
        if yes is True and no is False:
            return value.key
        if yes is False and no is True:
            return ("not", value.key)
        return yes if yes == no else decision(operators.key_of(value))
    truth = truth_of(value)
    if truth is not None:
        return truth
    return decision(operators.key_of(value))


def forward(run: Run, fr: Frame, expr: ir.Call, ref: Ref, args: Args, keywords: Keywords, st: PathState) -> Results:
    """A call of a module: its own forward is followed where it holds something that matters."""
    site = fr.site(expr.span)
    everything = (*args, *(v for _, v in keywords))
    dtype_flow.check_leaks(run, everything, site, "a forward pass", st)
    if run.trace.module_info.get(ref) == "bce":
        makers.bce(run, site, text_of(expr.func), st)
    inputs = calls.tensors_in(everything)
    run.trace.called[site] = text_of(expr.func).removesuffix(".forward")
    output = events.uses_of(run, ref, site, st, inputs)
    cls = run.classes.get(ref)
    if cls is not None and cls.live:
        method = objects.find_method(run, cls, "forward", st)
        if run.coarse and method is not None and not coarse.is_followed(run, method):
            return [(st, coarse.unseen(output))]
        if method is not None and method.node is not None and method not in run.stack and len(run.stack) < 8:
            results = functions.call_function(run, fr, Func(method, ref), args, keywords, st, site)
            inner = [use for _, value in results for tensor in calls.tensors_in([value]) for use in tensor.uses or ()]
            known = bool(inner) and all(isinstance(use.module, Ref) for use in inner)
            known = known and all(_is_tensors(value) for _, value in results)
            run.trace.followed[ref] = known and run.trace.followed.get(ref, True)
            return [(s, _with_output(value, _covered_inside(value, output, ref))) for s, value in results]
    return [(st, output)]


def _covered_inside(value: Value, output: Tensor, ref: Ref) -> Tensor:
    """The output of a forward that enters an autocast of its own comes from under that autocast."""
    if output.uses is None:
        return output
    inner = [use.casts for tensor in calls.tensors_in([value]) for use in tensor.uses or ()]
    own = next((use for use in output.uses if use.module == ref), None)
    if own is None or not inner:
        return output
    around = len(own.casts or ())
    deeper = [casts for casts in inner if casts is None or len(casts) > around]
    if not deeper or (None in deeper and own.casts is None):
        return output
    casts = None if None in deeper else max(deeper, key=lambda c: len(c or ()))
    return replace(output, uses=(output.uses - {own}) | {replace(own, casts=casts)})


def _is_tensors(value: Value) -> bool:
    """Whether it is seen which forwards an output came from: of what a dict or an object holds, it is not."""
    if isinstance(value, Tup):
        return all(map(_is_tensors, value.items))
    return all(isinstance(option, Tensor | Const) for option in options(value))


def _with_output(value: Value, output: Tensor) -> Value:
    if isinstance(value, Tup):
        return Tup(tuple(_with_output(item, output) for item in value.items))
    return output
