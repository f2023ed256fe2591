"""What a step is, without any torch: optimizers are objects, and events are called by hand."""

from __future__ import annotations

from types import SimpleNamespace

from mpaudit.runtime.child.steps import Steps


class Optimizer:
    pass


def watched(**fields: object) -> tuple[Steps, SimpleNamespace]:
    names = ("step_over", "backward_over", "parameters", "scaler_step_begin", "scaler_step_end", "journal")
    events = SimpleNamespace(**{name: [] for name in names})
    steps = Steps(**{"planned": 3} | fields)  # type: ignore[arg-type]
    steps.watch(events)  # type: ignore[arg-type]
    return steps, events


def test_backward_passes_are_steps_after_many_without_a_step_of_the_optimizer() -> None:
    steps, events = watched()
    events.parameters[0](Optimizer(), [])
    passed: list[int] = []
    steps.look = lambda: passed.append(steps.made)
    for _ in range(131):
        events.backward_over[0]()
    assert passed == [130, 131]
    assert steps.positions() == [0, 1, 2]
    # what was decided stays: the call of the optimizer may end after all
    events.step_over[0](Optimizer())
    assert (steps.made, steps.by_backward, steps.positions()) == (131, True, [0, 1, 2])


def test_steps_are_counted_as_in_an_earlier_run() -> None:
    """An L-BFGS whose first call took a thousand passes in one precision, and takes two in another."""
    steps, events = watched(counted="backward")
    optimizer = Optimizer()
    events.parameters[0](optimizer, [])
    for _ in range(2):
        events.backward_over[0]()
        events.backward_over[0]()
        events.step_over[0](optimizer)
    assert (steps.made, steps.counts, steps.positions()) == (4, [2], [0, 1, 2])

    steps, events = watched(counted="optimizer")
    events.parameters[0](optimizer, [])
    for _ in range(1000):
        events.backward_over[0]()
    assert steps.made == 0 and not steps.by_backward
    events.step_over[0](optimizer)
    assert (steps.made, steps.positions()) == (1, [0])


def test_of_quick_steps_one_in_eight_is_stamped() -> None:
    steps, events = watched(planned=10_000)
    optimizer, stamped = Optimizer(), []
    events.spans = True
    events.parameters[0](optimizer, [])
    for _ in range(10):
        events.step_over[0](optimizer)
        stamped.append(events.spans)
    assert all(stamped)
    steps.hurry(True)
    stamped.clear()
    for _ in range(256):
        events.step_over[0](optimizer)
        stamped.append(events.spans)
    assert 24 <= sum(stamped) <= 40
    # at every distance from one another, so that nothing that comes at regular distances is always or never met
    for distance in range(2, 9):
        assert {number % distance for number, seen in enumerate(stamped) if seen} == set(range(distance))
    steps.hurry(False)
    assert events.spans
    events.step_over[0](optimizer)
    assert events.spans


def test_of_quick_backward_passes_all_are_stamped() -> None:
    steps, events = watched(counted="backward")
    events.spans = True
    steps.hurry(True)
    for _ in range(9):
        events.backward_over[0]()
        assert events.spans
