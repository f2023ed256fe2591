"""Programs that nobody wrote: whatever the pieces, every file gives an answer and nothing fails inside."""

from __future__ import annotations

import ast
import random
import tempfile
from functools import cache
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpaudit import rulebook
from mpaudit.audit import Audit
from mpaudit.settings import Settings
from mpaudit.static.run import lint

slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""One example is one whole run of the linter."""

REAL = [
    "amp/autocast_mode.py", "amp/grad_scaler.py", "cuda/amp/common.py", "distributed/fsdp/sharded_grad_scaler.py",
    "nn/utils/clip_grad.py", "optim/adam.py", "optim/lr_scheduler.py", "optim/swa_utils.py",
    "utils/checkpoint.py", "utils/data/_utils/collate.py", "utils/data/dataloader.py",
]  # fmt: skip
"""Files that others wrote and that every test run has."""


def audit(files: dict[str, str]) -> Audit:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".git").mkdir()
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        chosen = Settings(root=folder, codes=tuple(rulebook.headers()))
        return lint(["."], chosen, cwd=Path(folder), jobs=1, use_cache=False)


def check(audit: Audit, files: dict[str, str]) -> None:
    assert not [error for error in audit.errors if error.internal]
    lengths = {name: text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1 for name, text in files.items()}
    for finding in audit.findings:
        assert 1 <= finding.line <= finding.end_line <= lengths[finding.path]
        assert finding.column >= 1
        assert finding.message


@cache
def blocks() -> tuple[str, ...]:
    return tuple(
        example.source
        for code, rule in rulebook.rules().items()
        if code != "MPA001"
        for group in (*rule.bad, *rule.good)
        for example in group
    )


@cache
def statements() -> tuple[str, ...]:
    """Every statement of every example that may stand anywhere in a function."""
    found = set()
    for block in blocks():
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom):
                found.add(ast.unparse(node))
    return tuple(sorted(found))


@slow
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), st.booleans())
def test_examples_beside_each_other(picks: list[int], in_one_file: bool) -> None:
    chosen = [blocks()[pick % len(blocks())] for pick in picks]
    files = {"all.py": "\n\n".join(chosen)} if in_one_file else {f"m{i}.py": text for i, text in enumerate(chosen)}
    check(audit(files), files)


@slow
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 4)), min_size=1, max_size=25))
def test_statements_put_together_at_random(picks: list[tuple[int, int]]) -> None:
    headers = ["for _ in loader:", "while running:", "if use_amp:", "with torch.no_grad():", "try:"]
    lines = [
        "import torch",
        "from torch.amp import GradScaler, autocast",
        "def train(model, loader, optimizer, use_amp):",
    ]
    lines.append("    scaler = GradScaler('cuda', enabled=use_amp)")
    depth, closing = 1, []
    for pick, turn in picks:
        if turn == 0 and depth < 6:
            header = headers[pick % len(headers)]
            lines.append("    " * depth + header)
            depth += 1
            closing.append(header == "try:")
        elif turn == 1 and closing:
            lines.append("    " * depth + "pass")
            depth -= 1
            if closing.pop():
                lines += ["    " * depth + "finally:", "    " * depth + "    optimizer.zero_grad()"]
        for line in statements()[pick % len(statements())].splitlines():
            lines.append("    " * depth + line)
    lines.append("    " * depth + "pass")
    while closing:
        depth -= 1
        if closing.pop():
            lines += ["    " * depth + "except ValueError:", "    " * depth + "    raise"]
    files = {"train.py": "\n".join(lines) + "\n"}
    found = audit(files)
    check(found, files)


@slow
@given(st.sampled_from(REAL), st.integers(0, 2**32))
def test_real_files_with_lines_moved_dropped_and_repeated(name: str, seed: int) -> None:
    pick = random.Random(seed)
    lines = (Path(torch.__file__).parent / name).read_text(encoding="utf-8").split("\n")
    for _ in range(pick.randint(1, 8)):
        place, size = pick.randrange(len(lines)), pick.randint(1, 12)
        taken = lines[place : place + size]
        kind = pick.randrange(4)
        if kind == 0 and len(lines) > size:
            del lines[place : place + size]
        elif kind == 1:
            other = pick.randrange(len(lines) + 1)
            lines[other:other] = taken
        elif kind == 2:
            lines[place : place + size] = ["    " + line for line in taken]
        else:
            pick.shuffle(taken)
            lines[place : place + size] = taken
    lines += ["", "def train(model, loader, optimizer, scaler):"]
    lines += [
        "    for x in loader:",
        "        scaler.scale(model(x).mean()).backward()",
        "        scaler.step(optimizer)",
    ]
    files = {"real.py": "\n".join(lines) + "\n"}
    check(audit(files), files)
