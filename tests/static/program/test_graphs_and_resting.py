"""MPA101: graph networks, and training that stays on the CPU unless somebody hands it another device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import NET, confidences

LOOP = """
import torch
import torch.nn.functional as F

def epoch(net, loader, optimizer, device):
    for graphs, y in loader:
        loss = F.cross_entropy(net(graphs.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
MAIN = """
import torch
{library}
from loop import epoch
from zoo import make

def main(args, loader):
    net = make(args.name).cuda()
    optimizer = torch.optim.Adam(net.parameters())
    epoch(net, loader, optimizer, torch.device("cuda"))
"""
ZOO = """
from torch import nn

class Dense(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return self.mix(x)

KINDS = {"dense": Dense}

def make(name):
    return KINDS[name]()
"""


@pytest.mark.parametrize(
    ("library", "confidence"),
    [("import dgl", "possible"), ("from torch_geometric.data import Batch", "possible"), ("import json", "likely")],
)
def test_a_script_that_imports_a_library_of_graphs(library: str, confidence: str, tmp_path: Path) -> None:
    files = {"main.py": MAIN.format(library=library), "loop.py": LOOP, "zoo.py": ZOO}
    assert confidences(tmp_path, files) == [confidence]


def test_graphs_are_what_the_data_come_from(tmp_path: Path) -> None:
    main = MAIN.format(library="from data import load")
    files = {"main.py": main, "loop.py": LOOP, "zoo.py": ZOO, "data.py": "import dgl\n\ndef load(): ...\n"}
    assert confidences(tmp_path, files) == ["possible"]


def test_images_beside_a_library_of_graphs(tmp_path: Path) -> None:
    main = MAIN.format(library="import dgl").replace("from zoo import make", "from net import Net")
    files = {"main.py": main.replace("make(args.name)", "Net()"), "loop.py": LOOP, "net.py": NET}
    assert confidences(tmp_path, files) == ["likely"]


TRAINER = """
import torch
import torch.nn.functional as F
from net import Net

class Trainer:
    def __init__(self, net, device="cpu"):
        if device == "cpu":
            self.device = torch.device("cpu")
        elif torch.cuda.is_available():
            self.device = torch.device(device)
        self.net = net.to(self.device)
        self.optimizer = torch.optim.Adam(net.parameters())

    def fit(self, loader):
        for x, y in loader:
            loss = F.cross_entropy(self.net(x.to(self.device)), y.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
"""
FUNCTION = """
import torch
import torch.nn.functional as F
from net import Net

def fit(net, loader, device="cpu"):
    device = torch.device("cpu") if device == "cpu" else torch.device("cuda")
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        loss = F.cross_entropy(net(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
CALLS = [
    ("Trainer(Net())", "possible"),
    ('Trainer(Net(), device="cpu")', "possible"),
    ('Trainer(Net(), device="cuda")', "likely"),
    ("Trainer(Net(), args.device)", "likely"),
    ('Trainer(Net(), torch.device("cuda"))', "likely"),
    ("Trainer(Net(), **settings)", "likely"),
    ("kinds[name](Net(), device=device)", "likely"),
    ("other(Net(), device=device)", "possible"),
]


@pytest.mark.parametrize(("call", "confidence"), CALLS)
def test_a_class_that_stays_on_the_cpu_by_default(call: str, confidence: str, tmp_path: Path) -> None:
    script = f"from net import Net\nfrom trainer import Trainer\n\ndef make(args):\n    return {call}\n"
    assert set(confidences(tmp_path, {"trainer.py": TRAINER, "main.py": script, "net.py": NET})) == {confidence}


def test_a_default_that_is_not_the_cpu(tmp_path: Path) -> None:
    files = {"trainer.py": TRAINER.replace('device="cpu"', 'device="cuda"', 1), "net.py": NET}
    assert confidences(tmp_path, files) == ["likely"]


def test_a_function_that_goes_to_cuda_whatever_it_is_told(tmp_path: Path) -> None:
    text = FUNCTION.replace("net.to(device)", "net.cuda()")
    assert confidences(tmp_path, {"training.py": text, "net.py": NET}) == ["likely"]


@pytest.mark.parametrize(("call", "confidence"), [("fit", "possible"), ("fit(net, batches, dev)", "likely")])
def test_a_function_that_stays_on_the_cpu_by_default(call: str, confidence: str, tmp_path: Path) -> None:
    script = f"from net import Net\nfrom training import fit\n\ndef start(net, dev, batches):\n    return {call}\n"
    assert set(confidences(tmp_path, {"training.py": FUNCTION, "main.py": script, "net.py": NET})) == {confidence}
