"""Clips, unscale_ and steps of real code that were judged wrongly or missed when they were met first; see shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES: dict[str, dict[str, str]] = {
    "two clips, each where it is asked for, before one step": {
        "task.py": """
class Task:
    def __init__(self, model, hparams):
        self.model = model
        self.norm, self.value = hparams["clip_norm"], hparams.get("clip_value", 0)
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.scaler = GradScaler("cuda")

    def fit(self, loader):
        for x in loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)  # right
            if self.norm > 0:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.norm)  # MPA205
            if self.value > 0:
                nn.utils.clip_grad_value_(self.model.parameters(), self.value)
            self.scaler.step(self.optimizer)
            self.scaler.update()
""",
    },
    "a clip after the step in the same turn": {
        "train.py": """
def main(model, loader):
    optimizer = torch.optim.Adam(model.parameters())
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
        scaler.step(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA208
        scaler.update()
"""
    },
    "an unscale after the step of one of two branches": {
        "train.py": """
def main(model, loader, amp):
    optimizer = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cuda", enabled=amp)
    for x in loader:
        optimizer.zero_grad()
        if amp:
            scaler.scale(model(x).mean()).backward()
            scaler.step(optimizer)
            scaler.update()  # right
            scaler.unscale_(optimizer)  # wrong MPA208
            scaler.update()  # wrong
        else:
            model(x).mean().backward()
            optimizer.step()
"""
    },
    "a clip before the second of two steps": {
        "train.py": """
def main(model, loader, every):
    optimizer = torch.optim.Adam(model.parameters())
    taken = 0
    for x in loader:
        taken += 1
        model(x).mean().backward()
        optimizer.step()
        if taken == every:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA208
            taken = 0
            optimizer.step()  # right
            model.zero_grad()
"""
    },
    "a step only where there is a gradient": {
        "train.py": """
def main(model, loader):
    optimizer = torch.optim.Adam(model.parameters())
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        if any(any(p.grad is not None for p in group["params"]) for group in optimizer.param_groups):
            scaler.step(optimizer)  # right
            scaler.step(optimizer)  # wrong MPA204
        scaler.update()  # right
"""
    },
    "a step beside that of the scaler, for two networks of which one is fed by a guess": {
        "train.py": """
def main(make, make_critic, batches, switch):
    generator, critic = make(), make_critic()
    first = torch.optim.Adam(generator.parameters())
    second = torch.optim.Adam(critic.parameters())
    scaler = GradScaler("cuda")
    for x in batches:
        with autocast("cuda"):
            loss = critic(x).mean()
        second.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(second)
        scores = []
        with autocast("cuda"):
            for part in x:
                scores.append(critic(generator(part)))
            loss = switch(scores).mean()
        first.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(first)
        first.step()  # wrong MPA209
        scaler.update()
"""
    },
    "a raw step after unscale_, for two networks of which one is fed by a guess": {
        "train.py": """
def main(make, make_critic, batches, switch):
    generator, critic = make(), make_critic()
    first = torch.optim.Adam(generator.parameters())
    second = torch.optim.Adam(critic.parameters())
    scaler = GradScaler("cuda")
    for x in batches:
        with autocast("cuda"):
            loss = critic(x).mean()
        second.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(second)
        scores = []
        with autocast("cuda"):
            for part in x:
                scores.append(critic(generator(part)))
            loss = switch(scores).mean()
        first.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(first)
        first.step()  # wrong MPA203
        scaler.step(first)  # right
        scaler.update()
"""
    },
    "a clip by hand that takes one tensor too": {
        "clips.py": """
def clip_grad_value_(parameters, top, norm_type=2):
    if isinstance(parameters, torch.Tensor):
        parameters = [parameters]
    parameters = list(filter(lambda p: p.grad is not None, parameters))
    if top is not None:
        top = float(top)
    total = 0
    for p in parameters:
        total += p.grad.data.norm(norm_type).item() ** norm_type
        if top is not None:
            p.grad.data.clamp_(min=-top, max=top)  # wrong MPA205
            p.grad.data.clamp_(min=-top, max=top)  # right
    return total ** (1.0 / norm_type)
""",
        "train.py": """
from clips import clip_grad_value_


def main(model, loader):
    optimizer = torch.optim.Adam(model.parameters())
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        clip_grad_value_(model.parameters(), 5.0)  # wrong
        clip_grad_value_(model.parameters(), None)  # right
        scaler.step(optimizer)
        scaler.update()
""",
    },
    "a check of options that goes through their names": {
        "train.py": """
def build(options):
    assert all(name == "dropout" for name in options)
    return nn.Linear(2, options.get("width", 2)).cuda()


def main(loader, options, every, fp16):
    model = build(options)
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda", enabled=fp16)
    for step, x in enumerate(loader):
        with autocast("cuda", enabled=fp16):
            loss = model(x).mean() / every
        scaler.scale(loss).backward()
        if (step + 1) % every == 0:
            scaler.step(optimizer)
            scaler.step(optimizer)  # wrong MPA209
            scaler.update()
            optimizer.zero_grad()
"""
    },
    "an accumulation that tells the synchronisation of gradients too": {
        "train.py": """
from contextlib import nullcontext


def main(model, loader, every, distributed):
    assert len(loader) % every == 0
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda")
    for number, x in enumerate(loader):
        if distributed and not (number % every == every - 1):
            quiet = model.no_sync()
        else:
            quiet = nullcontext()
        with quiet:
            with autocast("cuda"):
                loss = model(x).mean() / every
            scaler.scale(loss).backward()
            if number % every == every - 1:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.step(optimizer)  # wrong MPA209
                scaler.update()
                optimizer.zero_grad()
"""
    },
    "an optimizer that only the loop meets, in two arms of one flag": {
        "trainer.py": """
class Trainer:
    def __init__(self, exp, args):
        self.exp, self.fp16 = exp, args.fp16
        self.scaler = GradScaler("cuda", enabled=args.fp16)

    def train(self):
        self.optimizer = self.exp.get_optimizer(self.exp.batch)
        self.model = self.exp.get_model()
        for self.iter in range(self.exp.max_iter):
            self.train_one_iter()

    def train_one_iter(self):
        x, y = self.exp.next()
        with autocast("cuda", enabled=self.fp16):
            loss = self.model(x, y)["loss"]
        if not self.exp.use_grad_acc:
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.step(self.optimizer)  # wrong MPA209
            self.scaler.update()
        else:
            self.scaler.scale(loss).backward()
            if (self.iter + 1) % self.exp.every == 0:
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()
""",
        "train.py": """
from settings import args, exp
from trainer import Trainer

Trainer(exp, args).train()
""",
    },
    "options that some paths have asked before unscale_": {
        "train.py": """
def build(cfg, parameters):
    if cfg["ZERO"]:
        return torch.optim.SGD(parameters, lr=0.1)
    else:
        return torch.optim.Adam(parameters)


def main(cfg, model, head, loader):
    if cfg["SIZE"] == [112, 112]:
        head = nn.Linear(2, 2)
    optimizer = build(cfg, model.parameters())
    scaler = GradScaler("cuda", enabled=cfg["AMP"])
    for x in loader:
        with autocast("cuda", enabled=cfg["AMP"]):
            loss = head(model(x)).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()  # wrong MPA203
        scaler.step(optimizer)  # right
        scaler.update()
        optimizer.zero_grad()
"""
    },
    "a break at the end of a schedule, between step and zero_grad": {
        "train.py": """
from settings import args


def train(model, loader, optimizer, scheduler, scaler):
    for epoch in range(10):
        for number, x in enumerate(loader):
            with autocast("cuda"):
                loss = model(x).mean() / args.every
            scaler.scale(loss).backward()
            if (number + 1) % args.every == 0:
                scaler.step(optimizer)
                scaler.step(optimizer)  # wrong MPA209
                scaler.update()
                scheduler.step()
                if scheduler.get_last_lr()[0] == 0:
                    break
                optimizer.zero_grad()


model = nn.Linear(2, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train(model, args.loader, optimizer, args.scheduler(optimizer), GradScaler("cuda"))
"""
    },
    "batches out of a generator, of which not each is followed by zero_grad": {
        "train.py": """
from logger import MetricLogger
from settings import args


def train(model, loader, optimizer, scaler):
    for number, x in enumerate(MetricLogger().log_every(loader, 10)):
        with autocast("cuda"):
            loss = model(x).mean() / args.every
        scaler.scale(loss).backward()  # right
        scaler.scale(loss).backward()  # wrong MPA228
        if (number + 1) % args.every == 0:  # right
            scaler.step(optimizer)  # right
            scaler.update()  # right
            optimizer.zero_grad()  # right
        scaler.step(optimizer)  # wrong
        scaler.update()  # wrong
        if (number + 1) % args.every == 0:  # wrong
            optimizer.zero_grad()  # wrong


model = nn.Linear(2, 2).cuda()
train(model, args.loader, torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cuda"))
""",
        "logger.py": """
class MetricLogger:
    def log_every(self, iterable, every):
        number = 0
        for thing in iterable:
            yield thing
            if number % every == 0:
                print(number)
            number += 1
""",
    },
    "folds of which some are trained, and an accumulation": {
        "train.py": """
from settings import config


def train(model, loader, optimizer, scaler):
    for number, x in enumerate(loader):
        with autocast("cuda", enabled=config.amp):
            loss = model(x).mean() / config.every
        scaler.scale(loss).backward()
        if (number + 1) % config.every == 0:
            scaler.unscale_(optimizer)  # right
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()


for fold in range(config.folds):
    if fold in config.trained:
        model = nn.Linear(2, 2).cuda()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, config.loader, optimizer, GradScaler("cuda", enabled=config.amp))
"""
    },
    "a clip that the configuration names": {
        "train.py": """
class Solver:
    def __init__(self, config, model, loader):
        self.model, self.loader = model, loader
        self.clip_grad_norm = config.make("clip_grad_norm")
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.scaler = GradScaler("cuda")

    def fit(self):
        for x in self.loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)  # right
            if self.clip_grad_norm is not None:
                self.clip_grad_norm(self.model.parameters())  # wrong MPA205
                self.clip_grad_norm(self.model.parameters())  # right
            self.scaler.step(self.optimizer)
            self.scaler.update()


def main(config, loader):
    Solver(config, nn.Linear(2, 2), loader).fit()
"""
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
