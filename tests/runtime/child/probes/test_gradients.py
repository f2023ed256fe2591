"""Histograms against true half arithmetic; the probe on small scripts, each in a child of its own."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpaudit.runtime.child.probes.gradients import histogram, sampled_steps
from mpaudit.runtime.loss_scaling import shares
from tests.runtime.child import zygote

AWKWARD = [0.0, 2.0**-25, -(2.0**-25), 2.0**-24, 2.0**-14, 65504.0, 65519.99, 65520.0, 65536.0, 2.0**-130, 1e-40]


def half_shares(values: torch.Tensor, log2_scale: int) -> tuple[float, float, float]:
    scaled = values * 2.0**log2_scale
    half = scaled.half()
    alive = values != 0
    lost = (half == 0) & alive
    small = (scaled.abs() < 2.0**-14) & alive & ~lost
    count = max(int(alive.sum()), 1)
    return int(lost.sum()) / count, int(small.sum()) / count, int(half.isinf().sum()) / count


@pytest.mark.parametrize("log2_scale", [-12, -3, 0, 1, 8, 16, 24])
def test_shares_are_those_of_a_round_trip_through_half(log2_scale: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200_000, generator=generator) * 2.0 ** torch.randint(-40, 25, (200_000,), generator=generator)
    values = torch.cat([values, torch.tensor(AWKWARD), 2.0 ** torch.arange(-40.0, 30.0), torch.zeros(1000)])
    found = shares(histogram(values), log2_scale)
    assert (found.zero, found.subnormal, found.infinite) == half_shares(values, log2_scale)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_any_float(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    found = shares(histogram(tensor))
    assert (found.zero, found.subnormal, found.infinite) == half_shares(tensor, 0)


def test_zeros_and_what_is_not_finite_are_counted_apart() -> None:
    found = histogram(torch.tensor([0.0, -0.0, float("inf"), float("nan"), 1.0]))
    assert (found.zeros, found.nonfinite, found.binades) == (2, 2, {0: (1, 0, 0)})


def test_a_scale_is_divided_out() -> None:
    values = torch.tensor([0.75, 3.0, 1e-3])
    assert histogram(values * 1024, 1024.0) == histogram(values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    assert histogram(torch.tensor([[0.5, 6.0]], dtype=dtype)).binades == {-1: (1, 0, 0), 2: (0, 1, 0)}


def test_early_and_late() -> None:
    assert sorted(sampled_steps(2, 10)) == [2, 3, 10, 11]
    assert sorted(sampled_steps(0, 1)) == [0]


HEADER = """
import msgspec, torch
from mpaudit.runtime.child import events as e
from mpaudit.runtime.child.patches import Patches
from mpaudit.runtime.child.probes import gradients
events, made = e.Events(), [0]
e.install(events, Patches())
probe = gradients.install(events, lambda: made[0], lambda step: step in WANTED)
events.step_end.append(lambda optimizer: made.__setitem__(0, made[0] + 1))
torch.manual_seed(0)
"""


def evidence_of(body: str, wanted: str = "(1,)") -> dict[str, Any]:
    script = HEADER.replace("WANTED", wanted) + textwrap.dedent(body)
    script += "\nprint(msgspec.json.encode(probe.evidence()).decode())"
    done = zygote.run(script)
    assert done.code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


MLP = """
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(inplace=True), torch.nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""


def test_parameters_and_activations_of_the_chosen_step() -> None:
    found = evidence_of(MLP + "for _ in range(3): model(torch.randn(3, 4)).sum().backward(); optimizer.step()")
    rows = [(g["step"], g["kind"], g["module"], g["name"]) for g in found["gradients"]]
    assert sorted(rows) == sorted(
        [
            (1, "activation", "0", "0"),
            (1, "activation", "1", "0"),
            (1, "activation", "2", "0"),
            *[(1, "parameter", m, f"{m}.{n}") for m in "02" for n in ("weight", "bias")],
        ]
    )
    assert [(u["step"], u["name"]) for u in found["updates"]] == [
        (1, "0.weight"), (1, "0.bias"), (1, "2.weight"), (1, "2.bias")
    ]  # fmt: skip


def test_the_scale_of_the_scripts_own_scaler_is_divided_out() -> None:
    loop = "model(torch.ones(3, 4)).sum()"
    plain = evidence_of(MLP + f"{loop}.backward(); optimizer.step()", "(0,)")
    scaler = "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\n"
    scaled = evidence_of(MLP + scaler + f"scaler.scale({loop}).backward(); scaler.step(optimizer)", "(0,)")
    assert scaled["gradients"] == plain["gradients"]


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_a_gradient_that_autocast_casts_back_is_known_by_the_dtype_it_was_computed_in(half: str) -> None:
    script = """
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(64, 4)
    with torch.autocast("cpu", torch.HALF): loss = torch.nn.MSELoss()(model(x).float(), torch.randn(64, 8))
    loss.backward(); optimizer.step()
    """
    found = evidence_of(script.replace("HALF", half), "(0,)")
    dtypes = {(g["module"], g["name"]): g["dtype"] for g in found["gradients"]}
    assert dtypes[("0", "0.weight")] == dtypes[("0", "0")] == half
    assert dtypes[("1", "1.weight")] == dtypes[("1", "1.bias")] == "float32"
    assert dtypes[("MSELoss", "0")] == "float32"


def test_clipping_is_not_seen() -> None:
    plain = evidence_of(MLP + "model(torch.ones(3, 4)).sum().backward(); optimizer.step()", "(0,)")
    clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-6)"
    clipped = evidence_of(MLP + f"model(torch.ones(3, 4)).sum().backward(); {clip}; optimizer.step()", "(0,)")
    assert clipped["gradients"] == plain["gradients"]


def test_updates_that_half_weights_would_lose() -> None:
    found = evidence_of(
        """
        weight = torch.nn.Parameter(torch.ones(4))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        (weight * torch.tensor([1e-1, 1e-3, 1e-4, 0.0])).sum().backward()
        optimizer.step()
        """,
        "(0,)",
    )
    (update,) = found["updates"]
    # below 1 a unit in the last place is 2^-11 in float16 and 2^-8 in bfloat16
    assert (update["moved"], update["lost_fp16"], update["lost_bf16"]) == (3, 1, 2)


def test_two_models_are_told_apart() -> None:
    found = evidence_of(
        """
        class Generator(torch.nn.Sequential): pass
        class Critic(torch.nn.Sequential): pass
        g, d = Generator(torch.nn.Linear(2, 2)), Critic(torch.nn.Linear(2, 1))
        optimizer = torch.optim.SGD([*g.parameters(), *d.parameters()], lr=0.1)
        d(g(torch.ones(1, 2))).sum().backward()
        optimizer.step()
        """,
        "(0,)",
    )
    assert [u["name"] for u in found["updates"]] == ["0.weight", "0.bias", "Critic.0.weight", "Critic.0.bias"]


def test_an_overflow_is_seen_in_backward_order() -> None:
    found = evidence_of(
        """
        class Burst(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x): return x.clone()
            @staticmethod
            def backward(ctx, grad): return grad * float("inf")
        class Layer(torch.nn.Module):
            def forward(self, x): return Burst.apply(x)
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), Layer(), torch.nn.Linear(2, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        """,
        "(0,)",
    )
    broken = [g["module"] for g in found["gradients"] if g["histogram"]["nonfinite"]]
    assert broken[0] == "0" and not {"1", "2"} & set(broken)
