"""The traces of a session in one log directory."""

from __future__ import annotations

from pathlib import Path

from mpaudit.runtime.evidence import TRACE_FOLDER
from mpaudit.runtime.log_directory import FOLDER, gather, pack
from mpaudit.runtime.plan import Options, plan
from mpaudit.runtime.protocol import Target


def test_one_run_for_each_variant(tmp_path: Path) -> None:
    options = Options(Target("script", "train.py"), "cpu", str(tmp_path), rounds=1, evidence=2, emulate=("amp-fp16",))
    plans = [planned.plan for planned in plan(options, ("fp32", "amp-bf16"))]
    for one in plans:
        folder = Path(one.folder, TRACE_FOLDER, one.variant)
        if one.kind == "evidence" and not one.emulate:
            folder.mkdir(parents=True)
            (folder / f"{one.run}.pt.trace.json").write_text('{"traceEvents": []}')
    said: list[str] = []
    gather(plans, str(tmp_path), said.append)
    found = sorted(path.relative_to(tmp_path / FOLDER).as_posix() for path in (tmp_path / FOLDER).rglob("*.json*"))
    assert found == ["amp-bf16/amp-bf16-evidence-1.pt.trace.json.gz", "fp32/fp32-evidence-1.pt.trace.json.gz"]
    assert not (tmp_path / "fp32-evidence-1" / TRACE_FOLDER).exists()
    assert said == ["reading the trace of fp32", "reading the trace of amp-bf16"]


def test_a_trace_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    for text in ('{"traceEvents": [{"ph"', "[]", '{"schemaVersion": 1}'):
        path = tmp_path / "a.pt.trace.json"
        path.write_text(text)
        pack(path)
        assert list(tmp_path.iterdir()) == []


def test_without_traces_there_is_no_folder(tmp_path: Path) -> None:
    options = Options(Target("script", "train.py"), "cpu", str(tmp_path))
    gather([planned.plan for planned in plan(options, ("fp32",))], str(tmp_path))
    assert list(tmp_path.iterdir()) == []
