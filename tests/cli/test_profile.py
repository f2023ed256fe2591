"""The command: its words, its refusals, its exit codes, and scripts that it really runs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mpaudit.audit import Audit, from_json
from mpaudit.cli import profile, progress
from mpaudit.cli.progress import duration
from mpaudit.errors import UsageError
from mpaudit.runtime import hardware, session
from mpaudit.runtime.plan import Options, plan
from mpaudit.runtime.protocol import Target
from mpaudit.runtime.session import Done, Ended, Session
from tests.runtime.fakes import dead
from tests.runtime.launching import heeds_interrupts

ROOT = Path(__file__).parents[2]
COUNTED = """
    import sys, torch
    print("arguments", sys.argv[1:])
    model = torch.nn.Linear(16, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(1000):
        optimizer.zero_grad()
        model(torch.randn(8, 16)).pow(2).mean().backward()
        optimizer.step()
"""


def start(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """`mpaudit profile` in a process; its temporary files lie in cwd/tmp."""
    (cwd / "tmp").mkdir(exist_ok=True)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(cwd / "tmp"), "MPAUDIT_DEBUG": "1"
    }  # fmt: skip
    command = [sys.executable, "-m", "mpaudit", "profile", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, text=True, cwd=cwd, env=environment, **streams)


def run(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=600)
    assert os.listdir(cwd / "tmp") == []
    return process.returncode, out, err


def script(folder: Path, text: str, name: str = "train.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


SHORT = ("--device", "cpu", "--warmup", "1", "--steps", "3")


def test_a_script_is_measured_and_its_options_are_its_own(tmp_path: Path) -> None:
    script(tmp_path, COUNTED)
    arguments = ("train.py", "--steps", "7", "--format", "x", "-m", "--", "--help")
    code, out, err = run(
        *SHORT, "--variants", "fp32", "--runs", "2", "--out", "kept", "--format", "json", *arguments, cwd=tmp_path
    )
    assert code == 0, err
    audit = from_json(out)
    assert audit == from_json((tmp_path / "kept" / "audit.json").read_bytes())
    assert audit.profile is not None
    assert audit.profile.command == arguments
    assert [run.run for run in audit.runs] == ["fp32-1", "fp32-2", "fp32-perturbed"]
    assert all(run.outcome == "bounded" and len(run.step_ms) == 3 and len(run.losses) >= 4 for run in audit.runs)
    assert {ceiling.variant for ceiling in audit.profile.ceilings} == {"fp32", "amp-bf16"}
    assert audit.environment["torch"]
    assert (tmp_path / "kept" / "fp32-1" / "result.json").exists()
    assert "fp32-1: made its 4 steps" in err and "the whole plan of 3 runs takes about" in err
    again = subprocess.run(
        [sys.executable, "-m", "mpaudit", "report", "kept/audit.json"],
        **{"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert again.stdout.startswith("train.py --steps 7 --format x -m -- --help · cpu (")


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (("-m", "package.train", "--lr", "1"), Target("module", "package.train", ("--lr", "1"))),
        (("train.py", "-m", "--runs", "9"), Target("script", "train.py", ("-m", "--runs", "9"))),
        (("book.ipynb",), Target("notebook", "book.ipynb")),
    ],
)
def test_what_is_run(
    arguments: tuple[str, ...], target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script, a module or a notebook, and what is its own on the command line. Launching them is tested elsewhere."""
    asked: list[Options] = []

    def carry_out(options: Options, *_: Any, **__: Any) -> Session:
        asked.append(options)
        return Session(options, 0)

    monkeypatch.setattr(hardware, "probe", lambda device: hardware.Hardware("2.13.0", "cpu", "a CPU", 2))
    monkeypatch.setattr(session, "carry_out", carry_out)
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "book.ipynb"):
        script(tmp_path, "", name)
    assert profile.command.main([*SHORT, "--runs", "1", *arguments], standalone_mode=False) == 1
    (options,) = asked
    assert (options.target, options.warmup, options.steps, options.rounds) == (target, 1, 3, 1)


def test_a_script_that_fails_exits_with_1(tmp_path: Path) -> None:
    script(tmp_path, "import torch\nraise ValueError('no data')\n")
    code, out, _ = run(*SHORT, "--variants", "fp32", "train.py", cwd=tmp_path)
    assert code == 1
    assert "nothing could be measured" in out
    assert "raised ValueError: no data at train.py:2 after 0 of 4 steps" in " ".join(out.split())
    assert "  | ValueError: no data\n" in out


def hanging(tmp_path: Path, *arguments: str, **options: Any) -> tuple[subprocess.Popen[str], int]:
    """A plan of three runs whose second hangs, and the process that does."""
    slow = "import os, time\nopen(f'started-{os.getpid()}', 'w').close()\ntime.sleep(600)\n"
    # the second run hangs: the first leaves a mark
    script(
        tmp_path,
        "import os\nif os.path.exists('first'):\n" + textwrap.indent(slow, "    ")
        + "open('first', 'w').close()\n" + textwrap.dedent(COUNTED),
    )  # fmt: skip
    process = start(
        *SHORT, "--allow-writes", "--variants", "fp32", "--runs", "2", *arguments, "train.py",
        cwd=tmp_path, start_new_session=True, **options,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (marks := list(tmp_path.glob("started-*"))):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    return process, int(marks[0].name.rpartition("-")[2])


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_keeps_what_was_measured_and_leaves_no_process(tmp_path: Path, ended: signal.Signals) -> None:
    process, child = hanging(tmp_path, "--out", "kept", preexec_fn=heeds_interrupts)
    os.killpg(process.pid, ended)
    if ended != signal.SIGINT:  # as `timeout` sends it: to the process, and to its group
        os.killpg(process.pid, ended)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + ended, err
    assert "interrupted after 1 of 3 runs" in out
    audit = from_json((tmp_path / "kept" / "audit.json").read_bytes())
    assert [run.run for run in audit.runs] == ["fp32-1"]
    assert os.listdir(tmp_path / "tmp") == []
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_terminal_that_goes_away_takes_nothing_with_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def takes_the_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process, child = hanging(tmp_path, "--out", "kept", stdout=theirs, stderr=theirs, preexec_fn=takes_the_terminal)
    os.close(theirs)
    os.close(ours)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    audit = from_json((tmp_path / "kept" / "audit.json").read_bytes())
    assert audit.profile is not None and audit.profile.interrupted
    assert os.listdir(tmp_path / "tmp") == []
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_hangup_that_is_ignored_on_entry_stays_so(tmp_path: Path) -> None:
    process, child = hanging(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    os.kill(child, 0)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_signal_before_the_first_run_leaves_nothing(tmp_path: Path) -> None:
    """The device is asked in a process of its own."""
    script(tmp_path, COUNTED)
    process = start(*SHORT, "train.py", cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(os.listdir(tmp_path / "tmp")) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.strip() == "mpaudit: interrupted"
    assert os.listdir(tmp_path / "tmp") == []


def test_without_torch_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = script(tmp_path, COUNTED)
    monkeypatch.setattr(profile, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as refused:
        profile.command.main([str(path)], standalone_mode=False)
    assert str(refused.value) == "`mpaudit profile` needs torch: python -m pip install 'mpaudit[profile]'"


def test_the_parent_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from mpaudit.cli import profile, progress, report\n"
        "from mpaudit.runtime import compare, hardware, launch, plan, session\n"
        "assert 'torch' not in sys.modules and 'rich' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--variants", "fp32,amp-bf17", "train.py"],
            "--variants: 'amp-bf17' is none of fp32, tf32, amp-bf16, amp-fp16",
        ),
        (["--variants", ",", "train.py"], "--variants: name some of fp32, tf32, amp-bf16, amp-fp16"),
        (["missing.py"], "missing.py: there is no such file"),
        (["--out", "full", "train.py"], "full: the folder is not empty"),
        (["--out", "train.py", "train.py"], "train.py: File exists"),
    ],
)
def test_refusals(arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, COUNTED)
    script(tmp_path, "", "full/notes.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        profile.command.main(arguments, standalone_mode=False)
    assert str(refused.value).startswith(says)


def test_fp16_on_a_cpu_is_refused_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "probe", lambda device: hardware.Hardware("2.13.0", "cpu", "a CPU", 2))
    path = script(tmp_path, COUNTED)
    with pytest.raises(UsageError) as refused:
        profile.command.main(["--device", "cpu", "--variants", "amp-fp16", str(path)], standalone_mode=False)
    assert str(refused.value) == (
        "amp-fp16: fp16 on a CPU is about a hundred times slower than fp32: its times would say nothing"
    )


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("it may be there")
    script(tmp_path, COUNTED)
    code, _, err = run("--device", "mps", "train.py", cwd=tmp_path)
    assert code == 2 and "sees no mps device here; it sees:" in err


def test_report_refuses_what_is_no_audit(tmp_path: Path) -> None:
    from mpaudit.cli import report

    for text, says in (("{}", "this is not an audit"), (None, "No such file")):
        path = tmp_path / "audit.json"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(UsageError, match=says):
            report.command.main([str(path)], standalone_mode=False)


def test_report_shows_findings_too(tmp_path: Path) -> None:
    project = ROOT / "sample_projects" / "char_gpt_wrapper"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def mpaudit(*arguments: str) -> str:
        command = [sys.executable, "-m", "mpaudit", *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True).stdout

    audit = mpaudit("lint", "--no-cache", "--format", "json")
    (tmp_path / "audit.json").write_text(audit)
    assert mpaudit("report", str(tmp_path / "audit.json")) == mpaudit("lint", "--no-cache")
    assert json.loads(mpaudit("report", "--format", "json", str(tmp_path / "audit.json"))) == json.loads(audit)
    assert isinstance(from_json(audit), Audit)


def test_a_terminal_shows_the_run_the_step_and_the_time_left(tmp_path: Path) -> None:
    script(tmp_path, COUNTED.replace("range(1000):", "range(1000):\n        import time; time.sleep(0.4)"))
    ours, theirs = pty.openpty()
    arguments = ("--variants", "fp32", "--runs", "2", "--format", "json", "train.py")
    with start(*SHORT, *arguments, cwd=tmp_path, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a terminal is an input/output error
            while piece := os.read(ours, 65536):
                shown += piece
        os.close(ours)
        out, _ = process.communicate(timeout=600)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert process.returncode == 0 and json.loads(out), text
    assert "run 1 of 3: fp32-1 " in text and re.search(r"run 2 of 3: fp32-2, \d+ s left", text), text
    assert {f"step {number} of 4" for number in (2, 3)} <= set(re.findall(r"step \d of \d", text))
    assert "the whole plan of 3 runs takes about" in text
    # what stays when the bar is gone is a line for each run
    assert re.findall(r"(fp32-\w+): made its 4 steps in \d+ s", text) == ["fp32-1", "fp32-2", "fp32-perturbed"]


def test_progress_names_files_as_the_report_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (planned, *_) = plan(Options(Target("script", "train.py"), "cpu", "/out"), ("fp32",))
    failed = dead(planned.plan, "exception", f"raised ValueError: bad at {Path.cwd() / 'lib' / 'net.py'}:3")
    said: list[str] = []
    progress.plain(said.append)(Ended(Done(planned, failed), 0.0))
    assert said == ["fp32-1: raised ValueError: bad at lib/net.py:3 in 1 s"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


BATCHED = COUNTED.replace("model =", "size = int(sys.argv[2])\n    model =").replace("randn(8,", "randn(size,")


def test_how_large_a_batch_fits_is_tried_and_kept_in_the_document(tmp_path: Path) -> None:
    script(tmp_path, BATCHED)
    once = (*SHORT, "--runs", "1", "--find-batch-size", "--out", "kept")
    code, out, err = run(*once, "train.py", "--batch-size", "32", cwd=tmp_path)
    assert code == 0, err
    assert "amp-bf16-batch-64: made its 2 steps" in err and "\nBatch size\n" in out
    assert "fits under amp-bf16 in what fp32 holds with 32 (--batch-size, as given)" in " ".join(out.split())
    profile = from_json((tmp_path / "kept" / "audit.json").read_bytes()).profile
    assert profile is not None and profile.batch_search is not None
    found = profile.batch_search
    assert found.limit_bytes is not None and found.largest is not None and 32 < found.largest <= 64
    # a run that tries a batch is no run of the plan: none of its times counts
    assert not any("batch" in name for name in (variant.variant for variant in profile.variants))


def test_a_script_without_a_batch_size_is_told_in_a_sentence(tmp_path: Path) -> None:
    script(tmp_path, COUNTED)
    code, out, err = run(*SHORT, "--runs", "1", "--find-batch-size", "train.py", cwd=tmp_path)
    assert code == 0 and "--find-batch-size: train.py has no argument for its batch size" in err
    assert "Not tried: train.py has no argument for its batch size that could be found" in " ".join(out.split())
