"""The ways that training code is written, each right and wrong, through the whole of `lint`; see shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

MAKE = """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
"""

LOOPS = {
    "while": """
def train(model, batches, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    batch = next(batches)
    while batch is not None:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = criterion(model(batch))
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # MPA204
        scaler.update()  # right
        batch = next(batches)
""",
    "while true with break": """
def train(model, batches, criterion, last):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    count = 0
    while True:
        optimizer.zero_grad()
        scaler.scale(criterion(model(next(batches)))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()
        count += 1
        if count > last:
            break
""",
    "epochs and batches": """
def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for epoch in range(10):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            scaler.scale(criterion(model(x), y)).backward()
            scaler.step(optimizer)  # right
            optimizer.step()  # wrong MPA203
            scaler.update()
""",
    "update per epoch": """
def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for epoch in range(10):
        for x, y in loader:
            optimizer.zero_grad()
            scaler.scale(criterion(model(x), y)).backward()
            scaler.step(optimizer)  # MPA204
            scaler.update()  # right
        scaler.update()  # wrong
""",
    "continue after unscale": """
def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not torch.isfinite(norm):
            scaler.update()  # right
            continue  # MPA207
        scaler.step(optimizer)
        scaler.update()
""",
    "for else": """
def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "accumulation": """
def train(model, loader, criterion, k):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for i, (x, y) in enumerate(loader):
        scaler.scale(criterion(model(x), y) / k).backward()
        if (i + 1) % k == 0:
            scaler.step(optimizer)
            scaler.update()  # right
            optimizer.zero_grad()
        scaler.update()  # wrong MPA210
""",
    "unscale outside of the accumulation guard": """
def train(model, loader, criterion, k):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for i, (x, y) in enumerate(loader):
        scaler.scale(criterion(model(x), y) / k).backward()
        scaler.unscale_(optimizer)  # wrong MPA206
        if (i + 1) % k == 0:
            scaler.unscale_(optimizer)  # right
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
""",
    "inner loop of micro-batches": """
def train(model, loader, criterion, k):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        for part in x.chunk(k):
            scaler.scale(criterion(model(part), y) / k).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()  # right
        x = y  # wrong
""".replace(
        "            scaler.scale(criterion(model(part), y) / k).backward()",
        "            scaler.scale(criterion(model(part), y) / k).backward()  # MPA228",
    ),
}

BRANCHES = {
    "scaler or none": """
def train(model, loader, criterion, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda") if amp else None
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        if scaler is not None:
            scaler.scale(loss).backward()
        else:
            loss.backward()
        if scaler:
            scaler.unscale_(optimizer)  # right
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # MPA205
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
""",
    "flag asked again": """
def train(model, loader, criterion, args):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        if args.amp:
            scaler.scale(loss).backward()
        else:
            loss.backward()
        if not args.amp:
            optimizer.step()
        else:
            scaler.step(optimizer)  # right
            optimizer.step()  # wrong MPA203
            scaler.update()
""",
    "enabled by a flag": """
def train(model, loader, criterion, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=amp)
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
        scaler.step(optimizer)
        scaler.update()
""",
    "match": """
def train(model, loader, criterion, mode):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        match mode:
            case "amp":
                scaler.scale(loss).backward()
                scaler.step(optimizer)  # right
                optimizer.step()  # wrong MPA203
                scaler.update()
            case _:
                loss.backward()
                optimizer.step()
""",
    "try finally": """
def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        try:
            scaler.scale(criterion(model(x), y)).backward()
            scaler.step(optimizer)  # right
            optimizer.step()  # wrong MPA203
            scaler.update()
        finally:
            optimizer.zero_grad()
""",
    "try except": """
def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        try:
            loss = criterion(model(x), y)
        except RuntimeError:
            continue
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()
""",
}

FUNCTIONS = {
    "parameters of one of several models, one of a library": """
from monai.networks import Third


class First(nn.Module):
    def forward(self, x):
        return x


class Second(nn.Module):
    def forward(self, x):
        return x


def train_epoch(model, loader, optimizer, scaler, args):
    for x in loader:
        for param in model.parameters():  # right
            param.grad = None  # right
        with autocast("cuda", enabled=args.amp):
            loss = model(x).mean()
        if args.amp:
            scaler.scale(loss).backward()  # MPA228
            scaler.step(optimizer)
            scaler.update()


def main(args, loader):
    if args.name == "first":
        model = First()
    elif args.name == "second":
        model = Second()
    elif args.name == "third":
        model = Third()
    model = torch.nn.parallel.DataParallel(model).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    scaler = GradScaler("cuda")
    for epoch in range(args.epochs):
        train_epoch(model, loader, optimizer, scaler, args)
""",
    "methods by names of their own": """
def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    scale, zero_grad, update = scaler.scale, optimizer.zero_grad, scaler.update
    step, clear = optimizer.step, model.zero_grad
    for batch in loader:
        zero_grad()
        loss = scale(model(batch).mean())
        back = loss.backward
        back()
        scaler.step(optimizer)  # right
        step()  # wrong MPA203
        update()
        clear()
""",
    "one of two models that a factory makes": """
class Small(nn.Module):
    def forward(self, x):
        return x


class Large(nn.Module):
    def forward(self, x):
        return x


def make(name, large, device):
    if name == "net":
        if large:
            model = Large()
        else:
            model = Small()
    else:
        raise NotImplementedError(name)
    return model.to(device)


def train(args, loader):
    model = make("net", args.large, "cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for i, batch in enumerate(loader):
        if i % args.accumulate == 1:  # right
            model.zero_grad()  # right
        with autocast("cuda"):
            loss = model(batch).mean()
        scaler.scale(loss).backward()  # MPA228
        if i % args.accumulate == 0:
            scaler.step(optimizer)
            scaler.update()
""",
    "parameters of the function": """
def train(model, loader, optimizer, scaler: GradScaler, criterion):
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()
""",
    "helper": """
def finish(scaler, optimizer, model):
    scaler.unscale_(optimizer)  # right
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # MPA205
    scaler.step(optimizer)
    scaler.update()


def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        finish(scaler, optimizer, model)
""",
    "closure": """
def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")

    def apply():
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()

    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        apply()
""",
    "partial": """
from functools import partial


def finish(scaler, optimizer):
    scaler.step(optimizer)  # right
    optimizer.step()  # wrong MPA203
    scaler.update()


def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    done = partial(finish, scaler)
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        done(optimizer)
""",
    "star arguments": """
def finish(scaler, *args, **kwargs):
    scaler.step(args[0])  # right
    args[0].step()  # wrong MPA203
    scaler.update()


def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        finish(scaler, optimizer)
""",
    "star pass-through": """
def finish(optimizer, scaler):
    scaler.step(optimizer)  # right
    optimizer.step()  # wrong MPA203
    scaler.update()


def through(*args, **kwargs):
    return finish(*args, **kwargs)


def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        through(optimizer, scaler=scaler)
""",
    "factory of a tuple": """
def build(model):
    return torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda")


def train(model, loader, criterion):
    optimizer, scaler = build(model)
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "factory of a dict": """
def build(model):
    return {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "scaler": GradScaler("cuda")}


def train(model, loader, criterion):
    parts = build(model)
    optimizer, scaler = parts["optimizer"], parts["scaler"]
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "decorator": """
import functools


def timed(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@timed
def finish(scaler, optimizer):
    scaler.step(optimizer)  # right
    optimizer.step()  # wrong MPA203
    scaler.update()


def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        finish(scaler, optimizer)
""",
    "async": """
async def finish(scaler, optimizer):
    scaler.step(optimizer)  # right
    optimizer.step()  # wrong MPA203
    scaler.update()


async def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    async for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        await finish(scaler, optimizer)
""",
    "generator": """
def steps(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
        yield loss.item()
""",
    "loss of a helper": """
def compute(model, batch, criterion):
    with autocast("cuda"):
        return criterion(model(batch))


def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        optimizer.zero_grad()
        loss = compute(model, batch, criterion)
        scaler.scale(loss).backward()  # right
        loss.backward()  # wrong MPA202
        scaler.step(optimizer)
        scaler.update()
""",
    "helper scales": """
def scaled(loss, scaler):
    if scaler is None:
        return loss
    return scaler.scale(loss)


def train(model, loader, criterion, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda") if amp else None
    for batch in loader:
        optimizer.zero_grad()
        scaled(criterion(model(batch)), scaler).backward()
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)  # right
            optimizer.step()  # wrong MPA203
            scaler.update()
""",
    "recursion": """
def run(model, optimizer, scaler, loader, criterion, epochs):
    if epochs == 0:
        return
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
    run(model, optimizer, scaler, loader, criterion, epochs - 1)


def main(model, loader, criterion):
    run(model, torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda"), loader, criterion, 3)
""",
}

CLASSES = {
    "a part of the protocol, called from elsewhere, with a scaler that may be off": """
class Trainer:
    def prepare(self, config, model, fp16=False):
        self.config = config
        self.model = nn.parallel.DistributedDataParallel(model.cuda())
        self.optimizer, self.schedule = self.config.build_optimizer(self.model)
        self.fp16 = fp16
        self.scaler = GradScaler("cuda", enabled=self.fp16)

    def after_step(self):
        self.scaler.unscale_(self.optimizer)
        if self.config.grad_clip is not None:
            torch.nn.utils.clip_grad_value_(self.model.parameters(), self.config.grad_clip)
        self.scaler.step(self.optimizer)  # right
        self.optimizer.step()  # wrong MPA203
        self.scaler.update()
        self.schedule.step()
""",
    "on self": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def train(self, loader, criterion):
        for x, y in loader:
            self.optimizer.zero_grad()
            self.backward(criterion(self.model(x), y))
            self.step()

    def backward(self, loss):
        self.scaler.scale(loss).backward()

    def step(self):
        self.scaler.unscale_(self.optimizer)  # right
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # MPA205
        self.scaler.step(self.optimizer)
        self.scaler.update()
""",
    "inheritance": """
class Base:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def fit(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            self.scaler.scale(self.loss(batch)).backward()
            self.apply()

    def apply(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()


class Clipping(Base):
    def loss(self, batch):
        return self.model(batch).mean()

    def apply(self):
        self.scaler.unscale_(self.optimizer)  # right
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # MPA205
        super().apply()


def main(model, loader):
    Clipping(model).fit(loader)
""",
    "property": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self._optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    @property
    def optimizer(self):
        return self._optimizer

    def fit(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            self.scaler.scale(self.model(batch).mean()).backward()
            self.scaler.step(self.optimizer)  # right
            self.optimizer.step()  # wrong MPA203
            self.scaler.update()
""",
    "wrapper": """
class Scaler:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer, clip=None, parameters=None):
        self._scaler.scale(loss).backward()
        if clip is not None:
            self._scaler.unscale_(optimizer)  # right
            torch.nn.utils.clip_grad_norm_(parameters, clip)  # MPA205
        self._scaler.step(optimizer)
        self._scaler.update()


def train(model, loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = Scaler()
    for x, y in loader:
        optimizer.zero_grad()
        scaler(criterion(model(x), y), optimizer, 1.0, model.parameters())
""",
    "wrapper passed on": """
class Wrapper:
    def __init__(self):
        self.scaler = GradScaler("cuda")

    def backward(self, loss):
        self.scaler.scale(loss).backward()

    def finish(self, optimizer):
        self.scaler.step(optimizer)
        self.scaler.update()


def epoch(model, loader, optimizer, wrapper):
    for batch in loader:
        optimizer.zero_grad()
        wrapper.backward(model(batch).mean())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        wrapper.finish(optimizer)


def main(model, loader):
    epoch(model, loader, torch.optim.SGD(model.parameters(), lr=0.1), Wrapper())
""",
    "static and class methods": """
class Tools:
    @staticmethod
    def finish(scaler, optimizer):
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()

    @classmethod
    def train(cls, model, loader):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = GradScaler("cuda")
        for batch in loader:
            optimizer.zero_grad()
            scaler.scale(model(batch).mean()).backward()
            cls.finish(scaler, optimizer)
""",
}

SEVERAL = {
    "a scaler that is off for good under the flag of autocast": """
def train(model, loader, criterion, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=False)  # wrong
    scaler = GradScaler("cuda", enabled=amp)  # right
    for batch in loader:
        optimizer.zero_grad()
        with autocast("cuda", enabled=amp):
            loss = criterion(model(batch))
        scaler.scale(loss).backward()  # MPA201
        scaler.step(optimizer)
        scaler.update()
""",
    "optimizers of two makers in one attribute": """
class Trainer:
    def __init__(self, model, optimizer, fused):
        self.model = model
        self.optimizer = optimizer
        if fused:
            self.optimizer = build(model)
        self.scaler = GradScaler("cuda")

    def fit(self, loader, criterion):
        for batch in loader:
            self.optimizer.zero_grad()
            loss = criterion(self.model(batch))
            self.scaler.scale(loss).backward()
            self.optimizer.step()  # wrong MPA203
            self.scaler.step(self.optimizer)  # right
            self.scaler.update()  # right
""",
    "optimizers that a list got from elsewhere": """
class Trainer:
    def __init__(self, model, other, name):
        self.model, self.other = model, other
        self.optimizers = []
        first = self.make(name, model)
        if first is not None:
            self.optimizers.append(first)
        self.optimizers.extend(others(other))
        self.scaler = GradScaler("cuda")

    def make(self, name, model):
        return torch.optim.SGD(model.parameters(), lr=0.1) if name == "sgd" else None

    def fit(self, loader, criterion):
        for batch in loader:
            loss = criterion(self.model(batch), self.other(batch))
            self.scaler.scale(loss).backward()
            for optimizer in self.optimizers:  # right
                self.scaler.unscale_(optimizer)  # right
            torch.nn.utils.clip_grad_norm_(self.other.parameters(), 1.0)  # wrong MPA205
            torch.nn.utils.clip_grad_norm_(self.other.parameters(), 1.0)  # right
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
            self.scaler.update()
            for optimizer in self.optimizers:
                optimizer.zero_grad()
""",
    "list": """
def train(model, other, loader):
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.SGD(other.parameters(), lr=0.1)]
    scaler = GradScaler("cuda")
    for batch in loader:
        for optimizer in optimizers:
            optimizer.zero_grad()
        scaler.scale(other(model(batch)).mean()).backward()
        for optimizer in optimizers:
            scaler.step(optimizer)
            scaler.update()  # wrong MPA210
        scaler.update()  # right
""",
    "dict": """
def train(model, other, loader):
    optimizers = {"a": torch.optim.SGD(model.parameters(), lr=0.1), "b": torch.optim.SGD(other.parameters(), lr=0.1)}
    scaler = GradScaler("cuda")
    for batch in loader:
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        scaler.scale(other(model(batch)).mean()).backward()
        for name, optimizer in optimizers.items():
            scaler.step(optimizer)  # right
            optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "zip and enumerate": """
def train(model, other, loader):
    models = [model, other]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in models]
    scaler = GradScaler("cuda")
    for batch in loader:
        for i, (m, optimizer) in enumerate(zip(models, optimizers)):
            optimizer.zero_grad()
            scaler.scale(m(batch).mean()).backward()
            scaler.step(optimizer)  # right
            optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "gan": """
def train(G, D, loader, criterion):
    opt_g = torch.optim.Adam(G.parameters())
    opt_d = torch.optim.Adam(D.parameters())
    scaler = GradScaler("cuda")
    for real in loader:
        opt_d.zero_grad()
        scaler.scale(criterion(D(real)) + criterion(D(G(real).detach()))).backward()
        scaler.step(opt_d)
        scaler.update()  # right
        opt_g.zero_grad()
        scaler.scale(criterion(D(G(real)))).backward()
        scaler.step(opt_g)  # right
        opt_g.step()  # wrong MPA203
        scaler.update()
""",
}

CONTEXTS = {
    "exit stack": """
from contextlib import ExitStack


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        optimizer.zero_grad()
        with ExitStack() as stack:
            stack.enter_context(autocast("cuda"))
            loss = model(batch).mean()
        scaler.scale(loss).backward()  # right
        loss.backward()  # wrong MPA202
        scaler.step(optimizer)
        scaler.update()
""",
    "return inside with": """
def step(model, batch, optimizer, scaler):
    with autocast("cuda"):
        loss = model(batch).mean()
        if loss.isnan():
            return None
    scaler.scale(loss).backward()
    scaler.step(optimizer)  # right
    optimizer.step()  # wrong MPA203
    scaler.update()
    optimizer.zero_grad()
    return loss


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        step(model, batch, optimizer, scaler)
""",
}

FILES = {
    "a folder that the script puts on its path": {
        "train.py": """
import argparse
import sys
sys.path.append("core")

from network import Network


def train(loader):
    model = Network().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(model(x.cuda()), y.cuda())  # MPA101
        loss.backward()
        optimizer.step()
""",
        "core/network.py": """
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 512, 3)

    def forward(self, x):
        with autocast("cuda", dtype=torch.bfloat16):  # right
            x = self.layer(x)  # right
        return self.layer(x)  # wrong
""",
    },
    "an optimizer that is made in the branches of a choice, and stepped where nothing calls it": {
        "model.py": """
class Restoration:
    def __init__(self, opt, net):
        self.opt, self.net = opt, net.cuda()
        self.scaler = GradScaler("cuda")
        self.setup()

    def setup(self):
        kind = self.opt["optimizer"].pop("type")
        if kind == "Adam":
            self.optimizer = torch.optim.Adam(self.net.parameters(), **self.opt["optimizer"])
        elif kind == "AdamW":
            self.optimizer = torch.optim.AdamW(self.net.parameters(), **self.opt["optimizer"])
        else:
            raise NotImplementedError(kind)

    def optimize(self, x, y):
        self.optimizer.zero_grad()
        with autocast("cuda"):
            loss = nn.functional.l1_loss(self.net(x.cuda()), y.cuda())
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)  # wrong MPA204
        self.scaler.step(self.optimizer)  # right
        self.scaler.update()  # right
""",
        "options.py": """
def read(path):
    return torch.load(path)
""",
    },
    "a step at every k-th iteration that is not the first": {
        "train.py": """
def train(model, loader, k, rank):
    model = model.cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda")
    optimizer.zero_grad()
    for step, x in enumerate(loader):
        alone = model.no_sync if rank != -1 and step % k != 0 else None
        with autocast("cuda"):
            loss = model(x.cuda()).mean() / k
        scaler.scale(loss).backward()
        if step % k == 0 and step != 0:
            scaler.step(optimizer)  # wrong MPA204
            scaler.step(optimizer)  # right
            scaler.update()  # right
            optimizer.zero_grad()
""",
    },
    "a scaler of one's own beside what Accelerate has prepared": {
        "train.py": """
from accelerate import Accelerator


def main(net, loader, amp):
    accelerator = Accelerator(split_batches=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        with autocast("cuda", enabled=amp):
            loss = nn.functional.cross_entropy(net(x.to(accelerator.device)), y.to(accelerator.device))
        if amp:
            accelerator.backward(scaler.scale(loss))
            scaler.step(optimizer)
            scaler.update()
        else:
            accelerator.backward(loss)
            optimizer.step()
        optimizer.step()  # wrong MPA209
""",
    },
    "a scaler of each epoch, which bfloat16 has no need of": {
        "train.py": """
def epoch(model, optimizer, loader, amp):
    scaler = GradScaler("cuda", enabled=amp)  # wrong MPA215
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.bfloat16, enabled=amp):
            loss = model(x.cuda()).mean()
        loss.backward()  # right
        optimizer.step()  # right
        scaler.scale(loss).backward()  # wrong
        scaler.step(optimizer)  # wrong
        scaler.update()  # wrong


def main(model, loader, amp):
    optimizer = torch.optim.AdamW(model.cuda().parameters())
    for number in range(10):
        epoch(model, optimizer, loader, amp)
""",
    },
    "options of a model are no model": {
        "meta.py": """
class Meta:
    def __init__(self, build, model_kwargs, training_kwargs):
        name = model_kwargs.pop("name", None)
        self.model = build(name, **model_kwargs).cuda()
        make = getattr(torch.optim, model_kwargs.get("optimizer"))
        self.optimizer = make(params=[p for p in self.model.parameters() if p.requires_grad], **training_kwargs)
        self.scaler = GradScaler("cuda")

    def epoch(self, loader):
        for x in loader:
            with autocast("cuda"):
                loss = self.model(x.cuda()).mean()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)  # wrong MPA204
            self.scaler.step(self.optimizer)  # right
            self.scaler.update()  # right
            self.optimizer.zero_grad()
""",
        "main.py": """
from meta import Meta


def main(build, model_kwargs, training_kwargs, loader):
    meta = Meta(build, model_kwargs, training_kwargs)
    for number in range(10):
        meta.epoch(loader)
""",
    },
    "mutual recursion": {
        "a.py": """
import b


def ping(model, optimizer, scaler, batches, n):
    if n:
        optimizer.zero_grad()
        scaler.scale(model(next(batches)).mean()).backward()
        b.pong(model, optimizer, scaler, batches, n)


def main(model, batches):
    ping(model, torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda"), batches, 9)
""",
        "b.py": """
import a


def pong(model, optimizer, scaler, batches, n):
    scaler.step(optimizer)  # right
    optimizer.step()  # wrong MPA203
    scaler.update()
    a.ping(model, optimizer, scaler, batches, n - 1)
""",
    },
    "engine and main": {
        "main.py": """
from engine import train_one_epoch
from utils import build


def main(model, loader):
    optimizer, scaler = build(model)
    for epoch in range(10):
        train_one_epoch(model, loader, optimizer, scaler)
""",
        "engine.py": """
from utils import finish


def train_one_epoch(model, loader, optimizer, scaler):
    for batch in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(batch).mean()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        finish(optimizer, scaler)
""",
        "utils.py": """
def build(model):
    return torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda")


def finish(optimizer, scaler):
    scaler.step(optimizer)
    scaler.update()
""",
    },
}

SHAPES = {
    name: files if isinstance(files, dict) else {"train.py": files}
    for group in (LOOPS, BRANCHES, FUNCTIONS, CLASSES, SEVERAL, CONTEXTS, FILES)
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
