"""Evidence runs as `mpaudit profile` makes them: every probe at its steps, in one process."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from mpaudit.runtime import traces
from mpaudit.runtime.evidence import (
    EVIDENCE_FILE,
    EVIDENCE_STEPS,
    EVIDENCE_WARMUP,
    OPS_STEPS,
    TRACE_STEPS,
    RunEvidence,
    layout,
)
from tests.runtime.launching import LOOP, launch

SCRIPT = LOOP + "for _ in range(100): step()\n"
OWN_SCALER = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters())
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)
for _ in range(100):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.float16):
        loss = model(torch.randn(8, 4)).float().pow(2).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""


def evidence_of(home: Path, script: str, **fields: object) -> RunEvidence:
    home.mkdir(exist_ok=True)
    given = {"kind": "evidence", "warmup": EVIDENCE_WARMUP, "steps": EVIDENCE_STEPS} | fields
    record = launch(home / "home", script, **given)  # type: ignore[arg-type]
    assert record.result is not None and record.outcome == "bounded", (record.sentence, record.stderr)
    path = home / "run" / EVIDENCE_FILE
    return msgspec.json.decode(path.read_bytes(), type=RunEvidence)


def test_every_probe_has_its_own_steps() -> None:
    when = layout(EVIDENCE_WARMUP, EVIDENCE_STEPS)
    ops = range(when.ops, when.ops + when.ops_steps)
    traced = range(when.trace, when.trace + 1 + when.trace_steps)
    assert sorted([*when.gradients, when.memory, *ops, *traced]) == list(range(1, EVIDENCE_WARMUP + EVIDENCE_STEPS))


def test_a_run_gives_everything(tmp_path: Path) -> None:
    found = evidence_of(tmp_path, SCRIPT)
    assert found.ops is not None and found.ops.steps == OPS_STEPS and found.ops.attributed >= 0.95
    assert {Path(row.path).name for row in found.ops.rows} == {"train.py"}
    # nothing of the other probes: the losses are copied, gradients counted, tensors weighed
    assert not {row.op for row in found.ops.rows} & {"aten::bincount", "aten::clone"}
    assert found.gradients is not None
    assert sorted({one.step for one in found.gradients.gradients}) == [1, 2, 13, 14]
    assert {one.name for one in found.gradients.updates} == {"weight", "bias"}
    assert found.memory is not None
    assert (found.memory.parameters, found.memory.gradients) == (4 * 10, 4 * 10)
    assert found.trace is not None
    (trace,) = Path(found.trace).iterdir()
    assert traces.steps(traces.read(trace)) == TRACE_STEPS


def test_under_autocast_casts_are_held_apart_from_activations(tmp_path: Path) -> None:
    found = evidence_of(tmp_path, SCRIPT, variant="amp-bf16")
    assert found.memory is not None and found.ops is not None
    assert found.memory.casts >= 2 * (8 * 4)  # the input, kept for the gradient of the weight
    addmm = [row for row in found.ops.rows if row.op == "aten::addmm"]
    assert addmm and all(row.dtype_used == "bfloat16" for row in addmm)


def test_the_scale_that_precision_control_injects_is_divided_out(tmp_path: Path) -> None:
    plain = evidence_of(tmp_path / "a", SCRIPT)
    scaled = evidence_of(tmp_path / "b", SCRIPT, variant="amp-fp16")
    assert plain.gradients is not None and scaled.gradients is not None

    def highest(found: RunEvidence, kind: str) -> int:
        assert found.gradients is not None
        return max(max(g.histogram.binades) for g in found.gradients.gradients if g.kind == kind)

    for kind in ("parameter", "activation"):
        assert abs(highest(plain, kind) - highest(scaled, kind)) <= 1


def test_the_history_of_the_scripts_own_scaler(tmp_path: Path) -> None:
    found = evidence_of(tmp_path, OWN_SCALER, variant="amp-fp16")
    assert found.scaler[0].skipped and found.scaler[0].scale == 2.0**22
    assert found.scaler[-1].scale < 2.0**22 and not all(step.skipped for step in found.scaler)
    assert [step.step for step in found.scaler] == list(
        range(EVIDENCE_WARMUP + EVIDENCE_STEPS - 1)
    )  # the last ends the run
    assert found.overflow is not None and found.overflow.backward
    assert (Path(found.overflow.path).name, found.overflow.line) == ("train.py", 9)
    assert found.overflow.parameter in ("2.weight", "2.bias")


def test_a_loop_that_updates_its_weights_by_hand_has_ops_and_a_trace(tmp_path: Path) -> None:
    script = """
    import torch
    model = torch.nn.Linear(4, 2)
    for _ in range(100):
        model(torch.randn(8, 4)).pow(2).mean().backward()
        for parameter in model.parameters():
            parameter.data.add_(parameter.grad, alpha=-0.1)
            parameter.grad = None
    """
    found = evidence_of(tmp_path, script)
    assert found.ops is not None and found.ops.steps == OPS_STEPS and found.ops.attributed >= 0.95
    assert found.trace is not None and len(list(Path(found.trace).iterdir())) == 1


def test_a_scaler_that_is_switched_off_has_no_history(tmp_path: Path) -> None:
    assert evidence_of(tmp_path, OWN_SCALER, variant="fp32").scaler == ()


def test_the_history_of_a_scaler_that_was_put_in_and_its_first_overflow(tmp_path: Path) -> None:
    # small at first, so that the overflow is in the fifth step
    large = LOOP.replace("pow(2).mean()", "sum().mul(3 if made > 3 else 1e-4)")
    large = large.replace("def step():", "made = -1\ndef step():\n    global made; made += 1")
    large += "for _ in range(100): step()\n"
    found = evidence_of(tmp_path, large, variant="amp-fp16", emulate=True)
    assert [step.step for step in found.scaler] == list(range(EVIDENCE_WARMUP + EVIDENCE_STEPS))
    assert found.scaler[0].scale == 65536 and not found.scaler[-1].skipped
    assert next(step.step for step in found.scaler if step.skipped) == 4
    assert all(after.scale == before.scale / (1 + before.skipped) for before, after in pairwise(found.scaler))
    assert all(step.loss_finite for step in found.scaler)
    assert found.overflow is not None and found.overflow.step == 4 and found.overflow.backward
    line = next(number for number, text in enumerate(large.splitlines(), 1) if "loss = model" in text)
    assert (Path(found.overflow.path).name, found.overflow.line) == ("train.py", line)
    assert found.overflow.parameter in ("weight", "bias")


@pytest.mark.parametrize(("at", "looked"), [(13, True), (6, False)])
def test_a_native_overflow_is_looked_for_in_the_steps_that_no_time_is_taken_of(
    tmp_path: Path, at: int, looked: bool
) -> None:
    large = LOOP.replace("pow(2).mean()", f"float().sum().mul(3 if made == {at} else 1e-4)")
    large = large.replace("def step():", "made = -1\ndef step():\n    global made; made += 1")
    found = evidence_of(tmp_path, large + "for _ in range(100): step()\n", variant="amp-fp16")
    assert [step.step for step in found.scaler if step.skipped] == [at]
    assert (found.overflow is not None) == looked
    if found.overflow is not None:
        assert found.overflow.step == at and found.overflow.backward and found.overflow.parameter


def test_a_loss_that_is_not_finite_and_a_mask_that_is(tmp_path: Path) -> None:
    broken = LOOP.replace("pow(2).mean()", "mul(1e30).pow(9).sum()") + "for _ in range(100): step()\n"
    found = evidence_of(tmp_path / "a", broken, variant="amp-fp16", emulate=True)
    assert found.scaler[0].skipped and not found.scaler[0].loss_finite
    assert found.overflow is not None and not found.overflow.backward
    masked = LOOP.replace("pow(2)", "masked_fill(torch.eye(8, 2) > 0, float('-inf')).softmax(1).mul(1e-3)")
    found = evidence_of(tmp_path / "b", masked + "for _ in range(100): step()\n", variant="amp-fp16", emulate=True)
    assert not any(step.skipped for step in found.scaler) and found.overflow is None


def test_an_emulation_has_numbers_and_no_times(tmp_path: Path) -> None:
    found = evidence_of(tmp_path, SCRIPT, variant="amp-fp16", emulate=True)
    assert found.emulated and found.gradients is not None
    assert (found.ops, found.trace) == (None, None)
    assert {one.dtype for one in found.gradients.gradients if one.kind == "activation"} == {"float16"}


@pytest.mark.parametrize("steps", [6, 2])
def test_a_script_that_ends_early_leaves_what_was_seen(tmp_path: Path, steps: int) -> None:
    script = LOOP + f"for _ in range({steps}): step()\n"
    launch(tmp_path / "home", script, kind="evidence", warmup=EVIDENCE_WARMUP, steps=EVIDENCE_STEPS)
    found = msgspec.json.decode((tmp_path / "run" / EVIDENCE_FILE).read_bytes(), type=RunEvidence)
    assert found.ops is not None and found.ops.steps == max(steps - EVIDENCE_WARMUP - 1, 0)
    assert found.gradients is not None and found.gradients.gradients


@pytest.mark.parametrize("emulate", [True, False])
@pytest.mark.parametrize("at", [2, 3, 5, 10])
def test_a_run_whose_time_is_over_in_the_middle_of_an_op_leaves_what_was_seen(
    tmp_path: Path, at: int, emulate: bool
) -> None:
    """In that of each probe: gradients and overflow, memory, ops, trace."""
    script = f"""
    import os, signal, time, torch
    made = 0
    @torch.library.custom_op("mine::late", mutates_args=())
    def late(x: torch.Tensor) -> torch.Tensor:
        if made == {at}:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return x.clone()
    late.register_autograd(lambda ctx, grad: grad)
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while True:
        optimizer.zero_grad()
        late(model(torch.randn(8, 4))).float().pow(2).mean().backward()
        optimizer.step()
        made += 1
    """
    variant = "amp-fp16" if emulate else "fp32"
    fields = {"kind": "evidence", "warmup": EVIDENCE_WARMUP, "steps": EVIDENCE_STEPS}
    record = launch(tmp_path / "home", script, variant=variant, emulate=emulate, **fields)  # type: ignore[arg-type]
    assert record.result is not None and record.result.steps == at, (record.sentence, record.stderr)
    assert "Error" not in record.stderr
    found = msgspec.json.decode((tmp_path / "run" / EVIDENCE_FILE).read_bytes(), type=RunEvidence)
    assert found.gradients is not None and found.gradients.gradients
