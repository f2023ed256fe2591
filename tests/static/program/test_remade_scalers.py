"""Scalers that are created anew in each epoch, and what else is said of them."""

from __future__ import annotations

from pathlib import Path

from tests.static.program.shapes import HEAD, reported


def test_one_of_losses_in_float32_overflows_nothing(tmp_path: Path) -> None:
    """It is needless (MPA216), and that it is created anew does no harm beside."""
    program = """
def epoch(model, loader, optimizer):
    scaler = GradScaler("cuda")
    for x in loader:
        loss = model(x).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def main(loader):
    model = nn.Linear(8, 8).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(10):
        epoch(model, loader, optimizer)
"""
    codes = [code for _, _, code in reported(tmp_path, {"train.py": HEAD + program}, all_codes=True)]
    assert codes == ["MPA216"]


def test_the_state_of_one_that_is_made_in_two_ways_need_not_be_saved_either(tmp_path: Path) -> None:
    program = """
try:
    grad_scaler = torch.GradScaler
except AttributeError:

    def grad_scaler(device, **kwargs):
        if torch.cuda.is_available():
            return torch.cuda.amp.GradScaler(**kwargs)
        else:
            return torch.cuda.amp.GradScaler(**kwargs)


class Trainer:
    def __init__(self, config, model):
        self.model = model
        self.on = config["enable_scaler"]
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def epoch(self, loader):
        scaler = grad_scaler("cuda", enabled=self.on)
        for x in loader:
            self.optimizer.zero_grad()
            with autocast("cuda", enabled=self.on):
                loss = self.model(x).mean()
            scaler.scale(loss).backward()
            scaler.step(self.optimizer)
            scaler.update()

    def fit(self, loader):
        for _ in range(10):
            self.epoch(loader)
            torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, "last.pt")

    def resume(self):
        self.optimizer.load_state_dict(torch.load("last.pt")["optimizer"])
"""
    codes = [code for _, _, code in reported(tmp_path, {"train.py": HEAD + program})]
    assert {code for code in codes if code != "MPA701"} == {"MPA213"}
