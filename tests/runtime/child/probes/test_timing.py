"""The journal of times, read: intervals between steps, and what of them lies outside."""

from __future__ import annotations

from mpaudit.runtime.child.events import CLOSE, OPEN, STEP, TICK, Events
from mpaudit.runtime.child.probes.timing import Timing, read
from mpaudit.runtime.child.steps import Steps

MS = 1_000_000


class Optimizer:
    pass


class Played:
    """A training that is told as marks at milliseconds; `step` and `passed` count what ended with the last mark."""

    def __init__(self, planned: int = 3, **fields: object) -> None:
        self.steps = Steps(planned=planned, **fields)  # type: ignore[arg-type]
        self.events, self.optimizer = Events(), Optimizer()
        self.timing = Timing(self.steps)
        self.steps.watch(self.events)
        self.timing.watch(self.events)

    def at(self, *marks: tuple[int, float]) -> Played:
        for mark, ms in marks:
            self.events.journal += [mark, round(ms * MS)]
        return self

    def step(self) -> Played:
        self.steps.step(self.optimizer)
        return self

    def passed(self) -> Played:
        for over in self.events.backward_over:
            over()
        return self


def usual(played: Played, start: float) -> Played:
    """A step of 10 ms: 1 of data, 2 of forward, 1 of loss, 4 of backward, 2 of optimizer."""
    played.at((OPEN, start + 1), (CLOSE, start + 3), (OPEN, start + 4), (CLOSE, start + 8)).passed()
    return played.at((STEP, start + 8), (CLOSE, start + 10)).step()


def test_steps_and_what_lies_outside() -> None:
    played = Played()
    for start in (0, 10, 20):
        usual(played, start)
    times = read(played.timing, 1)
    assert (times.warmup_ms, times.step_ms, times.outside_ms) == ((), (10.0, 10.0), (2.0, 2.0))
    assert read(played.timing, 2).warmup_ms == (10.0,)


def test_what_lies_inside_of_another_belongs_to_it() -> None:
    """A closure: forward and backward inside of the step."""
    played = Played()
    for start in (0, 10, 20):
        played.at((STEP, start + 1), (OPEN, start + 2), (CLOSE, start + 4), (OPEN, start + 5), (CLOSE, start + 6))
        played.at((CLOSE, start + 10)).step()
    assert read(played.timing, 1).outside_ms == (1.0, 1.0)


def test_a_step_that_raises_is_replaced_by_the_next() -> None:
    played = Played()
    usual(played, 0)
    played.at((STEP, 11))  # raises
    usual(played, 20)
    usual(played, 30)
    times = read(played.timing, 1)
    assert times.step_ms == (20.0, 10.0)
    assert times.outside_ms[1] == 2.0
    # the forward after it is taken for a part of it; the step itself is not
    assert times.outside_ms[0] == 18.0


def test_a_step_that_a_scaler_leaves_out_ends_when_it_is_left_out() -> None:
    played = Played()
    for start in (0, 10, 20):
        played.at((OPEN, start + 1), (CLOSE, start + 8), (TICK, start + 10)).step()
    times = read(played.timing, 1)
    assert (times.step_ms, times.outside_ms) == ((10.0, 10.0), (3.0, 3.0))


def test_backward_passes_as_steps() -> None:
    played = Played(counted="backward")
    for start in (0, 10, 20):
        played.at((OPEN, start + 4), (CLOSE, start + 8)).passed()
    times = read(played.timing, 1)
    assert (times.step_ms, times.outside_ms) == ((10.0, 10.0), (6.0, 6.0))


def test_of_passes_inside_of_a_step_nothing_is_known_to_be_outside() -> None:
    played = Played(counted="backward").at((STEP, 0))
    for start in (0, 10, 20):
        played.at((OPEN, start + 4), (CLOSE, start + 8)).passed()
    times = read(played.timing, 1)
    assert (times.step_ms, times.outside_ms) == ((10.0, 10.0), ())


def test_of_steps_that_are_not_stamped_nothing_is_known_to_be_outside() -> None:
    played = Played()
    usual(played, 0)
    played.at((TICK, 20)).step()
    usual(played, 20)
    times = read(played.timing, 1)
    assert (times.step_ms, times.outside_ms) == ((10.0, 10.0), (None, 2.0))
