"""The clock of a run: when steps ended, and how much of each was spent outside forward, backward and optimizer.

On the CPU the clock is `time.perf_counter_ns`. On a device that works asynchronously it is the device's own events,
recorded in the hooks and read once at the end, so that nothing waits during the training.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter_ns
from typing import Any

import torch

from ..events import CLOSE, LOSS, STEP, TICK, Events, without
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
    """The clock by which the events of a run are stamped."""

    steps: Steps
    clock: Clock = field(default_factory=lambda: clock_of("cpu"))
    events: Events = field(default_factory=Events)

    def watch(self, events: Events) -> None:
        self.events = events
        events.backward_begin.append(self._decide)

    def forget(self) -> None:
        """Begins anew, in the child of a fork."""
        events = self.events
        self._take(clock_of("cpu"))
        events.journal.clear()
        events.backward_begin = [self._decide, *without(events.backward_begin, self._decide)]

    def _take(self, clock: Clock) -> None:
        self.clock = clock
        self.events.now = clock.now

    def _decide(self, roots: Any) -> Any:
        # the device that is trained on has the clock, not the one that was asked for
        events = self.events
        if _open(events.journal) > 1:
            return roots
        root = roots if isinstance(roots, torch.Tensor) else next(iter(roots), None)
        if isinstance(root, torch.Tensor) and root.device.type != "cpu":
            self._take(clock_of(root.device.type))
            # what was before, steps without a backward too, ends with the new clock's beginning
            first = events.now()
            for place in range(0, len(events.journal), 2):
                if events.journal[place] != LOSS:
                    events.journal[place + 1] = first
        events.backward_begin = without(events.backward_begin, self._decide)
        return roots


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each step, and of each measured one the part outside forward, backward and optimizer: None where
    that was not stamped."""

    warmup_ms: tuple[float, ...] = ()
    step_ms: tuple[float, ...] = ()
    outside_ms: tuple[float | None, ...] = ()


def read(timing: Timing, warmup: int) -> Times:
    """The intervals between the ends of the planned steps: the first `warmup` ends (at least one) begin no measured
    interval but the last of them. Waits for the device. Raises RuntimeError where the device has failed.

    Of backward passes inside of a step of an optimizer nothing is known to be outside.
    """
    steps, journal = timing.steps, timing.events.journal
    ends = steps.lengths()
    timing.clock.finish()
    ms = timing.clock.ms
    intervals = [ms(journal[a - 1], journal[b - 1]) for a, b in pairwise(ends)]
    warm = max(warmup, 1) - 1
    warmup_ms, step_ms = tuple(intervals[:warm]), tuple(intervals[warm:])
    if steps.by_backward and STEP in journal[::2]:
        return Times(warmup_ms, step_ms)
    inside: list[float | None] = [None] * len(intervals)
    for length, begin, end in _spans(journal):
        # the step it belongs to is the first that ends with or after it
        number = bisect_left(ends, length) - 1
        if 0 <= number < len(inside):
            inside[number] = (inside[number] or 0.0) + ms(begin, end)
    outside = [None if part is None else max(whole - part, 0.0) for whole, part in zip(intervals, inside, strict=True)]
    return Times(warmup_ms, step_ms, tuple(outside[warm:]))


def _open(journal: list[Any]) -> int:
    """Spans that are under way."""
    return sum({CLOSE: -1, TICK: 0, LOSS: 0}.get(mark, 1) for mark in journal[::2])


def _spans(journal: list[Any]) -> Iterator[tuple[int, Stamp, Stamp]]:
    """The outermost spans: how long the journal was with their end, begin and end."""
    under_way: list[int] = []
    begin = None
    for place in range(0, len(journal), 2):
        mark, stamp = journal[place : place + 2]
        if mark == CLOSE:
            if len(under_way) == 1:
                yield place + 2, begin, stamp
            del under_way[-1:]
        elif mark not in (TICK, LOSS):
            if mark == STEP and STEP in under_way:  # that one raised
                del under_way[under_way.index(STEP) :]
            if not under_way:
                begin = stamp
            under_way.append(mark)
