"""The automaton beside torch itself, over random short programs of one scaler and up to two optimizers.

Whenever torch raises, the automaton has reported by then; as long as it is silent, torch does not raise and every step
applies exactly the true gradients. The scale doubles at every update, so that stale gradients show.
"""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mpaudit.static.program import typestate as ts

LIMIT = 1.5
"""Of a clip by value; one backward gives a true gradient of 1."""
Event = tuple[str, int]
EVENTS = ("scaled", "raw", "unscale", "clip", "step", "raw step", "update", "zero")

programs = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 1)), max_size=10)
usual = st.lists(
    st.sampled_from(
        [
            [("scaled", 0), ("step", 0), ("update", 0), ("zero", 0)],
            [("scaled", 0), ("unscale", 0), ("clip", 0), ("step", 0), ("update", 0), ("zero", 0)],
            [("scaled", 0), ("scaled", 1), ("step", 0), ("step", 1), ("update", 0), ("zero", 0), ("zero", 1)],
        ]
    ),
    max_size=2,
).map(lambda iterations: [event for iteration in iterations for event in iteration])


class Machine:
    """One model per optimizer; `true` is what a step should apply."""

    def __init__(self) -> None:
        self.weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
        self.optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in self.weights]
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
        self.true = [0.0, 0.0]

    def run(self, name: str, i: int) -> tuple[float, float] | None:
        """Runs an event; for a step, what it applied and what it should have."""
        weight, optimizer, scaler = self.weights[i], self.optimizers[i], self.scaler
        before = weight.item()
        match name:
            case "scaled":
                scaler.scale(weight.sum()).backward()
                self.true[i] += 1.0
            case "raw":
                weight.sum().backward()
                self.true[i] += 1.0
            case "unscale":
                scaler.unscale_(optimizer)
            case "clip":
                if weight.grad is not None:  # there is nothing to clip, which torch refuses
                    torch.nn.utils.clip_grad_value_([weight], LIMIT)
                self.true[i] = min(self.true[i], LIMIT)
            case "step":
                scaler.step(optimizer)
            case "raw step":
                optimizer.step()
            case "update":
                scaler.update()
            case "zero":
                optimizer.zero_grad()
                self.true[i] = 0.0
        return (before - weight.item(), self.true[i]) if name in ("step", "raw step") else None


class Automaton:
    def __init__(self) -> None:
        self.protocol = ts.Protocol()
        ts.new_scaler(self.protocol, "s")
        for o in range(2):
            ts.new_optimizer(self.protocol, o)
        self.reported: list[ts.Violation] = []

    def run(self, name: str, o: int) -> None:
        p, report = self.protocol, self.reported.append
        match name:
            case "scaled":
                ts.scale(p, "s")
                ts.backward(p, o, "s", name)
            case "raw":
                ts.backward(p, o, None, name)
            case "unscale":
                ts.unscale(p, "s", o, name, report)
            case "clip":
                ts.clip(p, o, name, report)
            case "step":
                ts.step(p, "s", o, name, report)
            case "raw step":
                ts.raw_step(p, o, name, report)
            case "update":
                ts.update(p, "s", name, report)
            case "zero":
                ts.zero(p, o, name)

    def in_sight(self, name: str, o: int) -> bool:
        """Whether a backward that this event depends on is in sight; without one nothing is reported."""
        fed = [self.protocol.optimizer(i).fed for i in range(2)]
        return any(fed) if name == "update" else fed[o]


@settings(max_examples=250, deadline=None, derandomize=True)
@given(usual, programs, st.integers(0, 5))
@example([], [("scaled", 0), ("clip", 0), ("step", 0)], 0)
@example([], [("raw", 0), ("unscale", 0), ("raw step", 0)], 0)
@example([], [("scaled", 0), ("unscale", 0), ("update", 0), ("raw step", 0)], 0)
def test_automaton_and_torch(usual: list[Event], program: list[Event], at: int) -> None:
    machine, automaton = Machine(), Automaton()
    for name, i in usual[:-at] + program + usual[-at:] if at else usual + program:
        automaton.run(name, i)
        try:
            applied = machine.run(name, i)
        except (RuntimeError, AssertionError):
            assert automaton.reported or not automaton.in_sight(name, i)
            return
        if automaton.reported:
            return
        if applied is not None:
            assert applied[0] == applied[1]


@given(programs)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_right_program_is_never_reported(program: list[Event]) -> None:
    """The usual events in the only order that is right, some of them left out where that is right."""
    machine, automaton = Machine(), Automaton()
    for name, i in program:
        iteration = ["scaled"] * (1 + len(name) % 2) + (["unscale", "clip"] if name < "s" else []) + ["step", "update"]
        for event in [*iteration, "zero"]:
            automaton.run(event, i)
            applied = machine.run(event, i)
            assert applied is None or applied[0] == applied[1]
    assert automaton.reported == []
