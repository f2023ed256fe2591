"""What a loop adds up that does nothing of interest otherwise: the losses of several outputs."""

from __future__ import annotations

from ..facts import ir
from . import calls, flow, scopes
from .frame import Frame, Run
from .nodes import walk_statements
from .state import PathState
from .values import Tensor, join_tensors


def added_up(stmt: ir.For) -> frozenset[str]:
    """Names that a loop adds to: `total += x`, `total = total + x`."""
    found: set[str] = set()
    for inner in walk_statements(stmt.body):
        match inner:
            case ir.AugAssign(target=ir.Name() as name, op="+"):
                found.add(name.id)
            case ir.Assign(targets=(ir.Name() as name,), value=ir.BinOp(op="+", left=left, right=right)):
                if any(isinstance(side, ir.Name) and side.id == name.id for side in (left, right)):
                    found.add(name.id)
    return frozenset(found)


def followed_once(run: Run, fr: Frame, stmt: ir.For, names: frozenset[str], body: PathState) -> dict[str, Tensor]:
    """What is in `names` after a pass over the loop, where that was computed by a network; `body` is its beginning."""
    kept = fr.breaks, fr.continues, fr.raises
    fr.breaks, fr.continues, fr.raises = [], [], []
    try:
        ends = [*flow.execute(run, fr, stmt.body, [body]), *fr.breaks, *fr.continues]
    finally:
        fr.breaks, fr.continues, fr.raises = kept
    found: dict[str, Tensor] = {}
    for name in sorted(names):
        tensors = calls.tensors_in([scopes.load_name(run, fr, name, end) for end in ends])
        if any(tensor.some_uses for tensor in tensors):
            found[name] = join_tensors(tensors)
    return found
