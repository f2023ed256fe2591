"""What is said of one cause once."""

from __future__ import annotations

from mpaudit.model import Confidence
from mpaudit.static.checks import scaler
from mpaudit.static.checks.draft import Draft
from mpaudit.static.program.definitions import Site

UNSCALED = Site("train.py", 7, 9, 7, 27)
AGAIN = Draft("MPA206", UNSCALED, "", "", Confidence.LIKELY)


def leaving(confidence: Confidence) -> Draft:
    return Draft("MPA207", Site("train.py", 9, 9, 9, 17), "", "", confidence, ((UNSCALED, "unscaled here"),))


def test_an_unscale_that_is_reached_again_by_an_early_exit_is_the_exit() -> None:
    early = leaving(Confidence.LIKELY)
    assert scaler.one_per_exit([AGAIN, early]) == [early]


def test_an_exit_that_is_not_shown_says_nothing_of_the_unscale() -> None:
    early = leaving(Confidence.POSSIBLE)
    assert scaler.one_per_exit([AGAIN, early]) == [AGAIN, early]


def test_another_unscale_of_the_same_iteration_is_its_own_mistake() -> None:
    early = leaving(Confidence.LIKELY)
    other = Draft("MPA206", UNSCALED, "", "", Confidence.LIKELY, ((Site("train.py", 5, 9, 5, 27), "unscaled first"),))
    assert scaler.one_per_exit([other, early]) == [other, early]
