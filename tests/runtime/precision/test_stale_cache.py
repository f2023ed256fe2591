"""What a span must end for: a weight cache that is not cleared keeps the casts of the first step's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .conftest import Drive

STALE = """
from by_hand import STEPS
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(16, 12), torch.randint(0, 5, (16,))
model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses, weights = [], model.parameters()
region = torch.autocast("cpu", dtype=torch.bfloat16)
if {left_on}:
    region.__enter__()
for _ in range(STEPS):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    if {cleared}:
        torch.clear_autocast_cache()
    losses.append(loss.detach())
if {left_on}:
    region.__exit__(None, None, None)
"""


def test_losses_leave_at_the_second_step(drive: Drive, script: Callable[[str], Path]) -> None:
    def losses(left_on: bool, cleared: bool) -> list[str]:
        body = STALE.format(left_on=left_on, cleared=cleared)
        found: list[str] = drive(script(body), "none:off")["none:off"]["losses"]
        return found

    right, stale = losses(left_on=False, cleared=False), losses(left_on=True, cleared=False)
    assert right[0] == stale[0]
    assert all(a != b for a, b in zip(right[1:], stale[1:], strict=True))
    assert stale == losses(left_on=True, cleared=False)
    assert losses(left_on=True, cleared=True) == right
