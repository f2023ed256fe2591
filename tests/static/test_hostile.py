"""Strange files: each gives a line or a finding, none takes the run with it, every other file is still audited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.audit import Audit, from_json
from mpaudit.cli.lint import command
from mpaudit.gate import exit_code
from mpaudit.render import FORMATS, render
from mpaudit.settings import Settings
from mpaudit.static import answers, parsing, pool, sources, worker
from mpaudit.static.run import lint

ROOT = Path(rulebook.__file__).parent.parent
DEFECT = """import torch
from torch.cuda.amp import GradScaler


def train(model, loader, optimizer):
    scaler = GradScaler()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "good.py").write_text(DEFECT)
    return tmp_path


def audit(tree: Path, *paths: str, jobs: int = 1, use_cache: bool = False) -> Audit:
    settings = Settings(root=str(tree), codes=tuple(rulebook.headers()))
    return lint(paths or ["."], settings, cwd=tree, jobs=jobs, use_cache=use_cache)


def codes(audit: Audit, path: str) -> set[str]:
    return {finding.code for finding in audit.findings if finding.path == path}


def problem(audit: Audit, path: str) -> str:
    [message] = [error.message for error in audit.errors if error.path == path]
    return message


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + DEFECT.encode(),
        DEFECT.replace("\n", "\r\n").encode(),
        DEFECT.replace("\n", "\r").encode(),
        DEFECT.replace("\n\n", "\r\n\r").encode(),
        DEFECT.replace("\n\n\n", "\n\x0c\n").encode(),
        ("# -*- coding: latin-1 -*-\n# \xe9\n" + DEFECT).encode("latin-1"),
        (DEFECT + "    match = 漢 = 1\n").encode(),
        (DEFECT + f"    x = '{'y' * 1_000_000}'\n").encode(),
        (DEFECT.rstrip("\n")).encode(),
        (DEFECT + "type Pair[T] = tuple[T, T]\n").encode(),
    ],
    ids=[
        "bom",
        "crlf",
        "cr",
        "mixed",
        "form feed",
        "latin-1",
        "unicode",
        "megabyte line",
        "no newline",
        "newer syntax",
    ],
)
def test_unusual_files_are_audited(tree: Path, data: bytes) -> None:
    (tree / "bad.py").write_bytes(data)
    found = audit(tree)
    assert found.errors == ()
    assert codes(found, "bad.py") == codes(found, "good.py") >= {"MPA701"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DEFECT.encode() + b"# \xff\n", "bytes that are not valid utf-8"),
        (b"x = '\xff'\n", "bytes that are not valid utf-8"),
        (b"# coding: klingon\n" + DEFECT.encode(), "cannot decode the file: unknown encoding"),
        (DEFECT.encode() + b"\0", "source contains a null byte"),
        (DEFECT.encode("utf-16"), "source contains a null byte"),
        (bytes(range(256)) * 100, "source contains a null byte"),
        (b"\x7fELF\x02\x01\x01\0" * 1000, "source contains a null byte"),
        (DEFECT.encode() + b"x = 1\n" * 4_000_000, "too large to analyse (24.0 MB"),
        (f"{DEFECT}    x = {'(' * 150}{'+'.join('a' * 50_000)}{')' * 150}\n".encode(), "too complex to be analysed"),
        (f"{DEFECT}    x = {'['.join('a' * 190)}{']' * 189}\n    y = {'not ' * 5000}x\n".encode(), "too complex"),
    ],
    ids=["utf-8", "no trigger", "cookie", "null", "utf-16", "binary", "elf", "24 MB", "sum", "nesting"],
)
def test_what_cannot_be_audited_is_a_line_in_errors(tree: Path, data: bytes, message: str) -> None:
    (tree / "bad.py").write_bytes(data)
    found = audit(tree)
    assert message in problem(found, "bad.py")
    assert "MPA001" not in codes(found, "bad.py")
    assert "MPA701" in codes(found, "good.py")
    assert found.summary.files == found.summary.analysed + found.summary.without_precision_code + 1
    assert exit_code(found, None) == 0
    assert exit_code(found, None, strict=True) == 2


@pytest.mark.parametrize("text", [DEFECT + "    print 'x'\n", DEFECT + "def (:\n", DEFECT + "        x\n  y\n"])
def test_syntax_errors_are_findings(tree: Path, text: str) -> None:
    (tree / "bad.py").write_text(text)
    found = audit(tree)
    assert codes(found, "bad.py") == {"MPA001"}
    assert "MPA701" in codes(found, "good.py")
    assert found.errors == ()


def test_links_and_pipes(tree: Path) -> None:
    (tree / "broken.py").symlink_to("nowhere.py")
    (tree / "loop.py").symlink_to("loop.py")
    (tree / "again").symlink_to(tree)
    os.mkfifo(tree / "pipe.py")
    found = audit(tree)
    assert "broken link" in problem(found, "broken.py")
    assert problem(found, "loop.py")
    assert problem(found, "pipe.py") == "not a regular file"
    assert "MPA701" in codes(found, "good.py")


def test_unreadable_files_and_folders(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "secret.py").write_text(DEFECT)
    (tree / "closed").mkdir()
    real_open, real_scandir = os.open, os.scandir

    def denied(path: object) -> bool:
        return os.fspath(path).endswith(("secret.py", "closed"))  # type: ignore[call-overload, no-any-return]

    def open_(path: str, *arguments: int) -> int:
        if denied(path):
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *arguments)

    def scandir(path: str) -> object:
        if denied(path):
            raise PermissionError(13, "Permission denied", path)
        return real_scandir(path)

    monkeypatch.setattr(sources.os, "open", open_)
    monkeypatch.setattr(sources.os, "scandir", scandir)
    found = audit(tree)
    assert problem(found, "secret.py") == problem(found, "closed") == "Permission denied"
    assert "MPA701" in codes(found, "good.py")


NAMES = ["new\nline.py", "quo'te\".py", "<script>alert(1)<&script>.py", "\x1b[31mred.py", "\udcff.py", "漢.py", "-x.py"]


@pytest.mark.parametrize("format_", FORMATS)
def test_hostile_names(tree: Path, format_: str) -> None:
    for name in NAMES:
        (tree / name).write_text(DEFECT)
    found = audit(tree, use_cache=True)
    assert found == audit(tree, use_cache=True)
    assert len({finding.path for finding in found.findings}) == len(NAMES) + 1
    shown = render(found, format_, lines=lambda path: DEFECT.split("\n"), statistics=False, width=None)
    shown.encode()
    assert "\x1b" not in shown
    assert "new\nline" not in shown


def test_ten_thousand_empty_files(tree: Path) -> None:
    for folder in range(100):
        (tree / f"f{folder}").mkdir()
        for number in range(100):
            (tree / f"f{folder}" / f"e{number}.py").touch()
    found = audit(tree)
    assert found.summary.files == 10_001
    assert codes(found, "good.py") == {"MPA701"}


# ------------------------------------------------------------------- workers


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="no limits of processor time")


def test_a_parser_that_dies_costs_its_chunk(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "bad.py").write_text(DEFECT + "\n\nclass Poison:\n    state_dict = 1\n")
    monkeypatch.setattr(worker, "_BOOT", _booted("text and 'Poison' in text and os.kill(os.getpid(), 11)"))
    _share_everything(monkeypatch)
    found = audit(tree, jobs=2)
    assert problem(found, "bad.py") == "could not be analysed: the parser died"
    assert codes(found, "good.py") == codes(found, "bad.py") == {"MPA701"}


@pytest.mark.parametrize(
    ("poison", "limit", "patience"),
    [("time.sleep(1000)", 3.0, 1), pytest.param("sum(iter(lambda: 0, 1))", 1.0, 1000, marks=POSIX)],
    ids=["waits", "computes"],
)
def test_a_parser_that_hangs_is_stopped(
    tree: Path, monkeypatch: pytest.MonkeyPatch, poison: str, limit: float, patience: int
) -> None:
    (tree / "bad.py").write_text(DEFECT + "\n\nclass Poison:\n    state_dict = 1\n")
    monkeypatch.setattr(worker, "_BOOT", _booted(f"'Poison' in text and {poison}"))
    monkeypatch.setattr(parsing, "_LIMIT", limit)
    monkeypatch.setattr(worker, "PATIENCE", patience)
    _share_everything(monkeypatch)
    found = audit(tree, jobs=2)
    assert problem(found, "bad.py") == "could not be analysed: the parser took too long"
    assert codes(found, "good.py") == codes(found, "bad.py") == {"MPA701"}


def _booted(poison: str) -> str:
    """A worker whose LibCST stage does something first."""
    lines = [
        "import json, os, sys, time; sys.path[:] = json.loads(sys.argv[1])",
        "from mpaudit.static import parsing, worker",
        "real = parsing.lower_chunk",
        f"parsing.lower_chunk = lambda text: [{poison}] and real(text)",
        "worker.serve()",
    ]
    return "\n".join(lines)


def _share_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.Pool, "_pays", lambda self, task, weights: True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_internal_error_costs_one_component(tree: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    (tree / "bad.py").write_text(DEFECT + "    poison = 1\n")
    monkeypatch.delenv("MPAUDIT_DEBUG", raising=False)
    real = answers.answer

    def fails(question: answers.Question) -> tuple[answers.Stored, ...]:
        if question.parts[0].path == "bad.py":
            raise ValueError("of ours")
        return real(question)

    monkeypatch.setattr(answers, "answer", fails)
    found = audit(tree, jobs=jobs)
    assert problem(found, "bad.py") == (
        "internal error while analysing this file: ValueError: of ours; please report it"
    )
    assert codes(found, "good.py") == {"MPA701"}
    assert exit_code(found, None) == 2


# --------------------------------------------------------------------- caches


def test_a_cache_folder_that_cannot_be_made(tree: Path) -> None:
    expected = audit(tree)
    settings = Settings(root=str(tree), codes=tuple(rulebook.headers()))
    for place in (tree / "good.py", Path("/dev/null/cache")):
        assert lint(["."], settings, cwd=tree, cache_dir=place) == expected


def test_runs_that_are_killed_leave_a_cache_that_is_right(tree: Path) -> None:
    for number in range(40):
        (tree / f"m{number}.py").write_text(DEFECT.replace("train", f"train{number}"))
    expected = audit(tree)
    line = [sys.executable, "-m", "mpaudit", "lint", "--format", "json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for delay in (0.2, 0.4, 0.6, 0.8):
        with subprocess.Popen(line, cwd=tree, env=environment, stdout=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(line, cwd=tree, env=environment, capture_output=True, check=False, timeout=120)
    assert from_json(done.stdout).findings == expected.findings


def test_strict_is_an_option() -> None:
    assert "strict" in {parameter.name for parameter in command.params}
