"""Traces of real steps, as this project reads them and as torch-tb-profiler does. In TensorBoard: tests/cli."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.runtime import traces
from tests.runtime.child import zygote

SCRIPT = """
import torch, torch.nn as nn
from mpaudit.runtime.child.probes import trace
probe = trace.install({folder!r}, {first}, {count})
model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
optimizer = torch.optim.AdamW(model.parameters())
for step in range({steps}):
    with torch.autocast("cpu", torch.bfloat16, enabled={autocast}):
        loss = model(torch.randn(2, 4, 16)).float().pow(2).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    probe.step_finished(step + 1)
probe.stop()
"""


def traced(folder: Path, first: int = 1, count: int = 3, steps: int = 7, autocast: bool = True) -> list[Path]:
    script = SCRIPT.format(folder=str(folder), first=first, count=count, steps=steps, autocast=autocast)
    done = zygote.run(script)
    assert done.code == 0, done.stderr
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def log_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    for variant in ("amp-bf16", "fp32"):
        assert len(traced(folder / variant, autocast=variant != "fp32")) == 1
    return folder


def test_one_trace_with_the_steps_that_were_asked_for(log_directory: Path) -> None:
    (path,) = (log_directory / "amp-bf16").iterdir()
    assert path.name.endswith(".pt.trace.json") and path.name.count(".") >= 4
    assert traces.steps(traces.read(path)) == 3
    assert {"aten::addmm", "aten::_to_copy"} <= {one.name for one in traces.operators(traces.read(path))}


def test_a_script_that_ends_early_leaves_what_was_traced(tmp_path: Path) -> None:
    (path,) = traced(tmp_path, count=50)
    assert traces.steps(traces.read(path)) >= 4


def test_from_the_first_step_on(tmp_path: Path) -> None:
    (path,) = traced(tmp_path, first=0, count=2)
    assert traces.steps(traces.read(path)) == 2


def test_operators_agree_with_torch_tb_profilers_own_table(log_directory: Path, tmp_path: Path) -> None:
    data = pytest.importorskip("torch_tb_profiler.profiler.data")
    (path,) = (log_directory / "amp-bf16").iterdir()
    theirs = {
        row.name: (row.calls, row.self_host_duration)
        for row in data.RunProfileData.parse("worker", "1", str(path), str(tmp_path)).op_list_groupby_name
    }
    ours = {row.name: (row.calls, row.self_us) for row in traces.operators(traces.read(path))}
    assert ours.keys() == theirs.keys() and len(ours) > 30
    for name, (calls, self_us) in ours.items():
        assert calls == theirs[name][0]
        assert self_us == pytest.approx(theirs[name][1], rel=0.02, abs=0.02), name
