"""What the code does with a name: the methods that are called on it in a function, a class or a module."""

from __future__ import annotations

from collections.abc import Iterable

from ..facts import ir
from .definitions import ClassInfo, FunctionInfo, ModuleInfo
from .frame import Frame, Run, text_of


def optimizers(run: Run, fr: Frame) -> set[str]:
    """What the function, or its class, uses as optimizers, by the last part of the name."""
    info = fr.info
    holders: list[FunctionInfo | ClassInfo] = [] if info is None else [info]
    while info is not None and info.cls is None:
        info = info.parent
    if info is not None and info.cls is not None:
        holders.append(info.cls)
    return {
        path.rsplit(".", 1)[-1]
        for holder in holders
        for path, methods in of(run, holder).items()
        if _is_stepped(methods)
    }


def _is_stepped(methods: set[str]) -> bool:
    return "zero_grad" in methods and ("step" in methods or "<step>" in methods)


def of(run: Run, holder: FunctionInfo | ClassInfo | ModuleInfo) -> dict[str, set[str]]:
    known = run.project.usages
    if holder not in known:
        if isinstance(holder, FunctionInfo):
            known[holder] = _usage(holder.nodes)
        elif isinstance(holder, ClassInfo):
            known[holder] = _usage(node for method in holder.methods.values() for node in method.nodes)
        else:
            known[holder] = _usage(node for _, nodes in holder.pieces for node in nodes)
    return known[holder]


def _usage(nodes: Iterable[object]) -> dict[str, set[str]]:
    """Access path (`self.scaler`) → names of the methods called on it; '<stepped>' where it is an argument of a
    scaler's step or unscale_, 'scale.backward' for `x.scale(loss).backward()`."""
    found: dict[str, set[str]] = {}
    for node in nodes:
        if type(node) is not ir.Call:
            continue
        if not isinstance(node.func, ir.Attr):
            found.setdefault(text_of(node.func), set()).add("()")
            continue
        base, method = node.func.base, node.func.name
        found.setdefault(text_of(node.func), set()).add("()")
        found.setdefault(text_of(base), set()).add(method)
        if method in ("step", "unscale_") and node.args:
            found.setdefault(text_of(node.args[0]), set()).add(f"<{method}>")
        if (
            method == "backward"
            and isinstance(base, ir.Call)
            and isinstance(base.func, ir.Attr)
            and base.func.name == "scale"
        ):
            found.setdefault(text_of(base.func.base), set()).add("scale.backward")
    return found
