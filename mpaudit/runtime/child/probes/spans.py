"""What ran inside of each span: host time and device kernels, from the events of a profiler.

The dispatch mode opens a span named `mpaudit N` around its N-th op. Under such a mode the profiler records every op
twice, once around the mode and once inside of it: only what lies inside of a span counts, so nothing is counted double.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

PREFIX = "mpaudit "


class Event(NamedTuple):
    """One event of a profiler; times in ns on one clock."""

    name: str
    start: int
    end: int
    thread: int
    device: bool
    """A kernel, a copy or a fill on the device; else something on the host."""
    id: int
    """Correlation id of a host event."""
    linked: int
    """Of a device event: the id of the host event that launched it; 0 for none."""


class Inside(NamedTuple):
    host_ns: int
    kernels: tuple[tuple[str, int], ...]
    """Name and duration in ns of each device event that was launched inside, on whatever stream, in order of start."""


def inside_spans(events: Iterable[Event]) -> dict[int, Inside]:
    """By the number of the span. Host time is that of the ops directly in a span, or its own where it holds none."""
    host: dict[int, int] = {}
    own: dict[int, int] = {}
    span_of: dict[int, int] = {}
    devices: list[Event] = []
    threads: dict[int, list[Event]] = {}
    for event in events:
        if event.device:
            devices.append(event)
        else:
            threads.setdefault(event.thread, []).append(event)
    for timeline in threads.values():
        timeline.sort(key=lambda event: (event.start, -event.end, event.id))
        around: list[tuple[int, int | None, bool]] = []  # end, number of the span around, whether it is that span
        for event in timeline:
            while around and around[-1][0] <= event.start:
                around.pop()
            if event.name.startswith(PREFIX):
                number = int(event.name[len(PREFIX) :])
                own[number] = event.end - event.start
                span_of[event.id] = number
                around.append((event.end, number, True))
                continue
            inner = around[-1] if around else None
            span = inner[1] if inner else None
            if span is not None:
                span_of[event.id] = span
                if inner and inner[2]:
                    host[span] = host.get(span, 0) + event.end - event.start
            around.append((event.end, span, False))
    kernels: dict[int, list[tuple[str, int]]] = {}
    for event in sorted(devices, key=lambda event: event.start):
        launched = span_of.get(event.linked)
        if launched is not None:
            kernels.setdefault(launched, []).append((event.name, event.end - event.start))
    return {number: Inside(host.get(number, own[number]), tuple(kernels.get(number, ()))) for number in own}


def device_time(events: Iterable[Event]) -> int:
    """ns of all device events, attributed or not."""
    return sum(event.end - event.start for event in events if event.device)
