"""Styles of training code that real repositories are written in, each right and wrong; see shapes.py."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from mpaudit.static.program import objects, protocol
from mpaudit.static.program.frame import Frame, Run
from mpaudit.static.program.state import PathState
from mpaudit.static.program.values import Choice, Sym
from tests.static.program.shapes import reported, variant

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
    "a step that is left out for a large gradient, where it is due and the loss is finite": """
def main(loader, every, limit):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for i, x in enumerate(loader):
        due = (i + 1) % every == 0
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        skip = False
        if torch.isnan(loss):
            skip = True
        if due and not skip:
            scaler.unscale_(optimizer)  # MPA206
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if norm > limit:
                scaler.update()  # right
                skip = True
            if not skip:
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
""",
    "one of two wrappers, and the optimizer in it": """
class Wrapper:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def zero_grad(self):
        self.optimizer.zero_grad()


def train(model, loader, kind, plain, sharded):
    scaler = GradScaler("cuda")
    optim = {"plain": Wrapper(plain), "sharded": Wrapper(sharded)}[kind]
    for x in loader:
        optim.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optim.optimizer)
        scaler.update()


def finetune(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()  # right
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()  # MPA228
        scaler.step(optimizer)
        scaler.update()
""",
    "what a caller must give, out of **kwargs with get": """
class Trainer:
    def __init__(self, model, use_scaler):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda", enabled=use_scaler)

    def train_iter(self, x, *args, **kwargs):
        step = kwargs.get("step", None)
        assert step is not None
        self.optimizer.zero_grad()
        with autocast("cuda"):
            loss = self.model(x).mean()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)  # right
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # MPA205
        self.scaler.step(self.optimizer)
        self.scaler.update()
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
    "an optimizer by its name": """
def main(model, loader, options):
    biases, weights = [], []
    for name, p in model.named_parameters():
        (biases if "bias" in name else weights).append(p)
    optimizer = {
        "adam": torch.optim.Adam(weights, lr=0.1),
        "sgd": torch.optim.SGD(weights, lr=0.1),
    }[options.optimizer]
    optimizer.add_param_group({"params": biases})
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
""",
    "an optimizer by a name that is known": """
KIND = "sgd"


def main(model, loader):
    weights = []
    for name, p in model.named_parameters():
        weights.append(p)
    optimizer = {"adam": torch.optim.Adam(weights, lr=0.1), "sgd": torch.optim.SGD(weights, lr=0.1)}[KIND]
    optimizer.add_param_group({"params": weights})
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # right
        optimizer.step()  # wrong MPA203
        scaler.update()
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

SEVERAL = {
    "two networks of classes in which nothing matters": {
        "models.py": """
class Teacher(nn.Module):
    def forward(self, x):
        return x


class Student(nn.Module):
    def forward(self, x):
        return x
""",
        "train.py": """
from models import Student, Teacher


def groups(model):
    return [{"params": [p for n, p in model.named_parameters() if "bias" not in n]}]


def main(loader):
    teacher, student = Teacher(), Student()
    t_optimizer = torch.optim.SGD(groups(teacher), lr=0.1)
    s_optimizer = torch.optim.SGD(groups(student), lr=0.1)
    t_scaler, s_scaler = GradScaler("cuda"), GradScaler("cuda")
    for x in loader:
        t_optimizer.zero_grad()
        s_optimizer.zero_grad()
        with autocast("cuda"):
            labels = teacher(x)
            loss = student(x).mean() - labels.detach().mean()
        s_scaler.scale(loss).backward()
        s_scaler.step(s_optimizer)  # right
        s_optimizer.step()  # wrong MPA203
        s_scaler.update()
        t_scaler.scale(labels.mean()).backward()
        t_scaler.unscale_(t_optimizer)
        t_scaler.step(t_optimizer)
        t_scaler.update()
""",
    },
    "one of two scalers in the checkpoint": """
def main(loader, net_g, net_d):
    opt_g = torch.optim.Adam(net_g.parameters(), lr=2e-4)
    opt_d = torch.optim.Adam(net_d.parameters(), lr=2e-4)
    scaler_g, scaler_d = GradScaler("cuda"), GradScaler("cuda")
    last = torch.load("last.pt")
    opt_g.load_state_dict(last["opt_g"])
    scaler_g.load_state_dict(last["scaler_g"])
    scaler_d.load_state_dict(last["scaler_d"])
    for x in loader:
        opt_d.zero_grad()
        with autocast("cuda"):
            loss = net_d(x).mean()
        scaler_d.scale(loss).backward()
        scaler_d.step(opt_d)
        scaler_d.update()
        opt_g.zero_grad()
        with autocast("cuda"):
            loss = net_g(x).mean()
        scaler_g.scale(loss).backward()
        scaler_g.step(opt_g)
        scaler_g.update()
    state = {"opt_g": opt_g.state_dict(), "opt_d": opt_d.state_dict()}  # MPA214
    state["scaler_g"] = scaler_g.state_dict()
    state["scaler_d"] = scaler_d.state_dict()  # right
    torch.save(state, "last.pt")
""",
    "one helper that saves what holds a scaler and what holds none": """
def save(*args, **kwargs):
    if torch.distributed.get_rank() == 0:
        torch.save(*args, **kwargs)


def epoch_of(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", enabled=scaler is not None):
            loss = model(x).mean()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()


def resume(path, **variables):
    last = torch.load(path)
    for key, value in variables.items():
        if key in last and value is not None:
            value.load_state_dict(last[key])


def main(loader, mixed, epochs):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    scaler = None
    if mixed:
        scaler = GradScaler("cuda")
    resume("last.pt", optimizer=optimizer, scaler=scaler)
    for epoch in range(epochs):
        epoch_of(model, loader, optimizer, scaler)
        state = {  # wrong MPA214
        state = {  # right
            "epoch": epoch,
            "optimizer": optimizer.state_dict(),
        }
        if scaler is not None:  # right
            state["scaler"] = scaler.state_dict()  # right
        save(state, "last.pt")
        if epoch % 10 == 0:
            save(state, f"{epoch}.pt")
""",
    "a head with an optimizer of its own, trained by a gradient made by hand": """
from factory import make


def build(model):
    return make(model)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(2, 2)

    def forward(self, x):
        return self.weight(x)

    def forward_backward(self, features, labels):
        whole = torch.ones_like(features)
        whole.requires_grad_(True)
        logits = self.forward(whole)
        logits.backward(torch.softmax(logits, dim=1) - labels)
        return whole.grad


class Trainer:
    def __init__(self, model, optimizer, head, head_optimizer, scaler):
        self.model, self.optimizer = model, optimizer
        self.head, self.head_optimizer = head, head_optimizer
        self.scaler = scaler

    def step(self, batch):
        with autocast("cuda"):
            features, labels = self.model(batch)
        gradient = self.head.forward_backward(features.float(), labels)
        features.backward(self.scaler.scale(gradient))
        self.scaler.step(self.optimizer)  # wrong MPA204
        self.scaler.step(self.optimizer)  # right
        self.scaler.update()  # right
        self.head_optimizer.step()
        self.optimizer.zero_grad()
        self.head_optimizer.zero_grad()


class Driver:
    def __init__(self, model, loader):
        self.loader = loader
        self.optimizer = build(model)
        head = Head()
        self.head_optimizer = build(head)
        self.trainer = Trainer(model, self.optimizer, head, self.head_optimizer, GradScaler("cuda"))

    def run(self):
        for batch in self.loader:
            self.trainer.step(batch)
""",
    "batches from an object that fetches the next one ahead": """
class Prefetcher:
    def __init__(self, loader):
        self.loader = loader
        self.source = iter(loader)
        self.batch = None
        self.fetch()

    def fetch(self):
        try:
            self.batch = next(self.source)
        except StopIteration:
            self.batch = None

    def following(self):
        batch = self.batch
        self.fetch()
        return batch

    def reset(self):
        self.source = iter(self.loader)
        self.fetch()


def train(model, prefetcher, optimizer, scaler):
    prefetcher.reset()
    batch = prefetcher.following()
    while batch is not None:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(batch).mean()
        scaler.scale(loss).backward()
        optimizer.step()  # wrong MPA203
        scaler.step(optimizer)  # right
        scaler.update()
        batch = prefetcher.following()


def validate(model, prefetcher):
    prefetcher.reset()
    batch = prefetcher.following()
    while batch is not None:
        model(batch)
        batch = prefetcher.following()


def main(loader, others):
    prefetcher, other = Prefetcher(loader), Prefetcher(others)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for epoch in range(3):
        train(model, prefetcher, optimizer, scaler)
        validate(model, other)
""",
    "two optimizers and two scalers for two parts of one network": """
def make(params):
    params = list(params)
    return torch.optim.SGD(params, lr=0.1)


class Trainer:
    def __init__(self, network):
        self.network = network
        every = set(network.parameters())
        judge = set(network.judge.parameters())
        self.optimizer, self.judge_optimizer = make(every - judge), make(judge)
        self.scaler, self.judge_scaler = GradScaler("cuda"), GradScaler("cuda")

    def step(self, x):
        with autocast("cuda"):
            loss = self.network(x)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)  # wrong MPA204
        self.scaler.step(self.optimizer)  # right
        self.scaler.update()  # right
        self.optimizer.zero_grad()
        with autocast("cuda"):
            loss = self.network(x, judged=True)
        self.judge_scaler.scale(loss).backward()
        self.judge_scaler.step(self.judge_optimizer)
        self.judge_scaler.update()
        self.judge_optimizer.zero_grad()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.judge = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x, judged=False):
        return self.judge(self.body(x)).mean()


def main(loader):
    trainer = Trainer(Network())
    for x in loader:
        trainer.step(x)
""",
    "a driver that makes its own optimizer and scaler, called from two places": """
def train(options, lr):
    model = nn.Linear(options.width, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scaler = GradScaler("cuda")
    best = 0.0
    for x in options.loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        optimizer.step()  # wrong MPA203
        scaler.step(optimizer)  # right
        scaler.update()
        best = max(best, loss.item())
    return best


def main(options):
    if options.search:
        for lr in (0.1, 0.01, 0.001):
            print(train(options, lr))
    else:
        train(options, options.lr)
""",
}

LOSSES = {
    "a flag that turns bfloat16 off": {
        "model.py": """
class Network(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.options = options

    def forward(self, x):
        with autocast("cuda", enabled=self.options.mixed, dtype=torch.bfloat16):  # wrong
            return self.layer(x)  # wrong
        with autocast("cuda", enabled=self.options.mixed):  # right
            return self.layer(x)  # right
""",
        "train.py": """
from model import Network


def train(options, loader):
    model = Network(options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=options.mixed)  # wrong MPA215
    scaler = GradScaler("cuda", enabled=options.mixed)  # right
    for x in loader:
        optimizer.zero_grad()
        scaler.scale(model(x).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    },
    "bfloat16 by one flag and the scaler by another": """
def train(model, loader, optimizer, half, brain):
    scaler = GradScaler("cuda", enabled=half)
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", enabled=brain, dtype=torch.bfloat16):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.step(optimizer)  # wrong MPA209
        scaler.update()
""",
    "two trainings in turn": """
def train(model, loaders, optimizer, scaler):
    for x, y in zip(*loaders):
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # right
        scaler.step(optimizer)  # wrong MPA204
        scaler.update()  # right
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(y).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "a loss of one of two kinds that another is added to": """
def overlap(output, target):
    return 1 - 2 * (output * target).sum() / (output + target).sum()


def train(model, loader, optimizer, scaler):
    criterion = nn.CrossEntropyLoss() if model.classes > 1 else nn.BCEWithLogitsLoss()
    for x, target in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            output = model(x)
            loss = criterion(output, target)
            loss += overlap(output, target)
        scaler.scale(loss)  # wrong
        loss.backward()  # wrong MPA202
        scaler.scale(loss).backward()  # right
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
""",
    "what functions elsewhere give, added up": """
from project.losses import first, second


def train(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = first(model, x)
            loss += second(model, x)
        loss.backward(retain_graph=True)  # wrong
        scaler.scale(loss).backward()  # wrong MPA224
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)
        scaler.update()
""",
    "losses that come scaled, added up": """
from project.losses import first


def train(losses, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        loss = losses.scaled
        loss += losses.other
        loss.backward()
        scaler.step(optimizer)
        scaler.step(optimizer)  # wrong MPA209
        scaler.update()
""",
    "an assertion on the batch": """
def train(model, loader, optimizer, scaler):
    for x in loader:
        assert x.shape[1] == model.channels
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()  # wrong MPA203
        if norm < 1e6:  # right
            optimizer.step()  # right
        scaler.update()
""",
}

CLIPS = {
    "a clip by the norm of each parameter": """
def clip_gradients(model, clip):
    norms = []
    for name, p in model.named_parameters():
        if p.grad is not None:
            norm = p.grad.data.norm(2)
            norms.append(norm.item())
            coef = clip / (norm + 1e-6)
            if coef < 1:
                p.grad.data.mul_(coef)  # wrong MPA205
                p.grad.data.mul_(coef)  # right
    return norms


def train(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # right
        clip_gradients(model, 3.0)
        scaler.step(optimizer)
        scaler.update()
""",
    "a clip by the norm of all": """
def clip(parameters, limit):
    total = 0.0
    for p in parameters:
        total += torch.norm(p.grad).item() ** 2
    coef = limit / (total ** 0.5 + 1e-6)
    if coef < 1:
        for p in parameters:
            p.grad.mul_(coef)  # wrong MPA205
            p.grad.mul_(coef)  # right


def train(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # right
        clip(list(model.parameters()), 3.0)
        scaler.step(optimizer)
        scaler.update()
""",
}

ITERATIONS = {
    "one iteration, called from elsewhere": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def train_step(self, x):
        self.optimizer.zero_grad()
        with autocast("cuda"):
            loss = self.model(x).mean()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)  # MPA204
        self.scaler.update()  # right
""",
    "one iteration that never zeroes": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def train_step(self, x):
        self.optimizer.zero_grad()  # right
        with autocast("cuda"):
            loss = self.model(x).mean()
        self.scaler.scale(loss).backward()  # MPA228
        self.scaler.step(self.optimizer)
        self.scaler.update()
""",
    "one iteration with an optimizer and a scaler of its caller": """
def train_step(model, optimizer, scaler, x):
    with autocast("cuda"):
        loss = model(x).mean()
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
    scaler.step(optimizer)
""",
    "an iteration in three methods": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def backward(self, loss):
        self.scaler.scale(loss).backward()

    def clip(self, limit):
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    def step(self):
        self.scaler.step(self.optimizer)

    def finish(self):
        self.scaler.update()
        self.optimizer.zero_grad()

    def everything(self, x):
        with autocast("cuda"):
            loss = self.model(x).mean()
        loss = loss / 2
        self.scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # wrong MPA205
        self.scaler.step(self.optimizer)
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

CORRELATED = {
    "a scaler that is asked for in a helper, after its use": """
from helpers import restore

def clip(model, optimizer, scaler):
    if scaler:  # right
    if model.training:  # wrong
        scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205

def main(model, batches, path):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scaler = restore(path)
    for x in batches:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        clip(model, optimizer, scaler)
        scaler.step(optimizer)
        scaler.update()
""",
    "a model that another function gives back": """
from helpers import load_weights

def main(model, batches, path):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    if path: model = load_weights(model, path)  # right
    for x in batches:
        model.zero_grad()  # right
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()  # right
        scaler.scale(loss).backward()  # wrong MPA228
        scaler.step(optimizer)
        scaler.update()
""",
    "two switches asked together, twice": """
def train(model, loader, args):
    model.cuda()
    optimizer = torch.optim.Adam(model.parameters())
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", enabled=args.amp):
            loss = model(x).mean()
        if args.amp and args.device == "cuda":
            scaler.scale(loss).backward()
        else:
            loss.backward()  # right
            loss.backward()  # wrong MPA202
        if args.amp and args.device == "cuda":  # right
        if args.amp and args.other == "cuda":  # wrong
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()  # right
            optimizer.step()  # wrong MPA203
""",
    "a property that is asked over and over": """
import importlib.util

class Trainer:
    def __init__(self, args, model):
        self.args = args
        self.model = model.cuda()
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.scaler = GradScaler("cuda")

    @property
    def hosted(self):
        return self.args.hosted

    @property
    def outer(self):
        return not self.args.hosted and self.is_there()

    @staticmethod
    def is_there():
        return importlib.util.find_spec("apex") is not None

    def fit(self, loader):
        for i, x in enumerate(loader):
            self.iteration(x, i)

    def iteration(self, x, i):
        with autocast("cuda"):
            loss = self.model(x).mean()
        if self.hosted or self.outer:
            loss.backward()
            if i % 4 == 0:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
        else:
            self.scaler.scale(loss).backward()
            if i % 4 == 0:
                self.scaler.unscale_(self.optimizer)  # right
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # right
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # wrong MPA205
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()

def main(args, model, loader):
    Trainer(args, model).fit(loader)
""",
    "an attack on a deep copy": """
import copy

def attack(net, x):
    net = copy.deepcopy(net)  # right
    x = x.clone().requires_grad_()
    loss = nn.MSELoss()(net(x), x)
    loss.backward()
    return x.grad

def train(loader, net):
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        y = attack(net, x)
        with autocast("cuda"):
            loss = net(x + y).mean()
        scaler.scale(loss).backward()  # right
        scaler.scale(loss).backward()  # wrong MPA224
        scaler.step(optimizer)
        scaler.update()
""",
    "a loss that is divided on one path": """
from contextlib import nullcontext


class Trainer:
    def __init__(self, model, args):
        self.model, self.args = model, args
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.use_amp = args.fp16
        if self.use_amp:
            self.scaler = GradScaler("cuda")

    def backward(self, loss):
        if self.use_amp:
            self.scaler.scale(loss).backward()  # right
            loss.backward()  # wrong MPA202
        else:
            loss.backward()

    def train(self, loader):
        for x in loader:
            with autocast("cuda", dtype=torch.float16) if self.use_amp else nullcontext():
                loss = self.model(x).mean()
            if self.args.accumulate > 1:
                loss = loss / self.args.accumulate
            self.backward(loss)
            if self.use_amp:
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self.optimizer.step()
            self.model.zero_grad()
""",
    "a raw step under a scaler that a choice of dtype turns on": """
from contextlib import nullcontext


class Precision:
    def __init__(self, name):
        self.dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self.scaler = GradScaler("cuda", enabled=self.dtype is torch.float16)

    def autocast(self):
        if self.dtype is None:
            return nullcontext()
        return autocast("cuda", dtype=self.dtype)


def main(model, loader, args):
    optimizer = torch.optim.AdamW(model.parameters())
    precision = Precision(args.precision)
    scaler = precision.scaler
    for x in loader:
        optimizer.zero_grad()
        with precision.autocast():
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()  # wrong MPA203
        scaler.step(optimizer)  # right
        scaler.update()
""",
    "an autocast from a method": """
from contextlib import nullcontext


class Precision:
    def __init__(self, dtype):
        self.dtype = dtype

    def autocast(self):
        if self.dtype is None:
            return nullcontext()
        return autocast("cuda", dtype=self.dtype)

    def start(self):
        self.held = autocast("cuda", dtype=torch.float16) if self.dtype is torch.float16 else nullcontext()
        self.held.__enter__()
        return self.held


def main(model, loader, criterion, args):
    precision = Precision(args.dtype)
    optimizer = torch.optim.AdamW(model.parameters())
    for x, y in loader:
        optimizer.zero_grad()
        precision.autocast()  # wrong MPA105
        loss = criterion(model(x), y)  # wrong
        with precision.autocast():  # right
            loss = criterion(model(x), y)  # right
        loss.backward()
        optimizer.step()
    with precision.autocast():
        print(criterion(model(x), y))
    precision.start()
    return criterion(model(x), y)
""",
    "a gradient penalty": """
def gradient_penalty(critic, x):
    x = x.requires_grad_()
    gradient = torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]
    return ((gradient.norm(2, dim=1) - 1) ** 2).mean()


def train(G, D, optimizer, loader):
    scaler = GradScaler("cuda")
    for x in loader:
        with autocast("cuda"):
            loss = D(G(x).detach()).mean() - D(x).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        (10 * gradient_penalty(D, x)).backward()  # wrong MPA224
        scaler.scale(10 * gradient_penalty(D, x)).backward()  # right
        scaler.step(optimizer)
        scaler.update()
""",
    "gradients that a hook zeroes, if the optimizer is the trainer's": """
class Trainer:
    def __init__(self, model):
        self.model = model.cuda()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def get_optimizer(self):
        return self.optimizer

    def iteration(self, batch):
        with autocast("cuda"):
            loss = self.model(batch).mean()
        self.scaler.scale(loss).backward()  # MPA228
        self.scaler.step(self.optimizer)
        self.scaler.update()

class Hook:
    def __init__(self, trainer, latent):
        self.optimizer = torch.optim.SGD([latent], lr=0.1)  # wrong
        self.optimizer = trainer.get_optimizer()  # right

    def after(self):
        self.optimizer.zero_grad()
""",
    "one trainer of several, each with a scaler of its own": """
from engine import Trainer

class First(Trainer):
    def build(self, model):
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda") if self.amp else None

    def iteration(self, batch):
        with autocast("cuda"):
            loss = self.model(batch).mean()
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)  # MPA204
        self.scaler.update()  # right

class Second(Trainer):
    def build(self, model):
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda") if self.amp else None

    def iteration(self, batch):
        scaler = self.scaler
        with autocast("cuda"):
            loss = self.model(batch).mean()
        self.optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(self.optimizer)
        scaler.update()
""",
}

ELSEWHERE = {
    "two trainers of one name": {
        "base.py": """
class BaseTrainer:
    def __init__(self, config, model, loader):
        self.config, self.model, self.loader = config, model, loader
        self.optimizer = self.init_optimizer()

    def init_optimizer(self):
        return torch.optim.AdamW(self.model.parameters(), lr=self.config.lr)

    def train_on_batch(self, batch):
        raise NotImplementedError

    def train(self):
        for batch in self.loader:
            self.train_on_batch(batch)
""",
        "one.py": """
from base import BaseTrainer


class Trainer(BaseTrainer):
    def __init__(self, config, model, loader):
        super().__init__(config, model, loader)
        self.scaler = GradScaler("cuda")

    def train_on_batch(self, batch):
        with autocast("cuda"):
            loss = self.model(batch).mean()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)  # wrong MPA204
        self.scaler.step(self.optimizer)  # right
        self.scaler.update()  # right
        self.optimizer.zero_grad()
""",
        "two.py": """
from base import BaseTrainer


class Trainer(BaseTrainer):
    def __init__(self, config, model, loader):
        super().__init__(config, model, loader)
        self.scaler = GradScaler("cuda")

    def train_on_batch(self, batch):
        with autocast("cuda"):
            loss = self.model(batch).sum()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
""",
    },
    "a model of which only the call is in sight": """
class Trainer:
    def __init__(self, experiment, args):
        self.experiment = experiment
        self.half = args.half
        self.scaler = GradScaler("cuda", enabled=False)  # wrong
        self.scaler = GradScaler("cuda", enabled=args.half)  # right

    def before(self):
        self.model = self.experiment.get_model()
        self.optimizer = self.experiment.get_optimizer()

    def iteration(self, batch):
        with autocast("cuda", enabled=self.half):
            outputs = self.model(batch)
        loss = outputs["loss"]
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # wrong MPA201
        self.scaler.scale(loss).backward()  # right
        self.scaler.step(self.optimizer)
        self.scaler.update()
""",
    "a loss that the forward keeps": {
        "model.py": """
class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.last_loss = None

    def forward(self, x, y=None):
        out = self.layer(x)
        self.last_loss = None if y is None else nn.functional.cross_entropy(out, y)
        return out
""",
        "train.py": """
from model import Transformer

model = Transformer()
optimizer = torch.optim.AdamW(model.parameters())
scaler = GradScaler("cuda")
for x, y in torch.load("data.pt"):
    with autocast("cuda"):
        model(x, y)
        loss = model.last_loss
    loss.backward(retain_graph=True)  # wrong
    scaler.scale(loss).backward()  # wrong MPA224
    scaler.scale(loss).backward()  # right
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
""",
    },
    "contexts of which one is from a file without autocast": {
        "quiet.py": """
from contextlib import contextmanager


@contextmanager
def null_context():
    yield
""",
        "train.py": """
from functools import partial

from quiet import null_context


def train(model, loader, use_amp):
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda", enabled=use_amp)  # right
    context = partial(autocast, "cuda") if use_amp else null_context
    for x in loader:
        with context():
            loss = model(x).mean()
        loss.backward()  # wrong MPA201
        optimizer.step()  # wrong
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)  # right
        scaler.update()  # right
        optimizer.zero_grad()
""",
    },
    "a wrapper of a scaler whose caller says nothing": {
        "misc.py": """
class Scaler:
    def __init__(self, enabled=True):
        self._scaler = GradScaler("cuda", enabled=enabled)  # wrong MPA215
        self._scaler = GradScaler("cuda", enabled=enabled)  # right

    def __call__(self, loss, optimizer):
        self._scaler.scale(loss).backward()
        self._scaler.step(optimizer)
        self._scaler.update()
""",
        "train.py": """
from misc import Scaler


def main(args, model, loader):
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = Scaler()
    for x in loader:
        with autocast("cuda", enabled=bool(args.amp), dtype=torch.bfloat16):  # wrong
            loss = model(x).mean()  # wrong
        with autocast("cuda", enabled=bool(args.amp)):  # right
            loss = model(x).mean()  # right
        scaler(loss, optimizer)
        optimizer.zero_grad()
""",
    },
}

SHAPES = {
    name: files if isinstance(files, dict) else {"train.py": files}
    for group in (OBJECTS, SEVERAL, LOSSES, CLIPS, ITERATIONS, CORRELATED, PROTOCOL, ELSEWHERE)
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


def test_an_attribute_of_one_of_several_objects_is_no_identity() -> None:
    """Both wrappers' optimizers under one name would be one optimizer, which each of them zeroes as another."""
    wrappers = Choice(frozenset({Sym(("param", "f", "plain")), Sym(("param", "f", "sharded"))}))
    run, frame = cast(Run, None), cast(Frame, None)
    inner = objects.attribute(run, frame, wrappers, "optimizer", PathState())
    assert protocol.is_one_of_many(inner)
    assert not protocol.is_one_of_many(Sym(("attr", ("param", "f", "plain"), "optimizer")))
