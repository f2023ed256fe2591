"""Calls that are not followed again: what they give is what the arguments of that call make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

PROGRAM = {
    "train.py": """
def picked(logits, labels):
    logs = torch.log_softmax(logits, dim=2)
    return torch.gather(logs, dim=2, index=labels.unsqueeze(2)).squeeze(-1)


def train(loader, model, reference):
    model.cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda")  # right
    for x, y in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.float16):
            with torch.no_grad():
                before = REFERENCE
            fixed = picked(before, y)
            loss = (picked(model(x.cuda()), y) - fixed).mean()
        loss.backward()  # wrong MPA201
        optimizer.step()  # wrong
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)  # right
        scaler.update()  # right
"""
}
"""A model is trained against a reference: one function is given what is fixed first, and then what is trained."""


@pytest.mark.parametrize(
    "reference", ["reference(x.cuda())", "model(x.cuda())", "torch.rand(2, 3, 4).cuda()", "y.float()"]
)
def test_a_function_that_was_given_what_is_fixed_is_known_for_nothing(tmp_path: Path, reference: str) -> None:
    files = {name: text.replace("REFERENCE", reference) for name, text in PROGRAM.items()}
    wrong, marks = variant(files, "wrong")
    assert reported(tmp_path, wrong) == marks
    (tmp_path / "again").mkdir()
    right, _ = variant(files, "right")
    assert reported(tmp_path / "again", right) == []
