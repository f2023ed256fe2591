"""Exponent histograms of gradients, and what an optimizer step did to the weights, at chosen steps.

Parameter gradients are taken as they arrive from a backward pass, before the script clips or sums them up; gradients of
activations where they leave a module. Both are divided by the loss scale that the script's own scaler put on the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import Optimizer

from mpaudit.runtime.child.events import Events
from mpaudit.runtime.child.module_paths import ModulePaths
from mpaudit.runtime.loss_scaling import GradientEvidence, Gradients, Histogram, Kind, Update, decode_exponents

_BIAS = 127
_NONFINITE = 255


def histogram(values: torch.Tensor, scale: float = 1.0) -> Histogram:
    """Of |values / scale|, any shape, floating point; about 15 ns a value on a CPU. float64 is rounded to float32."""
    flat = values.detach().reshape(-1).float()
    if scale != 1.0:
        flat = flat / scale
    bits = flat.contiguous().view(torch.int32).bitwise_and(0x7FFFFFFF)
    mantissa = bits.bitwise_and(0x7FFFFF)
    # eleven leading ones and the bit behind them: from here on a value that keeps eleven bits rounds up
    mark = (mantissa != 0).to(torch.int32) + (mantissa >= 0x7FF000).to(torch.int32)
    exponent = bits.bitwise_right_shift(23)
    zeros = int((bits == 0).sum())
    counts = torch.bincount(exponent.mul_(3).add_(mark), minlength=3 * (_NONFINITE + 1)).tolist()
    nonfinite = sum(counts[3 * _NONFINITE :])
    counts[0] -= zeros
    finite = {key - 3 * _BIAS: count for key, count in enumerate(counts[: 3 * _NONFINITE]) if count}
    return decode_exponents(finite, zeros, nonfinite)


def sampled_steps(warmup: int, steps: int, each: int = 2) -> frozenset[int]:
    """The first and the last `each` of the measured steps, counted from 0 at the very first step."""
    measured = range(warmup, warmup + steps)
    return frozenset([*measured[:each], *measured[-each:]])


@dataclass(slots=True)
class GradientProbe:
    """Collects while `wanted(step())`, where `step` counts the steps that the script has finished."""

    step: Callable[[], int]
    wanted: Callable[[int], bool]
    gradients: list[Gradients] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    paths: ModulePaths = field(default_factory=ModulePaths)
    parameters: dict[int, torch.Tensor] = field(default_factory=dict)
    before: dict[int, torch.Tensor] = field(default_factory=dict)
    hooks: list[Any] = field(default_factory=list)
    scale: float = 1.0
    """That the script's own scaler put on the loss."""
    injected: Callable[[], float] = lambda: 1.0
    """That was put on it beside, in the backward pass that is under way."""

    def evidence(self) -> GradientEvidence:
        return GradientEvidence(tuple(self.gradients), tuple(self.updates))


def install(
    events: Events,
    step: Callable[[], int],
    wanted: Callable[[int], bool],
    injected: Callable[[], float] = lambda: 1.0,
) -> GradientProbe:
    """To be called once, after `events.install`; the probe's evidence is read when the script has been stopped."""
    probe = GradientProbe(step, wanted, injected=injected)

    def took(optimizer: Optimizer, parameters: list[torch.Tensor]) -> None:
        probe.parameters.update((id(parameter), parameter) for parameter in parameters)

    def scaled(scaler: Any, outputs: Any) -> None:
        if wanted(step()):
            probe.scale = float(scaler.get_scale())

    def backward(roots: Any) -> Any:
        if wanted(step()):
            _watch_parameters(probe)
        return roots

    def done() -> None:
        for hook in probe.hooks:
            hook.remove()
        probe.hooks.clear()

    def remember(optimizer: Optimizer) -> None:
        probe.scale = 1.0
        if wanted(step()):
            probe.before = {id(p): p.detach().clone() for p in _updated(optimizer)}

    def compare(optimizer: Optimizer) -> None:
        # the count of steps may have moved on already: what was remembered decides
        for parameter in _updated(optimizer):
            old = probe.before.pop(id(parameter), None)
            if old is not None:
                probe.updates.append(_update(probe, parameter, old))
        probe.before.clear()

    events.parameters.append(took)
    events.scaled.append(scaled)
    events.forward_begin.append(probe.paths.learn)
    events.backward_begin.append(backward)
    events.backward_end.append(done)
    events.step_begin.append(remember)
    events.step_end.append(compare)
    register_module_forward_hook(lambda module, args, output: _watch_outputs(probe, module, output))
    return probe


def _watch_parameters(probe: GradientProbe) -> None:
    for parameter in probe.parameters.values():
        if parameter.requires_grad and parameter.is_leaf:
            module, name = _name(probe, parameter)
            hook: Any = parameter.register_hook  # not annotated in torch
            probe.hooks.append(hook(_recorder(probe, module, name, "parameter")))


def _watch_outputs(probe: GradientProbe, module: torch.nn.Module, output: Any) -> None:
    if not torch.is_grad_enabled() or not probe.wanted(probe.step()) or next(module.children(), None) is not None:
        return
    path = probe.paths.module(module)
    for number, tensor in enumerate(_tensors(output)):
        if tensor.requires_grad and tensor.is_floating_point():
            hook: Any = tensor.register_hook  # not annotated in torch
            hook(_recorder(probe, path, str(number), "activation"))


def _recorder(probe: GradientProbe, module: str, name: str, kind: Kind) -> Callable[[Any], None]:
    step = probe.step()

    def record(gradient: torch.Tensor) -> None:
        # the scale is known once the loss has been scaled, which is after the forward pass
        divisor = probe.scale * probe.injected()
        if gradient.layout is torch.strided:
            computed_in = _computed_in(gradient) if kind == "parameter" else gradient.dtype
            dtype = str(computed_in).removeprefix("torch.")
            probe.gradients.append(Gradients(step, module, name, kind, dtype, histogram(gradient, divisor)))

    return record


def _computed_in(gradient: torch.Tensor) -> torch.dtype:
    """Of a parameter's gradient: its dtype, or the 16-bit one that can hold all its values, as after autocast's cast
    back. By chance a value of float32 passes for one of float16 once in 2^13 times."""
    if gradient.dtype is not torch.float32 or not gradient.any():
        return gradient.dtype
    finite = gradient.detach()[gradient.isfinite()]
    for half in (torch.bfloat16, torch.float16):
        if torch.equal(finite.to(half).float(), finite):
            return half
    return gradient.dtype


def _update(probe: GradientProbe, parameter: torch.Tensor, old: torch.Tensor) -> Update:
    old, new = old.float(), parameter.detach().float()
    change = new - old
    changed = change != 0
    norm = float(old.norm())
    ratio = float(change.norm()) / norm if norm else float("inf")
    module, name = _name(probe, parameter)
    lost = [int((changed & _absorbed(old, change, dtype)).sum()) for dtype in (torch.float16, torch.bfloat16)]
    # before the step that is under way was counted or after: the recorders of its backward pass know
    step = probe.gradients[-1].step if probe.gradients else probe.step()
    return Update(step, module, name, ratio, int(changed.sum()), lost[0], lost[1])


def _absorbed(old: torch.Tensor, change: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Where a weight of this dtype plus the change rounds to the weight again."""
    half = old.to(dtype)
    return (half.float() + change).to(dtype) == half


def _name(probe: GradientProbe, parameter: torch.Tensor) -> tuple[str, str]:
    known = probe.paths.parameters.get(id(parameter))
    if known is None:
        number = list(probe.parameters).index(id(parameter)) if id(parameter) in probe.parameters else 0
        return "(no module)", f"parameter {number}"
    return known


def _updated(optimizer: Optimizer) -> Iterable[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
