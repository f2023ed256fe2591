"""Loops of many kinds, injected and overridden: equal bit for bit to what is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Drive

MODEL = """
import torch
from by_hand import Scaler, region
from torch import nn
from torch.nn import functional as F

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(10, 12), nn.Linear(12, 4)
        self.mixing = nn.Parameter(torch.randn(10, 10) * 0.3)
    def forward(self, x):
        return self.second(F.relu(self.first(x @ self.mixing)))

torch.manual_seed(0)
x, y = torch.randn(16, 10), torch.randint(0, 4, (16,))
model = Model()
weights = list(model.parameters())
losses = []
scaler = Scaler()
optimizer = torch.optim.SGD(weights, lr=0.1)
"""
LOOPS = {
    "forward called by its name": """
for number in range(8):
    optimizer.zero_grad()
    with region():
        loss = F.cross_entropy(model.forward(x), y)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
    noise = (x @ x.T).sum()
    losses.append(noise)
""",
    "a loop in a thread": """
import threading
def work():
    for number in range(8):
        optimizer.zero_grad()
        with region():
            loss = F.cross_entropy(model(x), y)
        scaler.backward(loss)
        scaler.step(optimizer)
        losses.append(loss.detach())
t = threading.Thread(target=work)
t.start()
t.join()
losses.append((x @ x.T).sum())
""",
    "gradients of gradients, by functional_call": """
from torch.func import functional_call
for number in range(8):
    optimizer.zero_grad()
    fast = dict(model.named_parameters())
    for inner in range(2):
        with region():
            loss = F.cross_entropy(functional_call(model, fast, (x,)), y)
        grads = scaler.gradients(loss, list(fast.values()), create_graph=True)
        fast = {n: p - 0.1 * g for (n, p), g in zip(fast.items(), grads)}
    with region():
        outer = F.cross_entropy(functional_call(model, fast, (x.flip(0),)), y.flip(0))
    scaler.backward(outer)
    scaler.step(optimizer)
    losses += [loss.detach(), outer.detach()]
""",
    "phases": """
for number in range(8):
    for phase in ("train", "val"):
        model.train(phase == "train")
        optimizer.zero_grad()
        with torch.set_grad_enabled(phase == "train"):
            with region():
                out = model(x)
                if phase == "train":
                    loss = F.cross_entropy(out, y)
            if phase == "train":
                scaler.backward(loss)
                scaler.step(optimizer)
        losses.append(loss.detach())
        losses.append(out.float().sum().detach())
""",
    "two forwards and a loss of both, norms by hand": """
for number in range(8):
    optimizer.zero_grad()
    with region():
        a = model(x[:8])
        b = model(x[8:])
        loss = F.cross_entropy(torch.cat([a, b]), y) + (a @ b.T).float().pow(2).mean()
    scaler.backward(loss)
    with torch.no_grad():
        norm = sum((w.grad.float() @ w.grad.float().T).trace() for w in weights if w.dim() == 2)
    scaler.unscale(optimizer)
    scaler.step(optimizer)
    losses.append(loss.detach())
""",
    "a cell, unrolled": """
cell, head = nn.GRUCell(10, 6), nn.Linear(6, 4)
weights = [*cell.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(weights, lr=0.01)
state = torch.zeros(16, 6)
for number in range(8):
    optimizer.zero_grad()
    with region():
        loss = 0
        for part in range(3):
            state = cell(x, state)
            loss = loss + F.cross_entropy(head(state), y)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
    state = state.detach()
""",
    "a policy that acts": """
gen = torch.Generator().manual_seed(3)
for number in range(8):
    logs, rewards = [], []
    with region():
        for t in range(4):
            dist = torch.distributions.Categorical(logits=model(x[t:t+4]).float())
            action = dist.probs.argmax(-1)
            logs.append(dist.log_prob(action))
            rewards.append((action == y[t:t+4]).float())
        loss = -(torch.stack(logs) * torch.stack(rewards)).sum()
    optimizer.zero_grad()
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
""",
}
EQUAL = {"none:amp-bf16": "bf16:off", "none:amp-fp16": "fp16:off", "fp16:fp32": "none:off", "fp16:amp-bf16": "bf16:off"}


@pytest.mark.parametrize("name", LOOPS)
def test_bit_for_bit(drive: Drive, script: Callable[[str], Path], name: str) -> None:
    answers = drive(script(MODEL + LOOPS[name]), *EQUAL, *set(EQUAL.values()))
    for answer in answers.values():
        assert "error" not in answer, answer["error"]
    assert answers["none:off"]["losses"] != answers["bf16:off"]["losses"] != answers["fp16:off"]["losses"]
    for word, twin in EQUAL.items():
        assert answers[word]["losses"] == answers[twin]["losses"], word
        assert answers[word]["parameters"] == answers[twin]["parameters"], word
        assert answers[word]["control"]["unfaithful"] == [], word
