"""Styles of training code in which planted defects stayed unseen, each right and wrong; see shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SURVIVORS: dict[str, str | dict[str, str]] = {
    "a step under an autocast or nothing, whichever the precision asks for": """
from contextlib import suppress
from functools import partial


def get_autocast(precision, sharded=False):
    if sharded or precision == "fp32":
        return suppress
    dtype = torch.float16 if precision == "amp" else torch.bfloat16
    return partial(torch.amp.autocast, device_type="cuda", dtype=dtype)


def train(model, loader, optimizer, scaler, args):
    context = get_autocast(args.precision, args.sharded)
    for x in loader:
        optimizer.zero_grad()
        with context():
            loss = model(x).mean()
        scaler.scale(loss).backward()
        with context():  # wrong
            scaler.step(optimizer)  # wrong MPA104
        scaler.step(optimizer)  # right
        scaler.update()


def main(args, loader):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, loader, optimizer, GradScaler("cuda"), args)
""",
    "an autocast or nothing, whichever the precision asks for": """
from contextlib import suppress
from functools import partial


def get_autocast(precision, device_type="cuda", sharded=False):
    if sharded:
        return suppress
    if precision == "amp":
        dtype = torch.bfloat16
    elif precision == "none":
        dtype = torch.float32
    else:
        return suppress
    return partial(torch.amp.autocast, device_type=device_type, dtype=dtype)


def train(model, loader, args):
    context = get_autocast(args.precision, device_type=torch.device(args.device).type)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in loader:
        optimizer.zero_grad()
        with context():  # right
            loss = model(x).mean()  # right
        context()  # wrong MPA105
        loss = model(x).mean()  # wrong
        loss.backward()
        optimizer.step()
""",
    "a counter that begins where a checkpoint ended": """
def main(loader, every, total, path, skips):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    done = torch.load(path)["step"]
    batches = iter(loader)
    while done <= total:
        with autocast("cuda"):
            loss = model(next(batches)).mean()
        due = (done + 1) % every == 0 or done == total
        scaler.scale(loss).backward()
        done += 1
        skip = False
        if torch.isnan(loss):
            skip = True
        if due and (not skip):
            scaler.unscale_(optimizer)
            if skips:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)  # right
            optimizer.step()  # wrong MPA203
            scaler.update()
            optimizer.zero_grad()
""",
    "a step that is left out for a large gradient, without a word to the scaler": """
def main(loader, every, total, path, limit):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    done = torch.load(path)["step"]
    batches = iter(loader)
    while done <= total:
        with autocast("cuda"):
            loss = model(next(batches)).mean()
        due = (done + 1) % every == 0 or done == total
        scaler.scale(loss).backward()
        done += 1
        skip = False
        if torch.isnan(loss) or torch.isinf(loss):
            skip = True
        if due and (not skip):
            scaler.unscale_(optimizer)  # MPA206
            if limit > 0:
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item()
                if norm > limit * 5:
                    skip = True
                    scaler.update()  # right
            if not skip:
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
""",
    "a dtype that is looked up by what the GPU can do": """
dtype = "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float16"
device = "cuda"
exec(open("configurator.py").read())
kind = "cuda" if "cuda" in device else "cpu"
lowered = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
context = nullcontext() if kind == "cpu" else autocast(device_type=kind, dtype=lowered)
model = nn.Linear(2, 2).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = GradScaler("cuda", enabled=(dtype == "float16"))  # right
scaler = GradScaler("cuda", enabled=False)  # wrong
for x in batches():
    with context:
        loss = model(x).mean()
    scaler.scale(loss).backward()  # MPA201
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
""",
    "a branch for each of two dtypes": """
def main(loader):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    half = not torch.cuda.is_bf16_supported()
    scaler = GradScaler("cuda")  # right
    dtype = torch.float16 if half else torch.bfloat16
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=dtype):
            loss = model(x).mean()
        if half:  # right
            scaler.scale(loss).backward()  # right
            scaler.step(optimizer)  # right
            scaler.update()  # right
        else:  # right
            loss.backward()  # right
            optimizer.step()  # right
        loss.backward()  # wrong MPA201
        optimizer.step()  # wrong
""",
    "a dtype that an option chooses": """
def main(loader, args):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float32  # right
    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float16  # wrong
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=dtype):
            loss = model(x).mean()
        loss.backward()  # wrong MPA201
        loss.backward()  # right
        optimizer.step()
""",
    "a list of optimizers that those there are are appended to": """
class Optimizers:
    def __init__(self, args, encoder, unet):
        self.optimizers = []
        self.encoder = torch.optim.AdamW(encoder.parameters()) if args.encoder else None
        self.unet = torch.optim.AdamW(unet.parameters()) if args.unet else None
        self.optimizers.append(self.encoder) if self.encoder is not None else None
        self.optimizers.append(self.unet) if self.unet is not None else None
        self.scaler = GradScaler("cuda", enabled=args.amp)

    def step(self, loss, step):
        self.scaler.scale(loss).backward()
        if (step + 1) % 4 == 0:
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)  # MPA204
            self.scaler.update()  # right
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)


def main(args, encoder, unet, loader):
    optimizers = Optimizers(args, encoder, unet)
    for step, x in enumerate(loader):
        with autocast("cuda", enabled=args.amp):
            loss = unet(encoder(x)).mean()
        optimizers.step(loss, step)
""",
    "an optimizer of groups that the model gives": """
class Net(nn.Module):
    def __init__(self, emb):
        super().__init__()
        self.encoder = nn.Linear(512, 512).to("cuda", torch.float32)
        self.color = nn.Linear(512, 512)
        self.emb = emb

    def forward(self, x):
        return self.color(self.encoder(x.half().float()))

    def get_params(self, lr, decay=0):
        if self.emb < 0:
            return [{"params": self.color.parameters(), "lr": lr}]
        params = [{"params": self.encoder.parameters(), "lr": lr}]
        lr = lr * 10
        lr = lr + 1
        lr = lr - 1
        params.append({"params": self.color.parameters(), "lr": lr})
        return params


class Trainer:
    def __init__(self, model, optimizer):
        self.model = model
        self.optimizer = optimizer(self.model)
        self.scaler = GradScaler("cuda")

    def train(self, loader):
        self.model.half().train()  # wrong MPA221
        for x in loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()


def main(args, loader):
    model = Net(args.emb)
    optimizer = lambda model: torch.optim.Adam(model.get_params(args.lr))
    Trainer(model, optimizer).train(loader)
""",
    "one of two functions that resume leaves the scaler aside": """
def save(model, optimizer, scaler, path):
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, path)


def resume(model, optimizer, path, scaler=None):
    state = torch.load(path)
    optimizer.load_state_dict(state["optimizer"])  # MPA214
    if scaler is not None and "scaler" in state:
        scaler.load_state_dict(state["scaler"])  # right
        model.train()  # wrong
    model.load_state_dict(state["model"])


def resume_elsewhere(model, optimizer, path, scaler):
    state = torch.load(path)
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])


def main(loader, path, other):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    if other:
        resume_elsewhere(model, optimizer, path, scaler)
    else:
        resume(model, optimizer, path, scaler)
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    save(model, optimizer, scaler, path)
""",
    "two arms for a scaler that is there or not": """
def main(args, model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if args.amp:
        scaler = GradScaler("cuda", enabled=True)  # right
        scaler = GradScaler("cuda", enabled=False)  # wrong
    else:
        scaler = None
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", enabled=scaler is not None):
            loss = model(x).mean()
        if scaler is None:
            loss.backward()
        else:
            scaler.scale(loss).backward()  # MPA201
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
""",
    "a step after the loop for the rest of the batches": """
def train(model, loader, optimizer, scaler, start, every):
    last = start
    for step, x in enumerate(loader, start=start + 1):
        last = step
        with autocast("cuda"):
            loss = model(x).mean() / every
        scaler.scale(loss).backward()
        if step % every == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            model.train()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
    if last > start and last % every != 0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.step(optimizer)  # wrong MPA209
        scaler.update()
        optimizer.zero_grad(set_to_none=True)


def main(loader, start, every):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    train(model, loader, optimizer, scaler, start, every)
""",
    "gradients emptied before the step for the rest of the batches": """
def train(model, loader, optimizer, scaler, start, every):
    last = start
    for step, x in enumerate(loader, start=start + 1):
        last = step
        with autocast("cuda"):
            loss = model(x).mean() / every
        scaler.scale(loss).backward()
        if step % every == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
    if last > start and last % every != 0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.zero_grad()  # wrong MPA211
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)


def main(loader, start, every):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    train(model, loader, optimizer, scaler, start, every)
""",
    "one of two scripts does not load what its saver got": {
        "keep.py": """
def checkpoint(path, model=None, optimizer=None, **more):
    if model is None:
        return torch.load(path)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    for key, value in more.items():
        state[key] = value.state_dict() if hasattr(value, "state_dict") else value
    torch.save(state, path)
""",
        "train.py": """
from keep import checkpoint

model = nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = GradScaler("cuda")
state = checkpoint("last.pt")
model.load_state_dict(state["model"])
optimizer.load_state_dict(state["optimizer"])  # MPA214
scaler.load_state_dict(state["scaler"])  # right
for x in loader():
    optimizer.zero_grad()
    with autocast("cuda"):
        loss = model(x).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    checkpoint("last.pt", model=model, optimizer=optimizer, scaler=scaler)
""",
        "other.py": """
from keep import checkpoint

model = nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = GradScaler("cuda")
state = checkpoint("last.pt")
optimizer.load_state_dict(state["optimizer"])
scaler.load_state_dict(state["scaler"])
checkpoint("last.pt", model=model, optimizer=optimizer, scaler=scaler)
""",
    },
    "a wrapper whose caller is not in sight": """
class NativeScaler:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer, parameters, clip):
        loss.backward(retain_graph=True)  # wrong
        self._scaler.scale(loss).backward()  # MPA224
        self._scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        self._scaler.step(optimizer)
        self._scaler.update()
""",
    "a wrapper that scales a loss and lets go of it": """
class NativeScaler:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer, parameters, clip):
        self._scaler.scale(loss).backward()  # right
        self._scaler.scale(loss)  # wrong
        loss.backward()  # wrong MPA202
        self._scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        self._scaler.step(optimizer)
        self._scaler.update()
""",
    "gradients unscaled after the step of one branch, before that of the other": """
class Experiment:
    def __init__(self, args):
        self.args = args
        self.model = self.build().cuda()

    def train(self, loader):
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.args.rate)
        if self.args.use_amp:
            scaler = GradScaler("cuda")
        for epoch in range(self.args.epochs):
            for x, y in loader:
                optimizer.zero_grad()
                if self.args.use_amp:
                    with autocast("cuda"):
                        loss = nn.functional.mse_loss(self.model(x), y)
                else:
                    loss = nn.functional.mse_loss(self.model(x), y)
                if self.args.use_amp:
                    scaler.scale(loss).backward()
                    scaler.unscale_(optimizer)  # right
                    scaler.step(optimizer)
                    scaler.unscale_(optimizer)  # wrong MPA208
                    scaler.update()
                else:
                    loss.backward()
                    optimizer.step()


def main(args):
    Experiment(args).train(args.loader)
""",
}

SHAPES = {name: files if isinstance(files, dict) else {"train.py": files} for name, files in SURVIVORS.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert reported(tmp_path, sources) == []
