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
_FEW = 1024
_BINS = 2 * (_NONFINITE + 1)
_BLOCK = 1 << 18
"""Values at a time: as many as stay in the caches of a core."""
_SAMPLE = 1 << 16
"""Weights of a parameter whose update is looked at, where it has more: evenly spread."""


def histogram(values: torch.Tensor, scale: float = 1.0) -> Histogram:
    """Of |values / scale|, any shape, floating point; about 3 ns a value on a CPU. float64 is rounded to float32."""
    flat = values.detach().reshape(-1)
    zeros, counts, powers = 0, torch.zeros(_BINS, dtype=torch.int64), torch.zeros(_BINS, dtype=torch.int64)
    blocks: Any = flat.split  # not annotated in torch
    for block in blocks(_BLOCK if flat.device.type == "cpu" else max(flat.numel(), 1)):
        found = _count(block.float() / scale if scale != 1.0 else block.float())
        zeros += found[0]
        counts += found[1].cpu()
        if found[2] is not None:
            powers += found[2].cpu()
    both, exact = counts.tolist(), powers.tolist()
    both[0] -= zeros
    exact[0] -= zeros if exact[0] else 0
    finite: dict[int, int] = {}
    for exponent in range(_NONFINITE):
        below, top = both[2 * exponent], both[2 * exponent + 1]
        if below or top:
            marked = enumerate((exact[exponent], below - exact[exponent], top))
            finite |= {3 * (exponent - _BIAS) + mark: count for mark, count in marked if count}
    return decode_exponents(finite, zeros, sum(both[2 * _NONFINITE :]))


def _count(values: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor | None]:
    """Zeros; values by their exponent twice, one more where rounding to eleven bits may carry into the next; powers of
    two by their exponent, zeros among them, or None where there are no others. A NaN counts as an infinity."""
    bits = values.contiguous().view(torch.int32).bitwise_and(0x7FFFFFFF).clamp_(max=_NONFINITE << 23)
    zeros = bits.numel() - int(torch.count_nonzero(bits))
    mantissa = bits.bitwise_and(0x7FFFFF)
    powers = None
    if bits.numel() - int(torch.count_nonzero(mantissa)) > zeros:  # under autocast there are many
        powers = torch.bincount(bits[mantissa == 0].bitwise_right_shift_(23), minlength=_BINS)
    # eleven leading ones and the bit behind them: one more in the last of these carries into the exponent
    both = bits.bitwise_right_shift(23).add_(bits.add_(0x1000).bitwise_right_shift_(23))
    return zeros, torch.bincount(both, minlength=_BINS), powers


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
            probe.before = {id(p): _sample(p).clone() for p in _updated(optimizer)}

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
    if gradient.dtype is not torch.float32:
        return gradient.dtype
    values = gradient.detach().reshape(-1)
    # the first few tell nearly always that it is none: neither has the last 13 bits of float32's significand
    if torch.count_nonzero(values[:_FEW].view(torch.int32).bitwise_and(0x1FFF)):
        return gradient.dtype
    for half in (torch.bfloat16, torch.float16):
        if _holds(half, values):
            return half if torch.count_nonzero(values) else gradient.dtype
    return gradient.dtype


def _holds(half: torch.dtype, values: torch.Tensor) -> bool:
    """Whether all that is finite keeps its value in this dtype."""
    again = values.to(half).float()
    return torch.equal(again, values) or bool(((again == values) | ~values.isfinite()).all())


def _update(probe: GradientProbe, parameter: torch.Tensor, old: torch.Tensor) -> Update:
    old = old.float()
    change = _sample(parameter).float() - old
    norm = float(old.norm())
    ratio = float(change.norm()) / norm if norm else float("inf")
    module, name = _name(probe, parameter)
    changed = change != 0
    lost = [torch.count_nonzero(changed & _absorbed(old, change, dtype)) for dtype in (torch.float16, torch.bfloat16)]
    every = _every(parameter)
    counts = [every * int(count) for count in (torch.count_nonzero(changed), *lost)]
    # before the step that is under way was counted or after: the recorders of its backward pass know
    step = probe.gradients[-1].step if probe.gradients else probe.step()
    return Update(step, module, name, ratio, *counts)


def _every(parameter: torch.Tensor) -> int:
    return max(parameter.numel() // _SAMPLE, 1)


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    """Evenly spread weights of a parameter, as a view where it is contiguous."""
    return parameter.detach().reshape(-1)[:: _every(parameter)]


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
