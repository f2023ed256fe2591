"""Styles of training code that real repositories are written in, each right and wrong; see test_flow.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_flow import reported, variant

OBJECTS = {
    "objects through **kwargs": """
class Trainer:
    def __init__(self, *args, **kwargs):
        self.model = kwargs["model"]
        self.optimizer = kwargs["optimizer"]

    def train(self, loader):
        scaler = GradScaler("cuda")
        for x in loader:
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(self.optimizer)  # right
            self.optimizer.step()  # wrong MPA203
            scaler.update()


def main(loader):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Trainer(model=model, optimizer=optimizer).train(loader)
""",
    "objects out of a dict with get": """
def setup(model):
    return {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "scaler": GradScaler("cuda")}


def train(model, loader):
    state = setup(model)
    optimizer = state.get("optimizer")
    scaler = state.get("scaler", None)
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # MPA204
        scaler.update()  # right
""",
    "a dict unfolded into a call": """
def train(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()


def main(model, loader):
    given = dict(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    given["scaler"] = GradScaler("cuda")
    train(model, loader, **given)
""",
}

PROTOCOL = {
    "a raw step of unscaled gradients": """
def train(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):  # right
            optimizer.step()  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "a raw step where the norm was looked at": """
def train(model, loader, optimizer, scaler, limit):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if norm < limit:  # right
            optimizer.step()  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "a scaler for every micro-batch": """
def train(model, loader, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")  # right
    while steps:
        for x in loader:
            scaler = GradScaler("cuda")  # wrong MPA213
            with autocast("cuda"):
                loss = model(x).mean()
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        steps -= 1
""",
    "bfloat16 where there is a GPU, nothing elsewhere": """
from contextlib import nullcontext


def train(model, loader, device):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    context = nullcontext() if device == "cpu" else autocast("cuda", dtype=torch.float16)  # right
    context = nullcontext() if device == "cpu" else autocast("cuda", dtype=torch.bfloat16)  # wrong
    scaler = GradScaler("cuda")  # MPA215
    for x in loader:
        optimizer.zero_grad()
        with context:
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
}

SHAPES = {
    name: files if isinstance(files, dict) else {"train.py": files}
    for group in (OBJECTS, PROTOCOL)
    for name, files in group.items()
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert reported(tmp_path, sources) == []
