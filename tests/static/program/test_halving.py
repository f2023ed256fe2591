"""Weights that are made float16 under a scaler; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

LOOP = """
    for x, y in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
"""

SHAPES = {
    "parameters that a loop over the modules gathers, halved when the optimizer is there": """
def group(model):
    biases, weights = [], []
    for name, part in model.named_modules():
        if hasattr(part, "bias") and isinstance(part.bias, nn.Parameter):
            biases.append(part.bias)
        if hasattr(part, "weight") and isinstance(part.weight, nn.Parameter):
            weights.append(part.weight)
    return weights, biases


def main(loader, name):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).cuda()
    criterion = nn.CrossEntropyLoss()
    weights, biases = group(model)
    optimizer = {"adam": torch.optim.Adam(weights), "sgd": torch.optim.SGD(weights, lr=0.1)}[name]
    optimizer.add_param_group({"params": biases})
    scaler = GradScaler("cuda")
    model.half().train()  # wrong MPA221
    model.train()  # right
""" + LOOP,
    "groups of parameters that a network that is not in sight gives": """
from fields import Field


class Trainer:
    def __init__(self, model, make, options):
        self.model, self.options = model.cuda(), options
        self.optimizer = make(self.model)
        self.scaler = GradScaler("cuda")

    def fit(self, loader):
        self.model.train()
        self.model.half()  # wrong MPA221
        for x in loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.step(x)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def step(self, x):
        return self.model.render(x)["loss"] + self.model.density_loss() * self.options.weight


def main(options, loader):
    model = Field(options.bound)
    Trainer(model, lambda model: torch.optim.Adam(model.get_params(options.lr)), options).fit(loader)
""",
    "an optimizer that the function is given": """
def train(model, loader, optimizer, scaler):
    criterion = nn.CrossEntropyLoss()
    model.half().train()  # wrong MPA221
    model.train()  # right
""" + LOOP,
    "a criterion that the function is given too": """
def train(model, criterion, loader, optimizer, scaler):
    model.half().train()  # wrong MPA221
    model.train()  # right
    criterion.train()
""" + LOOP,
    "a network out of sight that is rounded to float16": """
from somewhere import build, rebuild


def main(loader, resumed):
    model = build().train()
    if resumed:
        model = rebuild()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    model.half()  # wrong MPA221
    model.half().float()  # right
    model.train()
""" + LOOP,
    "a selection of the parameters, halved when the optimizer has it or before": """
def main(loader):
    model = nn.Linear(2, 2).cuda()
    criterion = nn.CrossEntropyLoss()
    model.half()  # right
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    scaler = GradScaler("cuda")
    model.half()  # wrong MPA221
""" + LOOP,
}  # fmt: skip

SILENT = {
    "an optimizer that is made of what is not in sight after the network was halved": """
from somewhere import adapters_of


def main(loader):
    model = nn.Linear(2, 2).cuda().half()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(adapters_of(model), lr=0.1)
    scaler = GradScaler("cuda")
"""
    + LOOP,
    "a network that is asked what it thinks of an image that is trained": """
def main(perceptor, text, steps):
    image = torch.zeros(1, 3, 8, 8, device="cuda", requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=0.1)
    scaler = GradScaler("cuda")
    perceptor.half().eval()
    for step in range(steps):
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = perceptor(image).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "a frozen encoder beside a head whose parameters are not in sight": """
from somewhere import parameters_of


def main(encoder, head, loader):
    optimizer = torch.optim.Adam(parameters_of(head), lr=0.1)
    scaler = GradScaler("cuda")
    encoder.half().eval()
    for x, y in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = head(encoder(x)).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "a run in float16 throughout, which has no scaler": """
def main(model, loader, optimizer, pure):
    criterion = nn.CrossEntropyLoss()
    if pure:
        model.half()
    for x, y in loader:
        optimizer.zero_grad()
        if pure:
            loss = criterion(model(x.half()), y)
            loss.backward()
            optimizer.step()
        else:
            with autocast("cuda"):
                loss = criterion(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
""",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant({"train.py": SHAPES[shape]}, "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant({"train.py": SHAPES[shape]}, "right")
    assert reported(tmp_path, sources) == []


@pytest.mark.parametrize("shape", SILENT)
def test_what_may_be_meant_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant({"train.py": SILENT[shape]}, "right")
    assert reported(tmp_path, sources) == []
