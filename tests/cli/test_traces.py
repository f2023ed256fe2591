"""The traces that `mpaudit profile --out` leaves: over HTTP in TensorBoard, and by the rules of the trace format."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
VARIANTS = ("amp-bf16", "fp32")
SCRIPT = """
import torch, torch.nn as nn
model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
optimizer = torch.optim.AdamW(model.parameters())
while True:
    loss = model(torch.randn(2, 4, 16)).float().pow(2).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture(scope="module")
def log_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the report names it."""
    home = tmp_path_factory.mktemp("home")
    (home / "train.py").write_text(SCRIPT)
    few = ("--device", "cpu", "--warmup", "1", "--steps", "3", "--runs", "1")
    done = subprocess.run(
        [sys.executable, "-m", "mpaudit", "profile", *few, "--evidence", "1", "--out", "kept", "train.py"],
        **{"cwd": home, "env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "tensorboard --logdir kept/traces shows them" in " ".join(done.stdout.split())
    return home / "kept" / "traces"


@pytest.fixture(scope="module")
def tensorboard(log_directory: Path) -> Iterator[str]:
    pytest.importorskip("torch_tb_profiler")
    pytest.importorskip("tensorboard")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_directory), "--load_fast=false"]
    with open(log_directory.parent / "tensorboard.log", "w") as log:
        server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}/data/plugin/pytorch_profiler/"
    try:
        deadline = time.monotonic() + 300
        while not _loaded(base) and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.5)
        yield base
    finally:
        server.terminate()
        server.wait()


def get(base: str, page: str, **query: str) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{base}{page}?{urllib.parse.urlencode(query)}") as answer:
        return bytes(answer.read())


def _loaded(base: str) -> bool:
    try:
        return len(json.loads(get(base, "runs"))["runs"]) == 2
    except (urllib.error.URLError, ConnectionError):
        return False


def test_tensorboard_opens_the_log_directory(tensorboard: str) -> None:
    def answer(page: str, **query: str) -> Any:
        return json.loads(get(tensorboard, page, **query))

    assert sorted(answer("runs")["runs"]) == ["amp-bf16", "fp32"]
    for run, casts in (("amp-bf16", True), ("fp32", False)):
        assert answer("views", run=run) == ["Overview", "Operator", "Trace"]
        (worker,) = answer("workers", run=run, view="Overview")
        (span,) = answer("spans", run=run, worker=worker)
        where = {"run": run, "worker": worker, "span": span}
        assert len(answer("overview", **where)["steps"]["rows"]) == 3
        names = {row["name"] for row in answer("operation/table", **where, group_by="Operation")["data"]}
        assert "aten::addmm" in names and ("ToCopyBackward0" in names) is casts
        assert get(tensorboard, "trace", **where)[:2] in (b"\x1f\x8b", b"{\n", b'{"')


@pytest.fixture(scope="module")
def documents(log_directory: Path) -> dict[str, Any]:
    files = {path.parent.name: path for path in log_directory.glob("*/*.pt.trace.json.gz")}
    assert sorted(files) == sorted(os.listdir(log_directory)) == list(VARIANTS)
    return {variant: json.loads(gzip.decompress(path.read_bytes())) for variant, path in files.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_event_is_what_the_trace_format_asks_for(variant: str, documents: dict[str, Any]) -> None:
    """The JSON object format: a list of events, each of a known phase with the fields that this phase has."""
    fields = {
        "X": {"name", "ts", "dur", "pid", "tid"},
        "M": {"name", "pid", "args"},
        "i": {"name", "ts", "s"},
        "s": {"id", "ts", "pid", "tid", "cat", "name"},
        "f": {"id", "ts", "pid", "tid", "cat", "name"},
    }
    events = documents[variant]["traceEvents"]
    kinds = Counter(event["ph"] for event in events)
    assert kinds["X"] > 100 and not kinds.keys() - fields.keys()
    for event in events:
        assert not fields[event["ph"]] - event.keys(), event
        assert all(isinstance(event[key], (int, float)) for key in ("ts", "dur") if key in event), event
        assert event.get("dur", 0) >= 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_flows_have_two_ends_and_processes_have_names(variant: str, documents: dict[str, Any]) -> None:
    """Each arrow from a forward op to its backward op starts and ends once, inside of an event of its thread."""
    events = documents[variant]["traceEvents"]
    ends = {
        phase: {(event["cat"], event["id"]): event for event in events if event["ph"] == phase} for phase in ("s", "f")
    }
    assert len(ends["s"]) == sum(event["ph"] == "s" for event in events)
    assert ends["s"].keys() == ends["f"].keys() and ends["s"]
    complete = [event for event in events if event["ph"] == "X"]
    for arrow in (*ends["s"].values(), *ends["f"].values()):
        where = (arrow["pid"], arrow["tid"])
        assert any(
            (event["pid"], event["tid"]) == where and event["ts"] <= arrow["ts"] <= event["ts"] + event["dur"]
            for event in complete
        ), arrow
    named = {event["pid"] for event in events if event["ph"] == "M" and event["name"] == "process_name"}
    assert {event["pid"] for event in complete if event["cat"] == "cpu_op"} <= named


@pytest.mark.parametrize("variant", VARIANTS)
def test_events_of_a_thread_lie_inside_of_each_other_or_apart(variant: str, documents: dict[str, Any]) -> None:
    """Viewers draw the events of a thread as a stack: none may begin in one and end behind it."""
    threads: dict[Any, list[Any]] = {}
    for event in documents[variant]["traceEvents"]:
        if event["ph"] == "X" and event["cat"] in ("cpu_op", "user_annotation"):
            threads.setdefault((event["pid"], event["tid"]), []).append(event)
    for timeline in threads.values():
        around: list[int] = []
        # as viewers do, begin and length in whole nanoseconds
        spans = [(round(1000 * event["ts"]), round(1000 * event["dur"]), event["name"]) for event in timeline]
        for start, length, name in sorted(spans, key=lambda span: (span[0], -span[1])):
            while around and around[-1] <= start:
                around.pop()
            assert not around or start + length <= around[-1], name
            around.append(start + length)
