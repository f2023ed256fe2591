"""What a training loop does, as events. Each test runs in a fork so that the patches die with it."""

from __future__ import annotations

import textwrap

from tests.runtime.child import zygote

HEADER = """
import torch
from mpaudit.runtime.child.events import Events, install
from mpaudit.runtime.child.patches import Patches
events, seen = Events(), []
install(events, Patches())
events.step_begin.append(lambda o: seen.append("step"))
events.step_end.append(lambda o: seen.append("stepped"))
events.backward_begin.append(lambda roots: (seen.append("backward"), roots)[1])
events.backward_end.append(lambda: seen.append("done"))
events.gradient_begin.append(lambda: seen.append("grad"))
events.forward_begin.append(lambda m: seen.append("forward"))
events.scaler_step_begin.append(lambda s, o: seen.append("scaler"))
events.scaled.append(lambda s, t: seen.append("scaled"))
events.parameters.append(lambda o, ps: seen.append(f"took {len(ps)}"))
"""


def events_of(body: str) -> list[str]:
    script = HEADER + textwrap.dedent(body) + "\nprint(*seen, sep='\\n')"
    done = zygote.run(script)
    assert done.code == 0, done.stderr
    return done.stdout.splitlines()


def test_a_plain_step() -> None:
    assert events_of("""
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    """) == ["took 2", "forward", "backward", "done", "step", "stepped"]


def test_a_step_whose_spans_are_not_stamped_has_its_end_only() -> None:
    journal = """
        events.{without}
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for events.spans in (True, False):
            seen.clear()
            before = len(events.journal)
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            seen.append([("OPEN", "CLOSE", "STEP", "TICK", "LOSS")[mark] for mark in events.journal[before::2]])
            print(*seen)
        seen.clear()
    """
    stamped = "['OPEN', 'CLOSE', 'OPEN', 'LOSS', 'CLOSE', 'STEP', 'CLOSE']"
    not_stamped = "['LOSS', 'TICK']"
    heard = "forward backward done step stepped"
    assert events_of(journal.format(without="spans = True"))[:2] == [f"{heard} {stamped}", f"{heard} {not_stamped}"]
    deaf = events_of(journal.format(without="forward_begin.clear()"))[:2]
    assert deaf == [f"backward done step stepped {stamped}", f"backward done step stepped {not_stamped}"]


def test_a_step_that_calls_its_parent_is_one_step() -> None:
    assert events_of("""
        class Mine(torch.optim.SGD):
            def step(self, closure=None):
                return super().step(closure)
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = Mine([weight], lr=0.1)
        weight.sum().backward()
        optimizer.step()
    """) == ["took 1", "backward", "done", "step", "stepped"]


def test_a_step_that_raised_does_not_hide_the_next() -> None:
    assert events_of("""
        class Broken(torch.optim.SGD):
            def step(self, closure=None):
                raise ValueError
        weight = torch.nn.Parameter(torch.ones(1))
        broken, right = Broken([weight], lr=0.1), torch.optim.SGD([weight], lr=0.1)
        try:
            broken.step()
        except ValueError:
            pass
        weight.sum().backward()
        right.step()
    """)[2:] == ["step", "backward", "done", "step", "stepped"]


def test_a_scaler_that_skips_is_seen_without_a_step() -> None:
    assert events_of("""
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(weight.sum() * float("inf")).backward()
        scaler.step(optimizer)
        scaler.update()
    """) == ["took 1", "scaled", "backward", "done", "scaler"]


def test_a_backward_that_raises_ends() -> None:
    assert events_of("""
        weight = torch.nn.Parameter(torch.ones(2))
        try:
            (weight * 2).backward()
        except RuntimeError:
            pass
        torch.autograd.grad((weight * 2).sum(), weight)
    """) == ["backward", "done", "grad"]
