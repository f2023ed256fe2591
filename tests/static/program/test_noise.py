"""MPA101 where a loop trains on random numbers that it makes itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import NET, confidences

SCRIPT = """
import torch
from net import Net
{imports}

if __name__ == "__main__":
    net = Net().cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    criterion = torch.nn.CrossEntropyLoss()
    size = 2
    for it in {rounds}:
        {x}
        {y}
        scores = net(x)
        loss = criterion(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(it, loss.item())
"""
X, Y = "x = torch.randn(size, 3, 224, 224).cuda()", "y = torch.randint(0, 9, (size,)).cuda()"


@pytest.mark.parametrize(
    ("imports", "rounds", "x", "y", "confidence"),
    [
        ("", "range(300000)", X, Y, "possible"),
        ("", "range(300000)", X, "y = (x.mean((1, 2, 3)) > 0).long()", "possible"),
        ("from data import loader", "loader", X, Y, "likely"),
        ("from data import batch", "range(300000)", X, "y = batch().cuda()", "likely"),
        ("from data import labels", "range(300000)", X, "y = labels[torch.randint(0, 9, (size,))].cuda()", "likely"),
        ("from data import images", "range(300000)", "x = images[it].cuda()", Y, "likely"),
        ("from data import images", "range(300000)", "x = images.cuda()", Y, "likely"),
    ],
)
def test_random_numbers_of_its_own(imports: str, rounds: str, x: str, y: str, confidence: str, tmp_path: Path) -> None:
    script = SCRIPT.format(imports=imports, rounds=rounds, x=x, y=y)
    assert confidences(tmp_path, {"train.py": script, "net.py": NET}) == [confidence]


def test_a_function_on_random_numbers(tmp_path: Path) -> None:
    script = SCRIPT.format(imports="", rounds="range(300000)", x=X, y=Y).replace(
        'if __name__ == "__main__":', "def compare():"
    )
    assert confidences(tmp_path, {"train.py": script, "net.py": NET}) == ["possible"]
