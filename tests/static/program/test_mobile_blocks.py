"""MPA101: networks of blocks that convolve each channel by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import TRAIN, confidences

NET = """
from torch import nn

class {block}(nn.Module):
    def __init__(self, inp, oup, factor=2):
        super().__init__()
        hidden_dim = inp * factor
        self.body = nn.Sequential(
            nn.Conv2d(inp, hidden_dim, 1),
            nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim),
            nn.Conv2d(hidden_dim, oup, 1),
        )

    def forward(self, x):
        return self.body(x)

class Net(nn.Module):
    def __init__(self, stage_channels=(24, 48, 96, {widest})):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2)
        layers = []
        for a, b in zip(stage_channels, stage_channels[1:]):
            layers.append({block}(a, b))
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear({widest}, 10)

    def forward(self, x):
        return self.out(self.body(self.stem(x)).mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("block", "widest", "confidence"),
    [
        ("InvertedResidual", 192, "possible"),
        ("ShuffleV2Block", 160, "possible"),
        ("DWConv", 192, "possible"),
        ("InvertedResidual", 464, "likely"),
        ("Residual", 192, "likely"),
    ],
)
def test_blocks_of_networks_for_telephones(block: str, widest: int, confidence: str, tmp_path: Path) -> None:
    net = NET.format(block=block, widest=widest)
    script = TRAIN.format(option="--device", default="cuda")
    assert confidences(tmp_path, {"train.py": script, "net.py": net}) == [confidence]
