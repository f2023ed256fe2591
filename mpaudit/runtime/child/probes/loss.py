"""The loss of each step: what the script calls backward on, before any scale, summed over the passes of a step.

Values stay on their device until the end: nothing waits for them during the training.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch

from ..events import Events
from ..steps import Steps


@dataclass(slots=True)
class Losses:
    steps: Steps
    seen: list[tuple[int, int, torch.Tensor]] = field(default_factory=list)
    """Steps and backward passes before, and the loss, detached and copied."""
    _unscaled: list[torch.Tensor] = field(default_factory=list)
    """What the script's own GradScaler was given since the last backward."""

    def watch(self, events: Events) -> None:
        events.scaled.append(self._scaled)
        events.backward_begin.append(self._backward)
        events.gradient_begin.append(self._unscaled.clear)

    def _scaled(self, scaler: Any, outputs: Any) -> None:
        self._unscaled += [_kept(tensor) for tensor in _tensors(outputs)]

    def _backward(self, roots: Any) -> Any:
        losses = self._unscaled or [_kept(tensor) for tensor in _tensors(roots)]
        place = len(self.steps.log), self.steps.backwards
        self.seen += [(*place, loss) for loss in losses]
        self._unscaled.clear()
        return roots


def read(losses: Losses) -> tuple[float | None, ...]:
    """The loss of each planned step that has ended, from the first: None where it is not finite (JSON has no word for
    that), or where the step had no backward."""
    places = losses.steps.positions()
    by_backward = not losses.steps.log
    sums: list[float | None] = [None] * len(places)
    for ends, passes, loss in losses.seen:
        number = bisect_left(places, passes if by_backward else ends)
        if number < len(sums):
            sums[number] = (sums[number] or 0.0) + float(loss)
    return tuple(total if total is not None and isfinite(total) else None for total in sums)


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [part for part in value if isinstance(part, torch.Tensor)]


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    # a root that is no scalar has gradients of its own; its sum stands for it
    tensor = tensor.detach()
    return tensor.clone() if tensor.dim() == 0 else tensor.sum()
