"""Loops over optimizers that are not known one by one; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES = {
    "a list that a function is given": """
def train(model, loader, optimizers, scaler):
    for x in loader:
        for optimizer in optimizers:
            optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        for optimizer in optimizers:  # wrong
            scaler.step(optimizer)  # wrong MPA204
        for optimizer in optimizers:  # right
            scaler.step(optimizer)  # right
        scaler.update()  # right
""",
    "gradients that are clipped before they are unscaled": """
class Trainer:
    def __init__(self, model, optimizers):
        self.model = model
        self.optimizers = list(optimizers)
        self.scaler = GradScaler("cuda")

    def fit(self, loader):
        for x in loader:
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # wrong MPA205
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # right
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
            self.scaler.update()
            self._zero_grad()

    def _zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
""",
    "one of some, beside that of the network before them": """
def main(loader, args):
    model = nn.Linear(8, 8).cuda()
    heads = [nn.Linear(8, n).cuda() for n in args.classes]
    first = torch.optim.Adam(model.parameters())
    others = [torch.optim.Adam(head.parameters()) for head in heads]
    scaler = GradScaler("cuda")
    for epoch in range(args.epochs):
        group = epoch % args.groups
        for x, y in loader:
            first.zero_grad()
            others[group].zero_grad()
            with autocast("cuda"):
                loss = nn.functional.cross_entropy(heads[group](model(x)), y)
            scaler.scale(loss).backward()
            scaler.step(first)
            others[group].step()  # wrong MPA203
            scaler.step(others[group])  # right
            scaler.update()
""",
    "one of a comprehension, by an index": """
def train(loader, model, groups, optimizer, heads, first):
    optimizers = [torch.optim.Adam(head.parameters()) for head in heads]
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        for i in range(2):
            optimizers[first + i].zero_grad()
            with autocast("cuda"):
                loss = heads[first + i](model(x), y).mean()
            scaler.scale(loss).backward()
            optimizers[first + i].step()  # wrong MPA203
            scaler.step(optimizers[first + i])  # right
        scaler.step(optimizer)
        scaler.update()
""",
    "a comprehension whose scaler is not updated": """
def train(loader, model, groups, optimizer, heads, first):
    optimizers = [torch.optim.Adam(head.parameters()) for head in heads]
    scaler = GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        for i in range(2):
            optimizers[first + i].zero_grad()
            with autocast("cuda"):
                loss = heads[first + i](model(x), y).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizers[first + i])
        scaler.step(optimizer)  # wrong MPA204
        scaler.step(optimizer)  # right
        scaler.update()  # right
""",
    "those that options ask for": """
from elsewhere import Shampoo, Lion


class Optimizers:
    def __init__(self, args, text, image):
        self.all = []
        one, other = self.make(args, text), self.make(args, image)
        self.all.append(one) if args.text else None
        self.all.append(other) if args.image else None
        self.scaler = GradScaler("cuda", enabled=args.amp)

    def make(self, args, model):
        if args.name == "lion":
            return Lion(model.parameters())
        elif args.name == "shampoo":
            return Shampoo(model.parameters())
        return torch.optim.AdamW(model.parameters())

    def step(self, loss):
        self.scaler.scale(loss).backward()
        for optimizer in self.all:  # wrong
            self.scaler.step(optimizer)  # wrong MPA204
        for optimizer in self.all:  # right
            self.scaler.step(optimizer)  # right
        self.scaler.update()  # right
        for optimizer in self.all:
            optimizer.zero_grad()


def main(args, text, image, loader):
    optimizers = Optimizers(args, text, image)
    for words, pixels in loader:
        with autocast("cuda", enabled=args.amp):
            loss = image(pixels, text(words)).mean()
        optimizers.step(loss)
""",
    "a list that is there where there is something to train": """
def train(args, model, loader):
    optimizers = None
    if args.train:
        optimizers = [torch.optim.AdamW(model.a.parameters()), torch.optim.AdamW(model.b.parameters())]
    scaler = GradScaler("cuda")
    for x in loader:
        for optimizer in optimizers:
            optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # wrong MPA205
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # right
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
""",
}

SILENT = {
    "a list that is made anew on the way, of which some are stepped": """
def build(model):
    optimizers = []
    for part in model.parts():
        optimizers.append(torch.optim.AdamW(part.parameters()))
    return optimizers


def rebuild(model):
    optimizers = []
    for part in model.pruned_parts():
        optimizers.append(torch.optim.AdamW(part.parameters()))
    return optimizers


def train(args, model, loader):
    optimizers = build(model)
    scaler = GradScaler("cuda")
    for i, x in enumerate(loader):
        if i % args.prune == 0:
            optimizers = rebuild(model)
        for optimizer in optimizers:
            optimizer.zero_grad()
        used = []
        for optimizer, wanted in zip(optimizers, [args.a, args.b, True]):
            if wanted:
                used.append(optimizer)
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        for optimizer in used:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in used:
            scaler.step(optimizer)
        scaler.update()
""",
    "all are emptied, and two of them stepped by their index": """
def train(model, loader, optimizers, scaler):
    for x in loader:
        for optimizer in optimizers:
            optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizers[0])
        scaler.step(optimizers[1])
        scaler.update()
""",
    "one network after the other, each with its own": """
def train(models, loader, optimizers, scaler):
    for x in loader:
        for optimizer, model in zip(optimizers, models):
            optimizer.zero_grad()
            with autocast("cuda"):
                loss = model(x).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
        scaler.update()
""",
    "a step in each round, whichever it is": """
def train(model, loader, optimizers, scaler):
    for optimizer in optimizers:
        for x in loader:
            optimizer.zero_grad()
            with autocast("cuda"):
                loss = model(x).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
""",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant({"train.py": SHAPES[shape]}, "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant({"train.py": SHAPES[shape]}, "right")
    assert reported(tmp_path, sources) == []


@pytest.mark.parametrize("shape", SILENT)
def test_what_is_right_in_another_way_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant({"train.py": SILENT[shape]}, "right")
    assert reported(tmp_path, sources) == []
