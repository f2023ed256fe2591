"""Autocast put on a script that has none.

By hand one writes `with autocast():` around the forward and the loss, and leaves it before `backward`. So autocast goes
on here at the first outermost call of a module with parameters, stays on through the code of the loss, and goes off,
its weight cache cleared, when backward starts, when an optimizer steps, or when the graphs of all its forwards are gone
(an evaluation that nobody differentiates). Without gradients it is on inside the call alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch.amp.autocast_mode import autocast

from mpaudit.runtime.protocol import Place

from ..events import Events, in_backward
from . import graph
from .local import Local
from .record import Record, here

# as they are before anything is put in their place: what we open is no region of the script
_enter: Any = autocast.__enter__
_exit: Any = autocast.__exit__


class _Token:
    """Lives in a node of the autograd graph, and so as long as the graph does."""

    __slots__ = ("forward", "gone", "span")

    def __init__(self, span: tuple[int, int], forward: int, gone: Callable[[_Token], None]) -> None:
        self.span, self.forward, self.gone = span, forward, gone

    def __del__(self) -> None:
        self.gone(self)


class Span:
    """The spans of a process, at most one at a time in each thread."""

    def __init__(
        self, dtype: torch.dtype, device: str, local: Local, record: Record, withdrawn: Callable[[], bool]
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.withdrawn = withdrawn
        """Whether the script has turned out to have autocast of its own: no span is opened any more."""
        self.opened = False
        """A span was open at some time."""
        self.trained = False
        """A backward was run."""
        self.outside: list[Callable[[], None]] = []
        """Told when a backward starts from a loss that was computed outside of any span."""
        self._local = local
        self._trained: WeakSet[torch.nn.Module] = WeakSet()
        self._forwards = 0
        self._lookout = _Lookout(record)

    def watch(self, events: Events) -> None:
        events.forward_begin.append(self._forward_begin)
        events.returned.append(self._returned)
        events.forward_end.append(self._forward_end)
        events.backward_begin.append(self._backward_begin)
        events.gradient_begin.append(self._gradient_begin)
        events.differentiated.append(self._lookout.backward)
        events.gradient_end.append(self._gradient_end)
        events.step_begin.append(self._step_begin)
        events.step_end.append(self._step_end)

    @property
    def on(self) -> bool:
        """In this thread."""
        return self._local.span is not None

    @property
    def idle(self) -> bool:
        """A span could be opened in this thread now. Recomputation in a backward brings its own state of autocast."""
        local = self._local
        return local.span is None and not local.regions and not self.withdrawn() and not in_backward()

    def open(self, device: str, whole: bool = False) -> None:
        local = self._local
        if not whole:
            self._lookout.begin(local)
        local.span = region = autocast(device, dtype=self.dtype)
        _enter(region)
        local.whole, local.leaving, local.held = whole, False, False
        local.number += 1
        local.alive.clear()
        self.opened = True

    def close(self) -> None:
        local = self._local
        if local.span is None:
            return
        if local.regions:
            local.leaving = True
            return
        region, local.span = local.span, None
        _exit(region, None, None, None)
        local.ended = graph.sequence()

    def left(self) -> None:
        """The script has left its outermost region in this thread."""
        if self._local.leaving:
            self._local.leaving = False
            self.close()

    def follow(self, result: Any) -> None:
        """Ends the span when the graph of this result is gone; at once where it never had one."""
        local = self._local
        found, node = graph.node_of(result)
        if node is not None:
            self._forwards += 1
            node.metadata["mpaudit"] = _Token((local.ident, local.number), self._forwards, self._gone)
            local.alive.add(self._forwards)
            self._lookout.forward(self._forwards, node)
        elif not found:
            local.held = True
        elif not local.alive and not local.held:
            self.close()

    def _gone(self, token: _Token) -> None:
        local = self._local
        if token.span != (local.ident, local.number):
            return
        local.alive.discard(token.forward)
        if local.span is not None and not (local.alive or local.held or local.calling) and not sys.is_finalizing():
            self.close()

    def _forward_begin(self, callee: Any) -> None:
        local = self._local
        local.calling = True
        if not self.idle:
            return
        grad = torch.is_grad_enabled()
        if isinstance(callee, torch.nn.Module):
            parameter = next(callee.parameters(), None)
            # neither a transform of data nor a part of an optimizer is a forward
            if parameter is not None and (grad or not local.stepping):
                self.open(self._device_of(callee, parameter), whole=not grad or self._evaluates(callee))
        elif grad:
            self.open(self.device)

    def _returned(self, callee: Any, result: Any) -> None:
        local = self._local
        if local.span is None or local.whole or not torch.is_grad_enabled() or graph.transforming() or in_backward():
            return
        if isinstance(callee, torch.nn.Module) and callee.training:
            self._trained.add(callee)
        self.follow(result)

    def _forward_end(self, callee: Any) -> None:
        local = self._local
        local.calling = False
        if local.span is not None and local.whole and not in_backward():
            self.close()

    def _evaluates(self, module: torch.nn.Module) -> bool:
        return not module.training and module in self._trained

    def _device_of(self, module: torch.nn.Module, parameter: torch.Tensor) -> str:
        found = parameter.device.type
        if found != self.device and any(other.device.type == self.device for other in module.parameters()):
            return self.device
        return found if torch.amp.is_autocast_available(found) else self.device

    def _backward_begin(self, roots: Any) -> Any:
        local = self._local
        self.trained = True
        self._lookout.backward(roots)
        if local.span is not None:
            self.close()
        elif not self.withdrawn() and not local.regions and graph.computed_since(roots, local.ended):
            for subscriber in self.outside:
                subscriber()
        return roots

    def _gradient_begin(self) -> None:
        local = self._local
        if local.span is None or local.regions:
            return
        if graph.transforming():  # torch.func.grad differentiates what it has just run, as backward does
            self.close()
            return
        local.suspended = True
        torch.set_autocast_enabled(local.span.device, False)

    def _gradient_end(self) -> None:
        local = self._local
        if local.suspended:
            local.suspended = False
            torch.set_autocast_enabled(local.span.device, True)

    def _step_begin(self, optimizer: Any) -> None:
        self._local.stepping = True
        self.close()

    def _step_end(self, optimizer: Any) -> None:
        self._local.stepping = False
        self.close()


class _Lookout:
    """Looks, in the first spans, for forwards that no backward reached although their graph was kept."""

    _SPANS = 10

    def __init__(self, record: Record) -> None:
        self._record = record
        self._spans = 0
        self._unreached: dict[int, tuple[int, Place]] = {}
        """By the number of the forward: the sequence number of its node, and its line."""

    def begin(self, local: Local) -> None:
        """Before a new span: what was not reached by now, and is alive, will not be."""
        if self._spans > self._SPANS:
            return
        self._spans += 1
        for forward, (_, place) in self._unreached.items():
            if forward in local.alive:
                self._record.unfaithful[place] = None
        self._unreached.clear()

    def forward(self, number: int, node: Any) -> None:
        if self._spans <= self._SPANS:
            what = (
                "a forward with gradients that no backward follows: "
                "what ran between it and the next forward ran in autocast"
            )
            self._unreached[number] = (node._sequence_nr(), here(what))

    def backward(self, roots: Any) -> None:
        if len(self._unreached) == 1:
            self._unreached.clear()
        if self._unreached:
            reached = {node._sequence_nr() for node in graph.walk(roots)}
            for forward in [number for number, (mark, _) in self._unreached.items() if mark in reached]:
                del self._unreached[forward]
