"""Workers: the piece that takes longest is begun first, and answers are those of this process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpaudit.static import parsing, pool
from mpaudit.static.parsing import Lowered
from mpaudit.static.pool import Lost, Pool, Task

EAGER: Task[str, Lowered] = replace(parsing.LOWER, worth=1, needs=("mpaudit.static.facts.quick",))
TEXTS = ["x = 1\n", "y = torch.zeros(3)\n" * 40, "def f():\n    return 2\n"]
WEIGHTS = list(map(len, TEXTS))


def test_the_lead_is_the_heaviest_piece_where_it_weighs_much() -> None:
    with Pool(jobs=2) as workers:
        assert workers.lead(EAGER, WEIGHTS) == 1
        assert workers.lead(EAGER, [10] * 9) is None
        assert workers.lead(EAGER, [10]) is None
        assert workers.lead(replace(EAGER, worth=10_000), WEIGHTS) is None
    with Pool(jobs=1) as alone:
        assert alone.lead(EAGER, WEIGHTS) is None


def test_a_piece_in_a_worker_of_its_own_gives_the_same_answer() -> None:
    expected = [EAGER.run(text) for text in TEXTS]
    with Pool(jobs=2) as workers:
        lead = workers.lead(EAGER, WEIGHTS)
        assert lead == 1
        waiting = workers.begin(EAGER, TEXTS[1], WEIGHTS[1])
        others = workers.map(EAGER, [TEXTS[0], TEXTS[2]], [WEIGHTS[0], WEIGHTS[2]])
        assert [others[0], waiting(), others[1]] == expected
        assert workers.map(EAGER, TEXTS, WEIGHTS) == expected  # the worker is free again


def test_what_no_process_can_be_told_is_done_here() -> None:
    text = "x = 'a lone \\ud800'\n# \ud800\n"
    with Pool(jobs=2) as workers:
        assert workers.begin(EAGER, text, 1)() == EAGER.run(text)


def test_a_worker_that_dies_costs_its_piece_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(jobs=2) as workers:
        monkeypatch.setattr(pool, "_BOOT", "import os; os.kill(os.getpid(), 9)")
        workers.lead(EAGER, WEIGHTS)
        assert workers.begin(EAGER, TEXTS[1], WEIGHTS[1])() == Lost("the parser died")
        monkeypatch.undo()
        assert workers.begin(EAGER, TEXTS[1], WEIGHTS[1])() == EAGER.run(TEXTS[1])


def test_a_worker_that_cannot_be_started_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> None:
        raise OSError("no process can be started")

    monkeypatch.setattr(pool, "_start", no_more)
    with Pool(jobs=2) as workers:
        assert workers.lead(EAGER, WEIGHTS) == 1
        assert workers.begin(EAGER, TEXTS[1], WEIGHTS[1])() == EAGER.run(TEXTS[1])
