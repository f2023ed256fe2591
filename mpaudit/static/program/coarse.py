"""The second look at an entry point that there was no end to: only what acts on gradients, a scaler or an optimizer.

In its loops nothing else is followed, and what that gives is unknown. So the protocol is checked in a long script too;
of the precision of its forwards nothing is said.
"""

from __future__ import annotations

from msgspec.structs import replace

from ..facts import ir
from .definitions import FunctionInfo
from .frame import Run
from .values import Tensor, Value


def is_followed(run: Run, info: FunctionInfo) -> bool:
    """Whether a coarse run follows a function: outside of loops any, which may make what is trained."""
    return not run.loops or info in run.project.acting or info.name == "<lambda>"


def is_active(run: Run, loop: ir.For | ir.While) -> bool:
    """Whether a loop has to be followed to its fixed point."""
    return run.project.may_act(loop) if run.coarse else run.project.is_active(loop)


def unseen(value: Value) -> Value:
    """What a function gives that is not followed: it may enter an autocast, and call other networks."""
    return replace(value, uses=None, partly=value.some_uses) if isinstance(value, Tensor) else value
