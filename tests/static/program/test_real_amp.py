"""Shapes of AMP code that were judged wrongly or missed when they were met first; see shapes.py for the form."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.settings import Settings
from mpaudit.static.run import lint
from tests.static.program.shapes import HEAD, reported, variant

SHAPES: dict[str, dict[str, str]] = {
    "an autocast that is handed on, or nothing in its place": {
        "train.py": """
from contextlib import suppress
from functools import partial


def train(model, loader, use_amp):
    amp_autocast = suppress
    scaler = None
    if use_amp:
        amp_autocast, scaler = partial(autocast, "cuda"), GradScaler("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        with amp_autocast():
            loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        measure(model, loader, amp_autocast=amp_autocast)


def measure(model, loader, amp_autocast=suppress):
    model.eval()
    found = []
    with torch.no_grad():
        for x, y in loader:
            with amp_autocast():  # right
                found.append(model(x))  # right
            amp_autocast()  # wrong MPA105
            found.append(model(x))  # wrong
    return found
""",
    },
    "a step function for training, and one for evaluation, of one maker": {
        "losses.py": """
def get_step_fn(train, optimize_fn, accum):
    count = 0

    def step_fn(state, batch):
        nonlocal count
        model = state["model"]
        if train:
            with autocast("cuda"):
                loss = model(batch).mean() / accum
            state["scaler"].scale(loss).backward()
            count += 1
            if count == accum:
                count = 0
                optimize_fn(state["optimizer"], state["scaler"], model.parameters())
                state["optimizer"].zero_grad()
        else:
            with torch.no_grad():
                loss = model(batch).mean()
        return loss

    return step_fn


def get_optimize_fn(clip):
    def optimize_fn(optimizer, scaler, params):
        scaler.unscale_(optimizer)  # right
        if clip >= 0:
            nn.utils.clip_grad_norm_(params, max_norm=clip)  # MPA205
        scaler.step(optimizer)
        scaler.update()

    return optimize_fn
""",
        "train.py": """
import losses


def main(cfg, loader):
    model = nn.Conv2d(3, 8, 3).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    state = dict(optimizer=optimizer, scaler=GradScaler("cuda"), model=model)
    optimize_fn = losses.get_optimize_fn(cfg.clip)
    train_step_fn = losses.get_step_fn(True, optimize_fn, cfg.accum)
    eval_step_fn = losses.get_step_fn(False, optimize_fn, cfg.accum)
    for step, batch in enumerate(loader):
        train_step_fn(state, batch)
        if step % 100 == 0:
            eval_step_fn(state, batch)
""",
    },
    "a trainer of a framework, whose network is made by another method and wrapped": {
        "coop.py": """
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_optimizer


class Net(nn.Module):
    def __init__(self, clip_model):
        super().__init__()
        self.encoder, self.logit_scale = clip_model.visual, clip_model.logit_scale

    def forward(self, image):
        return self.logit_scale.exp() * self.encoder(image)


@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    def build_model(self):
        cfg = self.cfg
        self.weight = cfg.weight
        self.model = Net(load_clip_to_cpu(cfg))
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.scaler = GradScaler() if cfg.TRAINER.COOP.PREC == "amp" else None
        if torch.cuda.device_count() > 1:
            self.model = nn.DataParallel(self.model)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        prec = self.cfg.TRAINER.COOP.PREC
        if prec == "amp":
            with autocast("cuda"):
                output = self.model(image)
                loss = nn.functional.cross_entropy(output, label) + self.weight * output.mean()
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()  # right
            loss.backward()  # wrong MPA202
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            self.model_backward_and_update(nn.functional.cross_entropy(self.model(image), label))
""",
    },
    "a network whose switches a library sets": {
        "train.py": """
from fastcore.all import store_attr


class Net(nn.Module):
    def __init__(self, test_mode=False):
        super().__init__()
        store_attr()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x, scale=None):
        test_mode = self.test_mode
        y = self.conv(x)
        if test_mode:
            assert(scale is not None)
            return y * scale.cuda()
        return y


def train(loader):
    model = Net().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
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


if __name__ == "__main__":
    train(torch.load("x.pt"))
""",
    },
    "a cycle GAN of many forwards, resumed by a function that gives four or five things": {
        "train.py": """
from build import build_model
from resume import load_resume


def main(config, loader):
    scaler = GradScaler("cuda")
    a2b, b2a = build_model(config), build_model(config)
    d_a, d_b = build_model(config), build_model(config)
    g_opt = torch.optim.Adam([*a2b.parameters(), *b2a.parameters()])
    d_opt = torch.optim.Adam([*d_a.parameters(), *d_b.parameters()])
    g_schedule = torch.optim.lr_scheduler.LambdaLR(g_opt, lambda epoch: 1.0)
    if config["resume"]:
        a2b, ema_a, start, g_opt, g_schedule = load_resume(a2b, None, g_opt, g_schedule, config["a"])
        b2a, ema_b, start, g_opt, g_schedule = load_resume(b2a, None, g_opt, g_schedule, config["b"])
    for real_a, real_b in loader:
        g_opt.zero_grad(set_to_none=True)
        with autocast("cuda"):
            fake_b, fake_a = a2b(real_a), b2a(real_b)
            cycle = (b2a(fake_b) - real_a).abs().mean() + (a2b(fake_a) - real_b).abs().mean()
            same = (b2a(real_a) - real_a).abs().mean() + (a2b(real_b) - real_b).abs().mean()
            again = (b2a(a2b(fake_a)) - fake_a).abs().mean() + (a2b(b2a(fake_b)) - fake_b).abs().mean()
            more = (b2a(a2b(b2a(fake_b))) - fake_a).abs().mean() + (a2b(b2a(a2b(fake_a))) - fake_b).abs().mean()
            g_loss = cycle + same + again + more + d_a(fake_a).mean() + d_b(fake_b).mean()
        scaler.scale(g_loss).backward()
        scaler.step(g_opt)  # right
        g_opt.step()  # wrong MPA203
        scaler.update()
        d_opt.zero_grad(set_to_none=True)
        with autocast("cuda"):
            d_loss = d_a(fake_a.detach()).mean() + d_b(fake_b.detach()).mean()
        scaler.scale(d_loss).backward()
        scaler.step(d_opt)
        scaler.update()
""",
        "resume.py": """
def load_weights(model, weights):
    kept = model.state_dict()
    for name, value in weights.items():
        if name in kept:
            kept[name] = value
    kept.update(weights)
    weights = kept
    count = len(weights)
    print(count)
    model.load_state_dict(weights)
    return model


def load_resume(model, ema, optimizer, schedule, path):
    checkpoint = torch.load(path)
    start = checkpoint["epoch"]
    model = load_weights(model, checkpoint["model"])
    if checkpoint["ema"] is not None:
        ema = load_weights(ema, checkpoint["ema"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    if schedule is not None:
        schedule.load_state_dict(checkpoint["schedule"])
        return model, ema, start, optimizer, schedule
    else:
        return model, ema, start, optimizer
""",
    },
    "a holder of losses, whose backward is handed the scaler": {
        "task.py": """
class Task:
    def __init__(self, conf):
        self.max_norm = conf.max_norm
        self.grad_scaler = GradScaler("cuda", enabled=conf.mixed_precision)

    def train_step(self, model, batch, optimizer, loss_factory):
        optimizer.zero_grad()
        with autocast("cuda"):
            loss_factory.calc(model(batch.cuda()))
        loss_factory.backward(self.grad_scaler)
        if self.max_norm:
            self.grad_scaler.unscale_(optimizer)  # right
            nn.utils.clip_grad_norm_(model.parameters(), self.max_norm)  # wrong MPA205
        self.grad_scaler.step(optimizer)
        self.grad_scaler.update()
""",
        "train.py": """
from build import build_losses, build_task


class Trainer:
    def __init__(self, conf, model, loader):
        self.task, self.losses = build_task(conf), build_losses(conf)
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def one_epoch(self):
        for batch in self.loader:
            self.task.train_step(self.model, batch, self.optimizer, self.losses)
""",
    },
    "a scaler for each epoch, in a method that was followed by itself before": {
        "train.py": """
class Trainer:
    def __init__(self, model, loader, epochs):
        self.model, self.loader, self.epochs = model, loader, epochs
        self.optimizer = torch.optim.Adam(model.parameters())
        self.scaler = GradScaler("cuda")

    def _epoch(self):
        scaler = GradScaler("cuda")  # wrong MPA213
        scaler = self.scaler  # right
        for x in self.loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            scaler.scale(loss).backward()
            scaler.step(self.optimizer)
            scaler.update()

    def fit(self):
        for _ in range(self.epochs):
            self._epoch()



def main(kinds, model, loader):
    trainer = kinds[model.kind](model, loader, 9)
    trainer.optimizer.zero_grad()
    trainer.fit()
""",
    },
    "a model of float64": {
        "train.py": """
def main(model, loader, precision):
    model = model.cuda()
    model.double()  # wrong MPA301
    if precision == "float64":  # right
        model.double()  # right
    optimizer = torch.optim.Adam(model.parameters())
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.bfloat16):
            loss = model(x).mean()
        loss.backward()
        optimizer.step()
"""
    },
    "two versions of a loss that a file compares, or a network that it trains": {
        "losses.py": """
class Fast(nn.Module):
    def forward(self, x, y):
        return ((x - y) ** 2).mean()


class Slow(nn.Module):
    def forward(self, x, y):
        return (x - y).pow(2).mean()


if __name__ == "__main__":
    import data

    one, other = nn.Linear(8, 8).cuda(), nn.Linear(8, 8).cuda()
    other.load_state_dict(one.state_dict())
    one.double()  # wrong MPA301
    other.double()  # wrong MPA301
    one.double()  # right
    other.double()  # right
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (one, other)]
    for x in data.loader(100):  # wrong
    for step in range(100):  # right
        x, y = torch.randn(16, 8).cuda().double(), torch.rand(16, 8).cuda().double()
        for net, loss, optimizer in zip((one, other), (Fast(), Slow()), optimizers):
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
"""
    },
    "a batch that is float64 by NumPy, or by name": {
        "train.py": """
import numpy as np


def main(loader):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    for rows in loader:
        x = torch.tensor(np.zeros((4, 2)))  # wrong MPA303
        x = torch.tensor(rows, dtype=torch.float64)  # right
        optimizer.zero_grad()
        loss = model(x).mean()
        loss.backward()
        optimizer.step()
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


RAW = """

def fit(loader):
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
            loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("path", "codes"), [("tests/test_sizes.py", []), ("train.py", ["MPA103", "MPA201"])])
def test_a_suite_of_tests_trains_nothing(tmp_path: Path, path: str, codes: list[str]) -> None:
    """What is silently bad for a training is hidden there by default, and shown when asked for."""
    (tmp_path / ".git").mkdir()
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(HEAD + RAW, encoding="utf-8")
    settings = Settings(root=str(tmp_path), codes=tuple(rulebook.headers()))
    assert [f.code for f in lint(["."], settings, cwd=tmp_path, jobs=1, use_cache=False).findings] == codes


FOUR = {
    "precision.py": HEAD
    + """
from contextlib import suppress


def get_autocast(precision):
    if precision == "amp":
        return torch.cuda.amp.autocast if torch.cuda.is_available() else torch.cpu.amp.autocast
    elif precision == "amp_bf16":
        cast = torch.cuda.amp.autocast if torch.cuda.is_available() else torch.cpu.amp.autocast
        return lambda: cast(dtype=torch.bfloat16)
    else:
        return suppress
""",
    "train.py": HEAD
    + """
from precision import get_autocast


def train(model, loader, args):
    optimizer = torch.optim.AdamW(model.parameters())
    autocast = get_autocast(args.precision)
    for x in loader:
        optimizer.zero_grad()
        autocast()
        loss = model(x).mean()
        loss.backward()
        optimizer.step()
""",
}


def test_one_of_four_autocasts_that_nothing_enters(tmp_path: Path) -> None:
    line = FOUR["train.py"].splitlines().index("        autocast()") + 1
    assert ("train.py", line, "MPA105") in reported(tmp_path, FOUR)


SUMMED = (
    HEAD
    + """
class Trainer:
    def __init__(self, model, norm, use_amp):
        self.model, self.norm = model, norm
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.scaler = GradScaler("cuda", enabled=use_amp)

    def train(self, loader):
        for i, x in enumerate(loader):
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            if self.norm is not None and self.norm > 0:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), self.norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
"""
)


def test_a_missing_zero_grad_is_told_once(tmp_path: Path) -> None:
    assert [code for _, _, code in reported(tmp_path, {"train.py": SUMMED})] == ["MPA228"]
