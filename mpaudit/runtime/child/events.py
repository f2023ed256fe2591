"""What a training script does, as events: steps, backward passes, outermost forwards, uses of a GradScaler.

One place patches torch; bounds, probes and precision control subscribe. Subscribers are called in the order in which
they subscribed, at a `..._end` in the reverse order. Everything runs in the thread of the script that acts.

The times of events and plain losses are taken here and not by a subscriber: in a step of a few hundred microseconds
each further function in Python costs one of them, as its code has to come back into the caches.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import get_ident
from time import perf_counter_ns
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from .patches import Patches

Subscriber = TypeVar("Subscriber")
Roots = Any
"""What `torch.autograd.backward` got as its tensors: a tensor or a sequence of them."""


@dataclass(slots=True)
class Events:
    """The subscribers, and the journal of times."""

    step_begin: list[Callable[[Optimizer], None]] = field(default_factory=list)
    """Of the outermost `step` of an optimizer."""
    step_end: list[Callable[[Optimizer], None]] = field(default_factory=list)
    backward_begin: list[Callable[[Roots], Roots]] = field(default_factory=list)
    """Gets the roots of an outermost backward and returns those to use instead."""
    scaling: list[Callable[[Roots], Roots]] = field(default_factory=list)
    """The same, after all others, who so see the script's own loss: where a loss is scaled."""
    backward_end: list[Callable[[], None]] = field(default_factory=list)
    """Also after a backward that raised."""
    gradient_begin: list[Callable[[], None]] = field(default_factory=list)
    """Of `torch.autograd.grad`, where the script or a transform of torch.func calls it."""
    differentiated: list[Callable[[Roots], None]] = field(default_factory=list)
    """Gets the outputs whose gradient is asked for, after `gradient_begin`."""
    gradient_end: list[Callable[[], None]] = field(default_factory=list)
    forward_begin: list[Callable[[Any], None]] = field(default_factory=list)
    """Of an outermost call: of a module or a compiled function that no other such call is around. Gets the callee. Who
    subscribes to the end of one subscribes to this too."""
    forward_end: list[Callable[[Any], None]] = field(default_factory=list)
    returned: list[Callable[[Any, Any], None]] = field(default_factory=list)
    """At the end of an outermost call that did not raise, before `forward_end`: gets the callee and its result."""
    scaler_step_begin: list[Callable[[Any, Optimizer], None]] = field(default_factory=list)
    """Of the script's own GradScaler; the optimizer's own step may follow inside, or be skipped."""
    scaler_step_end: list[Callable[[Any, Optimizer], None]] = field(default_factory=list)
    scaled: list[Callable[[Any, Any], None]] = field(default_factory=list)
    """The script's own GradScaler scaled these outputs."""
    parameters: list[Callable[[Optimizer, list[torch.Tensor]], None]] = field(default_factory=list)
    """An optimizer took these parameters (`add_param_group`, also at its construction)."""
    step_over: list[Callable[[Optimizer], None]] = field(default_factory=list)
    """After `step_end`, when the time has been taken: for those who count, and may not come back."""
    backward_over: list[Callable[[], None]] = field(default_factory=list)
    journal: list[Any] = field(default_factory=list)
    """Marks and stamps in turn, in order of time: OPEN and CLOSE around outermost forwards and backward passes, STEP
    and CLOSE around steps; what lies inside of another (a forward inside of a step with a closure) has its own. LOSS
    has a loss in the place of a stamp. Always the same list."""
    now: Callable[[], Any] = perf_counter_ns
    """The clock: gives a stamp."""
    losses_of: Callable[[Roots], Iterable[Any]] = lambda roots: ()
    """The losses that the roots of a backward stand for, where that is not simply the number of a tensor on the CPU."""
    scaled_losses: bool = False
    """The next roots are not the losses themselves."""
    spans: bool = True
    """Whether what begins now is stamped at both ends; if not, only the end of a step is, as a mere moment."""

    def tick(self) -> None:
        self.journal += [TICK, self.now()]


def without(subscribers: list[Subscriber], done: Subscriber) -> list[Subscriber]:
    """A new list, as the old one may be in use: subscribers take themselves out when they have seen enough."""
    return [subscriber for subscriber in subscribers if subscriber != done]


OPEN, CLOSE, STEP, TICK, LOSS = range(5)
"""Marks of the journal. A step that raises is not closed: the next STEP takes its place. TICK is a mere moment."""


@dataclass(slots=True)
class _Depth:
    """What is under way in a thread."""

    forward: bool = False
    backward: bool = False
    steps: int = 0
    stamped: bool = False
    """The step has its STEP in the journal."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.depth = _Depth()


class _Threads:
    """A depth for each thread. That of the owner, the thread that imports torch, is found without a look-up."""

    def __init__(self) -> None:
        self.owner, self.first, self._others = get_ident(), _Depth(), _Local()

    @property
    def depth(self) -> _Depth:
        return self._others.depth


def in_backward() -> bool:
    """Whether this thread is executing a node of an autograd graph, as recomputation under checkpointing is."""
    return torch._C._current_autograd_node() is not None


def tracing(caller: FrameType) -> bool:
    """Whether a compiler asks for a gradient, to trace it."""
    return str(caller.f_globals.get("__name__", "")).startswith(_COMPILERS)


_COMPILERS = ("torch._functorch._aot_autograd", "torch._functorch.aot_autograd", "torch._dynamo", "torch.fx")


def by_user(caller: FrameType) -> bool:
    """Whether this is code of the user or of a library of the user's: neither torch nor mpaudit."""
    name = str(caller.f_globals.get("__name__", ""))
    return name != "torch" and not name.startswith(("torch.", "mpaudit."))


def install(events: Events, patches: Patches) -> None:
    """Makes torch report to `events`. To be called once, right after torch was imported."""
    threads = _Threads()
    _watch_steps(events, patches, threads)
    _watch_backward(events, patches, threads)
    _watch_scaler(events, patches)
    _watch_parameters(events, patches)
    _watch_forwards(events, patches, threads)


def _watch_steps(events: Events, patches: Patches, threads: _Threads) -> None:
    note, owner, own = events.journal.append, threads.owner, threads.first

    # a subclass whose step calls super().step() comes here twice, and a step that raises never comes to its end
    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        depth = own if get_ident() == owner else threads.depth
        if depth.steps and not _inside_of_another(sys._getframe(1)):
            depth.steps = 0
        depth.steps += 1
        if depth.steps == 1:
            depth.stamped = events.spans
            if depth.stamped:
                note(STEP)
                note(events.now())
            if events.step_begin:
                for subscriber in events.step_begin:
                    subscriber(optimizer)

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        depth = own if get_ident() == owner else threads.depth
        depth.steps -= 1
        if not depth.steps:
            if events.step_end:
                for subscriber in reversed(events.step_end):
                    subscriber(optimizer)
            note(CLOSE if depth.stamped else TICK)
            note(events.now())
            for subscriber in events.step_over:
                subscriber(optimizer)

    began = register_optimizer_step_pre_hook(before)
    ended = register_optimizer_step_post_hook(after)
    patches.note("torch.optim.optimizer.register_optimizer_step_pre_hook", began.remove)
    patches.note("torch.optim.optimizer.register_optimizer_step_post_hook", ended.remove)


def _inside_of_another(step: FrameType) -> bool:
    """Whether this step, by the frame that torch wraps it in, runs inside of another one."""
    outer = step.f_back
    while outer is not None and outer.f_code is not step.f_code:
        outer = outer.f_back
    return outer is not None


def _watch_backward(events: Events, patches: Patches, threads: _Threads) -> None:
    inside, note, Tensor = torch._C._current_autograd_node, events.journal.append, torch.Tensor
    owner, own = threads.owner, threads.first
    under_way = 0  # in all threads

    def backward(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def wrapper(tensors: Roots, *args: Any, **kwargs: Any) -> None:
            nonlocal under_way
            depth = own if get_ident() == owner else threads.depth
            # checkpointing calls backward inside of one, on a GPU in a thread of the device
            if depth.backward or (under_way and inside() is not None):
                original(tensors, *args, **kwargs)
                return
            depth.backward = True
            under_way += 1
            stamped = events.spans
            if stamped:
                note(OPEN)
                note(events.now())
            try:
                if type(tensors) is Tensor and tensors.is_cpu and not tensors.dim() and not events.scaled_losses:
                    value = tensors.item()
                    note(LOSS)
                    note(value)
                else:
                    for loss in events.losses_of(tensors):
                        note(LOSS)
                        note(loss)
                if events.backward_begin:
                    for subscriber in events.backward_begin:
                        tensors = subscriber(tensors)
                if events.scaling:
                    for subscriber in events.scaling:
                        tensors = subscriber(tensors)
                original(tensors, *args, **kwargs)
            finally:
                depth.backward = False
                under_way -= 1
                if events.backward_end:
                    for done in reversed(events.backward_end):
                        done()
                if stamped:
                    note(CLOSE)
                    note(events.now())
                if events.backward_over:
                    for done in events.backward_over:
                        done()

        return wrapper

    def grad(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(outputs: Roots, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_dynamo_compiling() or tracing(sys._getframe(1)):
                return original(outputs, *args, **kwargs)
            for subscriber in events.gradient_begin:
                subscriber()
            for told in events.differentiated:
                told(outputs)
            nonlocal under_way
            under_way += 1
            try:
                return original(outputs, *args, **kwargs)
            finally:
                under_way -= 1
                for done in reversed(events.gradient_end):
                    done()

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


def _watch_forwards(events: Events, patches: Patches, threads: _Threads) -> None:
    def compiling(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def compile(model: Any = None, *args: Any, **kwargs: Any) -> Any:
            if model is None:  # the decorator with arguments
                return lambda function: compile(function, *args, **kwargs)
            compiled = original(model, *args, **kwargs)
            plain = not isinstance(compiled, (torch.nn.Module, type))
            return _function(compiled, events, threads) if plain else compiled

        return compile

    patches.replace(torch.nn.Module, "__call__", lambda original: _outermost(original, events, threads))
    patches.replace(torch, "compile", compiling)


def _outermost(original: Callable[..., Any], events: Events, threads: _Threads) -> Callable[..., Any]:
    compiling, note = torch.compiler.is_dynamo_compiling, events.journal.append
    owner, own = threads.owner, threads.first

    @functools.wraps(original)
    def call(module: Any, *args: Any, **kwargs: Any) -> Any:
        # the first test is a constant under compilation: traced code knows nothing of us
        if compiling() or not (events.spans or events.forward_begin):
            return original(module, *args, **kwargs)
        if (depth := own if get_ident() == owner else threads.depth).forward:
            return original(module, *args, **kwargs)
        depth.forward = True
        stamped = events.spans
        if stamped:
            note(OPEN)
            note(events.now())
        try:
            if events.forward_begin:
                for subscriber in events.forward_begin:
                    subscriber(module)
            result = original(module, *args, **kwargs)
            if events.returned:
                for told in events.returned:
                    told(module, result)
            return result
        finally:
            depth.forward = False
            if events.forward_end:
                for done in reversed(events.forward_end):
                    done(module)
            if stamped:
                note(CLOSE)
                note(events.now())

    return call


def _function(compiled: Callable[..., Any], events: Events, threads: _Threads) -> Callable[..., Any]:
    call = _outermost(lambda function, *args, **kwargs: compiled(*args, **kwargs), events, threads)

    @functools.wraps(compiled)
    def function(*args: Any, **kwargs: Any) -> Any:
        return call(function, *args, **kwargs)

    return function
