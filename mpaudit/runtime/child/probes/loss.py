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

from ..events import LOSS, Events
from ..steps import Steps

Loss = float | torch.Tensor
"""A tensor, detached and copied, where the value is on a device that would have to be waited for."""


@dataclass(slots=True)
class Losses:
    """Which losses stand for the roots of a backward. They are kept in the journal of the events."""

    steps: Steps
    events: Events = field(default_factory=Events)
    _unscaled: list[Loss] = field(default_factory=list)
    """What the script's own GradScaler was given since the last backward."""

    def watch(self, events: Events) -> None:
        self.events = events
        events.losses_of = self._of
        events.scaled.append(self._scaled)
        events.gradient_begin.append(self._forget)

    def _scaled(self, scaler: Any, outputs: Any) -> None:
        self._unscaled += [_kept(tensor) for tensor in _tensors(outputs)]
        self.events.scaled_losses = bool(self._unscaled)

    def _forget(self) -> None:
        self._unscaled.clear()
        self.events.scaled_losses = False

    def _of(self, roots: Any) -> Iterable[Loss]:
        losses = self._unscaled or [_kept(root) for root in _tensors(roots)]
        self._unscaled, self.events.scaled_losses = [], False
        return losses


def read(losses: Losses) -> tuple[float | None, ...]:
    """The loss of each planned step that has ended, from the first: None where it is not finite (JSON has no word for
    that), or where the step had no backward."""
    steps, journal = losses.steps, losses.events.journal
    ends = steps.lengths()
    sums: list[float | None] = [None] * len(ends)
    for place in range(0, len(journal), 2):
        if journal[place] == LOSS:
            # the step it belongs to is the first that ended after it
            number = bisect_left(ends, place + 2)
            if number < len(sums):
                sums[number] = (sums[number] or 0.0) + float(journal[place + 1])
    return tuple(total if total is not None and isfinite(total) else None for total in sums)


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [part for part in value if isinstance(part, torch.Tensor)]


def _kept(tensor: torch.Tensor) -> Loss:
    if tensor.dim():  # has gradients of its own; its sum stands for it
        return tensor.detach().sum()
    # the number is there at once, and costs a tenth of a copy; a copy, as the script may go on and divide the loss
    return tensor.item() if tensor.is_cpu else tensor.detach().clone()
