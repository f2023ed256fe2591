"""The sentences of the typestate's specification that are about whole programs, each as programs: what is reported in
them, by line and code, where a line ends in `# MPA205`; no mark, no finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.settings import Settings
from mpaudit.static.run import lint
from tests.static.program.shapes import HEAD

MAKE = """
def train(model, other, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
"""

PROGRAMS = {
    "a training function that gets everything is checked from its first backward on": """
def train(model, optimizer, scaler, loader):
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # MPA205
        scaler.step(optimizer)
        scaler.update()
""",
    "a helper that only steps reports nothing": """
def finish(optimizer, scaler):
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    "a loop whose backward is elsewhere": f"""
from elsewhere import backward
{MAKE}
    for batch in loader:
        optimizer.zero_grad()
        backward(model, batch)
        scaler.step(optimizer)
        scaler.update()
    for batch in loader:
        backward(model, batch)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
""",
    "a function whose backward is elsewhere": """
from elsewhere import backward


def train(model, optimizer, scaler, loader):
    for batch in loader:
        backward(model, batch)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
""",
    "an unresolved call that gets the scaler makes it unknown": f"""
from elsewhere import finish
{MAKE}
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.step(optimizer)
        finish(scaler)
""",
    "an unresolved call that gets the optimizer makes it unknown": f"""
from elsewhere import finish
{MAKE}
    for batch in loader:
        scaler.scale(model(batch).mean()).backward()
        finish(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
""",
    "one that gets only the model changes nothing": f"""
from elsewhere import look
{MAKE}
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        look(model)
        look(model.parameters())
        scaler.step(optimizer)  # MPA204
""",
    "torch, NumPy, logging and tracking change nothing": f"""
import logging
import numpy as np
import wandb
from tqdm import tqdm
{MAKE}
    wandb.watch(optimizer)
    for batch in tqdm(loader):
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        logging.info("%s", optimizer)
        wandb.log({{"optimizer": optimizer, "scale": scaler}})
        np.save("x", optimizer)
        scaler.step(optimizer)  # MPA204
""",
    "a mixed state is reported at its cause, once": f"""{MAKE}
    for batch in loader:
        optimizer.zero_grad()
        model(batch).mean().backward()
        scaler.scale(model(batch).mean()).backward()  # MPA224
        scaler.step(optimizer)
        scaler.update()
""",
    "a zero_grad before the step clears it": f"""{MAKE}
    for batch in loader:
        model(batch).mean().backward()
        scaler.scale(model(batch).mean()).backward()
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
""",
    "the gradients of a parameter set to None are empty": f"""{MAKE}
    for batch in loader:
        scaler.scale(model(batch).mean()).backward()
        for p in model.parameters():
            p.grad = None
        scaler.step(optimizer)  # MPA211
        scaler.update()
""",
    "zero_grad of the module of an optimizer empties it": f"""{MAKE}
    for batch in loader:
        scaler.scale(model(batch).mean()).backward()
        model.zero_grad()  # MPA211
        scaler.step(optimizer)
        scaler.update()
""",
    "zero_grad(set_to_none=False) steps nothing either": f"""{MAKE}
    for batch in loader:
        scaler.scale(model(batch).mean()).backward()
        optimizer.zero_grad(set_to_none=False)  # MPA211
        scaler.step(optimizer)
        scaler.update()
""",
    "a step does not empty the gradients": f"""{MAKE}
    for batch in loader:
        scaler.scale(model(batch).mean()).backward()  # MPA228
        scaler.step(optimizer)
        scaler.update()
""",
    "unscale, zero and a raw backward are right": f"""{MAKE}
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.unscale_(optimizer)
        optimizer.zero_grad()
        model(batch).mean().backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "unscale in each micro-batch is one finding": f"""{MAKE}
    for i, batch in enumerate(loader):
        scaler.scale(model(batch).mean()).backward()
        scaler.unscale_(optimizer)  # MPA206
        if (i + 1) % 4 == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
""",
    "update with a new scale needs no inf check": f"""{MAKE}
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        scaler.update(1024.0)
""",
    "a scaler that is off has no events": f"""{MAKE.replace('"cuda")', '"cuda", enabled=False)')}
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
""",
    "enabled by a flag: the events exist under it": """
def train(model, loader, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=amp)
    for batch in loader:
        optimizer.zero_grad()
        loss = model(batch).mean()
        if amp:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
        else:
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
""",
    "several optimizers: those whose parameters the loss came from": """
def train(G, D, loader):
    opt_g = torch.optim.SGD(G.parameters(), lr=0.1)
    opt_d = torch.optim.SGD(D.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        opt_g.zero_grad()
        scaler.scale(D(G(batch)).mean()).backward()
        scaler.step(opt_g)
        opt_d.zero_grad()
        D(batch).mean().backward()  # MPA202
        scaler.step(opt_d)
        scaler.update()
""",
    "a list of optimizers: a step for each, then update": """
def train(models, loader):
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in models]
    scaler = GradScaler("cuda")
    for batch in loader:
        for o in optimizers:
            o.zero_grad()
        scaler.scale(sum(m(batch).mean() for m in models)).backward()
        for o in optimizers:
            scaler.step(o)
        scaler.update()
""",
    "update inside that loop changes the scale under the second": """
def train(model, other, loader):
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other)]
    scaler = GradScaler("cuda")
    for batch in loader:
        for o in optimizers:
            o.zero_grad()
        scaler.scale(other(model(batch)).mean()).backward()
        for o in optimizers:
            scaler.step(o)
            scaler.update()  # MPA210
""",
    "a decision is forgotten when its name is assigned": """
def train(model, optimizer, scaler, loader, amp):
    for batch in loader:
        optimizer.zero_grad()
        loss = model(batch).mean()
        if amp:
            loss = scaler.scale(loss)
        loss.backward()  # MPA202
        amp = batch.flag
        if amp:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()  # MPA203
""",
    "a counter is a new decision in each iteration": f"""{MAKE}
    for i, batch in enumerate(loader):
        if i % 4 == 0:
            optimizer.zero_grad()
        scaler.scale(model(batch).mean()).backward()
        if i % 4 == 3:
            scaler.step(optimizer)
            scaler.update()
""",
    "a GradScaler object is always truthy": """
def train(model, loader, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda") if amp else None
    for batch in loader:
        optimizer.zero_grad()
        loss = model(batch).mean()
        if scaler is not None:
            scaler.scale(loss).backward()
        else:
            loss.backward()
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_sentence_of_the_specification(name: str, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    text = HEAD + PROGRAMS[name]
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    marks = [(n, line[-6:]) for n, line in enumerate(text.split("\n"), 1) if line[-8:-3] == "# MPA"]
    settings = Settings(root=str(tmp_path), codes=tuple(rulebook.headers()))
    audit = lint(["."], settings, cwd=tmp_path, use_cache=False)
    protocol = [finding for finding in audit.findings if finding.code[3] == "2" and finding.code != "MPA216"]
    assert [(finding.line, finding.code) for finding in protocol] == marks
