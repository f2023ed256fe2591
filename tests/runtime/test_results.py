"""Which of a run's processes the figures are taken from."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mpaudit.runtime.protocol import RESULT_FILE, ChildResult, Ending, ScriptError
from mpaudit.runtime.results import PROCESSES, PROGRESS_FILE, gather, steps_so_far


def result(steps: int, rank: int = 0, ending: Ending = "bounded", error: ScriptError | None = None) -> ChildResult:
    return ChildResult(run="fp32-1", ending=ending, steps=steps, counted="optimizer", rank=rank, error=error)


def leave(folder: Path, own: ChildResult | None, *started: ChildResult) -> ChildResult | None:
    """The results of the script itself and of what it started, as their processes leave them."""
    (folder / PROCESSES).mkdir()
    for number, one in enumerate(started):
        (folder / PROCESSES / f"{number}.json").write_bytes(msgspec.json.encode(one))
    if own is not None:
        (folder / RESULT_FILE).write_bytes(msgspec.json.encode(own))
    return gather(folder)


def test_of_the_script_itself_where_it_trains(tmp_path: Path) -> None:
    own = result(5)
    assert leave(tmp_path, own, result(9)) == own


def test_of_rank_0_in_a_distributed_training(tmp_path: Path) -> None:
    found = leave(tmp_path, result(0, ending="no-steps"), result(5, rank=1), result(5, rank=0), result(7, rank=2))
    assert found is not None and (found.rank, found.steps, found.children) == (0, 5, 3)
    assert found.notes == (
        "the training ran in 3 processes that the script started; the figures are those of one of them (rank 0)",
    )


def test_of_the_longest_of_several_programs(tmp_path: Path) -> None:
    found = leave(tmp_path, None, result(2, ending="completed"), result(5))
    assert found is not None and (found.steps, found.ending) == (5, "bounded")


def test_an_error_of_the_script_after_a_training_that_was_started(tmp_path: Path) -> None:
    error = ScriptError("ValueError", "bad", "train.py", 4, "")
    found = leave(tmp_path, result(0, ending="exception", error=error), result(2, ending="completed"))
    assert found is not None and (found.steps, found.ending, found.error) == (2, "exception", error)


def test_nothing_of_a_process_that_wrote_nothing_readable(tmp_path: Path) -> None:
    assert leave(tmp_path, None) is None
    (tmp_path / RESULT_FILE).write_bytes(b'{"run":')
    assert gather(tmp_path) is None


def test_progress(tmp_path: Path) -> None:
    assert steps_so_far(tmp_path) == (0, False)
    (tmp_path / PROGRESS_FILE).write_text("")
    assert steps_so_far(tmp_path) == (0, False)
    (tmp_path / PROGRESS_FILE).write_text("12 bounded    ")
    assert steps_so_far(tmp_path) == (12, True)
