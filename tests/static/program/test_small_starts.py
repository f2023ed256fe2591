"""MPA101 where a network starts narrow, leaves next to nothing of small images, or is given a handful of these; and
which of two copies is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import NET, TRAIN, confidences, found

DEEP = NET.replace("nn.Conv2d(3, width, 3)", "nn.Sequential(*[nn.Conv2d(512, 512, 3) for _ in range(18)])")


@pytest.mark.parametrize(
    ("option", "default", "images", "confidence"),
    [
        ("--init_channels", 16, "imagenet", "possible"),
        ("--init-channels", 36, "cifar10", "possible"),
        ("--init-channels", 36, "imagenet", "likely"),
        ("--init_channels", 48, "cifar10", "likely"),
        ("--growth", 12, "imagenet", "possible"),
        ("--growth-rate", 24, "cifar100", "possible"),
        ("--channels", 3, "cifar10", "likely"),
        ("--layers", 16, "cifar10", "likely"),
    ],
)
def test_an_option_for_the_channels_to_begin_with(
    option: str, default: int, images: str, confidence: str, tmp_path: Path
) -> None:
    script = TRAIN.format(option="--dataset", default=images).replace(
        "    args = ", f"    parser.add_argument('{option}', type=int, default={default})\n    args = "
    )
    assert confidences(tmp_path, {"train.py": script, "net.py": DEEP}) == [confidence]


@pytest.mark.parametrize(
    ("option", "default", "images", "confidence"),
    [
        ("--batch_size", 10, "cifar10", "possible"),
        ("-b", 16, "cifar100", "possible"),
        ("--batch-size", 128, "cifar10", "likely"),
        ("--batch_size", 10, "imagenet", "likely"),
        ("--mem_batch_size", 10, "cifar10", "likely"),
    ],
)
def test_an_option_for_how_many_images_a_batch_holds(
    option: str, default: int, images: str, confidence: str, tmp_path: Path
) -> None:
    script = TRAIN.format(option="--dataset", default=images).replace(
        "    args = ", f"    parser.add_argument('{option}', type=int, default={default})\n    args = "
    )
    assert confidences(tmp_path, {"train.py": script, "net.py": DEEP}) == [confidence]


STOCK = """
import torch
import torchvision
from torch import nn
from torchvision import transforms as T
{imports}

class Net(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(512, 128)

    def forward(self, x):
        return self.head(self.backbone(x).flatten(1))

resnet = {made}
backbone = nn.Sequential(*list(resnet.children())[:-1])
model = Net(backbone).cuda()
transform = {transform}
data = torchvision.datasets.CIFAR10("data", transform=transform)
loader = torch.utils.data.DataLoader(data, 256)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    loss = model(x.cuda()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("imports", "made", "transform", "confidence"),
    [
        ("", "torchvision.models.resnet18()", "T.RandomCrop(32, padding=4)", "possible"),
        ("from views import Views", "torchvision.models.resnet18()", "Views(input_size=32)", "possible"),
        ("from torchvision.models import resnet34", "resnet34()", "T.RandomResizedCrop((32, 32))", "possible"),
        ("", "torchvision.models.resnet18()", "T.Resize(224)", "likely"),
        ("", "torchvision.models.resnet18()", "T.Resize(side)", "likely"),
        ("from views import Views", "torchvision.models.resnet18()", "Views()", "likely"),
        ("import models", "models.resnet18()", "T.RandomCrop(32, padding=4)", "likely"),
        ("from nets import resnet18", "resnet18()", "T.RandomCrop(32, padding=4)", "likely"),
        ("", "torchvision.models.vgg16()", "T.RandomCrop(32, padding=4)", "likely"),
    ],
)
def test_a_stock_resnet_on_small_images(
    imports: str, made: str, transform: str, confidence: str, tmp_path: Path
) -> None:
    script = STOCK.format(imports=imports, made=made, transform=transform)
    assert confidences(tmp_path, {"train.py": script}) == [confidence]


def test_a_resnet_that_was_made_fit_for_small_images(tmp_path: Path) -> None:
    script = STOCK.format(imports="", made="torchvision.models.resnet18()", transform="T.RandomCrop(32, padding=4)")
    script = script.replace("backbone = nn.Seq", "resnet.conv1 = nn.Conv2d(3, 64, 3)\nbackbone = nn.Seq")
    assert confidences(tmp_path, {"train.py": script}) == ["likely"]


COPIES = """
import copy
import torch
import torch.nn.functional as F
from net import Net

def main(loader):
    online = Net().cuda()
    net_momentum = copy.deepcopy(online)
    optimizer = torch.optim.Adam([*online.parameters(), *net_momentum.parameters()])
    for x, y in loader:
        a = net_momentum(x.cuda())
        b = online(y.cuda())
        loss = F.mse_loss(b, a)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_a_copy_that_follows_is_not_the_one_to_name(tmp_path: Path) -> None:
    lines = COPIES.splitlines()
    [(line, _)] = found(tmp_path, {"train.py": COPIES, "net.py": NET})
    assert "online(" in lines[line - 1]
