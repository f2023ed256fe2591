"""Traces read back: operators by self time, kernels with streams and tensor cores, on traces made by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpaudit.runtime.traces import Operator, TracedKernel, TraceEvent, kernels, operators, read, steps, with_whole_steps


def event(name: str, ts: float, dur: float, cat: str = "cpu_op", tid: Any = 1, **arguments: int) -> dict[str, Any]:
    renamed = {"External id" if key == "external" else key: value for key, value in arguments.items()}
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": tid, "pid": 9, "args": renamed}


# what torch writes of one AMP step on a GPU: two streams, kernels that run after their launch
SYNTHETIC = [
    {"ph": "M", "name": "process_name", "pid": 9, "tid": 0, "args": {"name": "python"}},
    event("ProfilerStep#3", 0, 1000, cat="user_annotation"),
    event("ProfilerStep#3", 0, 1000, cat="gpu_user_annotation", tid=7),
    event("aten::linear", 10, 200, external=1),
    event("aten::to", 15, 40, external=2),
    event("aten::_to_copy", 20, 30, external=3),
    event("cudaLaunchKernel", 25, 5, cat="cuda_runtime", external=3),
    event("aten::addmm", 70, 120, external=4),
    event("aten::addmm", 20, 50, tid=2, external=5),
    event("void at::native::elementwise_kernel<128, 4>", 300, 11, cat="kernel", tid=7, external=3, stream=7),
    event("nvjet_tst_128x24_64x11_2x1_v_bz_TNT", 400, 100, cat="kernel", tid=7, external=4, stream=7),
    event("nvjet_tst_128x24_64x11_2x1_v_bz_TNT", 450, 60, cat="kernel", tid=13, external=5, stream=13),
    event("Memcpy HtoD (Pageable -> Device)", 200, 4, cat="gpu_memcpy", tid=7, external=99, stream=7),
    event("triton_tem_fused_mm_0", 600, 8, cat="kernel", tid=7, external=98, stream=7),
    {"ph": "i", "name": "Record Window End", "ts": 1000.0, "pid": "", "tid": "", "s": "g"},
]


def trace() -> list[TraceEvent]:
    return [one for one in msgspec.convert(SYNTHETIC, list[TraceEvent]) if one.ph == "X"]


def test_self_time_leaves_out_what_is_inside() -> None:
    assert operators(trace()) == (
        Operator("aten::addmm", 2, 170, 170),
        Operator("aten::linear", 1, 40, 200),
        Operator("aten::_to_copy", 1, 30, 30),
        Operator("aten::to", 1, 10, 40),
    )


def test_an_overload_that_calls_another_is_one_call() -> None:
    nested = [event("aten::mul", 0, 10), event("aten::mul", 2, 6)]
    assert operators(msgspec.convert(nested, list[TraceEvent])) == (Operator("aten::mul", 1, 10, 10),)
    twice = [event("aten::linear", 0, 10), event("aten::linear", 2, 3), event("aten::add", 6, 2)]
    assert operators(msgspec.convert(twice, list[TraceEvent]))[0] == Operator("aten::linear", 2, 8, 13)


def test_kernels_have_streams_operators_and_tensor_cores() -> None:
    assert kernels(trace()) == (
        TracedKernel("nvjet_tst_128x24_64x11_2x1_v_bz_TNT", 2, 160, (7, 13), ("aten::addmm",), "yes"),
        TracedKernel("void at::native::elementwise_kernel<128, 4>", 1, 11, (7,), ("aten::_to_copy",), "no"),
        TracedKernel("triton_tem_fused_mm_0", 1, 8, (7,), (), "unknown"),
        TracedKernel("Memcpy HtoD (Pageable -> Device)", 1, 4, (7,), (), "no"),
    )


def test_marked_steps() -> None:
    assert steps(trace()) == 1


def test_a_step_ends_with_what_is_under_way_at_its_end() -> None:
    """The optimizer's annotation began in one step and ended in the next, the last with the profiler."""
    given = [
        event("epoch", 5, 900, cat="user_annotation"),
        event("ProfilerStep#1", 10, 90, cat="user_annotation", external=4),
        event("Optimizer.step#SGD.step", 80, 25, cat="user_annotation"),
        event("aten::mul", 95, 4),
        event("elsewhere", 98, 20, tid=2),
        event("ProfilerStep#2", 100, 100, cat="user_annotation"),
        event("Optimizer.step#SGD.step", 190, 5000, cat="user_annotation"),
        {"ph": "s", "id": 3, "pid": 9, "tid": 1, "ts": 95, "cat": "fwdbwd", "name": "fwdbwd"},
    ]
    document = {"schemaVersion": 1, "traceEvents": given, "traceName": "x"}
    # with a hundredth of a microsecond between two ends
    changed = {1: {"ts": 10.0, "dur": 95.01}, 5: {"ts": 105.02, "dur": 94.98}, 6: {"ts": 190.0, "dur": 9.99}}
    expected = [one | changed.get(place, {}) for place, one in enumerate(given)]
    assert json.loads(with_whole_steps(json.dumps(document).encode())) == document | {"traceEvents": expected}


@pytest.mark.parametrize("packed", [False, True])
def test_packed_or_not(packed: bool, tmp_path: Path) -> None:
    data = json.dumps({"schemaVersion": 1, "traceEvents": SYNTHETIC, "traceName": "x"}).encode()
    path = tmp_path / "t.json"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read(path) == trace()


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(msgspec.DecodeError):
        read(tmp_path / "t.json")
