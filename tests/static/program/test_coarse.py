"""A script that there is no end to is looked at again for what acts on the gradients only; see shapes.py for how a
shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.static.program import analysis
from tests.static.program.shapes import reported, variant

DRAWING = "\n".join(f"        images.append(pipe(model, {n}) if n > {n} else blank(images, {n}))" for n in range(150))
SHAPE = {
    "train.py": """
from drawing import draw
from trainer import Trainer


def predict(model, x):
    with autocast("cuda"):
        return model(x).mean()


def main(args, loader, logger):
    model = nn.Linear(2, 2).cuda()
    trainer = Trainer(args, model)
    for epoch in range(args.epochs):
        for x in loader:
            for part in x:
                draw(model, part, epoch)
            loss = predict(model, x)
            trainer.step(loss)
            rate = trainer.rate()
            if rate > args.rate:
                logger.tell(rate, epoch)


if __name__ == "__main__":
    main(args, loader, logger)
""",
    "drawing.py": f"""
def draw(model, x, n):
    images = []
    with autocast("cuda"):
        images.append(model(x))
{DRAWING}
    return images
""",
    "trainer.py": """
class Trainer:
    def __init__(self, args, model):
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def step(self, loss):
        self.scaler.scale(loss).backward()  # right
        loss.backward()  # wrong MPA202
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def rate(self):
        return self.optimizer.param_groups[0]["lr"]
""",
}


@pytest.fixture
def _little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "MAX_STEPS", 100)


@pytest.mark.usefixtures("_little_time")
def test_what_is_wrong_with_the_protocol_is_found(tmp_path: Path) -> None:
    sources, marks = variant(SHAPE, "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.usefixtures("_little_time")
def test_what_is_right_is_silent(tmp_path: Path) -> None:
    sources, _ = variant(SHAPE, "right")
    assert reported(tmp_path, sources) == []


@pytest.mark.usefixtures("_little_time")
def test_without_a_second_look_it_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_coarsely", lambda run, follow: None)
    sources, _ = variant(SHAPE, "wrong")
    assert reported(tmp_path, sources) == []


PER_EPOCH = {
    "train.py": """
def train_one_epoch(model, loader, optimizer):
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def main(model, loader, optimizer, path):
    if path.exists():
        optimizer.load_state_dict(torch.load(path)["optimizer"])
    for epoch in range(10):
        train_one_epoch(model, loader, optimizer)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
"""
}


@pytest.mark.parametrize("limit", range(8, 48, 2))
def test_a_scaler_of_each_epoch_need_not_be_saved_wherever_the_budget_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(analysis, "MAX_STEPS", limit)
    sources, _ = variant(PER_EPOCH, "right")
    assert "MPA214" not in {code for _, _, code in reported(tmp_path, sources)}
