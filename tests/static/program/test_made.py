"""MPA101: a call that makes a network is no forward of one."""

from __future__ import annotations

from pathlib import Path

from mpaudit.settings import Settings
from mpaudit.static.run import lint

NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, pretrained, classes):
        super().__init__()
        self.body = nn.Sequential(*[nn.Conv2d(512, 512, 3) for _ in range(8)])

    def forward(self, x):
        return self.body(x)
"""
CHOSEN = """
import argparse

import torch
import torch.nn.functional as F
import nets

parser = argparse.ArgumentParser()
parser.add_argument("--network", default=nets.Net)
args = parser.parse_args()

def train(net, loader, optimizer):
    for x, y in loader:
        loss = F.mse_loss(net(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

net = args.network(pretrained=True, classes=args.classes).to("cuda")
optimizer = torch.optim.Adam(net.parameters())
train(net, torch.load("data.pt"), optimizer)
"""


def test_a_call_that_gives_what_is_used_as_a_network_is_no_forward(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    (tmp_path / "train.py").write_text(CHOSEN, encoding="utf-8")
    audit = lint(["."], Settings(root=str(tmp_path), codes=("MPA101",)), cwd=tmp_path, use_cache=False)
    assert [finding.line for finding in audit.findings] == [14]
