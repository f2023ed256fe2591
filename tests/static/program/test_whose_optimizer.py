"""Which optimizer a step is of: one of several that are made by name, one in a wrapper; see shapes.py for the form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

LOOP = """
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # right
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()
"""

SHAPES: dict[str, dict[str, str]] = {
    "one of several, one of them of a class that the function defines": {
        "train.py": """
def build(model, args):
    params = model.parameters()
    if args.optimizer == "adamw":
        return torch.optim.AdamW(params, lr=args.lr)
    if args.optimizer == "sgd":
        return torch.optim.SGD(params, lr=args.lr)
    if args.optimizer == "lars":
        try:
            class LARS(torch.optim.Optimizer):
                def __init__(self, params, lr):
                    super().__init__(params, {"lr": lr})

            return LARS(params, lr=args.lr)
        except Exception:
            return torch.optim.AdamW(params, lr=args.lr)
    raise ValueError(args.optimizer)


def train(args, loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = build(model, args)
"""
        + LOOP
    },
    "one that is asked of torch.optim by name": {
        "train.py": """
def build(model, cfg):
    params = []
    for key, value in model.named_parameters():
        params += [{"params": [value], "lr": cfg.LR}]
    if cfg.NAME == "SGD":
        optimizer = getattr(torch.optim, cfg.NAME)(params, momentum=0.9)
    elif cfg.NAME == "AdamW":
        optimizer = torch.optim.AdamW(params, lr=cfg.LR)
    else:
        optimizer = getattr(torch.optim, cfg.NAME)(params)
    return optimizer, torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=cfg.LR)


def train(cfg, loader):
    model = nn.Linear(8, 8).cuda()
    optimizer, optimizer_of_centres = build(model, cfg)
"""
        + LOOP
    },
    "an optimizer in an object of one's own that the scaler steps": {
        "train.py": """
class LayerDecay:
    def __init__(self, optimizer, rates):
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups
        for group, rate in zip(self.param_groups, rates):
            group["lr"] *= rate

    def step(self, *args, **kwargs):
        self.optimizer.step(*args, **kwargs)

    def zero_grad(self, *args, **kwargs):
        self.optimizer.zero_grad(*args, **kwargs)


def train(cfg, loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = LayerDecay(torch.optim.AdamW(model.parameters()), cfg["rates"])
"""
        + LOOP
    },
    "a schedule that gets the optimizer in each iteration": {
        "train.py": """
from schedules import Linear


def train(args, loader, total):
    model = nn.Linear(8, 8).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = Linear(args, total)
    scaler = GradScaler("cuda")
    for step, x in enumerate(loader):
        scheduler.step(step, optimizer)
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # MPA204
        scaler.update()  # right
        optimizer.zero_grad()
"""
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert [mark for mark in reported(tmp_path, sources) if mark[2] != "MPA101"] == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_reported_in_the_right_one(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert [mark for mark in reported(tmp_path, sources) if mark[2] != "MPA101"] == []
