"""A training that takes milliseconds, and the bad examples of the rule pages as functions that can be called."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mpaudit import rulebook
from mpaudit.model import Example


class Toy:
    """A two-layer network, an SGD over it and four equal batches of 8 x 16 inputs with 4 classes, always the same.

    `gain` multiplies the logits: with 50 the float16 gradients overflow at a loss scale of 65536.
    """

    def __init__(self, lr: float = 0.1, gain: float = 1.0, batches: int = 4) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4), Times(gain))
        self.x, self.y = torch.randn(8, 16), torch.randint(0, 4, (8,))
        self.loader = [(self.x, self.y)] * batches
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self._start = copy.deepcopy(self.model)

    def moved(self) -> float:
        """The norm of what training changed in all weights together."""
        before, after = self._start.parameters(), self.model.parameters()
        return torch.cat([(b - a).flatten() for a, b in zip(before, after, strict=True)]).norm().item()

    def gradient(self) -> float:
        """The norm of all gradients together."""
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]).norm().item()

    def train(self, code: str, number: int) -> Any:
        """Runs the `number`-th runnable bad example of a page: its `train…` function, or its trainer's method."""
        namespace = execute(runnable(code)[number])
        if "Trainer" not in namespace:
            (function,) = (value for name, value in namespace.items() if name.startswith("train"))
            return function(**self._arguments(function))
        trainer = namespace["Trainer"](self.model)
        if hasattr(trainer, "train_epoch"):
            return trainer.train_epoch(self.loader)
        return [trainer.train_step(x, y) for x, y in self.loader]

    def _arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(function).parameters if hasattr(self, name)}


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def runnable(code: str) -> list[Example]:
    """The bad examples of a page that are marked `run=cpu`."""
    return [example for group in rulebook.rules()[code].bad for example in group if example.options.get("run") == "cpu"]


def execute(example: Example) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(example.source, "example.py", "exec"), namespace)
    return namespace
