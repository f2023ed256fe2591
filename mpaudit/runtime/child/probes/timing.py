"""The clock of a run: when steps ended, and how much of each was spent outside forward, backward and optimizer.

On the CPU the clock is `time.perf_counter_ns`. On a device that works asynchronously it is the device's own events,
recorded in the hooks and read once at the end, so that nothing waits during the training.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter_ns
from typing import Any

import torch

from ..events import Events, without
from ..steps import Steps

Stamp = Any
"""Nanoseconds, or a recorded event of the device."""


@dataclass(frozen=True, slots=True)
class Clock:
    now: Callable[[], Stamp]
    ms: Callable[[Stamp, Stamp], float]
    """Milliseconds from one stamp to another. Only to be called after `finish`."""
    finish: Callable[[], None]


def clock_of(device: str) -> Clock:
    """The clock of a device type as in `torch.device.type`."""
    module = getattr(torch, device, None)
    event = getattr(module, "Event", None) or getattr(getattr(module, "event", None), "Event", None)
    if device == "cpu" or event is None:
        return Clock(perf_counter_ns, lambda start, end: (end - start) / 1e6, lambda: None)

    def record() -> Any:
        stamp = event(enable_timing=True)
        stamp.record()
        return stamp

    return Clock(record, lambda start, end: float(start.elapsed_time(end)), torch.get_device_module(device).synchronize)


@dataclass(slots=True)
class Timing:
    """Stamps of a run."""

    steps: Steps
    clock: Clock = field(default_factory=lambda: clock_of("cpu"))
    ends: list[Stamp] = field(default_factory=list)
    """One for each entry of `steps.log`."""
    passes: list[Stamp] = field(default_factory=list)
    """The ends of backward passes, as long as they may be what is counted."""
    spans: list[tuple[int, int, Stamp, Stamp]] = field(default_factory=list)
    """Forward, backward, optimizer: number of steps and of backward passes before, begin, end."""
    _events: Events | None = None
    _depth: int = 0
    _begun: Stamp = 0
    in_step: bool = False

    def watch(self, events: Events) -> None:
        self._events = events
        events.forward_begin.append(self._open)
        events.forward_end.append(self._close)
        events.backward_begin += [self._decide, self._open]
        events.backward_end.append(self._close)
        events.step_begin.append(self._step_begin)
        events.step_end.append(self._step_end)
        self.steps.ended.append(self._ended)
        self.steps.passed.append(self._passed)

    def forget(self) -> None:
        """Begins anew, in the child of a fork."""
        self._depth, self.in_step = 0, False
        self.clock = clock_of("cpu")
        self._clear()
        if self._events is not None:
            self._events.backward_begin = [self._decide, *without(self._events.backward_begin, self._decide)]

    def _clear(self) -> None:
        self.ends.clear()
        self.passes.clear()
        self.spans.clear()

    def _step_begin(self, optimizer: Any) -> None:
        if self.in_step:  # the one before raised
            self._depth -= 1
        self.in_step = True
        self._open()

    def _step_end(self, optimizer: Any) -> None:
        self.in_step = False
        self._close()

    def _ended(self) -> None:
        self.ends.append(self.clock.now())

    def _passed(self) -> None:
        self.passes.append(self.clock.now())

    def _decide(self, roots: Any) -> Any:
        # the device that is trained on has the clock, not the one that was asked for
        if self._depth:
            return roots
        root = roots if isinstance(roots, torch.Tensor) else next(iter(roots), None)
        if isinstance(root, torch.Tensor) and root.device.type != "cpu":
            self.clock = clock_of(root.device.type)
            self._clear()
        if self._events is not None:
            self._events.backward_begin = without(self._events.backward_begin, self._decide)
        return roots

    def _open(self, subject: Any = None) -> Any:
        # a forward inside a backward (checkpointing) or inside a step (closures) belongs to it
        self._depth += 1
        if self._depth == 1:
            self._begun = self.clock.now()
        return subject

    def _close(self, subject: Any = None) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.spans.append((len(self.steps.log), self.steps.backwards, self._begun, self.clock.now()))


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each step, and of each measured one the part outside forward, backward and optimizer."""

    warmup_ms: tuple[float, ...] = ()
    step_ms: tuple[float, ...] = ()
    outside_ms: tuple[float, ...] = ()


def read(timing: Timing, warmup: int) -> Times:
    """The intervals between the ends of the planned steps: the first `warmup` ends (at least one) begin no measured
    interval but the last of them. Waits for the device. Raises RuntimeError where the device has failed."""
    places = timing.steps.positions()
    by_backward = timing.steps.by_backward
    stamps = timing.passes if by_backward else timing.ends
    places = [place for place in places if place < len(stamps)]
    timing.clock.finish()
    ms = timing.clock.ms
    intervals = [ms(stamps[a], stamps[b]) for a, b in pairwise(places)]
    inside = [0.0] * len(intervals)
    for ends, passes, begin, end in timing.spans:
        # the step it belongs to is the first whose end comes after it
        number = bisect_left(places, passes if by_backward else ends) - 1
        if 0 <= number < len(inside):
            inside[number] += ms(begin, end)
    warm = max(warmup, 1) - 1
    if by_backward and (timing.in_step or timing.steps.log):  # passes inside of one call of an optimizer
        return Times(tuple(intervals[:warm]), tuple(intervals[warm:]))
    outside = [max(whole - part, 0.0) for whole, part in zip(intervals, inside, strict=True)]
    return Times(tuple(intervals[:warm]), tuple(intervals[warm:]), tuple(outside[warm:]))
