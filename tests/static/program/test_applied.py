"""`data_parallel(module, inputs)` is a forward of the module that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.settings import Settings
from mpaudit.static.run import lint

SCRIPT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*[nn.Conv2d(512, 512, 3) for _ in range(8)])

    def forward(self, x, scale):
        return self.body(x) * scale

def train(loader):
    net = Net().cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        out = {call}
        loss = nn.functional.mse_loss(out, y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    "call",
    [
        "net(x.cuda(), 2.0)",
        "nn.parallel.data_parallel(net, (x.cuda(), 2.0), [0, 1])",
        "nn.parallel.data_parallel(module=net, inputs=x.cuda(), module_kwargs={{'scale': 2.0}})",
    ],
)
def test_it_is_where_the_module_computes(call: str, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(SCRIPT.format(call=call), encoding="utf-8")
    audit = lint(["."], Settings(root=str(tmp_path), codes=("MPA101",)), cwd=tmp_path, use_cache=False)
    assert [finding.line for finding in audit.findings] == [17]
