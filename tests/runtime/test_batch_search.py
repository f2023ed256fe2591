"""How large a batch fits: the search, on a machine that is made up, and once with a real script."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpaudit.measured import BatchSearch
from mpaudit.runtime import launch
from mpaudit.runtime.batch_search import DOUBLINGS, search, sizes
from mpaudit.runtime.evidence import EVIDENCE_FILE, MemoryByCategory, RunEvidence
from mpaudit.runtime.launch import RunRecord
from mpaudit.runtime.plan import Options, plan
from mpaudit.runtime.protocol import ChildPlan, Memory, Target
from mpaudit.runtime.session import Done, Session
from tests.runtime.fakes import Clock, dead, machine, record


def largest(size: int, border: int) -> tuple[int, list[int]]:
    """What is found where `border` is the largest that fits, and what was tried."""
    tried = list(sizes(size, lambda batch: batch <= border))
    return max([size, *(batch for batch in tried if batch <= border)]), tried


def test_twice_as_large_each_time_and_then_between_the_last_two() -> None:
    assert largest(64, 300) == (288, [128, 256, 512, 384, 320, 288])
    assert largest(64, 64) == (64, [128, 96, 80, 72])
    assert largest(1, 2) == (2, [2, 4, 3])
    assert largest(3, 10**9)[1] == [3 * 2**k for k in range(1, DOUBLINGS + 1)]


@pytest.mark.parametrize("size", [1, 3, 8, 50])
@pytest.mark.parametrize("times", [1, 1.3, 2, 2.9, 17])
def test_what_is_found_fits_and_an_eighth_more_does_not(size: int, times: float) -> None:
    border = int(size * times)
    found, tried = largest(size, border)
    assert found <= border < found + max(found // 8, 1)
    assert len(tried) == len(set(tried)) <= 10


def searched(
    home: Path,
    holds: Callable[[str, int], int | None],
    arguments: tuple[str, ...] = ("--batch-size", "8"),
    answer: Callable[[ChildPlan], RunRecord] = record,
    *,
    device: Any = "cpu",
    variants: tuple[Any, ...] = ("fp32", "amp-bf16"),
    **settings: Any,
) -> tuple[list[str], BatchSearch, Session]:
    """With a script that holds so many bytes under a variant at a batch size; None leaves nothing behind."""
    (home / "train.py").write_text("")
    options = Options(Target("script", "train.py", arguments), device, str(home / "out"), rounds=1)
    session = Session(options, 2)
    session.done += [Done(planned, record(planned.plan)) for planned in plan(options, variants) if planned.round]

    def tried(one: ChildPlan) -> RunRecord:
        size = holds(one.variant, int(one.target.arguments[-1]))
        os.makedirs(one.folder)
        if size is not None and device == "cpu":
            found = RunEvidence(one.run, one.variant, memory=MemoryByCategory(activations=size))
            Path(one.folder, EVIDENCE_FILE).write_bytes(msgspec.json.encode(found))
        made = answer(one)
        if size is not None and device == "cuda" and made.result is not None:
            memory = msgspec.structs.replace(made.result, memory=Memory(allocated=size))
            made = msgspec.structs.replace(made, result=memory)
        return made

    clock = Clock()
    asked, run = machine(clock, tried)
    found = search(session, cwd=home, time_limit_s=60, run=run, clock=clock, **settings)
    return asked, found, session


def half(variant: str, batch: int) -> int:
    """Autocast holds half of what grows."""
    return 100 + batch * (10 if variant == "fp32" else 5)


def test_autocast_holds_twice_the_batch_in_what_fp32_holds(tmp_path: Path) -> None:
    asked, found, session = searched(tmp_path, half)
    runs = ["fp32-batch-8", *(f"amp-bf16-batch-{batch}" for batch in (8, 16, 32, 24, 20, 18))]
    assert asked == runs
    assert (found.argument, found.batch, found.given, found.variant) == ("--batch-size", 8, True, "amp-bf16")
    assert (found.limit_bytes, found.largest, found.why) == (180, 16, "")
    assert [trial.fate for trial in found.trials] == ["fits"] * 3 + ["too large"] * 4
    assert [done.planned.plan.run for done in session.done] == ["fp32-1", "amp-bf16-1"]


def test_an_argument_that_the_script_does_not_have(tmp_path: Path) -> None:
    asked, found, _ = searched(tmp_path, half, ("--epochs", "8"))
    assert asked == [] and found.argument is None
    assert found.why.startswith("train.py has no argument for its batch size that could be found")


def test_an_argument_that_the_script_refuses(tmp_path: Path) -> None:
    asked, found, _ = searched(tmp_path, lambda *_: None, answer=dead)
    assert asked == ["fp32-batch-8"] and found.largest is None
    assert found.why == (
        "the run with --batch-size 8 under fp32 gave no figure: ended with exit code 2 after 0 of 25 steps"
    )


def test_running_out_of_memory_is_a_result(tmp_path: Path) -> None:
    def answer(one: ChildPlan) -> RunRecord:
        if int(one.target.arguments[-1]) > 20:
            return record(one, outcome="out-of-memory", sentence="ran out of memory at train.py:3")
        return record(one)

    asked, found, _ = searched(tmp_path, lambda variant, batch: batch, answer=answer, device="cuda")
    assert asked == [f"amp-bf16-batch-{batch}" for batch in (8, 16, 32, 24, 20, 22)]
    assert (found.limit_bytes, found.largest, found.why) == (None, 20, "")


def test_a_batch_that_the_data_limits(tmp_path: Path) -> None:
    asked, found, _ = searched(tmp_path, lambda variant, batch: 1000 if variant == "fp32" else min(batch, 20))
    assert asked[-1] == "amp-bf16-batch-64" and found.largest == 32
    assert found.why.startswith("64 holds no more memory than 32: the data gives no larger batch, or --batch-size")


def test_autocast_that_holds_more_than_fp32(tmp_path: Path) -> None:
    _, found, _ = searched(tmp_path, lambda variant, batch: batch if variant == "fp32" else 10 * batch)
    assert found.largest is None and found.why == "with its own batch of 8 it holds more than fp32 does"


def test_the_budget_is_kept(tmp_path: Path) -> None:
    asked, found, _ = searched(tmp_path, half, left_s=13.0)  # a run takes 4 s
    assert asked == ["fp32-batch-8", "amp-bf16-batch-8", "amp-bf16-batch-16"]
    assert (found.largest, found.why) == (16, "the budget left no time to try 32")
    asked, found, _ = searched(tmp_path, half, left_s=0.0)
    assert asked == [] and found.why == "the budget left no time to try a batch"


def test_a_run_that_the_budget_ends_is_not_laid_to_the_script(tmp_path: Path) -> None:
    def answer(one: ChildPlan) -> RunRecord:
        return record(
            one, wall_s=9.0, outcome="time-limit", sentence="reached the time limit of 3 s after 1 of 2 steps"
        )

    asked, found, _ = searched(tmp_path, lambda *_: None, answer=answer, left_s=3.0)
    assert asked == ["fp32-batch-8"] and found.why == "the budget ended in the run with --batch-size 8 under fp32"


def test_an_interrupt_keeps_what_was_tried(tmp_path: Path) -> None:
    def answer(one: ChildPlan) -> RunRecord:
        if one.run == "amp-bf16-batch-32":
            raise KeyboardInterrupt
        return record(one)

    _, found, session = searched(tmp_path, half, answer=answer)
    assert session.interrupted and (found.largest, found.why) == (16, "the search was interrupted")


def test_without_a_run_under_autocast_nothing_is_tried(tmp_path: Path) -> None:
    asked, found, _ = searched(tmp_path, half, variants=("fp32",))
    assert asked == [] and found.why == "no run under autocast could be used"


SCRIPT = """
import argparse
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=4)
size = parser.parse_args().batch_size
if size > 9:
    raise torch.OutOfMemoryError(f"a batch of {size}")
model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
optimizer = torch.optim.Adam(model.parameters())
for _ in range(20):
    optimizer.zero_grad()
    model(torch.randn(size, 16)).pow(2).mean().backward()
    optimizer.step()
"""


def test_a_script_with_a_limit_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    options = Options(Target("script", "train.py"), "cpu", str(tmp_path / "out"), rounds=1)
    session = Session(options, 2)
    session.done += [Done(one, record(one.plan)) for one in plan(options, ("fp32", "amp-bf16")) if one.round]

    def run(one: ChildPlan, **settings: Any) -> RunRecord:
        # the limit of fp32 is that of a far larger batch, so that only the script's own is met
        larger = msgspec.structs.replace(one.target, arguments=("--batch-size", "9"))
        one = msgspec.structs.replace(one, target=larger) if one.variant == "fp32" else one
        return launch.run(one, cwd=str(tmp_path), **settings)

    found = search(session, cwd=tmp_path, time_limit_s=120, run=run)
    sizes = {trial.batch: trial.bytes for trial in found.trials if trial.variant == "amp-bf16"}
    assert list(sizes) == [4, 8, 16, 12, 10, 9] and found.largest == 9
    assert sizes[16] is None and sizes[4] is not None and sizes[8] is not None
    parameters = 4 * (16 * 64 + 64 + 64 * 2 + 2)
    # gradients and Adam's two moments beside the parameters, then what grows with the batch
    assert 4 * parameters < sizes[4] < sizes[8] < sizes[4] + 2 * 4 * 4 * (16 + 2 * 64 + 2)
    failed = next(trial for trial in found.trials if trial.batch == 16)
    assert failed.fate == "too large" and "ran out of memory at" in failed.sentence
    assert json.loads(msgspec.json.encode(found))["largest"] == 9
