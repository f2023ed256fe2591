"""Ops with their lines: small scripts, each in a process of its own; a comment `#:name` marks a line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import msgspec
import pytest

from mpaudit.runtime.evidence import OpEvidence, OpRow
from tests.runtime.child import zygote

PROJECTS = Path(__file__).resolve().parents[4] / "sample_projects"

DRIVER = """
import sys, msgspec
from mpaudit.runtime.child import events as e
from mpaudit.runtime.child.patches import Patches
from mpaudit.runtime.child.probes import ops
events = e.Events()
e.install(events, Patches())
class Enough(BaseException): pass
finished = [0]
def stepped(optimizer):
    finished[0] += 1
    probe.step_finished(finished[0])
    if finished[0] == {first} + {count}: raise Enough
events.step_end.append(stepped)
probe = ops.install(events, {first}, {count})
def ended():
    print("EVIDENCE" + msgspec.json.encode(probe.evidence()).decode())
"""


def evidence_of(body: str, first: int = 1, count: int = 2) -> tuple[OpEvidence, list[str]]:
    """What a script's steps gave, and its lines; `body` is run as a file of the user's."""
    script = textwrap.dedent(body)
    source = DRIVER.format(first=first, count=count) + textwrap.dedent(f"""
        import os
        user = os.path.join(os.path.dirname(__file__), "train.py")
        open(user, "w").write({script!r})
        try:
            exec(compile({script!r}, user, "exec"), {{"__name__": "__main__", "__file__": user}})
        except Enough:
            pass
        ended()
    """)
    done = zygote.run(source)
    assert done.code == 0, done.stderr
    return decode(done.stdout), ["", *script.splitlines()]


def decode(stdout: str) -> OpEvidence:
    (line,) = [line for line in stdout.splitlines() if line.startswith("EVIDENCE")]
    return msgspec.json.decode(line.removeprefix("EVIDENCE"), type=OpEvidence)


def marked(lines: list[str], name: str) -> int:
    (line,) = [number for number, text in enumerate(lines) if text.endswith(f"#:{name}")]
    return line


def at(evidence: OpEvidence, line: int, phase: str = "forward") -> set[str]:
    return {row.op for row in evidence.rows if row.line == line and row.phase == phase}


def loop(
    model: str, data: str, loss: str, options: str = "", optimizer: str = "SGD(model.parameters(), lr=0.01)"
) -> str:
    return f"""
import torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
{model}
optimizer = torch.optim.{optimizer}
for _ in range(9):
    x = {data}
    optimizer.zero_grad()
    {loss}
    loss.backward()
    {options or "pass"}
    optimizer.step()
"""


def test_the_line_of_operators_decorators_comprehensions_and_calls_of_libraries() -> None:
    evidence, lines = evidence_of("""
        import functools, os, sys, torch, torch.nn.functional as F
        library = os.path.join(os.path.dirname(__file__), "site-packages")
        os.makedirs(library)
        open(os.path.join(library, "somelib.py"), "w").write("def work(x):\\n    return x.sin().exp()\\n")
        sys.path.insert(0, library)
        import somelib
        w = torch.nn.Parameter(torch.ones(4, 4))
        optimizer = torch.optim.SGD([w], lr=0.01)
        def logged(function):
            @functools.wraps(function)
            def wrapper(x):
                return function(x).neg()  #:decorator
            return wrapper
        @logged
        def act(x):
            return torch.tanh(x)  #:decorated
        for _ in range(9):
            h = w @ w  #:matmul
            h = h * 2 + 1  #:operators
            h = act(h)  #:call
            parts = [part.sigmoid() for part in h.chunk(2)]  #:comprehension
            h = somelib.work(parts[0])  #:library
            h = (
                h
                .abs()
                .sqrt()  #:chain
            )
            loss = F.mse_loss(h, torch.zeros_like(h))  #:loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    """)
    assert at(evidence, marked(lines, "matmul")) == {"aten::mm"}
    assert at(evidence, marked(lines, "operators")) == {"aten::mul", "aten::add"}
    assert "aten::tanh" in at(evidence, marked(lines, "decorated"))
    assert "aten::neg" in at(evidence, marked(lines, "decorator"))
    assert not at(evidence, marked(lines, "call"))
    assert "aten::sigmoid" in at(evidence, marked(lines, "comprehension"))
    assert {"aten::sin", "aten::exp"} <= at(evidence, marked(lines, "library"))
    assert "aten::sqrt" in at(evidence, marked(lines, "chain"))
    assert "aten::mse_loss" in at(evidence, marked(lines, "loss"))
    assert {"aten::mse_loss_backward"} <= at(evidence, marked(lines, "loss"), "backward")
    assert "aten::mm" in at(evidence, marked(lines, "matmul"), "backward")
    assert "aten::tanh_backward" in at(evidence, marked(lines, "decorated"), "backward")
    assert evidence.attributed == 1


MLP = "model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))"
CNN = "model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))"
TRANSFORMER = "model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)"
TWINS = {
    "mlp": loop(MLP, "torch.randn(4, 8)", "loss = F.cross_entropy(model(x), torch.tensor([0, 1, 2, 3]))"),
    "cnn": loop(CNN, "torch.randn(4, 3, 8, 8)", "loss = model(x).pow(2).mean()"),
    "transformer": loop(
        TRANSFORMER,
        "torch.randn(2, 5, 16)",
        "loss = model(x).pow(2).mean()",
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
        "AdamW(model.parameters())",
    ),
    "penalty": loop(
        MLP,
        "torch.randn(4, 8, requires_grad=True)",
        "y = model(x).sum(); g, = torch.autograd.grad(y, x, create_graph=True); "
        "loss = y + (g.norm(2, 1) - 1).pow(2).sum()",
    ),
    "checkpoint": loop(
        MLP,
        "torch.randn(4, 8)",
        "loss = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).pow(2).mean()",
    ),
    "accumulation": loop(
        MLP,
        "torch.randn(4, 8)",
        "model(x).sum().backward(); loss = model(x).sum()",
        optimizer="Adam(model.parameters())",
    ),
    "amp": loop(
        TRANSFORMER,
        "torch.randn(2, 5, 16)",
        "with torch.autocast('cpu', torch.bfloat16): loss = model(x).float().pow(2).mean()",
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_every_op_of_the_backward_pass_and_of_the_optimizer_has_a_line(name: str) -> None:
    evidence, lines = evidence_of(TWINS[name])
    assert evidence.steps == 2 and {row.phase for row in evidence.rows} >= {"forward", "backward", "optimizer"}
    assert not [row for row in evidence.rows if not row.path]
    started = [number for number, text in enumerate(lines) if text.strip() == "loss.backward()"]
    kept = {"aten::ones_like", "aten::sum"}  # the seed of the pass is made where it is started
    assert not [r for r in evidence.rows if r.phase == "backward" and r.line in started and r.op not in kept]


def test_modules_have_their_paths_in_both_directions() -> None:
    evidence, _ = evidence_of(TWINS["mlp"])
    for phase, op in (("forward", "aten::addmm"), ("backward", "aten::mm")):
        assert {row.module for row in evidence.rows if row.phase == phase and row.op == op} == {"0", "2"}


def test_an_optimizer_that_updates_all_parameters_at_once_is_shared_out() -> None:
    evidence, lines = evidence_of("""
        import torch
        a, b = torch.nn.Parameter(torch.ones(30)), torch.nn.Parameter(torch.ones(10))
        optimizer = torch.optim.AdamW([a, b], foreach=True)
        for _ in range(9):
            x = a.sin()  #:a
            y = b.cos()  #:b
            (x.sum() * y.sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
    """)
    rows = {row.line: row for row in evidence.rows if row.op == "aten::_foreach_addcdiv_" and row.phase == "optimizer"}
    assert {line: row.calls for line, row in rows.items()} == {marked(lines, "a"): 1.5, marked(lines, "b"): 0.5}


def casts(evidence: OpEvidence, phase: str) -> set[tuple[int, str, str]]:
    return {(row.line, row.inputs[0], row.outputs[0]) for row in evidence.rows if row.is_cast and row.phase == phase}


def test_casts_of_autocast_are_seen_with_the_dtypes_that_ops_really_have() -> None:
    evidence, lines = evidence_of("""
        import torch
        layer = torch.nn.Linear(4, 4)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        x = torch.ones(2, 4)
        for _ in range(9):
            with torch.autocast("cpu", torch.bfloat16):
                y = layer(x)  #:layer
                loss = torch.nn.functional.mse_loss(y, x)  #:loss
            loss.backward()
            optimizer.step()
    """)
    layer, loss = marked(lines, "layer"), marked(lines, "loss")
    assert casts(evidence, "forward") == {(layer, "float32", "bfloat16"), (loss, "bfloat16", "float32")}
    assert casts(evidence, "backward") == {(layer, "bfloat16", "float32"), (loss, "float32", "bfloat16")}
    (addmm,) = [row for row in evidence.rows if row.op == "aten::addmm"]
    assert addmm.inputs == ("bfloat16",) * 3 and addmm.outputs == ("bfloat16",)


def test_flops_bytes_and_calls() -> None:
    evidence, _ = evidence_of("""
        import torch
        w = torch.nn.Parameter(torch.ones(8, 4))
        optimizer = torch.optim.SGD([w], lr=0.1)
        for _ in range(9):
            (torch.ones(2, 8) @ w).sum().backward()
            optimizer.step()
    """)
    (mm,) = [row for row in evidence.rows if row.op == "aten::mm" and row.phase == "forward"]
    assert (mm.calls, mm.flops, mm.bytes) == (2, 2 * (2 * 2 * 8 * 4), 2 * 4 * (2 * 8 + 8 * 4 + 2 * 4))
    assert len(mm.us) == 2 and all(us > 0 for us in mm.us)


def test_views_move_no_bytes() -> None:
    evidence, _ = evidence_of(TWINS["transformer"])
    views: list[OpRow] = [row for row in evidence.rows if row.op in ("aten::view", "aten::transpose", "aten::t")]
    assert views and not any(row.bytes for row in views)


def test_a_script_that_ends_early_keeps_the_steps_it_made() -> None:
    evidence, _ = evidence_of(TWINS["mlp"].replace("range(9)", "range(3)"), first=1, count=5)
    assert evidence.steps == 2 and all(len(row.us) == 2 for row in evidence.rows)


def test_a_compiled_model_runs_eagerly_and_has_lines() -> None:
    body = TWINS["mlp"].replace("optimizer = torch", "model = torch.compile(model)\noptimizer = torch")
    evidence, _ = evidence_of(body)
    assert {"aten::addmm", "aten::relu"} <= {row.op for row in evidence.rows if row.path}


@pytest.mark.parametrize("project", sorted(path.parent.name for path in PROJECTS.glob("*/train.py")))
def test_at_least_95_percent_of_the_op_time_of_the_sample_projects_has_a_line(project: str) -> None:
    folder = PROJECTS / project
    done = zygote.run(
        DRIVER.format(first=1, count=2)
        + textwrap.dedent(f"""
        import os, runpy, tempfile
        os.chdir(tempfile.mkdtemp())
        sys.path.insert(0, {str(folder)!r})
        try:
            runpy.run_path({str(folder / "train.py")!r}, run_name="__main__")
        except Enough:
            pass
        ended()
    """)
    )
    assert done.code == 0, done.stderr
    evidence = decode(done.stdout)
    assert evidence.steps == 2 and evidence.attributed >= 0.95
    assert {Path(row.path).parent.name for row in evidence.rows if row.path} == {project}
