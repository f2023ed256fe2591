"""Runs in whose precision nothing was computed say so, and others do not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Drive

Script = Callable[[str], Path]

LOOP = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(8, 10), torch.randint(0, 4, (8,))
model = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 4))
{before}
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
losses, weights = [], [weight.float() for weight in model.parameters()]
for _ in range(4):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.detach())
"""

EMBEDDED = """
class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Embedding(10, 6), nn.Embedding(4, 6)
    def forward(self, x):
        return (self.first(x.long() % 10).sum(1)[:, None] * self.second.weight).sum(-1)
model = Factors()
"""

FUNCTION = """
class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return (x @ w).float()
    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.T, x.T @ g
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(10, 4))
    def forward(self, x):
        return Hidden.apply(x, self.w)
model = Own()
"""

FROZEN = """
class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
    def forward(self, x):
        return self.scale * x.float()
body, model = model, Scaled()
with torch.no_grad():
    x = body(x)
"""


def control(drive: Drive, script: Script, before: str, *words: str) -> dict[str, dict[str, Any]]:
    answers = drive(script(LOOP.format(before=textwrap.dedent(before))), *[f"none:{word}" for word in words])
    for word, answer in answers.items():
        assert "error" not in answer, (word, answer["error"])
    return {word: answers[f"none:{word}"]["control"] for word in words}


def test_float64_is_left_alone_by_autocast(drive: Drive, script: Script) -> None:
    found = control(drive, script, "x, model = x.double(), model.double()", "fp32", "amp-bf16", "amp-fp16")
    for word, name in {"fp32": "fp32", "amp-bf16": "bf16", "amp-fp16": "fp16"}.items():
        nothing = f"nothing was computed in {name}: the model's weights are float64"
        assert found[word]["nothing"] == nothing
        assert [place["what"] for place in found[word]["unfaithful"]] == [nothing]


def test_a_model_without_an_operation_that_autocast_lowers(drive: Drive, script: Script) -> None:
    found = control(drive, script, EMBEDDED, "fp32", "amp-bf16")
    assert found["fp32"]["nothing"] == ""
    assert found["amp-bf16"]["nothing"] == ("nothing was computed in bf16: no operation that autocast lowers ran in it")


@pytest.mark.parametrize(
    "before",
    [
        "",
        "model = nn.Sequential(nn.Linear(10, 12).double(), nn.Linear(12, 4))\n"
        "model.forward = lambda x: model[1](model[0](x.double()).float())",
        "model = torch.compile(model, backend='aot_eager')",
        FUNCTION,
        FROZEN,
    ],
    ids=["float32", "float64 in part", "compiled", "a function of its own", "a frozen body"],
)
def test_what_computes_in_it_or_cannot_be_looked_into_is_not_named(drive: Drive, script: Script, before: str) -> None:
    found = control(drive, script, before, "fp32", "amp-bf16")
    assert {word: answer["nothing"] for word, answer in found.items()} == {"fp32": "", "amp-bf16": ""}
    assert found["fp32"]["unfaithful"] == found["amp-bf16"]["unfaithful"] == []
