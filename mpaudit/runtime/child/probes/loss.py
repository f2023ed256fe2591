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

Loss = float | torch.Tensor
"""A tensor, detached and copied, where the value is on a device that would have to be waited for."""


@dataclass(slots=True)
class Losses:
    steps: Steps
    seen: list[tuple[int, int, Loss]] = field(default_factory=list)
    """Steps and backward passes before, and the loss."""
    _unscaled: list[Loss] = field(default_factory=list)
    """What the script's own GradScaler was given since the last backward."""

    def watch(self, events: Events) -> None:
        events.scaled.append(self._scaled)
        events.backward_begin.append(self._backward)
        events.gradient_begin.append(self._unscaled.clear)

    def _scaled(self, scaler: Any, outputs: Any) -> None:
        self._unscaled += [_kept(tensor) for tensor in _tensors(outputs)]

    def _backward(self, roots: Any) -> Any:
        ends, passes = len(self.steps.log), self.steps.backwards
        if self._unscaled:
            self.seen += [(ends, passes, loss) for loss in self._unscaled]
            self._unscaled.clear()
        elif isinstance(roots, torch.Tensor):
            plain = roots.is_cpu and not roots.dim()
            self.seen.append((ends, passes, roots.item() if plain else _kept(roots)))
        else:
            self.seen += [(ends, passes, _kept(root)) for root in _tensors(roots)]
        return roots


def read(losses: Losses) -> tuple[float | None, ...]:
    """The loss of each planned step that has ended, from the first: None where it is not finite (JSON has no word for
    that), or where the step had no backward."""
    places = losses.steps.positions()
    by_backward = losses.steps.by_backward
    sums: list[float | None] = [None] * len(places)
    for ends, passes, loss in losses.seen:
        number = bisect_left(places, passes if by_backward else ends)
        if number < len(sums):
            sums[number] = (sums[number] or 0.0) + float(loss)
    return tuple(total if total is not None and isfinite(total) else None for total in sums)


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [part for part in value if isinstance(part, torch.Tensor)]


def _kept(tensor: torch.Tensor) -> Loss:
    if tensor.dim():  # has gradients of its own; its sum stands for it
        return tensor.detach().sum()
    # the number is there at once, and costs a tenth of a copy; a copy, as the script may go on and divide the loss
    return tensor.item() if tensor.is_cpu else tensor.detach().clone()
