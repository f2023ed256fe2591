"""A training loop inside of an autocast region, or with one in each iteration: what is reported, and how bad it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.settings import Settings
from mpaudit.static.run import lint

HEAD = """
import torch
import torch.nn.functional as F


def train(model, loader, optimizer, optimizers, losses):
"""
WITH = "with torch.autocast('cuda', dtype=torch.bfloat16):"
ITERATION = """
{WITH}
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""
CASES = {
    "the loop inside": (ITERATION, [("MPA103", "error")]),
    "no cache of weights": (ITERATION, [("MPA103", "warning")]),
    "anew in each iteration": (
        """
for x, y in loader:
    {WITH}
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
""",
        [("MPA103", "warning")],
    ),
    "a loop over optimizers": (
        """
for x, y in loader:
    {WITH}
        F.cross_entropy(model(x), y).backward()
        for one in optimizers:
            one.step()
            one.zero_grad()
""",
        [("MPA103", "warning")],
    ),
    "the step outside": (
        """
for part in loader:
    optimizer.zero_grad()
    {WITH}
        for x, y in part:
            F.cross_entropy(model(x), y).backward()
    optimizer.step()
""",
        [("MPA103", "warning")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_how_bad_it_is(tmp_path: Path, case: str) -> None:
    text, expected = CASES[case]
    text = text.replace("{WITH}", WITH.replace("16):", "16, cache_enabled=False):") if "no cache" in case else WITH)
    body = "".join(f"    {line}\n" for line in text.strip().splitlines())
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(HEAD + body, encoding="utf-8")
    settings = Settings(root=str(tmp_path), codes=tuple(rulebook.headers()))
    audit = lint(["."], settings, cwd=tmp_path, jobs=1, use_cache=False)
    assert [(finding.code, finding.severity.value) for finding in audit.findings] == expected
