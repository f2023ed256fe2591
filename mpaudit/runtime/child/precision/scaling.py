"""Loss scaling for float16 on a script that has no scaler.

The loss is multiplied in `backward`, and the gradients are divided as soon as that backward is over, by the kernel
that GradScaler uses, once for all parameters of an optimizer. So the script only ever sees unscaled gradients: its
clipping, its logging, its accumulation and its hooks on weights need no change. A step whose gradients are not finite
is left out, and the scale follows GradScaler's rule with its defaults. Scales are powers of two, so that multiplying
and dividing are exact, also for the gradients that were there before.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch.optim.optimizer import Optimizer

from ..events import Events, by_user, in_backward, tracing
from ..patches import Patches
from . import graph
from .local import Local
from .record import Record, here

_HALF = (torch.float16, torch.bfloat16)
_SCALE, _GROWTH, _BACKOFF, _INTERVAL = 65536.0, 2.0, 0.5, 2000
_DISCOVERED = 3
"""Backward passes whose graphs are searched for leaves that no optimizer holds; all, where one is no weight."""


@dataclass(slots=True)
class _Flags:
    """Of an optimizer."""

    nonfinite: list[torch.Tensor] = field(default_factory=list)
    """One for each device: 1.0 where the gradients that are there now are not all finite."""
    scaled: float | None = None
    """The scale of the last backward, where there was one since the last step."""
    good: int = 0
    """Steps since the scale was last changed."""


class Scaling:
    def __init__(self, active: Callable[[], bool], local: Local, record: Record) -> None:
        self.active = active
        """Whether a loss is to be scaled now."""
        self.scale = _SCALE
        self.used = False
        self.skipped = 0
        self.told: list[Callable[[float, bool], None]] = []
        """At each scaled step: its scale, and whether it is left out."""
        self._local = local
        self._record = record
        self._scaled: float | None = None  # the scale of the backward that is under way
        self._open: torch.Tensor | None = None  # a hook sees its gradient, unscaled, during that backward
        self._inside: list[torch.Tensor] = []  # an optimizer sees their gradients so
        self._graded = False  # a gradient was scaled since the last step
        self._optimizers: WeakKeyDictionary[Optimizer, _Flags] = WeakKeyDictionary()
        self._loose: list[ref[torch.Tensor]] = []
        self._searched = 0
        self._inputs = False  # some are no weights: they may be new each time
        self._withheld: list[tuple[torch.Tensor, torch.Tensor]] = []

    def install(self, events: Events, patches: Patches) -> None:
        events.parameters.append(self._parameters)
        events.scaling.append(self._backward_begin)
        events.backward_end.append(self._backward_end)
        events.step_begin.append(self._step_begin)
        events.step_end.append(self._step_end)
        patches.replace(torch.autograd, "grad", self._grad)
        patches.replace(torch.Tensor, "register_hook", self._register_hook)
        patches.replace(torch.Tensor, "register_post_accumulate_grad_hook", self._register_accumulated)
        patches.replace(torch.Tensor, "retain_grad", self._retain)
        for name in ("register_full_backward_hook", "register_full_backward_pre_hook", "register_backward_hook"):
            patches.replace(torch.nn.Module, name, self._register_of_module)

    @property
    def under_way(self) -> float:
        """The scale of a backward pass that is running, 1 where none is."""
        return self._scaled or 1.0

    def _parameters(self, optimizer: Optimizer, taken: list[torch.Tensor]) -> None:
        self._optimizers.setdefault(optimizer, _Flags())

    def _backward_begin(self, roots: Any) -> Any:
        if not self.active():
            return roots
        if self._local.stepping:
            self._record.doubt("a backward inside of a step (a closure): its loss is not scaled")
            return roots
        held = {id(p): p for optimizer in self._optimizers for p in _parameters(optimizer)}
        self._discover(roots, held)
        _multiply((*held.values(), *self._leaves()), self.scale)
        self._scaled, self.used = self.scale, True
        return self._times(roots)

    def _times(self, roots: Any) -> Any:
        if isinstance(roots, torch.Tensor):
            # a tensor on the loss's device, as GradScaler has it: the type of the product depends on it
            return roots * torch.full((), self.scale, dtype=torch.float32, device=roots.device)
        return type(roots)(self._times(root) for root in roots) if isinstance(roots, (tuple, list)) else roots

    def _backward_end(self) -> None:
        scale, self._scaled = self._scaled, None
        if scale is None:
            return
        done: set[int] = set()
        for optimizer, flags in self._optimizers.items():
            parameters = _parameters(optimizer)
            flags.nonfinite = _unscale([p for p in parameters if id(p) not in done], scale)
            if done:  # what two optimizers hold
                flags.nonfinite += _unscale([p for p in parameters if id(p) in done], 1.0)
            flags.scaled = scale
            done.update(map(id, parameters))
        nonfinite = _unscale(self._leaves(), scale) if self._loose else []
        if not done and any(flag.item() for flag in nonfinite):
            self._record.doubt("gradients of tensors that no optimizer holds are not finite: no step can be left out")
            self._back_off(scale)

    def _step_begin(self, optimizer: Optimizer) -> None:
        flags = self._optimizers.get(optimizer)
        if flags is None:
            return
        if self._scaled is not None:
            parameters = _parameters(optimizer)
            self._inside = [p for p in parameters if p is not self._open]
            flags.nonfinite = _unscale(self._inside, self._scaled)
            flags.nonfinite += _unscale([p for p in parameters if p is self._open], 1.0)
            flags.scaled = self._scaled
        elif self._graded and flags.scaled is None:
            flags.nonfinite = _unscale(_parameters(optimizer), 1.0)
            flags.scaled = self.scale
        if flags.scaled is None:
            return
        scale, flags.scaled, self._graded = flags.scaled, None, False
        nonfinite = any(flag.item() for flag in flags.nonfinite)
        for told in self.told:
            told(scale, nonfinite)
        if not nonfinite:
            flags.good += 1
            if flags.good == _INTERVAL:
                self._change(min(self.scale * _GROWTH, 2.0**127))
            return
        self._back_off(scale)
        self.skipped += 1
        self._withheld = [(p, p.grad) for p in _parameters(optimizer) if p.grad is not None]
        for parameter, _ in self._withheld:
            parameter.grad = None

    def _step_end(self, optimizer: Optimizer) -> None:
        for parameter, gradient in self._withheld:
            parameter.grad = gradient
        if self._scaled is not None:
            _multiply(self._inside, self._scaled)
        self._withheld, self._inside = [], []

    def _back_off(self, scale: float) -> None:
        # two optimizers that fail at one scale halve it once
        self._change(min(self.scale, scale * _BACKOFF))

    def _change(self, scale: float) -> None:
        self.scale = scale
        for flags in self._optimizers.values():
            flags.good = 0

    def _discover(self, roots: Any, held: dict[int, torch.Tensor]) -> None:
        if self._searched >= _DISCOVERED and not self._inputs:
            return
        self._searched += 1
        self._loose = [leaf for leaf in self._loose if leaf() is not None]
        loose = {id(leaf) for leaf in self._leaves()}
        found = [leaf for leaf in graph.leaves(roots) if id(leaf) not in held and id(leaf) not in loose]
        self._loose += map(ref, found)
        self._inputs = self._inputs or not all(isinstance(leaf, torch.nn.Parameter) for leaf in found)

    def _leaves(self) -> list[torch.Tensor]:
        return [leaf for reference in self._loose if (leaf := reference()) is not None]

    def _grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """As the AMP recipe for gradient penalties has it: the outputs are scaled, the gradients unscaled."""

        @functools.wraps(original)
        def grad(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_dynamo_compiling() or tracing(sys._getframe(1)) or not self.active() or in_backward():
                return original(outputs, *args, **kwargs)
            if graph.transforming():
                self._record.doubt("gradients of torch.func are not scaled")
                return original(outputs, *args, **kwargs)
            self._graded = self.used = True
            gradients = original(self._times(outputs), *args, **kwargs)
            inverse = 1.0 / self.scale
            return tuple(None if gradient is None else gradient * inverse for gradient in gradients)

        return grad

    def _register_hook(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def register_hook(tensor: torch.Tensor, hook: Callable[[torch.Tensor], Any]) -> Any:
            if not by_user(sys._getframe(1)):
                return original(tensor, hook)
            if tensor.dtype in _HALF:  # the unscaled gradient may be below its range
                return original(
                    tensor, self._named(hook, f"a hook on a tensor in {_name(tensor)} gets a scaled gradient")
                )

            @functools.wraps(hook)
            def unscaled(gradient: torch.Tensor) -> Any:
                scale = self._scaled
                if scale is None:
                    return hook(gradient)
                result = hook(gradient / scale)
                return None if result is None else result * scale

            return original(tensor, unscaled)

        return register_hook

    def _register_accumulated(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def register_post_accumulate_grad_hook(tensor: torch.Tensor, hook: Callable[[torch.Tensor], None]) -> Any:
            if not by_user(sys._getframe(1)):
                return original(tensor, hook)

            @functools.wraps(hook)
            def unscaled(parameter: torch.Tensor) -> None:
                scale = self._scaled
                if scale is None:
                    hook(parameter)
                    return
                _unscale([parameter], scale)
                self._open = parameter
                try:
                    hook(parameter)
                finally:
                    self._open = None
                    _multiply([parameter], scale)

            return original(tensor, unscaled)

        return register_post_accumulate_grad_hook

    def _register_of_module(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def register(module: torch.nn.Module, hook: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if by_user(sys._getframe(1)):
                hook = self._named(hook, "a backward hook of a module gets scaled gradients")
            return original(module, hook, *args, **kwargs)

        return register

    def _named(self, hook: Callable[..., Any], what: str) -> Callable[..., Any]:
        place = here(what)

        @functools.wraps(hook)
        def named(*given: Any) -> Any:
            if self._scaled is not None:
                self._record.unfaithful[place] = None
            return hook(*given)

        return named

    def _retain(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def retain_grad(tensor: torch.Tensor) -> None:
            original(tensor)
            if tensor.is_leaf or not by_user(sys._getframe(1)):
                return
            if tensor.dtype not in _HALF:
                self._loose = [*map(ref, self._leaves()), ref(tensor)]
            elif self.active():
                self._record.doubt(f"the gradient that a tensor in {_name(tensor)} retains is scaled")

        return retain_grad


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _parameters(optimizer: Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@torch.no_grad()
def _multiply(parameters: Iterable[torch.Tensor], scale: float) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, scale)


@torch.no_grad()
def _unscale(parameters: Iterable[torch.Tensor], scale: float) -> list[torch.Tensor]:
    """Divides the gradients in place. Gives one tensor for each device: 1.0 where one of them is not finite."""
    groups: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None:
            if gradient.is_sparse:
                gradient = gradient._values()
            groups.setdefault((gradient.device, gradient.dtype), []).append(gradient)
    flags = {device: torch.zeros((), device=device) for device, _ in groups}
    for (device, _), gradients in groups.items():
        inverse = torch.full((), 1.0 / scale, device=device)
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, flags[device], inverse)
    return list(flags.values())
