"""What must be known of a network and its data before MPA101 is sure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import NET, TRAIN, confidences


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("torch.set_float32_matmul_precision('high' if args.fast else 'highest')", []),
        ("torch.set_float32_matmul_precision(args.precision)", []),
        ("torch.set_float32_matmul_precision('highest')", ["likely"]),
    ],
)
def test_a_precision_that_the_user_chooses(statement: str, expected: list[str], tmp_path: Path) -> None:
    script = TRAIN.format(option="--rate", default="1").replace(
        "args = parser.parse_args()", f"args = parser.parse_args()\n    {statement}"
    )
    assert confidences(tmp_path, {"train.py": script, "net.py": NET}) == expected


FITTED = """
import torch

class Shapes:
    def __init__(self, model, device="cuda"):
        self.model = model.to(device)
        self.device = device

    def refine(self, corners, code):
        points = torch.nn.Parameter(torch.FloatTensor(corners).to(self.device).clone())
        optimizer = torch.optim.RMSprop([points], lr=1e-4)
        for _ in range(100):
            optimizer.zero_grad()
            loss = self.model.decode(points, code).pow(2).mean()
            loss.backward()
            optimizer.step()
        return points
"""


@pytest.mark.parametrize("parameters", ["[points]", "self.model.parameters()"])
def test_a_parameter_that_is_made_by_hand_is_no_network(parameters: str, tmp_path: Path) -> None:
    expected = [] if parameters == "[points]" else ["likely"]
    assert confidences(tmp_path, {"shapes.py": FITTED.replace("[points]", parameters)}) == expected


DENSE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.ReLU())
        self.out = nn.Linear(width, 10)
        self.apply(start)

    def forward(self, x):
        return self.out(self.body(x))

def start(layer):
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        nn.init.normal_(layer.weight)
    elif isinstance(layer, nn.Conv1d):
        nn.init.zeros_(layer.weight)
"""


def test_a_layer_that_is_only_asked_for_is_none_of_the_network(tmp_path: Path) -> None:
    script = TRAIN.format(option="--rate", default="1")
    assert confidences(tmp_path, {"train.py": script, "net.py": DENSE}) == ["possible"]


STANDS_ON = """
from torch import nn

class Head(nn.Module):
    def __init__(self, {parameter}, classes=10):
        super().__init__()
        self.{parameter} = {parameter}
        self.out = nn.Linear(100, classes)

    def forward(self, x):
        return self.out(self.{parameter}(x))
"""
ON = """
import torch
import torch.nn.functional as F
import torchvision.models as models
from net import Head

def main(args, loader):
    net = Head(models.__dict__[args.arch]()).cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        loss = F.cross_entropy(net(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("parameter", "expected"), [("backbone", "likely"), ("activation", "possible")])
def test_a_head_on_what_it_is_handed(parameter: str, expected: str, tmp_path: Path) -> None:
    files = {"train.py": ON, "net.py": STANDS_ON.format(parameter=parameter)}
    assert confidences(tmp_path, files) == [expected]


def test_a_head_on_a_language_model_that_it_is_handed(tmp_path: Path) -> None:
    head = STANDS_ON.replace("nn.Linear(100, classes)", "BertHead(classes)").format(parameter="encoder")
    script = ON.replace("import torchvision.models as models", "from transformers import AutoModel").replace(
        "models.__dict__[args.arch]()", "AutoModel.from_pretrained(args.name)"
    )
    files = {"train.py": script, "net.py": head + "\nclass BertHead(nn.Linear):\n    pass\n"}
    assert confidences(tmp_path, files) == ["likely"]


BESIDE = """
from torch import nn

class Wide(nn.Module):
    def __init__(self):
        self.a = nn.Conv2d(3, 512, 3)
"""
THROUGH = """
from torch import nn

class Net(nn.Module):
    def __init__(self, widths=(64, 64)):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width) for width in widths])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
"""


@pytest.mark.parametrize("through", [THROUGH, THROUGH.replace("layer(x)", "self.layer(layer(x))")])
def test_a_layer_that_the_input_goes_through_hides_nothing(through: str, tmp_path: Path) -> None:
    script = TRAIN.format(option="--rate", default="1").replace(
        "from net import Net", "from net import Net\nimport wide"
    )
    files = {"train.py": script, "net.py": through, "wide.py": BESIDE}
    assert confidences(tmp_path, files) == ["possible"]


def test_a_block_of_the_project_hides_nothing(tmp_path: Path) -> None:
    dense = THROUGH.replace("[nn.Linear(width, width) for width in widths]", "[Cross(width) for width in widths]")
    dense += "\nclass Cross(nn.Module):\n    def __init__(self, width):\n        self.a = nn.Linear(width, width)\n"
    script = TRAIN.format(option="--rate", default="1").replace(
        "from net import Net", "from net import Net\nimport wide"
    )
    assert confidences(tmp_path, {"train.py": script, "net.py": dense, "wide.py": BESIDE}) == ["possible"]
