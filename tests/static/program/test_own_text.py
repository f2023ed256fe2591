"""MPA101: what a network's own text says of it comes before what the files around it hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.model import Confidence
from mpaudit.settings import Settings
from mpaudit.static.run import lint
from tests.static.program.shapes import TOLD

TRAIN = """
import torch
import torch.nn.functional as F
from nets import Net{others}

def main(loader):
    net = Net().cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        loss = F.mse_loss(net(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
NET = """
import torch
from torch import nn

def unit(width):
    return nn.Conv2d(width, width, 3, padding=1)

class Deep(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.body(x)

class Net(nn.Module):
    def __init__(self, width={width}):
        super().__init__()
        {layers}

    def forward(self, x):
        return self.last(self.body(self.first(x)))
"""
FEW = """
        self.first = nn.Conv2d(3, width, 9, padding=4)
        self.body = nn.Conv2d(width, width, 5, padding=2)
        self.last = nn.Conv2d(width, 3, 5, padding=2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight)
""".strip()
LOOP = FEW.replace("nn.Conv2d(width, width, 5, padding=2)", "nn.Sequential(*[unit(width) for _ in range(18)])")
LISTED = FEW.replace(
    "nn.Conv2d(width, width, 5, padding=2)",
    "nn.Sequential(" + ", ".join(["nn.Conv2d(width, width, 3, padding=1)"] * 4) + ")",
)
BLOCKS = LISTED.replace("nn.Conv2d(width, width, 3, padding=1)", "Deep(width)")


def found(folder: Path, files: dict[str, str]) -> list[tuple[int, str]]:
    (folder / ".git").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text + TOLD, encoding="utf-8")
    settings = Settings(root=str(folder), codes=("MPA101",), min_confidence=Confidence.POSSIBLE)
    audit = lint(["."], settings, cwd=folder, use_cache=False)
    return [(finding.line, finding.confidence.value) for finding in audit.findings]


@pytest.mark.parametrize(
    ("layers", "width", "confidence"),
    [
        (FEW, 192, "possible"),
        (FEW, 512, "likely"),
        (LOOP, 192, "likely"),
        (LISTED, 192, "likely"),
        (BLOCKS, 192, "likely"),
        (LOOP, 128, "possible"),
        (LOOP, 96, "possible"),
        (BLOCKS, 64, "possible"),
    ],
)
def test_how_wide_convolutions_have_to_be_by_how_many_there_are(
    layers: str, width: int, confidence: str, tmp_path: Path
) -> None:
    files = {"nets.py": NET.format(layers=layers, width=width), "train.py": TRAIN.format(others="")}
    assert found(tmp_path, files) == [(10, confidence)]


@pytest.mark.parametrize(("width", "confidence"), [(64, "possible"), (512, "likely")])
def test_a_wide_network_beside_makes_no_handful_wide(width: int, confidence: str, tmp_path: Path) -> None:
    beside = "\n\nclass Other(nn.Module):\n    def __init__(self):\n        self.body = nn.Conv2d(512, 1024, 3)\n"
    files = {"nets.py": NET.format(layers=FEW, width=width) + beside, "train.py": TRAIN.format(others=", Other")}
    assert found(tmp_path, files) == [(10, confidence)]


KEPT = """
from torch import nn

class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(512, 512)

    def forward(self, x):
        return self.body(x)

class Net(nn.Module):
    def __init__(self{given}):
        super().__init__()
        inception_ffs = []
        inception_ffs.append(nn.Linear(512, 512))
        self.resnet = {made}
        self.after = nn.Sequential(*inception_ffs)

    def forward(self, x):
        return self.after(self.resnet(x))
"""


@pytest.mark.parametrize(
    ("given", "made", "confidence"),
    [("", "Stack()", "possible"), (", resnet=None", "resnet", "likely"), ("", "models.resnet18()", "likely")],
)
def test_what_a_class_has_made_itself_is_what_made_it(given: str, made: str, confidence: str, tmp_path: Path) -> None:
    net = KEPT.format(given=given, made=made).replace("import nn\n", "import nn\nfrom torchvision import models\n")
    assert found(tmp_path, {"nets.py": net, "train.py": TRAIN.format(others="")}) == [(10, confidence)]


DATA = """
from torchvision import datasets

def get_data(name):
    return datasets.CIFAR100("data") if name == "cifar100" else datasets.ImageFolder(name)
"""


@pytest.mark.parametrize(("line", "confidence"), [("", "possible"), ("    net.width = 192\n", "likely")])
def test_convolutions_of_which_nothing_says_how_wide_they_are(line: str, confidence: str, tmp_path: Path) -> None:
    net = NET.format(layers=LISTED, width=0).replace("width=0", "width")
    files = {"nets.py": net, "train.py": TRAIN.format(others="").replace("Net()", "Net(loader.width)")}
    files["train.py"] = files["train.py"].replace("    optimizer =", line + "    optimizer =")
    assert [confidence for _, confidence in found(tmp_path, files)] == [confidence]


@pytest.mark.parametrize(("data", "confidence"), [("cifar100", "possible"), ("imagenet", "likely")])
def test_small_images_by_default(data: str, confidence: str, tmp_path: Path) -> None:
    head = f"""
import argparse
from data import get_data

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="{data}")
"""
    train = TRAIN.format(others="").replace("Net()", "make(loader)()")
    files = {"nets.py": NET.format(layers=LOOP, width=96), "data.py": DATA, "train.py": head + train}
    assert [confidence for _, confidence in found(tmp_path, files)] == [confidence]


@pytest.mark.parametrize(("line", "confidence"), [("", "possible"), ("    net.width = 96\n", "likely")])
def test_that_widths_grow_says_nothing_of_how_wide_they_are(line: str, confidence: str, tmp_path: Path) -> None:
    listed = LISTED.replace("nn.Conv2d(width, width, 3, padding=1)", "nn.Conv2d(width, 2 * width, 3, padding=1)")
    net = NET.format(layers=listed, width=0).replace("width=0", "width")
    files = {"nets.py": net, "train.py": TRAIN.format(others="").replace("Net()", "Net(loader.width)")}
    files["train.py"] = files["train.py"].replace("    optimizer =", line + "    optimizer =")
    assert [confidence for _, confidence in found(tmp_path, files)] == [confidence]
