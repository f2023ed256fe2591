"""Functions that nothing calls: which of them are followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpaudit.static.program import analysis
from tests.static.program.shapes import reported

FACTORIES = """
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, scale):
        super().__init__()
        self.scale = scale
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return self.layer(x) * self.scale


def build(width, scale):
    net = Net(width, scale)
    net.load_state_dict(torch.load("net.pt")["state_dict"])
    return net


def train(net, loader, optimizer):
    scaler = torch.amp.GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with torch.amp.autocast("cuda"):
            loss = net(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def small():
    return build(width=8, scale=1.0)


def large():
    return build(width=512, scale=0.5)


def huge():
    return build(width=4096, scale=0.5)


def trained():
    net = build(width=8, scale=1.0)
    torch.optim.SGD(net.parameters(), lr=0.1)
    return net


def applied():
    net = build(width=8, scale=1.0)
    return net(doubles())


def doubles():
    return torch.from_numpy(np.zeros(8))
"""


class Spy:
    """Stands for the function that follows one root."""

    def __init__(self) -> None:
        self.function = analysis._function
        self.names: list[str] = []

    def __call__(self, project: Any, info: Any, trace: Any, number: int) -> Any:
        self.names.append(info.name)
        return self.function(project, info, trace, number)


def test_of_functions_that_say_the_same_one_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_function", followed := Spy())
    reported(tmp_path, {"net.py": FACTORIES})
    assert {"trained", "applied"} <= set(followed.names)
    assert len({"small", "large", "huge"} & set(followed.names)) == 1


def test_where_something_happens_the_others_are_followed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_function", followed := Spy())
    text = FACTORIES + "\n\ndef applied_again():\n    net = build(width=8, scale=1.0)\n    return net(doubles())\n"
    reported(tmp_path, {"net.py": text})
    assert {"applied", "applied_again"} <= set(followed.names)
