"""Weights moved by one unit in the last place, for the noise that a training has by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .conftest import Drive

MOVED = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2).half())
before = [weight.detach().clone() for weight in model.parameters()]
torch.optim.SGD(model.parameters(), lr=0.1)
torch.optim.AdamW(model.parameters(), lr=0.1)
losses, weights = [], [weight.float() for weight in model.parameters()]
for old, new in zip(before, model.parameters()):
    whole = torch.int32 if new.dtype == torch.float32 else torch.int16
    apart = (new.detach().view(whole).int() - old.view(whole).int()).abs().float()
    losses += [apart[old != 0].min(), apart[old != 0].max()]
"""


def test_each_value_once(drive: Drive, script: Callable[[str], Path]) -> None:
    answer = drive(script(MOVED), "none:fp32+perturb", "none:fp32")
    assert {float.fromhex(loss) for loss in answer["none:fp32+perturb"]["losses"]} == {1.0}
    assert {float.fromhex(loss) for loss in answer["none:fp32"]["losses"]} == {0.0}
    assert answer["none:fp32+perturb"]["control"]["moved"] == 4


def test_a_script_whose_weights_no_optimizer_takes_is_faithful(drive: Drive, script: Callable[[str], Path]) -> None:
    answer = drive(script("losses, weights = [], []"), "none:fp32+perturb")["none:fp32+perturb"]
    assert answer["control"]["unfaithful"] == []
    assert answer["control"]["moved"] == 0
