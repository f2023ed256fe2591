"""Decisions that hold for a whole run, in programs that take many others: nothing is wrong in these."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import HEAD, reported

CHECKS = "".join(
    f"            if cfg.limit_{n} < 0:\n                raise ValueError(cfg.limit_{n})\n" for n in range(20)
)

SILENT = {
    "a switch of what a function has read, among twenty limits": f"""
import yaml


def train(model, loader, path):
    with open(path) as file:
        cfg = yaml.load(file, Loader)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if cfg.training.amp:
        scaler = GradScaler("cuda")
    for epoch in range(10):
        for number, x in enumerate(loader):
            with autocast("cuda", enabled=cfg.training.amp):
                loss = model(x).mean()
{CHECKS}
            if cfg.training.amp:
                scaler.scale(loss).backward()
            else:
                loss.backward()
            if number % 4 == 0:
                if cfg.training.amp:
                    scaler.step(optimizer)
                    scaler.update()
                elif torch.isfinite(nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
                    optimizer.step()
                optimizer.zero_grad()
""",
    "a scaler that is on, or one that the switch turns off": """
def train(model, loader, args):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if args.use_amp and args.reuse:
        scaler = GradScaler("cuda")
    else:
        scaler = GradScaler("cuda", enabled=args.use_amp)
    for x in loader:
        with autocast("cuda", enabled=args.use_amp):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if args.use_amp:
            scaler.step(optimizer)
        else:
            optimizer.step()
        scaler.update()
        optimizer.zero_grad()
""",
    "a clip for both, after gradients that are unscaled where they were scaled": """
def epoch(conf, model, loader, optimizer, scaler, every):
    for number, x in enumerate(loader):
        with autocast("cuda", enabled=conf.fp16):
            loss = model(x).mean() / every
        scaler.scale(loss).backward()
        if (number + 1) % every == 0:
            if conf.clip > 0:
                if conf.fp16:
                    scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), conf.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
""",
    "gradients that are emptied before, or, where they are summed up, after the step": """
class Trainer:
    def __init__(self, model, config, loader):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.every = config["optim"].get("every", 1)
        self.scaler = GradScaler("cuda")

    def train(self):
        for epoch in range(10):
            for i, x in enumerate(self.loader):
                self.step = epoch * len(self.loader) + i + 1
                with autocast("cuda"):
                    loss = self.model(x).mean()
                loss = self.scaler.scale(loss)
                if self.every != 1:
                    loss = loss / self.every
                self._backward(loss)

    def _backward(self, loss):
        if self.every == 1:
            self.optimizer.zero_grad()
        loss.backward()
        if self.every != 1:
            if self.step % self.every != 0:
                return
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.every != 1:
            if self.step % self.every == 0:
                self.optimizer.zero_grad()
""",
    "a scaler, or none, that is asked for under another switch too": """
class BaseTrainer:
    def __init__(self, config, amp, cpu, model):
        self.config, self.cpu, self.model = config, cpu, model
        self.clip = config["optim"].get("clip")
        self.scaler = GradScaler("cuda") if amp and not self.cpu else None
        self.optimizer = torch.optim.AdamW(model.parameters())

    def _backward(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            if self.scaler:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=self.clip)
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()


class Trainer(BaseTrainer):
    def train(self, loader):
        for batch in loader:
            with autocast("cuda", enabled=self.scaler is not None):
                loss = self.model(batch).mean()
            loss = self.scaler.scale(loss) if self.scaler else loss
            self._backward(loss)
""",
    "a scaler that is asked what it has done": """
from torch.amp.grad_scaler import OptState


class Trainer:
    def __init__(self, model, loader, clip_norm, clip_value):
        self.model, self.loader, self.norm, self.value = model, loader, clip_norm, clip_value
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.scaler = GradScaler("cuda")

    def clip_values(self):
        if self.value is not None:
            state = self.scaler._per_optimizer_states[id(self.optimizer)]
            if state["stage"] is not OptState.UNSCALED:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_value_(self.model.parameters(), self.value)

    def train(self):
        for x in self.loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            if self.norm is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), self.norm)
            self.clip_values()
            self.scaler.step(self.optimizer)
            self.scaler.update()
""",
    "a raw backward in the arm without autocast, where paths of many kinds have met": """
def train(model, teacher, loader, optimizer, loss_scaler, criterion, use_amp, args):
    for x, y in loader:
        if use_amp:
            with autocast("cuda"):
                if args.kind != "none":
                    taught = teacher(x)
                output = model(x)
                if args.kind == "a":
                    loss = criterion(output, y, taught)
                elif args.kind == "b":
                    loss = criterion(output, taught)
                elif args.kind == "none":
                    loss = criterion(output, y)
                else:
                    assert False
        else:
            if args.kind != "none":
                taught = teacher(x)
            output = model(x)
            if args.kind == "a":
                loss = criterion(output, y, taught)
            elif args.kind == "b":
                loss = criterion(output, taught)
            elif args.kind == "none":
                loss = criterion(output, y)
            else:
                assert False
        if use_amp:
            loss_scaler(loss, optimizer, parameters=model.parameters())
            optimizer.zero_grad()
        else:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
""",
    "a switch of the module, by the version of torch": """
from packaging import version

use_native, use_apex = False, False
native_amp = False
if version.parse(torch.__version__) < version.parse("1.6"):
    from apex import amp
else:
    native_amp = True


class Trainer:
    def __init__(self, args, model, loader):
        self.args, self.model, self.loader = args, model, loader
        self.optim = torch.optim.AdamW(model.parameters())
        if args.fp16 and native_amp:
            self.scaler = GradScaler("cuda")

    def train(self):
        for number, x in enumerate(self.loader):
            if self.args.fp16 and native_amp:
                with autocast("cuda"):
                    loss = self.model(x).mean()
            else:
                loss = self.model(x).mean()
            if self.args.accumulate > 1:
                loss /= self.args.accumulate
            if self.args.fp16 and native_amp:
                self.scaler.scale(loss).backward()
            else:
                loss.backward()
            update = True
            if self.args.accumulate > 1:
                update = (number + 1) % self.args.accumulate == 0 or number == len(self.loader) - 1
            if update:
                if self.args.fp16 and native_amp:
                    self.scaler.step(self.optim)
                    self.scaler.update()
                else:
                    self.optim.step()
                for param in self.model.parameters():
                    param.grad = None


def main(args, model, loader):
    Trainer(args, model, loader).train()


if __name__ == "__main__":
    main(torch.load("args.pt"), nn.Linear(8, 8), torch.load("data.pt"))
""",
    "a scaler that is on, off or not there, in one branch, and what is left in the other": """
class Trainer:
    def __init__(self, model, config, loader):
        self.model, self.config, self.loader = model.to(config.device), config, loader
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        on_cuda = config.device.startswith("cuda")
        self.scaler = GradScaler("cuda", enabled=config.fp16 and on_cuda) if on_cuda else None

    def train(self):
        for step, x in enumerate(self.loader):
            with autocast("cuda", enabled=(self.scaler is not None)):
                loss = self.model(x).mean()
            if self.scaler is not None and not torch.isnan(loss):
                self.scaler.scale(loss).backward()
            elif not torch.isnan(loss):
                loss.backward()
            else:
                raise ValueError(step)
            if (step + 1) % self.config.every == 0:
                if self.scaler is not None:
                    self.scaler.unscale_(self.optimizer)
                    nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                else:
                    nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
                    self.optimizer.step()
                self.optimizer.zero_grad()


class Config:
    def __init__(self, **kwargs):
        self.device = kwargs.get("device", "cuda" if torch.cuda.is_available() else "cpu")
        self.fp16 = kwargs.get("fp16", False)
        self.every = kwargs.get("every", 1)


if __name__ == "__main__":
    Trainer(nn.Linear(8, 8), Config(every=2), torch.load("data.pt")).train()
""",
    "an option that a base class keeps": """
class Base:
    def __init__(self, args):
        self.args = args
        self.device = self.choose_device()
        self.model = self.build_model().to(self.device)
        self.epoch = 0
        self.best = None
        self.losses = []
        self.folder = args.folder
        print(self.folder)

    def build_model(self):
        raise NotImplementedError

    def choose_device(self):
        return torch.device("cuda" if self.args.use_gpu else "cpu")


class Experiment(Base):
    def __init__(self, args):
        super().__init__(args)

    def build_model(self):
        return nn.Linear(8, 8)

    def train(self, loader, scaler):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for x in loader:
            optimizer.zero_grad()
            with autocast("cuda", enabled=self.args.use_amp):
                loss = self.model(x).mean()
            scaler.scale(loss).backward()
            if self.args.use_amp:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()


def main(args):
    scaler = GradScaler("cuda", enabled=args.use_amp)
    Experiment(args).train(args.loader, scaler)


if __name__ == "__main__":
    main(torch.load("args.pt"))
""",
}


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_reported(name: str, tmp_path: Path) -> None:
    found = reported(tmp_path, {"train.py": HEAD + SILENT[name]}, all_codes=True)
    assert [code for _, _, code in found if code[3] in "12"] == []
