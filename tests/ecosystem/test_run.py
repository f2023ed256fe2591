"""The arithmetic of the ecosystem run, and the form of the verdicts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit import rulebook
from tests.ecosystem.run import (
    VERDICTS,
    Place,
    Precision,
    Verdict,
    by_rule,
    compare,
    load,
    reported,
    together,
    wilson_lower,
)


def verdict(code: str, line: int, says: str, repository: str = "a/b") -> Verdict:
    return Verdict(Place(repository, "train.py", line, code), says, "because")


@pytest.mark.parametrize(
    ("right", "judged", "lower"),
    [(0, 0, 0.0), (0, 10, 0.0), (10, 10, 0.7225), (60, 60, 0.9398), (57, 60, 0.8630), (1, 1, 0.2065)],
)
def test_wilson(right: int, judged: int, lower: float) -> None:
    """Values of R's binom::binom.confint(x, n, methods = "wilson")."""
    assert wilson_lower(right, judged) == pytest.approx(lower, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_below_the_share_and_grows_with_evidence(counts: tuple[int, int]) -> None:
    right, judged = counts
    lower = wilson_lower(right, judged)
    assert 0 <= lower <= right / judged + 1e-12
    assert wilson_lower(10 * right, 10 * judged) >= lower - 1e-12


def test_counts_by_rule_and_apart() -> None:
    rules = by_rule(
        [verdict("MPA701", 1, "right"), verdict("MPA205", 2, "right"), verdict("MPA205", 3, "wrong"),
         verdict("MPA101", 4, "arguable")]
    )  # fmt: skip
    assert rules == {"MPA101": Precision(1, 0), "MPA205": Precision(2, 1), "MPA701": Precision(1, 1)}
    assert together(rules, apart=False) == Precision(3, 1)
    assert together(rules, apart=True) == Precision(1, 1)


def test_what_changed() -> None:
    kept, gone, elsewhere = (
        verdict("MPA205", 2, "right"),
        verdict("MPA205", 3, "wrong"),
        verdict("MPA205", 2, "right", "c/d"),
    )
    new = Place("a/b", "train.py", 9, "MPA101")
    change = compare([kept, gone, elsewhere], [kept.place, new], frozenset({"a/b"}))
    assert change.unjudged == (new,)
    assert change.vanished == (gone,)
    assert reported([kept, gone, elsewhere], change) == [kept, elsewhere]


def test_the_verdicts() -> None:
    commits, verdicts = load(VERDICTS)
    places = [v.place for v in verdicts]
    assert len(set(places)) == len(places)
    assert {v.place.repository for v in verdicts} <= set(commits)
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits.values())
    assert {v.place.code for v in verdicts} <= set(rulebook.headers())
    assert {v.verdict for v in verdicts} <= {"right", "wrong", "arguable"}
    assert all(v.why and "\n" not in v.why for v in verdicts)
