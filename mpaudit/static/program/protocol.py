"""Methods of GradScaler and of optimizers, as events."""

from __future__ import annotations

import re

from ..facts import ir
from . import calls, events, functions, makers, operators
from .frame import Frame, Run, receiver_text, text_of
from .shapes import Args, Keywords, Results
from .state import PathState
from .values import NONE, Choice, Const, Func, Owned, Params, Ref, State, Sym, Value


def scaler_method(
    run: Run, fr: Frame, expr: ir.Call, scaler: Ref | Sym, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    ident = events.identity(scaler)
    assert ident is not None
    site = fr.site(expr.span)
    if isinstance(scaler, Sym):
        run.roles[ident] = "scaler"
    if not run.lazy and isinstance(expr.func, ir.Attr):
        run.trace.names.setdefault(ident, text_of(expr.func.base))
    given = dict(keywords)
    if fr.owned:
        return [(st, args[0] if name == "scale" and args else NONE)]
    if name == "scale":
        loss = args[0] if args else given.get("outputs", NONE)
        return list(events.scale(run, ident, loss, site, st))
    if name in ("unscale_", "step"):
        target = args[0] if args else given.get("optimizer")
        if target is None:
            return [(st, NONE)]
        out: Results = []
        text = text_of(expr.args[0]) if expr.args else "optimizer"
        for s, found in calls.split(st, target):
            option = _wrapped(run, found, s)
            if isinstance(option, Owned):
                events.havoc(run, [scaler], s)
                out.append((s, NONE))
                continue
            if isinstance(option, Choice) or is_one_of_many(option):
                events.havoc(run, [option, scaler], s)
                out.append((s, NONE))
                continue
            optimizer = events.identity(option)
            if optimizer is None:
                events.havoc(run, [scaler], s)
            else:
                if isinstance(option, Sym):
                    run.roles[optimizer] = "optimizer"
                run.trace.names.setdefault(optimizer, text)
            if name == "step":
                out += [(p, Sym(("call", site))) for p in events.step(run, fr, ident, optimizer, site, text, s)]
            else:
                out += [(p, NONE) for p in events.unscale(run, ident, optimizer, site, s)]
        return out
    if name == "update":
        if args:
            makers.check_update_argument(run, site, args[0], fr, expr)
        return [(s, NONE) for s in events.update(run, ident, site, st, bool(args or keywords))]
    if name == "is_enabled":
        enabled = run.enabled.get(ident, True)
        if isinstance(enabled, bool):
            return [(st, Const(enabled) if isinstance(scaler, Ref) else Sym(("attr", ident, "is_enabled")))]
        return [(st, Sym(enabled))]
    if name == "state_dict":
        return [(st, State(scaler))]
    if name == "load_state_dict":
        return [(st, NONE)]
    if not _TELLS.match(name):  # a method of the project's own, of a subclass: it may scale, unscale, step or update
        events.havoc(run, [scaler, *args, *given.values()], st)
    return [(st, Sym(("attr", operators.key_of(scaler), name)))]


_TELLS = re.compile(r"_?(get|set|check|found)_|__")
"""What GradScaler has that neither scales nor steps."""


def _wrapped(run: Run, value: Value, st: PathState) -> Value:
    """The optimizer in an object of a class of the project's own that has a `step` and nothing else to step."""
    cls = run.classes.get(value) if isinstance(value, Ref) and value.kind == "instance" else None
    if cls is None or "step" not in cls.methods:
        return value
    inside = {v for _, v in st.heap.held(value) if isinstance(v, Ref) and v.kind == "optimizer"}
    return inside.pop() if len(inside) == 1 else value


def is_one_of_many(value: Value) -> bool:
    """What an attribute of one of several objects is, or an element: another each time, and no identity to keep a
    state by."""
    if not isinstance(value, Sym):
        return False
    return value.key[0] in ("attr", "sub") and value.key[1][0] == "any"


def optimizer_method(
    run: Run, fr: Frame, expr: ir.Call, optimizer: Ref | Sym, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results:
    ident = events.identity(optimizer)
    assert ident is not None
    site = fr.site(expr.span)
    text = receiver_text(expr)
    if isinstance(optimizer, Sym):
        run.roles[ident] = "optimizer"
    if not run.lazy and isinstance(expr.func, ir.Attr):
        run.trace.names.setdefault(ident, text)
    if name == "step":
        if args or any(key == "closure" for key, _ in keywords):
            events.havoc(run, [optimizer], st)  # a closure runs its own backward
            if isinstance(args[0] if args else NONE, Func):
                return [(st, NONE)]
            return [(st, NONE)]
        events.raw_step(run, fr, ident, site, text, st)
        return [(st, NONE)]
    if name == "zero_grad":
        events.zero(run, ident, site, st)
        return [(st, NONE)]
    if name == "state_dict":
        return [(st, State(optimizer))]
    if name in ("backward", "clip_master_grads", "clip_grad_norm"):
        events.havoc(run, [optimizer], st)
        return [(st, NONE)]
    if name == "param_groups":
        return [(st, Params(None, ident))]
    if name in (
        "load_state_dict",
        "add_param_group",
        "register_step_post_hook",
        "register_step_pre_hook",
        "train",
        "eval",
    ):
        return [(st, NONE)]
    if name in ("first_step", "second_step", "optimizer_step", "attach", "ascent_step", "descent_step"):
        events.havoc(run, [optimizer], st)
    return [(st, functions.fresh(site, st))]
