"""Names: what they stand for in a frame, in a module, behind an import."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from ..facts import ir
from . import expressions, torch_api
from .definitions import ModuleInfo
from .frame import Frame, Run, text_of
from .state import PathState
from .values import NONE, Choice, Cls, Const, Dtype, Ext, Func, Mod, Sym, Value, choice


def load_name(run: Run, fr: Frame, name: str, st: PathState) -> Value:
    if fr.owners.get(name) != fr.module.path:
        value = st.heap.get((fr.id, name))
        if value is not None:
            return value
        for frame in frames_around(fr.parent):
            value = st.heap.get((frame, name))
            if value is not None:
                return value
    value = st.heap.get((fr.module.path, name))
    if value is not None:
        return value
    return global_value(run, fr.module, name, st)


def store_name(fr: Frame, name: str, value: Value, st: PathState) -> None:
    owner = fr.owners.get(name, fr.module.path if fr.info is None else fr.id)
    if isinstance(owner, str) and (root := ("global", owner, name)) in st.asked:
        st.forget(root)
    st.heap[owner, name] = value


def frames_around(closure: Hashable) -> Iterator[Hashable]:
    """The frame that a function was defined in, and those around that one."""
    while closure is not None:
        yield closure
        closure = closure[-1] if isinstance(closure, tuple) and closure[:1] == ("frame",) else None


def owner_around(fr: Frame, name: str, st: PathState) -> Hashable:
    """The frame whose name `nonlocal name` means; the nearest, where none has bound it yet."""
    return next((frame for frame in frames_around(fr.parent) if (frame, name) in st.heap), fr.parent)


def switch(module: ModuleInfo, target: ir.Expr) -> Value:
    """`USE_AMP = False` at the top of a script is a switch that is there to be turned: not known to be off."""
    name = target.id if isinstance(target, ir.Name) else ""
    return Sym(("global", module.path, name))


def _is_stand_in(run: Run, module: ModuleInfo, name: str, st: PathState) -> bool:
    """A class that only stands in where the import of torch's own fails (`except ImportError: class GradScaler`)."""
    return any(
        isinstance(value, Ext) and value.name.startswith("torch.")
        for source, attr in module.imports.get(name, ())
        for value in (imported(run, module, source, attr, st),)
    ) or any(text_of(expr).startswith("torch.") for expr, _ in module.assigns.get(name, ()))


def global_value(run: Run, module: ModuleInfo, name: str, st: PathState) -> Value:
    """A name of a module whose top-level code has not been followed on this path."""
    if name in module.functions:
        info = module.functions[name]
        candidates: list[Value] = [Func(info)]
        if name not in module.imports:
            return candidates[0]
    elif name in module.classes and not _is_stand_in(run, module, name, st):
        return Cls(module.classes[name])
    if name in module.imports:
        found: list[Value] = []
        for source, attr in module.imports[name]:
            value = imported(run, module, source, attr, st)
            if value not in found:
                found.append(value)
        if name in module.functions:
            found.append(Func(module.functions[name]))
        if name in module.assigns and all(isinstance(v, Ext) for v in found):
            return Choice(frozenset([*found, NONE])) if _only_none(module, name) else found[0]
        own = [v for v in found if isinstance(v, Ext) and v.name.startswith("torch.")]
        if own and all(isinstance(v, Cls | Func) for v in found if v not in own):
            found = [*own]  # the others stand in for it where torch is too old to have it
        return found[0] if len(found) == 1 else Choice(frozenset(found))
    if name in module.assigns:
        return _assigned_global(run, module, name, st)
    home = run.project.behind_stars(module, name)
    if home is not None:
        return global_value(run, home, name, st)
    for source, _ in module.imports.get("*", ()):
        if name in _BUILTINS and source != "torch":
            continue
        if source.startswith(("torch", "apex")) and (source != "torch.optim" or name in torch_api.OPTIMIZERS):
            return Ext(f"{source}.{name}")
    return Ext(f"builtins.{name}") if name in _BUILTINS else Sym(("global", module.path, name))


def _only_none(module: ModuleInfo, name: str) -> bool:
    return all(isinstance(expr, ir.Const) and not expr.value for expr, _ in module.assigns[name])


_BUILTINS = frozenset(dir(__builtins__) if not isinstance(__builtins__, dict) else __builtins__)


def _assigned_global(run: Run, module: ModuleInfo, name: str, st: PathState) -> Value:
    place = (module.path, name)
    exprs = module.assigns[name]
    if place in run.resolving or len(exprs) > 4 or run.lazy > 6:
        return Sym(("global", module.path, name))
    run.resolving.add(place)
    run.lazy += 1
    try:
        values: list[Value] = []
        for expr, first_line in exprs:
            frame = Frame(module, None, ("module", module.path), first_line)
            for _, value in expressions.evaluate(run, frame, expr, st):
                turned = module.is_configured and value != NONE
                plain = is_fresh(value) or (isinstance(value, Const) and (turned or isinstance(value.value, bool)))
                values.append(Sym(("global", module.path, name)) if plain else value)
                break
        value = choice(values, ("global", module.path, name))
    finally:
        run.lazy -= 1
        run.resolving.discard(place)
    st.heap[place] = value
    return value


def is_fresh(value: Value) -> bool:
    return isinstance(value, Sym) and value.key[0] in ("call", "opaque", "ucall", "op", "slice", "lambda")


def imported(run: Run, module: ModuleInfo, source: str, attr: str, st: PathState) -> Value:
    """What `from source import attr` (or `import source`) binds."""
    if attr and attr != "*":
        target = run.project.find(module, source) if source.strip(".") else None
        if source.startswith(".") and not source.strip("."):
            inner = run.project.find(module, source + attr)
            if inner is not None:
                return Mod(inner.path)
            target = run.project.find_package(module, source)
        if target is not None and target is not module:
            return module_attribute(run, target, attr, st)
        inner = run.project.find(module, f"{source}.{attr}" if not source.endswith(".") else source + attr)
        if inner is not None:
            return Mod(inner.path)
        return canonical(f"{source}.{attr}")
    target = run.project.find(module, source)
    return Mod(target.path) if target is not None else canonical(source)


def module_attribute(run: Run, target: ModuleInfo, attr: str, st: PathState) -> Value:
    value = st.heap.get((target.path, attr))
    if value is not None:
        return value
    named = attr in target.functions or attr in target.classes or attr in target.imports or attr in target.assigns
    if not named and target.is_package:
        inner = run.project.find(target, f".{attr}")
        if inner is not None:
            return Mod(inner.path)
    place = (target.path, f"import {attr}")
    if place in run.resolving or not (named or "*" in target.imports):
        return Sym(("global", target.path, attr))
    run.resolving.add(place)
    try:
        return global_value(run, target, attr, st)
    finally:
        run.resolving.discard(place)


def external_attribute(run: Run, fr: Frame, base: Ext, name: str) -> Value:
    """`a.b` after `import a.b`, where the folder `a` has no `__init__.py` and so is no module itself."""
    dotted = f"{base.name}.{name}"
    if dotted in fr.module.loaded:
        target = run.project.find(fr.module, dotted)
        if target is not None:
            return Mod(target.path)
    return canonical(dotted)


def canonical(name: str) -> Value:
    """A qualified name outside the project: a dtype where it is one."""
    parts = name.split(".")
    if parts[0] == "torch" and len(parts) == 2 and parts[1] in torch_api.DTYPES:
        return Dtype(torch_api.DTYPES[parts[1]])
    if parts[0] == "numpy" and len(parts) == 2 and parts[1] in torch_api.NUMPY_DTYPES:
        return Dtype(torch_api.NUMPY_DTYPES[parts[1]])
    if parts[0] == "np":
        return canonical(".".join(["numpy", *parts[1:]]))
    return Ext(name)
