"""A scaler that only multiplies: with Adam, which divides a constant factor out, that is no defect."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.settings import Settings
from mpaudit.static.run import lint

TEXT = """
import torch

def train(net, loader):
    net = net.cuda()
    optimizer = torch.optim.Adam(net.parameters())
    scaler = torch.cuda.amp.GradScaler({scale})
    for x in loader:
        optimizer.zero_grad()
        scaler.scale(net(x).mean()).backward()
        optimizer.step()
        {after}
"""


@pytest.mark.parametrize(
    ("scale", "after", "found"),
    [
        ("2**10", "", []),
        ("init_scale=1024.0", "", []),
        ("", "", ["MPA203"]),
        ("2**10", "scaler.update()", ["MPA203"]),
    ],
)
def test_a_raw_step_of_gradients_times_a_constant(scale: str, after: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(TEXT.format(scale=scale, after=after), encoding="utf-8")
    audit = lint(["."], Settings(root=str(tmp_path), codes=("MPA203",)), cwd=tmp_path, jobs=1, use_cache=False)
    assert [finding.code for finding in audit.findings] == found
