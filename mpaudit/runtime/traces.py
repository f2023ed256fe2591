"""Reads a Chrome trace of torch's profiler back: operators with their self time, kernels with theirs.

Only what is needed is decoded: a trace of 100 MB has half a million events.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mpaudit.runtime.kernels import TensorCores, uses_tensor_cores

_OPERATOR = "cpu_op"
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_STEP = "ProfilerStep#"


class Arguments(msgspec.Struct, frozen=True):
    stream: int | None = None
    external_id: int | None = msgspec.field(default=None, name="External id")


class TraceEvent(msgspec.Struct, frozen=True):
    """A complete event (`ph` = X): times in µs."""

    ph: str
    name: str = ""
    cat: str = ""
    ts: float = 0.0
    dur: float = 0.0
    tid: int | str = 0
    args: Arguments = Arguments()


class _File(msgspec.Struct):
    traceEvents: list[TraceEvent]


class Operator(msgspec.Struct, frozen=True):
    name: str
    calls: int
    self_us: float
    """Time in it and in no operator that it calls."""
    total_us: float


class TracedKernel(msgspec.Struct, frozen=True):
    name: str
    calls: int
    us: float
    streams: tuple[int, ...]
    operators: tuple[str, ...]
    """That launched it."""
    tensor_cores: TensorCores


def read(path: Path) -> list[TraceEvent]:
    """The complete events of a `.json` or `.json.gz` trace. Raises OSError, `msgspec.DecodeError` for another file."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return [event for event in msgspec.json.decode(data, type=_File).traceEvents if event.ph == "X"]


def with_whole_steps(trace: bytes) -> bytes:
    """The same trace, with the mark of each step up to the end of what is under way at its end.

    The steps are marked while the optimizer's own annotation is still open, which so would lie in two of them: viewers
    draw the events of a thread as a stack and leave out what is in none. In the last one that annotation lasts until
    the trace was written, and is cut. Raises `msgspec.DecodeError` or KeyError for what is no trace.
    """
    document = msgspec.json.decode(trace, type=dict[str, msgspec.Raw])
    raw = msgspec.json.decode(document.pop("traceEvents"), type=list[msgspec.Raw])
    events = [(place, event) for place, one in enumerate(raw) if (event := _complete(one)) is not None]
    marks = sorted((event.ts, place, event) for place, event in events if _marks_step(event))
    before = 0.0
    for number, (start, place, mark) in enumerate(marks):
        end = mark.ts + mark.dur
        across = [(p, e) for p, e in events if e.tid == mark.tid and mark.ts < e.ts < end < e.ts + e.dur and p != place]
        if number + 1 == len(marks):
            for p, event in across:
                raw[p] = _moved(raw[p], event.ts, end - _GAP)
        else:
            end = max((e.ts + e.dur + _GAP for _, e in across), default=end)
        raw[place] = _moved(raw[place], max(start, before), end)
        before = end + _GAP if across else 0.0
    head = b"".join(msgspec.json.encode(key) + b": " + value + b",\n" for key, value in document.items())
    return b"{\n" + head + b'"traceEvents": [\n' + b",\n".join(raw) + b"\n]}\n"


_GAP = 0.01
"""Microseconds between two ends: viewers round begin and length, and so may see one that lies behind the other."""


def _moved(raw: msgspec.Raw, start: float, end: float) -> msgspec.Raw:
    event: dict[str, Any] = msgspec.json.decode(raw)
    return msgspec.Raw(msgspec.json.encode(event | {"ts": round(start, 3), "dur": round(max(end - start, 0), 3)}))


def _complete(raw: msgspec.Raw) -> TraceEvent | None:
    event = msgspec.json.decode(raw, type=TraceEvent)
    return event if event.ph == "X" else None


def _marks_step(event: TraceEvent) -> bool:
    return event.name.startswith(_STEP) and event.cat == "user_annotation"


def operators(events: Iterable[TraceEvent]) -> tuple[Operator, ...]:
    """By name, the largest self time first. Steps and annotations are no operators."""
    rows: dict[str, list[float]] = {}
    for node in _nested(event for event in events if event.cat == _OPERATOR):
        row = rows.setdefault(node.event.name, [0, 0.0, 0.0])
        row[1] += node.event.dur - node.inside
        around = node.parent
        # what only calls another overload of itself is one call, as in torch's own tables
        if around is None or around.event.name != node.event.name or around.children > 1:
            row[0] += 1
            row[2] += node.event.dur
    found = (Operator(name, int(calls), own, total) for name, (calls, own, total) in rows.items())
    return tuple(sorted(found, key=lambda one: (-one.self_us, one.name)))


def kernels(events: Iterable[TraceEvent]) -> tuple[TracedKernel, ...]:
    """By name, the longest first, with the streams they ran on and the operators that launched them."""
    launched: dict[int, str] = {}
    found: dict[str, list[TraceEvent]] = {}
    for event in events:
        if event.cat == _OPERATOR and event.args.external_id is not None:
            launched[event.args.external_id] = event.name
        elif event.cat in _ON_DEVICE:
            found.setdefault(event.name, []).append(event)
    rows = (
        TracedKernel(
            name,
            len(seen),
            sum(event.dur for event in seen),
            tuple(sorted({event.args.stream for event in seen if event.args.stream is not None})),
            tuple(sorted({launched[i] for event in seen if (i := event.args.external_id) in launched})),
            uses_tensor_cores(name),
        )
        for name, seen in found.items()
    )
    return tuple(sorted(rows, key=lambda one: (-one.us, one.name)))


def steps(events: Iterable[TraceEvent]) -> int:
    """Profiled steps that are marked in the trace."""
    return len({event.name for event in events if event.name.startswith(_STEP) and event.cat != "gpu_user_annotation"})


@dataclass(slots=True)
class _Node:
    event: TraceEvent
    parent: _Node | None
    inside: float = 0.0
    """Time of those directly inside of it."""
    children: int = 0


def _nested(events: Iterable[TraceEvent]) -> list[_Node]:
    """Each event in the one around it on its own thread."""
    threads: dict[int | str, list[TraceEvent]] = {}
    for event in events:
        threads.setdefault(event.tid, []).append(event)
    nodes: list[_Node] = []
    for timeline in threads.values():
        timeline.sort(key=lambda event: (event.ts, -event.dur))
        around: _Node | None = None
        for event in timeline:
            while around is not None and around.event.ts + around.event.dur <= event.ts:
                around = around.parent
            if around is not None:
                around.inside += event.dur
                around.children += 1
            around = _Node(event, around)
            nodes.append(around)
    return nodes
