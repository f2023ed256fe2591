"""Python's own functions."""

from __future__ import annotations

from msgspec.structs import replace

from ..facts import ir
from . import calls, containers, events, feeding, functions, generators, objects, operators
from .frame import Frame, Run
from .shapes import Args, Keywords, Results
from .state import PathState
from .values import NONE, Const, Device, Ext, Params, Ref, Sym, Tensor, Tup, Value, join_tensors, options


def call_python(
    run: Run, fr: Frame, expr: ir.Call, name: str, args: Args, keywords: Keywords, st: PathState
) -> Results | None:
    last = name.rsplit(".", 1)[-1]
    made = [v for v in args if isinstance(v, Ref) and v.kind == "generator"]
    if made and last not in _LAZY:
        return _consumed(run, fr, last, made, args, st)
    if name in ("functools.partial", "torch.optim.lr_scheduler.partial"):
        return [(st, Ref("partial", (args[0], args[1:], keywords)))] if args else None
    if name == "itertools.chain" or name == "itertools.chain.from_iterable":
        sources = args[0].items if len(args) == 1 and isinstance(args[0], Tup) else args
        modules = feeding.parameter_modules(sources)
        return [(st, Params(modules))] if any(feeding.all_params(s) for s in sources) else None
    if not name.startswith("builtins."):
        if name in ("copy.deepcopy", "copy.copy") and args:
            if isinstance(args[0], Tensor | Tup | Const):
                return [(st, args[0])]
            is_module = any(isinstance(v, Ref) and v.kind == "module" for v in options(args[0]))
            site = fr.site(expr.span)
            copied = Ref("module", site) if is_module else functions.fresh(site, st)
            if name == "copy.deepcopy":
                events.copied(run, copied, st)
            return [(st, copied)]
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
            items = containers.iterate(run, args[0], st) if args else None
            if args and isinstance(args[0], Ref) and args[0].kind in ("loader", "generator"):
                return [(st, Ref("enumerated", args[0]))]
            if items is not None:
                return [(st, Tup(tuple(Tup((Const(i), item)) for i, item in enumerate(items))))]
            return [(st, Sym(("enumerate", operators.key_of(args[0]))))] if args and isinstance(args[0], Sym) else None
        case "zip":
            args = tuple(containers.gone_through(a, st) for a in args)
            lists = [containers.iterate(run, a, st) for a in args]
            if lists and any(known is not None for known in lists):
                n = min(len(known) for known in lists if known is not None)
                rows = [Tup(tuple(_nth(known, a, i) for known, a in zip(lists, args, strict=True))) for i in range(n)]
                return [(st, Tup(tuple(rows)))]
            return None
        case "sum":
            tensors = calls.tensors_deep(args, st)
            return [(st, join_tensors(tensors))] if tensors else None
        case "getattr":
            if len(args) > 1 and isinstance(args[1], Const) and isinstance(args[1].value, str):
                return [(st, st.settle(objects.attribute(run, fr, args[0], args[1].value, st)))]
            if args and args[0] == Ext("torch.optim"):
                return [(st, Ext("torch.optim.Optimizer"))]  # whichever is named
            return None
        case "setattr":
            if len(args) > 2 and isinstance(args[1], Const) and isinstance(args[1].value, str):
                objects.store_attribute(run, fr, args[0], args[1].value, args[2], st)
            return [(st, NONE)]
        case "bool":
            return [(st, args[0])] if args else None
        case "dict":
            ref = Ref("dict", fr.site(expr.span))
            st.heap.drop(ref)
            for key, value in keywords:
                st.heap[ref, containers.slot(Const(key)) if key else "[**]"] = value
            for value in args:
                if isinstance(value, Ref) and value.kind == "dict":
                    for slot, item in containers.held(value, st):
                        st.heap[ref, slot] = item
            return [(st, ref)]
        case "hasattr" if _torch_has(args):
            return [(st, Const(True))]
        case (
            "isinstance"
            | "hasattr"
            | "len"
            | "callable"
            | "any"
            | "all"
            | "type"
            | "issubclass"
            | "id"
            | "abs"
            | "max"
            | "min"
            | "int"
            | "float"
            | "str"
        ):
            if last in ("max", "min", "abs"):
                tensors = calls.tensors_in(args)
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
            return [(st, Sym(("pcall", last, *(operators.key_of(a) for a in args))))]
        case "range":
            if args == (Const(1),) and _is_fixed(fr, expr.args[0], st):
                return [(st, Tup((Const(0),)))]
            return [(st, Sym(("pcall", "range", *(operators.key_of(a) for a in args))))]
        case "print":
            return [(st, NONE)]
        case _:
            return None


_LAZY = frozenset(["enumerate", "iter", "tqdm", "trange", "isinstance", "type", "id"])
"""What hands a generator on as it is."""
_DRAINS = frozenset(["list", "tuple", "set", "sorted", "dict", "sum", "any", "all", "max", "min", "deque"])


def _consumed(run: Run, fr: Frame, last: str, made: list[Ref], args: Args, st: PathState) -> Results:
    """A generator run to its end by a builtin; any other use of it is not followed, and what it holds is unknown."""
    unknown = Sym(("pcall", last, *(operators.key_of(a) for a in args)))
    if len(made) == 1 and last in _DRAINS and generators.can_follow(run, made[0]):
        return [(s, unknown) for s in generators.follow(run, fr, made[0], st, generators.drained)]
    events.havoc(run, made, st)
    return [(st, unknown)]


def _isinstance(value: Value, kind: Value) -> bool | None:
    if isinstance(kind, Ext):
        if kind.name in ("builtins.dict",) and isinstance(value, Ref):
            return value.kind == "dict"
        if kind.name in ("builtins.list", "builtins.tuple") and isinstance(value, Ref | Tensor):
            return isinstance(value, Ref) and value.kind == "list"
    return None


def _is_fixed(fr: Frame, expr: ir.Expr, st: PathState) -> bool:
    """A literal, or a constant of the module: not a parameter that others may give another value."""
    return isinstance(expr, ir.Const) or (
        isinstance(expr, ir.Name) and fr.info is not None and st.heap.get((fr.id, expr.id)) is None
    )


def _nth(known: tuple[Value, ...] | None, source: Value, i: int) -> Value:
    """Element `i` of a sequence that is known, or a name for it."""
    return known[i] if known is not None else Sym(("sub", operators.key_of(source), ("const", i)))


_NAMES_OF_TORCH = frozenset(
    ("torch.amp", "torch.autocast", "torch.bfloat16", "torch.compile", "torch.cuda.amp", "torch.inference_mode",
     "torch.amp.GradScaler", "torch.amp.autocast", "torch.cuda.amp.GradScaler", "torch.cuda.amp.autocast")
)  # fmt: skip
"""What a torch that is audited for has: the other arm of the question is for those before it."""


def _torch_has(args: Args) -> bool:
    match args:
        case (Ext(name=base), Const(value=str(name))):
            return f"{base}.{name}" in _NAMES_OF_TORCH
        case _:
            return False
