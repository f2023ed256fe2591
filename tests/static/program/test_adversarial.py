"""Control flow made to explode: every analysis ends within its budget, and nothing fails inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.settings import Settings
from mpaudit.static.program import analysis, frame
from mpaudit.static.run import lint

HEAD = """import torch
from torch.amp import GradScaler
def train(model, loader, optimizer, flags):
    scaler = GradScaler("cuda")
"""
ITERATION = (
    "optimizer.zero_grad()",
    "scaler.scale(model(x).mean()).backward()",
    "scaler.step(optimizer)",
    "scaler.update()",
)


def nested_loops(depth: int) -> str:
    lines = [f"{'    ' * (i + 1)}for x in loader:" for i in range(depth)]
    return HEAD + "\n".join([*lines, *(f"{'    ' * (depth + 1)}{event}" for event in ITERATION)])


def loops_with_an_event_at_every_level(depth: int) -> str:
    lines = []
    for i in range(1, depth + 1):
        lines += [f"{'    ' * i}for x in loader:", f"{'    ' * (i + 1)}if flags[{i}]: {ITERATION[i % 4]}"]
    return HEAD + "\n".join(lines)


def guards(count: int, name: str) -> str:
    lines = ["    for x in loader:"]
    for i in range(count):
        lines.append(f"        if {name.format(i)}: {ITERATION[i % 4]}")
    return HEAD + "\n".join(lines)


def recursion() -> str:
    return (
        HEAD
        + "".join(f"    {line}\n" for line in ("x = loader", *ITERATION))
        + (
            "    train(model, loader, optimizer, flags)\n"
            "    for x in loader:\n        train(model, x, optimizer, flags)\n"
        )
    )


def branching_recursion(width: int) -> str:
    text = HEAD + "    f0(model, loader, optimizer, scaler)\n"
    for i in range(width):
        calls = "".join(f"    f{j}(model, x, optimizer, scaler)\n" for j in range(width))
        text += f"def f{i}(model, x, optimizer, scaler):\n    {ITERATION[i % 4]}\n{calls}"
    return text


def many_optimizers(count: int) -> str:
    made = "".join(f"    o{i} = torch.optim.SGD(model.parameters(), lr=0.1)\n" for i in range(count))
    stepped = "".join(f"        scaler.step(o{i})\n" for i in range(count))
    zeroed = "".join(f"        o{i}.zero_grad()\n" for i in range(count))
    return (
        HEAD + made + f"    for x in loader:\n{zeroed}        scaler.scale(model(x).mean()).backward()\n"
        f"{stepped}        scaler.update()\n"
    )


def long_function(count: int) -> str:
    return HEAD + "    x = loader\n" + "".join(f"    {ITERATION[i % 4]}\n" for i in range(count))


def tries(depth: int) -> str:
    text = HEAD + "    x = loader\n"
    for i in range(depth):
        text += f"{'    ' * (i + 1)}try:\n{'    ' * (i + 2)}{ITERATION[i % 4]}\n"
    for i in reversed(range(depth)):
        text += f"{'    ' * (i + 1)}except ValueError:\n{'    ' * (i + 2)}{ITERATION[i % 3]}\n"
        text += f"{'    ' * (i + 1)}finally:\n{'    ' * (i + 2)}{ITERATION[i % 2]}\n"
    return text


def doubling_calls(depth: int) -> str:
    text = HEAD + "    f0(model, loader, optimizer, scaler)\n"
    for i in range(depth):
        call = f"    f{i + 1}(model, x, optimizer, scaler)\n"
        text += f"def f{i}(model, x, optimizer, scaler):\n{call}{call}"
    return text + f"def f{depth}(model, x, optimizer, scaler):\n" + "".join(f"    {event}\n" for event in ITERATION)


def doubling(line: str, count: int, start: str = "x, y = flags") -> str:
    lines = "".join(f"    {line}\n" for _ in range(count))
    return HEAD + f"    {start}\n{lines}    if x:\n" + "".join(f"        {event}\n" for event in ITERATION)


def swapped(count: int) -> str:
    """Each pass over the loops holds what the pass before made of what it held."""
    arms = "".join(
        f"            if flags[{i}]:\n                x, y = x + y, model(y) + x\n                continue\n"
        for i in range(count)
    )
    return (
        HEAD + "    x = y = None\n    for _ in loader:\n        for p in model.parameters():\n"
        f"{arms}            x = p.grad + x\n            p.grad = x + y\n"
        + "".join(f"            {event}\n" for event in ITERATION)
    )


def calling(other: str) -> str:
    return (
        HEAD + f"    import {other}\n    {other}.train(model, loader, optimizer, flags)\n"
        f"    scaler.update()\n    {other}.train(1, 2, 3, 4)\n"
    )


PROGRAMS = {
    "nested loops": {"a.py": nested_loops(8)},
    "events at every level": {"a.py": loops_with_an_event_at_every_level(8)},
    "correlated guards": {"a.py": guards(200, "flags.amp")},
    "uncorrelated guards": {"a.py": guards(200, "flags.f{}")},
    "counters": {"a.py": guards(200, "x % {} == 0")},
    "recursion": {"a.py": recursion()},
    "branching recursion": {"a.py": branching_recursion(8)},
    "doubling calls": {"a.py": doubling_calls(20)},
    "many optimizers": {"a.py": many_optimizers(300)},
    "long function": {"a.py": long_function(2_000)},
    "nested tries": {"a.py": tries(12)},
    "doubling sums": {"a.py": doubling("x = x + x", 60)},
    "doubling calls of the unknown": {"a.py": doubling("x = flags.f(x, y, x)", 60)},
    "doubling tuples": {"a.py": doubling("x = (x, x)", 60)},
    "doubling concatenations": {"a.py": doubling("x = x + x", 60, "x = (flags, model)")},
    "doubling lists": {"a.py": doubling("x += x", 60, "x = [flags, model]")},
    "doubling words": {"a.py": doubling("x = x + x", 60, "x = 'adam'")},
    "repeated words": {"a.py": doubling("x = x * 1000", 60, "x = 'adam'")},
    "formatted words": {"a.py": doubling("x = f'{x}{x}'", 60, "x = 'adam'")},
    "powers": {"a.py": doubling("x = x**x", 60, "x = 9")},
    "shifted numbers": {"a.py": doubling("x = x << x", 60, "x = 9")},
    "huge numbers": {"a.py": doubling("x = x + 1; y = x / 2; y = x ** 2; y = -x", 1, f"x = {'9' * 400}")},
    "squares": {"a.py": doubling("x = x * x", 60, "x = 9")},
    "doubling subscripts": {"a.py": doubling("x = x[x]", 60)},
    "doubling choices": {"a.py": doubling("x = x + y if flags[x] else y + x", 60)},
    "a deepening attribute": {"a.py": doubling("x.a = flags.f(x.a, x, y); y = x.a", 60)},
    "swapped names": {"a.py": swapped(6)},
    "mutual recursion": {
        "a.py": calling("b"),
        "b.py": calling("a"),
    },
}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The most statements that one analysis executed, in [0]."""
    seen = [0]
    tick = frame.Run.tick

    def counting(run: frame.Run) -> None:
        tick(run)
        seen[0] = max(seen[0], run.steps)

    monkeypatch.setattr(frame.Run, "tick", counting)
    yield seen


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_analysis_ends_within_its_budget(tmp_path: Path, steps: list[int], program: str) -> None:
    (tmp_path / ".git").mkdir()
    for name, text in PROGRAMS[program].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    codes = tuple(rulebook.headers())
    audit = lint(["."], Settings(root=str(tmp_path), codes=codes), cwd=tmp_path, jobs=1, use_cache=False)
    assert audit.errors == ()
    assert 0 < steps[0] <= frame.MAX_STEPS


def test_nothing_is_definite_where_the_budget_ran_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "".join(f"    if flags[{number}]:\n        scaler.step(optimizer)\n" for number in range(30))
    text = f"from torch.amp import GradScaler\nscaler = GradScaler('cuda')\n\ndef f(optimizer, flags):\n{steps}"
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    settings = Settings(root=str(tmp_path), codes=("MPA209",))
    for limit in range(20, 40):
        monkeypatch.setattr(analysis, "MAX_STEPS", limit)
        audit = lint(["."], settings, cwd=tmp_path, jobs=1, use_cache=False)
        assert audit.findings
        assert {finding.confidence for finding in audit.findings} == {"likely"}


@pytest.mark.parametrize(("before", "roots"), [(0, 1), (60, 2)])
def test_a_function_that_took_the_whole_budget_gets_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, roots: int
) -> None:
    text = long_function(100)
    text += "".join(f"a{number} = {number}\n" for number in range(before)) + "train(1, 2, 3, 4)\n"
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    followed: set[int] = set()
    tick = frame.Run.tick

    def noting(run: frame.Run) -> None:
        followed.add(run.root)
        tick(run)

    monkeypatch.setattr(frame.Run, "tick", noting)
    monkeypatch.setattr(analysis, "MAX_STEPS", 80)
    lint(["."], Settings(root=str(tmp_path), codes=("MPA209",)), cwd=tmp_path, jobs=1, use_cache=False)
    assert len(followed) == roots


def test_a_function_is_looked_at_again_where_the_budget_ended_before_its_scaler_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
import torch
from torch.amp import GradScaler, autocast

def finish(optimizer, scaler):
    if scaler is not None:
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        optimizer.step()
        scaler.update()
    else:
        optimizer.step()

def train(model, loader, optimizer, scaler):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        (loss if scaler is None else scaler.scale(loss)).backward()
        finish(optimizer, scaler)

def main(args, model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, loader, optimizer, None)
"""
    text += "".join(f"    if args.option{number}:\n        optimizer.zero_grad()\n" for number in range(100))
    text += "    train(model, loader, optimizer, GradScaler('cuda'))\n\nmain(1, 2, 3)\n"
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(analysis, "MAX_STEPS", 120)
    audit = lint(["."], Settings(root=str(tmp_path), codes=("MPA209",)), cwd=tmp_path, jobs=1, use_cache=False)
    assert [finding.line for finding in audit.findings] == [9]


@pytest.mark.parametrize(("limit", "lines"), [(100, []), (2_000, [12])])
def test_a_script_that_made_a_scaler_and_was_not_followed_to_its_use_is_no_script_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, lines: list[int]
) -> None:
    text = """
import torch
from torch.amp import GradScaler, autocast

from setup_of import build, load, parse

def plain(model, loader, optimizer):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.float16):
            loss = model(x).mean()
        loss.backward()
        optimizer.step()

def main(args, model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = torch.optim.SGD(model.head.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    if args.quick:
        plain(model, loader, other)
        return
"""
    text += "".join(f"    if args.option{number}:\n        optimizer.zero_grad()\n" for number in range(100))
    text += """
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

main(parse(), build(), load())
"""
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(analysis, "MAX_STEPS", limit)
    audit = lint(["."], Settings(root=str(tmp_path), codes=("MPA201",)), cwd=tmp_path, jobs=1, use_cache=False)
    assert [finding.line for finding in audit.findings] == lines
