"""What makes a draft of what was seen, and what one cause is said of once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.model import Confidence
from mpaudit.settings import Settings
from mpaudit.static.checks import protocol, scaler
from mpaudit.static.checks.draft import Draft
from mpaudit.static.program.definitions import Site
from mpaudit.static.run import lint

UNSCALED = Site("train.py", 7, 9, 7, 27)
AGAIN = Draft("MPA206", UNSCALED, "", "", Confidence.LIKELY)


def leaving(confidence: Confidence) -> Draft:
    return Draft("MPA207", Site("train.py", 9, 9, 9, 17), "", "", confidence, ((UNSCALED, "unscaled here"),))


def test_an_unscale_that_is_reached_again_by_an_early_exit_is_the_exit() -> None:
    early = leaving(Confidence.LIKELY)
    assert protocol.one_per_exit([AGAIN, early]) == [early]


def test_an_exit_that_is_not_shown_says_nothing_of_the_unscale() -> None:
    early = leaving(Confidence.POSSIBLE)
    assert protocol.one_per_exit([AGAIN, early]) == [AGAIN, early]


def test_another_unscale_of_the_same_iteration_is_its_own_mistake() -> None:
    early = leaving(Confidence.LIKELY)
    other = Draft("MPA206", UNSCALED, "", "", Confidence.LIKELY, ((Site("train.py", 5, 9, 5, 27), "unscaled first"),))
    assert protocol.one_per_exit([other, early]) == [other, early]


@pytest.mark.parametrize(("context", "lines"), [("if True", [9]), ("with autocast('cuda')", [])])
def test_a_loss_that_is_lost_track_of_is_no_exception_where_nothing_is_lowered(
    tmp_path: Path, context: str, lines: list[int]
) -> None:
    text = f"""
import torch
from torch import nn
from torch.amp import GradScaler, autocast

def main(loader, kind):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        if kind == "other":
            scaler.scale(other_objective(x)).backward()
        else:
            {context}:
                loss = model(x).mean()
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    audit = lint(["."], Settings(root=str(tmp_path), codes=("MPA216",)), cwd=tmp_path, jobs=1, use_cache=False)
    assert [finding.line for finding in audit.findings] == lines


@pytest.mark.parametrize("name", ["enable_grad_scaler", "scaler_enabled", "args.use_amp", "self.fp16"])
def test_a_name_that_says_it_is_a_switch(name: str) -> None:
    assert scaler.flag_like(name)


@pytest.mark.parametrize("name", ["device", "amp_dtype", "init_scale", "opt_level"])
def test_a_name_that_says_something_else(name: str) -> None:
    assert not scaler.flag_like(name)
