"""A training is stopped after its steps, however its script is written.

The situations that need no process of their own are forks of one driver, which imports torch once; each fork counts
for itself and leaves a result beside the driver's. The rest are launched one by one in `test_stops_processes.py`.
"""

from __future__ import annotations

import textwrap

import msgspec
import pytest

from mpaudit.runtime.protocol import ChildResult
from mpaudit.runtime.results import PROCESSES
from tests.runtime.launching import LOOP, launch

MODEL = LOOP.replace("import torch\n", "")

SITUATIONS = {
    "except Exception": """
        for i in range(40):
            try:
                step()
            except Exception:
                print("swallowed")
        print("end")
    """,
    "bare except": """
        for i in range(40):
            try:
                step()
            except:
                print("swallowed", i)
        print("end")
    """,
    "finally": """
        try:
            for i in range(40):
                step()
        finally:
            print("saved")
    """,
    "sys.exit(main())": """
        import argparse, sys
        def main():
            options = argparse.ArgumentParser().parse_args([])
            for i in range(40):
                step()
            return 0
        sys.exit(main())
    """,
    "torch.compile": """
        model = torch.compile(model, backend="aot_eager")
        for i in range(40):
            step()
    """,
    "LBFGS": """
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
        x = torch.randn(8, 4)
        def closure():
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            return loss
        for i in range(40):
            optimizer.step(closure)
    """,
    "LBFGS that does not return": """
        optimizer = torch.optim.LBFGS(model.parameters(), lr=1e-6, max_iter=50000, tolerance_change=0)
        x = torch.randn(8, 4)
        def closure():
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            return loss
        optimizer.step(closure)
    """,
    "GAN": """
        critic = torch.nn.Linear(2, 1)
        d = torch.optim.Adam(critic.parameters())
        g = torch.optim.SGD(model.parameters(), lr=0.1)
        for i in range(40):
            for _ in range(3):
                d.zero_grad()
                critic(model(torch.randn(8, 4)).detach()).mean().backward()
                d.step()
            g.zero_grad()
            critic(model(torch.randn(8, 4))).mean().backward()
            g.step()
    """,
    "accumulation": """
        for i in range(40):
            (model(torch.full((1, 4), 1.0)).sum() * 0 + 2).backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    """,
    "thread": """
        import threading
        def loop():
            for i in range(40):
                step()
            print("end")
        thread = threading.Thread(target=loop)
        thread.start()
        thread.join()
        print("joined")
    """,
    "manual SGD": """
        del optimizer
        steps.expected = False  # the driver has made one before the fork
        for i in range(40):
            model(torch.randn(8, 4)).pow(2).mean().backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
                    p.grad = None
    """,
    "duck-typed optimizer": """
        steps.expected = False
        class Descent:
            def __init__(self, parameters):
                self.parameters = list(parameters)
            def step(self):
                with torch.no_grad():
                    for p in self.parameters:
                        p -= 0.1 * p.grad
            def zero_grad(self):
                for p in self.parameters:
                    p.grad = None
        optimizer = Descent(model.parameters())
        for i in range(40):
            step()
    """,
    "unused optimizer": """
        class Descent:
            def step(self):
                pass
            zero_grad = step
        optimizer = Descent()
        for i in range(400):
            step()
    """,
    "step calls super": """
        class Mine(torch.optim.SGD):
            def step(self, closure=None):
                return super().step(closure)
        optimizer = Mine(model.parameters(), lr=0.1)
        for i in range(40):
            step()
    """,
    "raising step": """
        class Fragile(torch.optim.SGD):
            made = 0
            def step(self, closure=None):
                self.made += 1
                if self.made % 2:
                    raise ValueError
                return super().step(closure)
        optimizer = Fragile(model.parameters(), lr=0.1)
        for i in range(40):
            try:
                step()
            except ValueError:
                pass
    """,
    "scaler that always skips": """
        scaler = torch.amp.GradScaler("cpu")
        for i in range(40):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(8, 4)).sum() * float("inf")).backward()
            scaler.step(optimizer)
            scaler.update()
    """,
    "scaler": """
        scaler = torch.amp.GradScaler("cpu")
        for i in range(40):
            scaler.scale(model(torch.randn(8, 4)).sum() * 0 + 2).backward()
            scaler.step(optimizer)
            scaler.update()
    """,
    "completed early": """
        for i in range(4):
            step()
    """,
}

DRIVER = """
import os, sys, torch
{loop}
step()  # what torch imports at its first optimizer is there before the forks
import gc
from mpaudit.runtime.child.steps import Steps
steps = next(thing for thing in gc.get_objects() if isinstance(thing, Steps))
for name in sorted(os.listdir("situations")):
    process = os.fork()
    if not process:
        for number, stream in enumerate(("out", "err"), 1):
            os.dup2(os.open(f"{{name}}.{{stream}}", os.O_CREAT | os.O_WRONLY), number)
        os.rename(f"{{name}}.out", f"{{os.getpid()}}.out")
        print(name, flush=True)
        code = 0
        try:
            exec(compile(open(f"situations/{{name}}").read(), name, "exec"), dict(globals()))
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(name, os.waitpid(process, 0)[1], flush=True)  # a fork would inherit what is not written yet
"""


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ChildResult | None]]:
    """What each situation printed, and the result it left."""
    home = tmp_path_factory.mktemp("stops") / "home"
    (home / "situations").mkdir(parents=True)
    for name, body in SITUATIONS.items():
        (home / "situations" / name).write_text(MODEL + textwrap.dedent(body))
    record = launch(home, DRIVER.format(loop=LOOP), allow_writes=True)
    assert record.stdout.splitlines() == [f"{name} 0" for name in sorted(SITUATIONS)], record.stderr
    found: dict[str, tuple[str, ChildResult | None]] = {}
    for printed in home.glob("*.out"):
        name, _, rest = printed.read_text().partition("\n")
        result = home.parent / "run" / PROCESSES / f"{printed.stem}.json"
        found[name] = rest, msgspec.json.decode(result.read_bytes(), type=ChildResult) if result.exists() else None
    return found


@pytest.mark.parametrize(
    ("situation", "ending", "counted", "printed", "optimizers"),
    [
        ("except Exception", "bounded", "optimizer", "", {"SGD#1": 5}),
        ("bare except", "bounded", "optimizer", "swallowed 4\n", {"SGD#1": 5}),
        ("finally", "bounded", "optimizer", "saved\n", {"SGD#1": 5}),
        ("sys.exit(main())", "bounded", "optimizer", "", {"SGD#1": 5}),
        ("torch.compile", "bounded", "optimizer", "", {"SGD#1": 5}),
        ("LBFGS", "bounded", "optimizer", "", {"LBFGS#1": 5}),
        ("GAN", "bounded", "optimizer", "", {"Adam#1": 15, "SGD#2": 5}),
        ("accumulation", "bounded", "optimizer", "", {"SGD#1": 5}),
        ("thread", "bounded", "optimizer", "joined\n", {"SGD#1": 5}),
        ("manual SGD", "bounded", "backward", "", {}),
        ("duck-typed optimizer", "bounded", "backward", "", {}),
        ("unused optimizer", "bounded", "backward", "", {}),
        ("LBFGS that does not return", "bounded", "backward", "", {}),
        ("step calls super", "bounded", "optimizer", "", {"Mine#1": 5}),
        ("raising step", "bounded", "optimizer", "", {"Fragile#1": 5}),
        ("scaler that always skips", "bounded", "optimizer", "", {"SGD#1": 5}),
        ("scaler", "bounded", "optimizer", "", {"SGD#1": 5}),
        ("completed early", "completed", "optimizer", "", {"SGD#1": 4}),
    ],
)
def test_a_training_stops_after_its_steps(
    forks: dict[str, tuple[str, ChildResult | None]],
    situation: str,
    ending: str,
    counted: str,
    printed: str,
    optimizers: dict[str, int],
) -> None:
    text, result = forks[situation]
    assert result is not None, text
    assert (result.ending, result.counted, result.optimizers, text) == (ending, counted, optimizers, printed)
    if counted == "optimizer":
        assert result.steps == (5 if ending == "bounded" else 4)
        assert len(result.step_ms) == len(result.outside_ms) == result.steps - 2
        assert len(result.losses) == result.steps
    else:
        assert len(result.step_ms) == 3 and len(result.losses) == 5
    pairs = zip(result.outside_ms, result.step_ms, strict=False)
    assert all(0 <= outside <= whole for outside, whole in pairs if outside is not None)


def test_losses_are_summed_over_the_passes_of_a_step(forks: dict[str, tuple[str, ChildResult | None]]) -> None:
    _, result = forks["accumulation"]
    assert result is not None and result.losses == (8.0,) * 5


def test_a_loss_that_is_not_finite_is_none(forks: dict[str, tuple[str, ChildResult | None]]) -> None:
    _, result = forks["scaler that always skips"]
    assert result is not None and result.losses == (None,) * 5


def test_losses_are_those_before_the_scale(forks: dict[str, tuple[str, ChildResult | None]]) -> None:
    _, result = forks["scaler"]
    assert result is not None and result.losses == (2.0,) * 5


def test_passes_inside_of_a_step_have_no_outside(forks: dict[str, tuple[str, ChildResult | None]]) -> None:
    _, result = forks["LBFGS that does not return"]
    assert result is not None and result.outside_ms == ()
