"""Contexts, scalers, flags and losses that come from elsewhere than where they are used; see shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES: dict[str, dict[str, str]] = {
    "a task whose tests leave mixed precision off, and whose scaler is one of two": {
        "task.py": """
import enum

from fairscale.optim.grad_scaler import ShardedGradScaler


class Amp(enum.Enum):
    APEX = enum.auto()
    PYTORCH = enum.auto()


class Task:
    def __init__(self):
        self.amp, self.scaler, self.optimizer, self.model = None, None, None, None

    def set_amp(self, args):
        self.amp = Amp[args["amp"].upper()]
        if self.amp == Amp.PYTORCH:
            if args["sharded"]:
                self.scaler = ShardedGradScaler()
            else:
                self.scaler = GradScaler("cuda")
        return self

    def set_optimizer(self, optimizer):
        self.optimizer = optimizer
        return self

    def set_model(self, model):
        self.model = model
        return self

    def train_step(self, x):
        with autocast("cuda", enabled=self.amp is not None):
            loss = self.model(x).mean()
        self.optimizer.zero_grad()
        if self.amp == Amp.PYTORCH:
            self.scaler.scale(loss).backward()
        else:
            loss.backward()
        if self.amp == Amp.PYTORCH:
            self.scaler.step(self.optimizer)
            self.scaler.step(self.optimizer)  # wrong MPA209
            self.scaler.update()
        else:
            self.optimizer.step()
""",
        "test/task_test.py": """
from task import Task


def test_a_step():
    model = nn.Linear(2, 2)
    task = Task().set_model(model).set_optimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    task.train_step(torch.rand(2, 2))


test_a_step()
""",
    },
    "an autocast for CUDA, or a context of the user's own": {
        "trainer.py": """
from contexts import dummy_context


class Trainer:
    def __init__(self, model, device: torch.device = torch.device("cuda")):
        self.device = device
        if self.device.type == "cuda":
            self.device = torch.device(type="cuda", index=0)
        self.model = model.to(self.device)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda") if self.device.type == "cuda" else None

    def train_step(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device.type, enabled=True) if self.device.type == "cuda" else dummy_context():
            loss = nn.functional.cross_entropy(self.model(x), y)
            loss.backward()  # wrong MPA103
        if self.scaler is not None:  # right
            self.scaler.scale(loss).backward()  # right
            self.scaler.step(self.optimizer)  # right
            self.scaler.update()  # right
        else:  # right
            loss.backward()  # right
            self.optimizer.step()  # right
        self.optimizer.step()  # wrong
""",
        "contexts.py": """
class dummy_context(object):
    def __enter__(self):
        pass

    def __exit__(self, *args):
        pass
""",
    },
    "an autocast out of a table, and a context that only tells the synchronisation": {
        "train.py": """
import contextlib


def main(args, model, loader, sharded):
    model = model.cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for number, x in enumerate(loader):
        optimizer.zero_grad()
        with {
            "bf16": autocast("cuda", dtype=torch.bfloat16),
            "mixed": autocast("cuda", dtype=torch.bfloat16),
            "fp32": contextlib.nullcontext(),
        }[args.precision]:
            loss = model(x)["loss"].sum()
            with model.no_sync() if sharded and number % 2 else contextlib.nullcontext():  # wrong
                loss.backward()  # wrong MPA103
        with model.no_sync() if sharded and number % 2 else contextlib.nullcontext():  # right
            loss.backward()  # right
        optimizer.step()
"""
    },
    "a loader of weights that gives a model, or a model and more": {
        "train.py": """
from settings import build, settings


def load(model, path, optimizer=None, mode=None):
    model.load_state_dict(torch.load(path)["model"])
    if mode == "resume":
        optimizer.load_state_dict(torch.load(path)["optimizer"])
        return model, 1, optimizer
    else:
        return model


def main(loader):
    model, ema = build()
    optimizer = torch.optim.Adam(model.parameters())
    if settings.pretrained:
        model = load(model, settings.pretrained)
    if settings.resume:
        model, start, optimizer = load(model, settings.pretrained, optimizer, "resume")
    scaler = GradScaler("cuda")
    for x in loader:
        model.zero_grad(set_to_none=True)
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.step(optimizer)  # wrong MPA209
        scaler.update()


main([])
"""
    },
    "a flag that only subclasses set": {
        "agents.py": """
class Agent:
    def __init__(self, config):
        self.config = config
        self.ready = False

    def train(self, model, loader):
        assert self.ready
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = GradScaler("cuda")
        for x in loader:
            optimizer.zero_grad()
            with autocast("cuda"):
                loss = model(x).mean()
            loss.backward()  # wrong MPA202
            scaler.scale(loss).backward()  # right
            scaler.step(optimizer)
            scaler.update()
""",
        "atari.py": """
from agents import Agent


class AtariAgent(Agent):
    def update_config(self):
        self.ready = True
""",
    },
    "a loss that a penalty is added to where there is one, in a manager of precision": {
        "train.py": """
class Manager:
    def __init__(self, activated):
        self.activated = activated
        if self.activated:
            self.scaler = GradScaler("cuda")

    def backward(self, loss):
        if self.activated:
            loss.backward(retain_graph=True)  # wrong
            self.scaler.scale(loss).backward()  # wrong MPA224
            self.scaler.scale(loss).backward()  # right
        else:
            loss.backward()

    def step(self, optimizer):
        if self.activated:
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad()


class Trainer:
    def __init__(self, config, forward, measure, parameters):
        self.config, self.forward, self.measure = config, forward, measure
        self.penalty = config["penalty"] if "penalty" in config else None
        self.optimizer = torch.optim.AdamW(parameters)

    def train(self, loader):
        manager = Manager(self.config["fp16"])
        for number, x in enumerate(loader):
            loss = self.measure(self.forward(x)).mean()
            if self.penalty is not None:
                if "train" in self.penalty:
                    loss += sum(self.penalty["train"](x))
            loss = loss / self.config.every
            manager.backward(loss)
            if number % self.config.every == 0:
                manager.step(self.optimizer)


def main(config, forward, measure, parameters, loader):
    Trainer(config, forward, measure, parameters).train(loader)


main(None, None, None, None, None)
"""
    },
    "names that come out of several stars": {
        "train.py": """
from torch.optim import *
from torch.optim.lr_scheduler import *
from tools import *


def main(loader, tests):
    model = nn.Linear(2, 2).cuda()
    optimizer, scaler = Adam(model.parameters()), GradScaler("cuda")
    stopper = EarlyStopping(patience=3)
    for epoch in range(10):
        if stopper.stop or len(tests) == 0:
            break
        for x in loader:
            optimizer.zero_grad()
            with autocast("cuda"):
                loss = model(x).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)  # right
            scaler.step(optimizer)  # wrong MPA204
            scaler.update()  # right
        stopper.step(measure(model, tests))


main([], [])
""",
        "tools.py": """
from stopping import *
""",
        "stopping.py": """
class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.bad, self.stop = patience, 0, False

    def step(self, metric):
        self.bad += 1
        self.stop = self.bad > self.patience
""",
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert reported(tmp_path, sources) == []
