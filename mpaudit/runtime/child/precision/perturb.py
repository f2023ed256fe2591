"""Weights moved by one unit in the last place: how far the losses then drift is the noise of the training itself."""

from __future__ import annotations

from typing import Any

import torch

from ..events import Events


class Perturbation:
    """Moves each value of each floating-point parameter to a neighbouring number, once, when an optimizer takes it."""

    def __init__(self, seed: int, events: Events) -> None:
        self._directions = torch.Generator().manual_seed(seed)
        self._moved: list[torch.Tensor] = []  # holds them, so that an id is not used again
        self._known: set[int] = set()
        events.parameters.append(self._move)

    @property
    def moved(self) -> int:
        return len(self._moved)

    @torch.no_grad()
    def _move(self, optimizer: Any, parameters: list[torch.Tensor]) -> None:
        for parameter in parameters:
            if id(parameter) in self._known or not parameter.is_floating_point():
                continue
            self._known.add(id(parameter))
            self._moved.append(parameter)
            up = torch.randint(0, 2, parameter.shape, generator=self._directions, dtype=torch.bool)
            toward = torch.where(up, torch.inf, -torch.inf).to(parameter)
            parameter.copy_(torch.nextafter(parameter, toward))
