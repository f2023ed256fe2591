"""Every end of a run, in one word and one sentence."""

from __future__ import annotations

import pytest

from mpaudit.runtime.outcome import CANNOT_WRITE, Exit, judge
from mpaudit.runtime.protocol import ChildPlan, ChildResult, Ending, ScriptError, Target


def plan() -> ChildPlan:
    return ChildPlan(
        run="fp32-1",
        kind="timing",
        variant="fp32",
        target=Target("script", "train.py"),
        device="cpu",
        warmup=2,
        steps=3,
        seed=0,
        stop="clean",
        allow_writes=False,
        folder="/nowhere",
    )


def result(ending: Ending, steps: int, error: ScriptError | None = None, children: int = 0) -> ChildResult:
    return ChildResult(run="fp32-1", ending=ending, steps=steps, counted="optimizer", error=error, children=children)


def error(type: str, message: str) -> ScriptError:
    return ScriptError(type, message, "train.py", 4, "")


@pytest.mark.parametrize(
    ("seen", "written", "outcome", "sentence"),
    [
        (Exit(0, False, 60), result("bounded", 5), "bounded", "made its 5 steps"),
        (Exit(-9, True, 60), result("bounded", 5), "bounded", "made its 5 steps; it did not end after them"),
        (Exit(0, False, 60), result("completed", 4), "completed", "completed early, after 4 of 5 steps"),
        (Exit(3, False, 60), result("completed", 4), "exit", "ended with exit code 3 after 4 of 5 steps"),
        (Exit(2, False, 60), None, "exit", "ended with exit code 2 after 0 of 5 steps"),
        (
            Exit(1, False, 60),
            result("exception", 1, error("ValueError", "bad")),
            "exception",
            "raised ValueError: bad at train.py:4 after 1 of 5 steps",
        ),
        (
            Exit(1, False, 60),
            result("exception", 1, error("ValueError", "\x1b[1mbad\x1b[0m\nand much\nmore")),
            "exception",
            "raised ValueError: bad at train.py:4 after 1 of 5 steps",
        ),
        (
            Exit(1, False, 60),
            result("exception", 1, error("ValueError", "much " * 100)),
            "exception",
            f"raised ValueError: {'much ' * 32}… at train.py:4 after 1 of 5 steps",
        ),
        (
            Exit(1, False, 60),
            result("out-of-memory", 1, error("MemoryError", "")),
            "out-of-memory",
            "ran out of memory at train.py:4 after 1 of 5 steps: MemoryError",
        ),
        (
            Exit(1, False, 60),
            result("exception", 1, error("OSError", "[Errno 28] No space left on device: 'log'")),
            "disk-full",
            "the disk is full at train.py:4 after 1 of 5 steps: OSError: [Errno 28]",
        ),
        (Exit(-15, True, 60, steps=3), None, "time-limit", "reached the time limit of 60 s after 3 of 5 steps"),
        (Exit(-15, True, 66.4386, steps=3), None, "time-limit", "reached the time limit of 66 s after 3 of 5 steps"),
        (Exit(-15, True, 0.4, steps=3), None, "time-limit", "reached the time limit of 0.4 s after 3 of 5 steps"),
        (Exit(-15, True, 1234.5), None, "time-limit", "no optimizer step was seen in 1234 s (time limit)"),
        (Exit(-9, True, 60), None, "time-limit", "no optimizer step was seen in 60 s"),
        (Exit(-11, False, 60, steps=2), None, "killed", "killed by signal 11 (SIGSEGV) after 2 of 5 steps"),
        (Exit(-9, False, 60), None, "killed", "killed by signal 9 (SIGKILL) after 0 of 5 steps; the system ends"),
        (Exit(0, False, 60), result("no-steps", 0), "no-steps", "ended without a step of an optimizer"),
        (
            Exit(0, False, 60),
            result("no-steps", 0, children=2),
            "no-steps",
            "ended without a step of an optimizer and without a backward pass; it started 2 other processes",
        ),
        (
            Exit(CANNOT_WRITE, False, 60, stderr="mpaudit: cannot write result.json: No space left on device\n"),
            None,
            "disk-full",
            "mpaudit could not write the run's result: result.json: No space left on device",
        ),
    ],
)
def test_each_end_has_its_word_and_sentence(
    seen: Exit, written: ChildResult | None, outcome: str, sentence: str
) -> None:
    word, words = judge(plan(), written, seen)
    assert (word, words[: len(sentence)]) == (outcome, sentence)
