"""Whether a run computed in the precision that it is named for: autocast leaves float64 alone, and a region may hold
nothing that it lowers. The graph of a loss tells, and looking through those of the first steps costs no later one."""

from __future__ import annotations

from typing import Any

import torch

from ..events import Events, without
from . import graph

_HALF = (torch.float16, torch.bfloat16)
_DOUBLE = (torch.float64, torch.complex128)
_SHORT = {torch.float16: "fp16", torch.bfloat16: "bf16"}
_FIRST = 3
"""Backward passes whose graphs are looked through."""


class Lowered:
    """`target` is what autocast is to lower to; None: the run is to be in float32."""

    def __init__(self, target: torch.dtype | None, events: Events) -> None:
        self._target = target
        self._events = events
        self._weights: set[torch.dtype] = set()
        self._seen = False
        """Something computed in the precision of the run, or something that cannot be looked into."""
        self._backwards = 0
        events.backward_begin.append(self._backward_begin)
        if target is not None:
            events.returned.append(self._returned)

    def nothing(self) -> str:
        """Why this run is not in its precision; empty where it is, or where that is not known."""
        if self._seen or not self._weights:
            return ""
        double = self._weights <= set(_DOUBLE)
        weights = f"the model's weights are {' and '.join(sorted(map(_name, self._weights)))}"
        if self._target is None:
            return f"nothing was computed in fp32: {weights}" if double else ""
        why = weights if double else "no operation that autocast lowers ran in it"
        return f"nothing was computed in {_SHORT[self._target]}: {why}"

    def _backward_begin(self, roots: Any) -> Any:
        self._backwards += 1
        self._seen = self._seen or any(map(self._tells, graph.walk(roots)))
        if self._seen or self._backwards == _FIRST:
            self._events.backward_begin = without(self._events.backward_begin, self._backward_begin)
            self._events.returned = without(self._events.returned, self._returned)
        return roots

    def _returned(self, callee: Any, result: Any) -> None:
        # without gradients there is no graph
        self._seen = self._seen or (isinstance(result, torch.Tensor) and result.dtype in _HALF)

    def _tells(self, node: Any) -> bool:
        weight = getattr(node, "variable", None)
        if isinstance(weight, torch.Tensor):
            self._weights.add(weight.dtype)
            return self._target is None and weight.dtype not in _DOUBLE
        if self._target is None:
            return False
        # what a function of the user's own or compiled code computes is not in the graph
        if isinstance(node, torch.autograd.function.BackwardCFunction) or not hasattr(node, "_input_metadata"):
            return True
        return any(result.dtype in _HALF for result in node._input_metadata)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
