"""What a training script does, as events: steps, backward passes, outermost forwards, uses of a GradScaler.

One place patches torch; clock, bounds, probes and precision control subscribe. Subscribers are called in the order
in which they subscribed, at a `..._end` in the reverse order. Everything runs in the thread of the script that acts.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from .patches import Patches

Roots = Any
"""What `torch.autograd.backward` got as its tensors: a tensor or a sequence of them."""


@dataclass(slots=True)
class Events:
    """The subscribers. A list that is empty costs one test."""

    step_begin: list[Callable[[Optimizer], None]] = field(default_factory=list)
    """Of the outermost `step` of an optimizer."""
    step_end: list[Callable[[Optimizer], None]] = field(default_factory=list)
    backward_begin: list[Callable[[Roots], Roots]] = field(default_factory=list)
    """Gets the roots of an outermost backward and returns those to use instead: the same, or scaled ones."""
    backward_end: list[Callable[[], None]] = field(default_factory=list)
    """Also after a backward that raised."""
    gradient_begin: list[Callable[[], None]] = field(default_factory=list)
    """Of `torch.autograd.grad`."""
    gradient_end: list[Callable[[], None]] = field(default_factory=list)
    forward_begin: list[Callable[[torch.nn.Module], None]] = field(default_factory=list)
    """Of an outermost `nn.Module.__call__`: one that no other module's call is around."""
    forward_end: list[Callable[[torch.nn.Module], None]] = field(default_factory=list)
    scaler_step_begin: list[Callable[[Any, Optimizer], None]] = field(default_factory=list)
    """Of the script's own GradScaler; the optimizer's own step may follow inside, or be skipped."""
    scaler_step_end: list[Callable[[Any, Optimizer], None]] = field(default_factory=list)
    scaled: list[Callable[[Any, Any], None]] = field(default_factory=list)
    """The script's own GradScaler scaled these outputs."""
    parameters: list[Callable[[Optimizer, list[torch.Tensor]], None]] = field(default_factory=list)
    """An optimizer took these parameters (`add_param_group`, also at its construction)."""


class _Depth(threading.local):
    forward = 0
    backward = 0
    step = 0


def install(events: Events, patches: Patches) -> None:
    """Makes torch report to `events`. To be called once, right after torch was imported."""
    depth = _Depth()
    _watch_steps(events, patches, depth)
    _watch_backward(events, patches, depth)
    _watch_scaler(events, patches)
    _watch_parameters(events, patches)
    patches.replace(torch.nn.Module, "__call__", lambda original: _outermost(original, events, depth))


def _watch_steps(events: Events, patches: Patches, depth: _Depth) -> None:
    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        depth.step += 1
        if depth.step == 1:
            for subscriber in events.step_begin:
                subscriber(optimizer)

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # a subclass whose step calls super().step() comes here twice; one that raised has left the depth too high
        depth.step -= 1
        if depth.step == 0:
            for subscriber in reversed(events.step_end):
                subscriber(optimizer)

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)
    patches.note("torch.optim.optimizer.register_optimizer_step_pre_hook")
    patches.note("torch.optim.optimizer.register_optimizer_step_post_hook")


def _watch_backward(events: Events, patches: Patches, depth: _Depth) -> None:
    def backward(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def wrapper(tensors: Roots, *args: Any, **kwargs: Any) -> None:
            if depth.backward:  # checkpointing calls backward inside of one
                original(tensors, *args, **kwargs)
                return
            depth.backward += 1
            depth.step = 0
            try:
                for subscriber in events.backward_begin:
                    tensors = subscriber(tensors)
                original(tensors, *args, **kwargs)
            finally:
                depth.backward -= 1
                for done in reversed(events.backward_end):
                    done()

        return wrapper

    def grad(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for subscriber in events.gradient_begin:
                subscriber()
            try:
                return original(*args, **kwargs)
            finally:
                for subscriber in reversed(events.gradient_end):
                    subscriber()

        return wrapper

    # Tensor.backward looks the function up in the module at each call
    patches.replace(torch.autograd, "backward", backward)
    patches.replace(torch.autograd, "grad", grad)


def _watch_scaler(events: Events, patches: Patches) -> None:
    from torch.amp.grad_scaler import GradScaler

    def step(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(scaler: Any, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
            for subscriber in events.scaler_step_begin:
                subscriber(scaler, optimizer)
            result = original(scaler, optimizer, *args, **kwargs)
            for subscriber in reversed(events.scaler_step_end):
                subscriber(scaler, optimizer)
            return result

        return wrapper

    def scale(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(scaler: Any, outputs: Any) -> Any:
            for subscriber in events.scaled:
                subscriber(scaler, outputs)
            return original(scaler, outputs)

        return wrapper

    patches.replace(GradScaler, "step", step)
    patches.replace(GradScaler, "scale", scale)


def _watch_parameters(events: Events, patches: Patches) -> None:
    def add(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def wrapper(optimizer: Optimizer, group: dict[str, Any]) -> None:
            original(optimizer, group)
            taken = list(optimizer.param_groups[-1]["params"])
            for subscriber in events.parameters:
                subscriber(optimizer, taken)

        return wrapper

    patches.replace(Optimizer, "add_param_group", add)


def _outermost(original: Callable[..., Any], events: Events, depth: _Depth) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if depth.forward or not events.forward_begin:
            return original(module, *args, **kwargs)
        depth.forward = 1
        try:
            for subscriber in events.forward_begin:
                subscriber(module)
            return original(module, *args, **kwargs)
        finally:
            depth.forward = 0
            for subscriber in reversed(events.forward_end):
                subscriber(module)

    return call
