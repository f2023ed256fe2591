"""Code that runs elsewhere than it stands: lambdas, generators, what a context manager does when it is left; and
objects of classes that write no `__init__`. As in shapes.py: each program right, and wrong where it is marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

LAMBDAS = {
    "a local lambda": """
def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    back = lambda loss: scaler.scale(loss).backward()  # right
    back = lambda loss: loss.backward()  # wrong MPA202
    for batch in loader:
        optimizer.zero_grad()
        back(model(batch).mean())
        scaler.step(optimizer)
        scaler.update()
""",
    "a lambda at the top": """
model = nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = GradScaler("cuda")
back = lambda loss: scaler.scale(loss).backward()


def train(loader):
    for batch in loader:
        optimizer.zero_grad()
        back(model(batch).mean())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()


train([])
""",
    "a lambda that steps, as an argument": """
def each(loader, model, optimizer, scaler, step):
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        step()
        scaler.update()


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    each(loader, model, optimizer, scaler, lambda: scaler.step(optimizer))  # right
    each(loader, model, optimizer, scaler, lambda: optimizer.step())  # wrong MPA203
""",
    "a lambda on self": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")
        self.update = lambda: self.scaler.update()

    def train(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            self.scaler.scale(self.model(batch).mean()).backward()
            self.scaler.step(self.optimizer)  # MPA204
            self.update()  # right
""",
    "a lambda that makes the autocast": """
import torch.nn.functional as F


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    amp = lambda: autocast("cuda")
    for batch, target in loader:
        optimizer.zero_grad()
        with amp():
            loss = F.binary_cross_entropy_with_logits(model(batch), target)  # right
            loss = F.binary_cross_entropy(model(batch), target)  # wrong MPA112
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "two lambdas of one function": """
def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    back, step = lambda loss: scaler.scale(loss).backward(), lambda: scaler.step(optimizer)
    for batch in loader:
        optimizer.zero_grad()
        back(model(batch).mean())
        step()  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
}

FIELDS = {
    "a dataclass by position": """
from dataclasses import dataclass


@dataclass
class Tools:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: GradScaler


def run(tools, loader):
    for batch in loader:
        tools.optimizer.zero_grad()
        tools.scaler.scale(tools.model(batch).mean()).backward()
        torch.nn.utils.clip_grad_norm_(tools.model.parameters(), 1.0)  # wrong MPA205
        tools.scaler.step(tools.optimizer)
        tools.scaler.update()


def train(model, loader):
    run(Tools(model, torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda")), loader)
""",
    "a dataclass by keyword, with defaults and a class variable": """
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Base:
    count: ClassVar[int] = 0
    model: nn.Module


@dataclass(frozen=True)
class Tools(Base):
    optimizer: torch.optim.Optimizer
    enabled: bool = True
    names: list = field(default_factory=list)
    scaler: GradScaler = None

    def step(self, loss):
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)  # MPA204
        self.scaler.update()  # right


def train(model, loader):
    tools = Tools(model, torch.optim.SGD(model.parameters(), lr=0.1), scaler=GradScaler("cuda"))
    for batch in loader:
        tools.optimizer.zero_grad()
        tools.step(tools.model(batch).mean())
""",
    "a dataclass that finishes itself": """
from dataclasses import dataclass


@dataclass
class Tools:
    model: nn.Module

    def __post_init__(self):
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")


def train(model, loader):
    tools = Tools(model)
    for batch in loader:
        tools.optimizer.zero_grad()
        tools.scaler.scale(tools.model(batch).mean()).backward()
        tools.scaler.step(tools.optimizer)  # right
        tools.optimizer.step()  # wrong MPA203
        tools.scaler.update()
""",
    "a NamedTuple, by name and unpacked": """
from typing import NamedTuple


class Tools(NamedTuple):
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: GradScaler


def build(model):
    return Tools(model, torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda"))


def train(model, loader):
    tools = build(model)
    net, opt, grad_scaler = tools
    for batch in loader:
        tools.optimizer.zero_grad()
        tools.scaler.scale(net(batch).mean()).backward()
        grad_scaler.unscale_(tools[1])  # right
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # wrong MPA205
        grad_scaler.step(opt)
        grad_scaler.update()
""",
    "attrs": """
import attr


@attr.s(auto_attribs=True)
class Tools:
    optimizer: torch.optim.Optimizer
    scaler: GradScaler


def train(model, loader):
    tools = Tools(torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda"))
    for batch in loader:
        tools.optimizer.zero_grad()
        tools.scaler.scale(model(batch).mean()).backward()
        tools.scaler.step(tools.optimizer)  # right
        tools.optimizer.step()  # wrong MPA203
        tools.scaler.update()
""",
}

DICTS = {
    "a dict made by keywords, changed, and passed on": """
class Config:
    def __init__(self, lr, steps):
        assert steps is not None
        self.lr, self.steps, self.device = lr, steps, torch.device("cuda")


def train(model, loader):
    given = dict(lr=0.1, steps=None)
    given["steps"] = 3 if given["steps"] is None else given["steps"]
    config = Config(**given)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    scaler = GradScaler("cuda")
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "a dict display, asked and passed on": """
def step(loss, optimizer, scaler):
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)  # wrong MPA205
    scaler.step(optimizer)
    scaler.update()


def train(model, loader):
    optimizer = torch.optim.SGD([{"params": model.parameters()}], lr=0.1)
    tools = {"optimizer": optimizer, "scaler": GradScaler("cuda", enabled=False)}  # right
    tools = {"optimizer": optimizer, "scaler": GradScaler("cuda")}  # wrong
    for batch in loader:
        tools.get("optimizer").zero_grad()
        step(model(batch).mean(), **tools)
""",
}

MANAGERS = {
    "steps after the yield": """
from contextlib import contextmanager


@contextmanager
def stepping(optimizer, scaler):
    optimizer.zero_grad()
    yield
    scaler.step(optimizer)  # MPA204
    scaler.update()  # right


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        with stepping(optimizer, scaler):
            scaler.scale(model(batch).mean()).backward()
""",
    "a block that clips": """
import contextlib


@contextlib.contextmanager
def stepping(optimizer, scaler):
    optimizer.zero_grad()
    try:
        yield scaler
    finally:
        scaler.step(optimizer)
        scaler.update()


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        with stepping(optimizer, scaler) as s:
            s.scale(model(batch).mean()).backward()
            s.unscale_(optimizer)  # right
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
""",
    "a block that is left early": """
import contextlib


@contextlib.contextmanager
def stepping(optimizer, scaler):
    optimizer.zero_grad()
    yield
    scaler.step(optimizer)
    scaler.update()


def one(model, batch, optimizer, scaler):
    with stepping(optimizer, scaler):
        scaler.scale(model(batch).mean()).backward()
        return True


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        one(model, batch, optimizer, scaler)
        scaler.update()  # wrong MPA210
    for batch in loader:
        with stepping(optimizer, scaler):
            scaler.scale(model(batch).mean()).backward()
            if batch is None:
                continue
            print(batch)
""",
    "an autocast or none": """
import contextlib


@contextlib.contextmanager
def precision(amp):
    if amp:
        with autocast("cuda"):
            yield
    else:
        yield


def train(model, loader, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=amp)
    for batch in loader:
        optimizer.zero_grad()
        with precision(amp):
            loss = model(batch).mean()
            scaler.scale(loss).backward()  # wrong MPA103
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)
        scaler.update()
""",
    "an object that steps when it is left": """
class Stepping:
    def __init__(self, optimizer, scaler):
        self.optimizer = optimizer
        self.scaler = scaler

    def __enter__(self):
        self.optimizer.zero_grad()
        return self

    def __exit__(self, *what):
        self.scaler.step(self.optimizer)  # MPA204
        self.scaler.update()  # right


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        with Stepping(optimizer, scaler) as stepping:
            stepping.scaler.scale(model(batch).mean()).backward()
""",
    "two in one with": """
from contextlib import contextmanager


@contextmanager
def stepping(optimizer, scaler):
    yield
    scaler.step(optimizer)  # right
    optimizer.step()  # wrong MPA203
    scaler.update()


@contextmanager
def zeroing(optimizer):
    optimizer.zero_grad()
    yield


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        with zeroing(optimizer), stepping(optimizer, scaler):
            scaler.scale(model(batch).mean()).backward()
""",
}

GENERATORS = {
    "a loop over a generator that steps": """
def stepping(loader, optimizer, scaler):
    for batch in loader:
        optimizer.zero_grad()
        yield batch
        scaler.step(optimizer)  # MPA204
        scaler.update()  # right


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in stepping(loader, optimizer, scaler):
        scaler.scale(model(batch).mean()).backward()
""",
    "training as a generator": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def losses(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            loss = self.model(batch).mean()
            self.scaler.scale(loss).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # wrong MPA205
            self.scaler.step(self.optimizer)
            self.scaler.update()
            yield loss.item()


def main(model, loader):
    trainer = Trainer(model)
    for i, loss in enumerate(trainer.losses(loader)):
        print(i, loss)
        if loss < 1:
            break
""",
    "yield from, run to its end by a list": """
def epoch(model, loader, optimizer, scaler):
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
        yield batch


def epochs(model, loader, optimizer, scaler):
    for number in range(10):
        yield from epoch(model, loader, optimizer, scaler)


def main(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return list(epochs(model, loader, optimizer, GradScaler("cuda")))
""",
    "a generator that nobody is seen to use": """
def steps(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.step(optimizer)  # MPA204
        scaler.update()  # right
        yield batch
""",
    "a generator that is asked for the next": """
def stepping(loader, optimizer, scaler):
    while True:
        yield
        scaler.step(optimizer)
        scaler.update()


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    steps = stepping(loader, optimizer, scaler)
    next(steps)
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        next(steps)
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.step(optimizer)  # MPA204
        scaler.update()  # right
""",
    "autocast held open by a generator": """
def batches(loader):
    with autocast("cuda"):
        for batch in loader:
            yield batch


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:  # right
    for batch in batches(loader):  # wrong
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()  # MPA103
        scaler.step(optimizer)
        scaler.update()
""",
}

DECORATORS = {
    "a decorator that unscales": """
def unscaled(function):
    def inner(scaler, optimizer, model):
        scaler.unscale_(optimizer)
        return function(scaler, optimizer, model)

    return inner


@unscaled  # right
def finish(scaler, optimizer, model):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
    scaler.step(optimizer)
    scaler.update()


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(batch).mean()
        scaler.scale(loss).backward()
        finish(scaler, optimizer, model)
""",
    "autocast by a decorator of the project's own": """
import functools


def amp(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        with autocast("cuda"):
            return function(*args, **kwargs)

    return inner


@amp
def forward(model, batch):
    return model(batch).mean()


@amp  # wrong
def backward(scaler, loss):
    scaler.scale(loss).backward()  # wrong MPA103
    scaler.scale(loss).backward()  # right


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        optimizer.zero_grad()
        backward(scaler, forward(model, batch))
        scaler.step(optimizer)
        scaler.update()
""",
    "autocast by a decorator that takes an argument": """
def amp(dtype):
    def wrap(function):
        def inner(*args, **kwargs):
            with autocast("cuda", dtype=dtype):
                return function(*args, **kwargs)

        return inner

    return wrap


@amp(torch.float16)  # wrong
@amp(torch.bfloat16)  # right
def forward(model, batch):
    return model(batch).mean()


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader:
        optimizer.zero_grad()
        forward(model, batch).backward()  # wrong MPA201
        forward(model, batch).backward()  # right
        optimizer.step()
""",
    "decorated methods": """
def under_amp(method):
    def inner(self, *args):
        with autocast("cuda", dtype=self.dtype):
            return method(self, *args)

    return inner


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.dtype = torch.float16  # wrong
        self.dtype = torch.bfloat16  # right

    @under_amp
    def loss(self, batch):
        return self.model(batch).mean()

    def fit(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            self.loss(batch).backward()  # wrong MPA201
            self.loss(batch).backward()  # right
            self.optimizer.step()


def main(model, loader):
    Trainer(model).fit(loader)
""",
}

HOOKS = {
    "a method that is there to be overridden": """
class Base:
    def optimizer_of(self):
        step_after = "batch"
        return

    def prepare(self):
        self.scaler = GradScaler("cuda")
        self.optimizer = self.optimizer_of()

    def step(self, batch):
        self.optimizer.zero_grad()
        with autocast("cuda"):
            loss = self.model(batch).mean()
        self.scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # wrong MPA205
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def fit(self, loader):
        self.prepare()
        for batch in loader:
            self.step(batch)
""",
}

HOOKS["a method that is there to be overridden, its body in a function"] = (
    HOOKS["a method that is there to be overridden"]
    .replace('        step_after = "batch"\n', "        def body():\n")
    .replace("        return\n", "            return\n\n        return body()\n")
)

CLOSURES = {
    "a decorator that makes its wrapper in a function of its own": """
def in_training_mode(method):
    def make():
        def wrapper(trainer, *args):
            trainer.model.train()
            return method(trainer, *args)

        return wrapper

    return make()


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    @in_training_mode
    def train(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(batch).mean()
            self.scaler.scale(loss).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # wrong MPA205
            self.scaler.step(self.optimizer)
            self.scaler.update()


def main(model, loader):
    Trainer(model).train(loader)
""",
    "a step that a factory makes in a function of its own": """
def stepper(scaler, optimizer):
    def make():
        def step(loss):
            scaler.scale(loss).backward()
            scaler.step(optimizer)  # MPA204
            scaler.update()  # right

        return step

    return make()


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    step = stepper(scaler, optimizer)
    for batch in loader:
        optimizer.zero_grad()
        step(model(batch).mean())
""",
}
CLOSURES["a function that makes the scaler of the one around it"] = """
def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = None

    def begin():
        nonlocal scaler
        scaler = GradScaler("cuda")

    begin()
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()
"""
CLOSURES["a loss that a function leaves in the one around it"] = """
def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    loss = None

    def forward(batch):
        def inner():
            nonlocal loss
            loss = model(batch).mean()
            loss = scaler.scale(loss)  # right

        inner()

    for batch in loader:
        optimizer.zero_grad()
        forward(batch)
        loss.backward()  # wrong MPA202
        loss.backward()  # right
        scaler.step(optimizer)
        scaler.update()
"""
UPDATES = {
    "a method that updates a scaler that a flag enables": """
class Trainer:
    def __init__(self, model, amp):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda", enabled=amp)

    def advance(self):
        self.scaler.update()  # right
        self.count = 1  # wrong

    def train(self, loader, amp):
        for batch in loader:
            self.optimizer.zero_grad()
            with autocast("cuda", enabled=amp):
                loss = self.model(batch).mean()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)  # MPA204
            self.advance()


def main(model, loader, amp):
    trainer = Trainer(model, amp)
    for epoch in range(10):
        trainer.train(loader, amp)
""",
    "a function that updates where a flag says so": """
def train(model, loader, args):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda") if args.amp else None

    def advance():
        if args.amp:
            scaler.update()  # right
            print("next")  # wrong

    for epoch in range(10):
        for batch in loader:
            optimizer.zero_grad()
            with autocast("cuda", enabled=args.amp):
                loss = model(batch).mean()
            if not args.amp:
                loss.backward()
                optimizer.step()
                advance()
                advance()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)  # MPA204
                advance()
""",
}

PROGRAMS = {
    name: text
    for group in (LAMBDAS, FIELDS, DICTS, MANAGERS, GENERATORS, DECORATORS, HOOKS, CLOSURES, UPDATES)
    for name, text in group.items()
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, name: str) -> None:
    sources, marks = variant({"train.py": PROGRAMS[name]}, "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_right_program_is_silent(tmp_path: Path, name: str) -> None:
    sources, _ = variant({"train.py": PROGRAMS[name]}, "right")
    assert reported(tmp_path, sources) == []
