"""Workers: the piece that takes longest is begun first, and answers are those of this process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpaudit.static import parsing, worker
from mpaudit.static.parsing import Lowered
from mpaudit.static.pool import Pool
from mpaudit.static.tasks import Lost, Task

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
        assert [others[0], waiting.answer(), others[1]] == expected
        assert not waiting.goes_on()
        assert workers.map(EAGER, TEXTS, WEIGHTS) == expected  # the worker is free again


def test_what_no_process_can_be_told_is_done_here() -> None:
    text = "x = 'a lone \\ud800'\n# \ud800\n"
    with Pool(jobs=2) as workers:
        assert workers.begin(EAGER, text, 1).answer() == EAGER.run(text)


def test_a_worker_that_dies_costs_its_piece_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(jobs=2) as workers:
        monkeypatch.setattr(worker, "_BOOT", "import os; os.kill(os.getpid(), 9)")
        workers.lead(EAGER, WEIGHTS)
        assert workers.begin(EAGER, TEXTS[1], WEIGHTS[1]).answer() == Lost("the parser died")
        monkeypatch.undo()
        assert workers.begin(EAGER, TEXTS[1], WEIGHTS[1]).answer() == EAGER.run(TEXTS[1])


def test_a_worker_that_cannot_be_started_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> None:
        raise OSError("no process can be started")

    monkeypatch.setattr(worker, "_start", no_more)
    with Pool(jobs=2) as workers:
        assert workers.lead(EAGER, WEIGHTS) == 1
        assert workers.begin(EAGER, TEXTS[1], WEIGHTS[1]).answer() == EAGER.run(TEXTS[1])


HELPED = replace(EAGER, worth=1 << 60, shared=1)
"""Never worth a worker by itself, but any of it is worth handing to one that stands idle."""
MANY = [f"x{i} = {i}\n" * (i % 7 + 1) for i in range(60)]


def _with_an_idle_worker(texts: list[str]) -> list[Lowered | Lost]:
    with Pool(jobs=2) as workers:
        assert workers.lead(EAGER, WEIGHTS) == 1  # has a worker started, which nothing is asked of yet
        return workers.map(HELPED, texts, list(map(len, texts)))


def test_an_idle_worker_helps_and_the_answers_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ask = worker.Worker.ask

    def noted(one: worker.Worker, task: Task[str, Lowered], questions: list[bytes], limit: float | None) -> object:
        asked.append(len(questions))
        return ask(one, task, questions, limit)

    monkeypatch.setattr(worker.Worker, "ask", noted)
    assert _with_an_idle_worker(MANY) == [EAGER.run(text) for text in MANY]
    assert asked
    assert asked[0] > 1


def test_a_helper_that_dies_costs_one_piece_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_BOOT", "import os; os.kill(os.getpid(), 9)")
    answers = _with_an_idle_worker(MANY)
    expected = [EAGER.run(text) for text in MANY]
    wrong = [found for found, right in zip(answers, expected, strict=True) if found != right]
    assert all(found == Lost("the parser died") for found in wrong)
    assert len(wrong) <= 1


def test_what_a_helper_cannot_be_told_is_done_here() -> None:
    texts = [f"{text}# \ud800\n" for text in MANY]
    assert _with_an_idle_worker(texts) == [EAGER.run(text) for text in texts]


def test_a_helper_that_cannot_be_started_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> None:
        raise OSError("no process can be started")

    monkeypatch.setattr(worker, "_start", no_more)
    assert _with_an_idle_worker(MANY) == [EAGER.run(text) for text in MANY]
