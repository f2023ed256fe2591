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
    "an optimizer of one of many names, made by a method that nothing calls": {
        "engine.py": """
def build_optimizer(model, cfg):
    if cfg.NAME == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=cfg.LR)
    elif cfg.NAME == "amsgrad":
        optimizer = torch.optim.Adam(model.parameters(), lr=cfg.LR, amsgrad=True)
    elif cfg.NAME == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=cfg.LR)
    elif cfg.NAME == "rmsprop":
        optimizer = torch.optim.RMSprop(model.parameters(), lr=cfg.LR)
    elif cfg.NAME == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.LR)
    else:
        raise NotImplementedError(cfg.NAME)
    return optimizer


class TrainerX:
    def __init__(self, cfg):
        self.cfg = cfg
        self.build_model()

    def build_model(self):
        raise NotImplementedError

    def run_epoch(self):
        for self.batch_idx, batch in enumerate(self.loader):
            self.forward_backward(batch)
""",
        "coop.py": """
from engine import TrainerX, build_optimizer


@register
class CoOp(TrainerX):
    def build_model(self):
        self.model = nn.Linear(8, 8).cuda()
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.scaler = GradScaler("cuda") if self.cfg.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = batch
        if self.cfg.PREC == "amp":
            with autocast("cuda"):
                loss = nn.functional.cross_entropy(self.model(image), label)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)  # right
            self.optim.step()  # wrong MPA203
            self.scaler.update()
""",
    },
    "a trainer that makes the optimizer by its name, and checks its batches": {
        "trainer.py": """
def init_optimizer(name, model, lr):
    if name.lower() == "adam":
        return torch.optim.Adam(model.parameters(), lr=lr)
    elif name.lower() == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=lr)


def to_device(batch, device):
    assert all(isinstance(value, torch.Tensor) for value in batch.values())
    return {key: value.to(device) for key, value in batch.items()}


class Trainer:
    def __init__(self, model, loader, name="adam", every=1, use_amp=False):
        self.model, self.loader, self.every, self.use_amp = model, loader, every, use_amp
        if self.use_amp:
            self.scaler = GradScaler("cuda")
        self.optimizer = init_optimizer(name, self.model, 0.1)

    def train(self):
        for i, batch in enumerate(self.loader):
            if not self.use_amp:
                loss, logits = self.model(**to_device(batch, "cuda"))
                loss.backward()
            else:
                with autocast("cuda"):
                    loss, _ = self.model(**to_device(batch, "cuda"))
                self.scaler.scale(loss).backward()
            if (i + 1) % self.every == 0 or i + 1 == len(self.loader):
                if not self.use_amp:
                    self.optimizer.step()
                else:
                    self.scaler.step(self.optimizer)  # right
                    self.scaler.update()
                    self.optimizer.step()  # wrong MPA203
                self.optimizer.zero_grad()
""",
    },
    "an optimizer that one of the project's own may go round": {
        "train.py": """
from optim import define_optimizer


def main(loader, config):
    model = nn.Conv2d(3, 8, 3).cuda()
    optimizer = define_optimizer(model, config["name"])
    scaler = GradScaler("cuda")
    for x in loader:
        with autocast("cuda"):
            loss = model(x.cuda()).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # right
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        scaler.step(optimizer)
        scaler.update()
        model.zero_grad()
""",
        "optim.py": """
class Lookahead(torch.optim.Optimizer):
    def __init__(self, optimizer, k=5):
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups
        self.k = k

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self, closure=None):
        return self.optimizer.step(closure)


def define_optimizer(model, name):
    if name == "ranger":
        radam = getattr(torch.optim, "RAdam")(model.parameters(), lr=0.1)
        return Lookahead(radam, k=5)
    return getattr(torch.optim, name)(model.parameters(), lr=0.1)
""",
    },
    "a dict of optimizers, each clipped and stepped in its turn": {
        "train.py": """
class Optimizers:
    def __init__(self, groups):
        self.optimizers = {name: torch.optim.Adam(group) for name, group in groups.items()}
        self.groups = groups

    def step_all(self, scaler):
        for name, optimizer in self.optimizers.items():
            scaler.unscale_(optimizer)  # right
            nn.utils.clip_grad_norm_(self.groups[name], 1.0)  # wrong MPA205
            nn.utils.clip_grad_norm_(self.groups[name], 1.0)  # right
            scaler.step(optimizer)

    def zero_all(self):
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()


def main(loader):
    first, second = nn.Linear(8, 8), nn.Linear(8, 1)
    optimizers = Optimizers({"first": list(first.parameters()), "second": list(second.parameters())})
    scaler = GradScaler("cuda")
    for x in loader:
        optimizers.zero_all()
        with autocast("cuda"):
            loss = second(first(x)).mean()
        scaler.scale(loss).backward()
        optimizers.step_all(scaler)
        scaler.update()
"""
    },
    "a network that trains itself with an optimizer that a subclass sets": {
        "train.py": """
class Base(nn.Module):
    def fit(self, loader, epochs, every, amp):
        scaler = GradScaler("cuda", enabled=amp)
        done = 0
        self.optimizer.zero_grad()
        for _ in range(epochs):
            for batch in loader:
                with autocast("cuda", enabled=amp):
                    loss = self.criterion(batch, self.forward(batch)) / every
                scaler.scale(loss).backward()
                done += 1
                if done < every:
                    continue
                scaler.unscale_(self.optimizer)  # right
                nn.utils.clip_grad_norm_(self.parameters(), 1.0)  # wrong MPA205
                nn.utils.clip_grad_norm_(self.parameters(), 1.0)  # right
                scaler.step(self.optimizer)
                scaler.update()
                self.optimizer.zero_grad()
                done = 0
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
