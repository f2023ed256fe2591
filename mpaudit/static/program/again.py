"""A function that trains and that nothing in sight calls, called a second time: what may be held against the first."""

from __future__ import annotations

import re
from collections.abc import Hashable

from ..facts import ir
from . import enclosed, typestate
from .definitions import FunctionInfo
from .frame import Run, text_of
from .nodes import walk_nodes
from .state import PathState
from .values import one_tensor, roots

_LEFT_UNDONE = {"MPA204": "update", "MPA206": "update", "MPA207": "update", "MPA228": "zero_grad"}
"""What the last call of a function can have left undone, and the method that would do it."""

_OF_THE_SCALER = dict.fromkeys(("MPA204", "MPA206", "MPA207"), frozenset(("update",))) | {
    "MPA210": frozenset(("step", "unscale_"))
}
"""What is a matter of the scaler alone, and the methods that would have put it right. Of a scaler that no caller can
get at, they are called by the methods of its class or not at all."""

_MAKER = re.compile(r"(?i)gradscaler|optim")


def counts(run: Run, violation: typestate.Violation, st: PathState) -> bool:
    """Whether what shows in the second call of a root is a fault: no other function does what the first left undone,
    nor can a caller that is not in sight. It can where it passes the optimizer and the scaler, and zeroing is its too
    where it passes the loss."""
    kept = enclosed.keeper(run.project, violation.scaler) if violation.code in _OF_THE_SCALER else None
    if kept is not None:
        doers = enclosed.calls(run.project, *kept, _OF_THE_SCALER[violation.code])
        return doers <= run.reached and (violation.code != "MPA210" or violation.variant == "nothing-recorded")
    method = _LEFT_UNDONE.get(violation.code)
    if method is None:
        return False
    if _is_passed(violation.optimizer) or _is_passed(violation.scaler):
        return False
    others = [
        name
        for info, name, own in run.project.receivers(method)
        if info not in run.reached and not (own and info is not None and _is_another_objects(run, info, name))
    ]
    if method == "zero_grad":
        loss = one_tensor(st.heap.get((("loss", violation.optimizer), "of")))
        return not others and loss is not None and bool(loss.uses)
    called = str(run.trace.names.get(violation.scaler, "")).rsplit(".", 1)[-1].strip("_")
    return called not in others


def _is_another_objects(run: Run, info: FunctionInfo, name: str) -> bool:
    """Whether the attribute of this name that a method works on is made by its class for itself, and no object that is
    being followed is of that class: then it is another scaler or optimizer that bears the same name."""
    cls = info.cls
    met = {f.cls for f in (*run.reached, *run.stack) if f.cls is not None}
    objects = {c for c in met if not any(run.project.derives(other, c) for other in met)}  # not the bases of those
    if cls is None or any(run.project.related(cls, other) for other in objects):
        return False
    bases = (c for module in run.project.modules.values() for c in module.classes.values())
    made = [
        expr
        for owner in (cls, *(base for base in bases if run.project.derives(cls, base)))
        for attr, assigns in owner.attribute_assigns.items()
        if attr.strip("_") == name
        for _, expr in assigns
    ]
    return bool(made) and all(_makes(expr) for expr in made)


def _makes(expr: ir.Expr) -> bool:
    """`GradScaler(...)`, `torch.optim.Adam(...)`, `build_optimizer(...)`, `self.init_optimizer()`, or one or None
    by some condition. What a method of another object gives, `trainer.get_optimizer()`, may be that object's."""
    return any(
        isinstance(node, ir.Call)
        and _MAKER.search(text_of(node.func)) is not None
        and (isinstance(node.func, ir.Name) or text_of(node.func).startswith(("torch.", "optim.", "amp.", "self.")))
        for node in walk_nodes(expr)
    )


def _is_passed(ident: Hashable | None) -> bool:
    """Whether a function that is looked at on its own gets this object as an argument."""
    return isinstance(ident, tuple) and any(root[0] == "param" for root in roots(ident))
