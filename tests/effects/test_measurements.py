"""The numbers and texts under «Why is this bad?» that are not those of a bad example as it stands."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.effects.toy import Toy


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


def scaled(toy: Toy, scaler: torch.amp.GradScaler) -> None:
    scaler.scale(F.cross_entropy(toy.model(toy.x), toy.y)).backward()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / a.norm()).item()


def test_201_float16_loses_small_gradients() -> None:
    zeros = {}
    for scale in (1.0, 65536.0):
        toy = Toy(gain=1e-9)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = toy.model(toy.x).float().mean()
        (loss * scale).backward()
        gradients = torch.cat([p.grad.flatten() for p in toy.model.parameters() if p.grad is not None])
        zeros[scale] = gradients.eq(0).float().mean().item()
    assert zeros[1.0] == 1.0
    assert zeros[65536.0] == pytest.approx(0.11, abs=0.01)


@pytest.mark.parametrize("call", ["unscale_", "step", "update"])
def test_202_every_call_names_itself(call: str) -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    F.cross_entropy(toy.model(toy.x), toy.y).backward()
    with pytest.raises(AssertionError, match=f"Attempted {call} but _scale is None"):
        getattr(scaler, call)(*([] if call == "update" else [toy.optimizer]))


def test_203_the_overflow_reaches_the_weights() -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    (scaler.scale(F.cross_entropy(toy.model(toy.x), toy.y)) * 1e38).backward()
    toy.optimizer.step()
    assert not any(torch.isfinite(p).all() for p in toy.model.parameters())


def test_203_a_raw_step_of_unscaled_gradients_is_not_skipped() -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    (scaler.scale(F.cross_entropy(toy.model(toy.x), toy.y)) * 1e38).backward()
    scaler.unscale_(toy.optimizer)
    nn.utils.clip_grad_norm_(toy.model.parameters(), 1.0)
    toy.optimizer.step()
    scaler.update()
    assert not any(torch.isfinite(p).all() for p in toy.model.parameters())


@pytest.mark.parametrize(("adam", "unscale", "norm", "moved"), [
    (False, False, 1_459_268, 1.5e-6),
    (False, True, 22.27, 0.1),
    (True, False, 1_459_268, 0.0232),
    (True, True, 22.27, 0.0260),
])  # fmt: skip
def test_205_clipping_scaled_gradients(adam: bool, unscale: bool, norm: float, moved: float) -> None:
    toy, scaler = Toy(gain=20.0), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.Adam(toy.model.parameters(), lr=1e-3) if adam else toy.optimizer
    scaled(toy, scaler)
    if unscale:
        scaler.unscale_(optimizer)
    assert nn.utils.clip_grad_norm_(toy.model.parameters(), 1.0).item() == pytest.approx(norm, rel=0.01)
    scaler.step(optimizer)
    assert toy.moved() == pytest.approx(moved, rel=0.03)


def test_209_the_raw_step_also_runs_where_the_scaler_skipped() -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    scaler.scale(F.cross_entropy(toy.model(toy.x), toy.y) * torch.inf).backward()
    scaler.step(toy.optimizer)
    assert toy.moved() == 0.0
    toy.optimizer.step()
    assert not all(torch.isfinite(p).all() for p in toy.model.parameters())


def test_209_after_an_update_the_second_step_divides_again() -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    scaled(toy, scaler)
    scaler.step(toy.optimizer)
    once = toy.moved()
    scaler.update()
    scaler.step(toy.optimizer)
    assert toy.moved() / once == pytest.approx(1 + 1 / 65536, rel=1e-5)


@pytest.mark.parametrize(("growth_interval", "ratio"), [(1, 0.5), (2000, 1.0)])
def test_210_the_waiting_optimizer_is_divided_by_the_new_scale(growth_interval: int, ratio: float) -> None:
    first, second = Toy(), Toy()
    scaler = torch.amp.GradScaler("cpu", growth_interval=growth_interval)
    scaled(first, scaler)
    scaled(second, scaler)
    scaler.step(first.optimizer)
    scaler.update()
    scaler.step(second.optimizer)
    assert second.moved() / first.moved() == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_211_zeroed_to_zeros_moves_nothing(set_to_none: bool) -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    scaled(toy, scaler)
    scaler.unscale_(toy.optimizer) if set_to_none else None
    toy.optimizer.zero_grad(set_to_none=set_to_none)
    scaler.step(toy.optimizer)
    assert toy.moved() == 0.0


def test_212_the_norm_is_65537_times_that_of_one_backward() -> None:
    once, mixed, scaler = Toy(), Toy(), torch.amp.GradScaler("cpu")
    F.cross_entropy(once.model(once.x), once.y).backward()
    scaled(mixed, scaler)
    scaler.unscale_(mixed.optimizer)
    scaled(mixed, scaler)
    assert mixed.gradient() / once.gradient() == pytest.approx(65537, rel=1e-4)


def iterate(toy: Toy, scaler: torch.amp.GradScaler, steps: int, zero: bool = True) -> torch.amp.GradScaler:
    for _ in range(steps):
        if zero:
            toy.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(toy.model(toy.x), toy.y)
        scaler.scale(loss).backward()
        scaler.step(toy.optimizer)
        scaler.update()
    return scaler


def test_214_the_state_is_what_three_skipped_steps_have_learnt() -> None:
    state = iterate(Toy(gain=50.0), torch.amp.GradScaler("cpu"), 3).state_dict()
    assert state["scale"] == 8192.0
    resumed = torch.amp.GradScaler("cpu")
    assert resumed.get_scale() == 65536.0
    resumed.load_state_dict(state)
    assert resumed.get_scale() == 8192.0


def test_214_no_pickle_between_step_and_update() -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    scaled(toy, scaler)
    scaler.step(toy.optimizer)
    text = "A GradScaler instance may only be pickled at the beginning of an iteration, or at the end"
    with pytest.raises(AssertionError, match=text):
        pickle.dumps(scaler)


def test_215_bfloat16_weights_run_on_a_cpu() -> None:
    toy, scaler = Toy(), torch.amp.GradScaler("cpu")
    toy.model.bfloat16()
    scaler.scale(F.cross_entropy(toy.model(toy.x.bfloat16()), toy.y)).backward()
    scaler.step(toy.optimizer)
    scaler.update()
    assert scaler.get_scale() == 65536.0


def test_222_what_misplaced_arguments_make(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.amp.GradScaler(False).is_enabled()  # type: ignore[arg-type]
    assert torch.amp.GradScaler(1024.0).get_scale() == 65536.0  # type: ignore[arg-type]
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert torch.cuda.amp.GradScaler(True).get_scale() == 1.0
    text = r"full\(\): argument 'fill_value' \(position 2\) must be Number, not str"
    with pytest.raises(TypeError, match=text):
        torch.cuda.amp.GradScaler("cuda").scale(torch.ones(1))  # type: ignore[arg-type]


def test_228_the_scale_falls_until_nothing_is_left() -> None:
    bad = iterate(Toy(lr=0.01, gain=50.0), torch.amp.GradScaler("cpu"), 40, zero=False)
    right = iterate(Toy(lr=0.01, gain=50.0), torch.amp.GradScaler("cpu"), 40)
    assert bad.get_scale() == 65536.0 / 2**40
    assert 512.0 <= right.get_scale() <= 32768.0


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad


def gradients_of(form: str, inside: bool) -> torch.Tensor:
    torch.manual_seed(0)
    w, x = torch.randn(64, 64, requires_grad=True), torch.randn(32, 64)
    head = nn.Linear(64, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if form == "plain":
            loss = head(x @ w).pow(2).mean()
        elif form == "island":
            h = x @ w
            with torch.autocast("cpu", enabled=False):
                loss = head(h.float()).pow(2).mean()
        else:
            with torch.autocast("cpu", enabled=False):
                loss = Product.apply(x, w).pow(2).mean()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert w.grad is not None
    return torch.cat([w.grad.flatten(), *([head.weight.grad.flatten()] if head.weight.grad is not None else [])])


@pytest.mark.parametrize(("form", "low", "high"), [("plain", 0.0, 0.0), ("island", 1e-3, 1e-2), ("custom", 1e-3, 1e-2)])
def test_103_backward_under_autocast(form: str, low: float, high: float) -> None:
    error = relative(gradients_of(form, inside=False), gradients_of(form, inside=True))
    assert low <= error <= high


@pytest.mark.parametrize(("cached", "learns"), [(True, False), (False, True)])
@pytest.mark.parametrize("switched_off", [False, True])
def test_103_the_copies_of_the_weights_outlive_the_step(cached: bool, learns: bool, switched_off: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 8), torch.randn(16, 8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    losses = []
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cached):
        for _ in range(4):
            optimizer.zero_grad()
            loss = (layer(x) - 1.0).pow(2).mean()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not switched_off):
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
    assert (len(set(losses)) == 4) is learns
    assert learns or len(set(losses)) == 1


class Whitening(torch.optim.Optimizer):
    """Multiplies each gradient by its own second moment, as Shampoo and Muon multiply by theirs."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim == 2:
                    p.add_(p.grad @ (p.grad.T @ p.grad), alpha=-0.1)


@pytest.mark.parametrize(("kind", "low", "high"), [
    (torch.optim.SGD, 0.0, 0.0),
    (torch.optim.AdamW, 0.0, 0.0),
    (Whitening, 1e-3, 1e-2),
])  # fmt: skip
def test_104_step_under_autocast(kind: Any, low: float, high: float) -> None:
    updates = []
    for active in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(64, 64)
        before = layer.weight.detach().clone()
        layer(torch.randn(32, 64)).pow(2).mean().backward()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=active):
            kind(layer.parameters()).step()
        updates.append(layer.weight.detach() - before)
    assert low <= relative(*updates) <= high


def test_105_the_older_class_on_a_forward() -> None:
    class Net(nn.Module):
        @torch.cuda.amp.autocast
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(TypeError, match=r"autocast\(\)\(func\) requires a callable, but got Tensor\."):
        Net()(torch.ones(1))


def test_106_a_bool_is_no_device_and_an_index_is_accepted() -> None:
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`, got: `<class 'bool'>`"):
        torch.autocast(True)  # type: ignore[arg-type]
    torch.autocast("cuda:0")


@pytest.mark.parametrize("flag", [True, False])
def test_108_a_flag_for_a_dtype_raises_when_it_is_entered(flag: bool) -> None:
    context = torch.autocast("cuda", flag)  # type: ignore[arg-type]
    text = r"set_autocast_dtype\(\): argument 'dtype' \(position 2\) must be torch.dtype, not bool"
    with pytest.raises(TypeError, match=text), context:
        pass


def test_108_a_dtype_for_a_flag_runs_in_float16() -> None:
    assert torch.cuda.amp.autocast(torch.bfloat16).fast_dtype == torch.float16  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'device_type'"):
        torch.cuda.amp.autocast(device_type="cuda")  # type: ignore[call-arg]


def test_112_forbidden_on_cuda_allowed_on_a_cpu() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    p = torch.rand(3)
    with torch.autocast("cpu"):
        assert F.binary_cross_entropy(p, p).dtype == torch.float32
    text = "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast."
    with FakeTensorMode():
        fake = torch.rand(3, device="cuda")
        torch.set_autocast_enabled("cuda", True)
        try:
            with pytest.raises(RuntimeError, match=text):
                F.binary_cross_entropy(fake, fake)
        finally:
            torch.set_autocast_enabled("cuda", False)


def test_303_where_a_float64_tensor_goes() -> None:
    array = np.zeros(4)
    leaks = [torch.tensor(array), torch.from_numpy(array), torch.as_tensor(array)]
    assert {tensor.dtype for tensor in leaks} == {torch.float64}
    assert {torch.Tensor(array).dtype, torch.FloatTensor(array).dtype} == {torch.float32}
    prediction = torch.randn(4, requires_grad=True)
    for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits):
        assert loss(prediction, leaks[0]).dtype == torch.float64
    with pytest.raises(RuntimeError, match="Found dtype Double but expected Float"):
        F.huber_loss(prediction, leaks[0]).backward()
    layer, batch = nn.Linear(4, 2), torch.zeros(1, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="mat1 and mat2 must have the same dtype, but got Double and Float"):
        layer(batch)
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="but got Double and BFloat16"):
        layer(batch)


@pytest.mark.parametrize("name", ["cuda.amp.autocast", "cuda.amp.GradScaler", "cpu.amp.autocast", "cpu.amp.GradScaler"])
def test_701_each_old_name_warns(name: str) -> None:
    device, _, last = name.split(".")
    with pytest.warns(FutureWarning) as caught:
        getattr(getattr(torch, device).amp, last)()
    assert f"Please use `torch.amp.{last}('{device}', args...)` instead." in str(caught[0].message)


@pytest.mark.parametrize("name", ["custom_fwd", "custom_bwd"])
def test_701_the_decorators_too(name: str) -> None:
    with pytest.warns(FutureWarning) as caught:
        getattr(torch.cuda.amp, name)(lambda ctx: ctx)
    assert f"Please use `torch.amp.{name}(args..., device_type='cuda')` instead." in str(caught[0].message)
