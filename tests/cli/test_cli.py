"""The commands, with a stand-in for the analysis: options, exit codes, and what is said where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpaudit import __version__, cli
from mpaudit.audit import Audit, assemble, from_json
from mpaudit.model import Confidence, Finding, Location, Severity
from mpaudit.settings import Settings

Run = Callable[..., tuple[int, str, str]]
FINDING = ("MPA205", "clip-before-unscale")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `lint` was called with; it finds one error in train.py, or raises what is put in front."""
    seen: list[dict[str, Any]] = []

    def lint(paths: tuple[str, ...], settings: Settings, *, cwd: Path, **options: Any) -> Audit:
        seen.append({"paths": paths, "settings": settings, "cwd": cwd, **options})
        if isinstance(seen[0], Exception):
            raise seen[0]
        place = Location(str(cwd / "train.py"), 1, 1, 1, 5)
        found = [Finding(*FINDING, Severity.WARNING, Confidence.LIKELY, place, "clips too early", "unscale first")]
        counts = {"files": 1, "analysed": 1, "without_precision_code": 0, "suppressed": 0}
        return assemble(found, [], settings, cwd=cwd, lines=lambda path: ["clip()"], **counts)

    module = types.ModuleType("mpaudit.static.run")
    module.lint = lint  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mpaudit.static.run", module)
    return seen


@pytest.fixture
def mpaudit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "train.py").write_text("clip()\n")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main(arguments)
        out, err = capsys.readouterr()
        code = exit_.value.code
        assert isinstance(code, int)
        return code, out, err

    return run


# -------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(("fail_on", "code"), [("error", 0), ("warning", 1), ("info", 1), ("never", 0)])
def test_fail_on(mpaudit: Run, calls: list[Any], fail_on: str, code: int) -> None:
    assert mpaudit("lint", "--fail-on", fail_on)[0] == code


def test_errors_fail_by_default_and_warnings_do_not(mpaudit: Run, calls: list[Any]) -> None:
    code, out, err = mpaudit("lint")
    assert (code, err) == (0, "")
    assert "train.py:1:1 MPA205 clip-before-unscale [warning, likely]\n    1 | clip()\n" in out


def test_fail_on_of_the_settings_file(mpaudit: Run, calls: list[Any], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.mpaudit]\nfail-on = "warning"\n')
    assert mpaudit("lint")[0] == 1
    assert mpaudit("lint", "--fail-on", "error")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lint", "--select", "MPA999"], "mpaudit: no rule matches 'MPA999'"),
        (["lint", "--select", ""], "mpaudit: no rule matches ''"),
        (["lint", "--config", "no.toml"], "mpaudit: no.toml: No such file or directory"),
        (["lint", "--fail-on", "fatal"], "Invalid value for '--fail-on'"),
        (["lint", "--format", "xml"], "Invalid value for '--format'"),
        (["lint", "--jobs", "-1"], "Invalid value for '--jobs'"),
        (["lint", "--frmat", "json"], "No such option"),
        (["lint", "--output", "no/such/folder/file"], "mpaudit: no/such/folder/file: No such file or directory"),
        (["lint", "--output", "."], "mpaudit: .: "),
        (["lint", "--show-files", "nowhere"], "mpaudit: there is no file or folder 'nowhere'"),
        (["lnt"], "No such command 'lnt'"),
        (["rule"], "mpaudit: name one rule, or give --all"),
        (["rule", "--all", "MPA205"], "mpaudit: name one rule, or give --all"),
        (["rule", "clip-before-unscaled"], "did you mean 'clip-before-unscale'?"),
    ],
)
def test_mistakes_exit_with_2(mpaudit: Run, calls: list[Any], arguments: list[str], message: str) -> None:
    code, out, err = mpaudit(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_bad_settings_exit_with_2(mpaudit: Run, calls: list[Any], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.mpaudit]\nfail_on = 'error'\n")
    code, out, err = mpaudit("lint")
    assert (code, out, calls) == (2, "", [])
    assert err == f"mpaudit: {tmp_path / 'pyproject.toml'}: unknown key 'fail_on'; did you mean 'fail-on'?\n"


@pytest.mark.parametrize(
    "error", [ValueError("of\nours"), RecursionError("of ours"), MemoryError("of ours"), AssertionError("of ours")]
)
def test_an_internal_error_is_one_sentence(
    mpaudit: Run, calls: list[Any], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPAUDIT_DEBUG", raising=False)
    calls.append(error)
    code, out, err = mpaudit("lint")
    assert (code, out) == (2, "")
    assert err == f"mpaudit: internal error: {type(error).__name__}: of ours (MPAUDIT_DEBUG=1 shows the traceback)\n"


def test_the_traceback_is_there_for_who_asks(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPAUDIT_DEBUG", "1")
    calls.append(ValueError("of ours"))
    with pytest.raises(ValueError, match="of ours"):
        cli.main(["lint"])


def test_an_interrupt(mpaudit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.app, "main", interrupt)
    assert mpaudit("lint") == (130, "", "mpaudit: interrupted\n")


# -------------------------------------------------------------------- options


def test_options_reach_the_analysis(mpaudit: Run, calls: list[Any], tmp_path: Path) -> None:
    codes = ["--select", "MPA2,MPA101", "--select", "missing-autocast", "--ignore", "MPA203"]
    thresholds = ["--min-severity", "info", "--min-confidence", "possible"]
    mpaudit("lint", "a", "b.py", *codes, *thresholds, "--jobs", "3", "--no-cache", "--cache-dir", "c")
    [call] = calls
    assert call["paths"] == ("a", "b.py")
    assert call["cwd"] == tmp_path
    assert (call["jobs"], call["use_cache"], call["cache_dir"]) == (3, False, Path("c"))
    settings = call["settings"]
    assert "MPA205" in settings.codes
    assert "MPA101" in settings.codes
    assert not {"MPA203", "MPA301"} & set(settings.codes)
    assert (settings.min_severity, settings.min_confidence) == ("info", "possible")


def test_defaults(mpaudit: Run, calls: list[Any], tmp_path: Path) -> None:
    mpaudit("lint")
    [call] = calls
    assert (call["paths"], call["jobs"], call["use_cache"], call["cache_dir"]) == ((), 0, True, None)
    assert call["settings"] == Settings(root=str(tmp_path), codes=call["settings"].codes)


def test_every_option_is_of_the_issue() -> None:
    from mpaudit.cli.lint import command

    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert options == {
        "--config", "--select", "--ignore", "--extend-select", "--min-severity", "--min-confidence", "--fail-on",
        "--format", "--output", "--statistics", "--jobs", "--no-cache", "--cache-dir", "--show-files",
        "--show-settings", "--strict",
    }  # fmt: skip


def test_json(mpaudit: Run, calls: list[Any]) -> None:
    code, out, _ = mpaudit("lint", "--format", "json", "--fail-on", "warning")
    assert code == 1
    assert [(entry.code, entry.path) for entry in from_json(out).findings] == [("MPA205", "train.py")]


def test_concise_and_statistics(mpaudit: Run, calls: list[Any]) -> None:
    assert mpaudit("lint", "--format", "concise")[1] == (
        "train.py:1:1: MPA205 clip-before-unscale [warning, likely] clips too early\n"
    )
    assert "1  MPA205  clip-before-unscale  warning" in mpaudit("lint", "--statistics")[1]


def test_output_is_whole_or_untouched(
    mpaudit: Run, calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "audit.json"
    assert mpaudit("lint", "--format", "json", "--output", "audit.json")[:2] == (0, "")
    first = target.read_text()
    assert from_json(first).summary.findings == 1

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert mpaudit("lint", "--output", "audit.json") == (2, "", "mpaudit: audit.json: No space left on device\n")
    assert target.read_text() == first
    assert sorted(os.listdir(tmp_path)) == ["audit.json", "train.py"]


def test_output_may_be_a_device(mpaudit: Run, calls: list[Any]) -> None:
    assert mpaudit("lint", "--output", os.devnull) == (0, "", "")
    assert not os.path.isfile(os.devnull)


def test_show_files(mpaudit: Run, calls: list[Any], tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "new\nline.py").write_text("")
    assert mpaudit("lint", "--show-files") == (0, "b/new\\nline.py\ntrain.py\n", "")
    assert mpaudit("lint", "--show-files", "train.py") == (0, "train.py\n", "")
    assert calls == []


def test_show_settings_can_be_used_as_settings(mpaudit: Run, calls: list[Any], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """[tool.mpaudit]
        select = ["MPA2"]
        target-torch = "2.3"
        severity = { MPA205 = "info" }
        per-file-ignores = { "tests/\\"x\\"/**" = ["MPA203"] }
        """
    )
    code, out, err = mpaudit("lint", "--show-settings")
    assert (code, err, calls) == (0, "", [])
    assert out.startswith("# pyproject.toml\n[tool.mpaudit]\n")
    (tmp_path / "pyproject.toml").write_text(out)
    assert mpaudit("lint", "--show-settings")[1] == out


# -------------------------------------------------------------------- rule


def test_rule(mpaudit: Run) -> None:
    code, out, err = mpaudit("rule", "MPA205")
    assert (code, err) == (0, "")
    assert out.startswith("# MPA205 clip-before-unscale\n")
    assert mpaudit("rule", "clip-before-unscale")[1] == out
    assert out.strip() in mpaudit("rule", "--all")[1]


def test_rule_as_json(mpaudit: Run) -> None:
    one = json.loads(mpaudit("rule", "MPA205", "--format", "json")[1])
    assert (one["code"], one["name"], one["severity"]) == ("MPA205", "clip-before-unscale", "error")
    assert one["markdown"].startswith("# MPA205")
    every = json.loads(mpaudit("rule", "--all", "--format", "json")[1])
    assert one in every
    assert [rule["code"] for rule in every] == sorted(rule["code"] for rule in every)


# ------------------------------------------------------------------ as a process


ROOT = Path(cli.__file__).parent.parent.parent


def python(*arguments: str, cwd: Path = ROOT / "rules", **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python process that can import mpaudit, from wherever it runs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment, check=True)


def test_version_and_help() -> None:
    assert python("-m", "mpaudit", "--version").stdout == f"mpaudit {__version__}\n"
    assert re.search(r"Commands:\n  lint +Report", python("-m", "mpaudit", "--help").stdout)


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        ("--version", {"libcst", "rich", "tabulate", "torch", "msgspec", "pathspec", "sqlite3", "tomllib"}),
        ("lint --show-settings", {"libcst", "rich", "tabulate", "torch", "pathspec", "sqlite3", "importlib.resources"}),
        ("lint --show-files .", {"libcst", "rich", "tabulate", "torch", "sqlite3"}),
        ("rule MPA205", {"libcst", "rich", "tabulate", "torch", "pathspec", "sqlite3"}),
    ],
)
def test_what_is_not_needed_is_not_imported(arguments: str, unwanted: set[str]) -> None:
    call = f"import sys; from mpaudit import cli\ntry: cli.main({arguments.split()!r})"
    done = python("-c", f"{call}\nfinally: print(*sys.modules, file=sys.stderr)")
    assert not unwanted & set(done.stderr.split())


def test_a_reader_that_leaves_early() -> None:
    command = [sys.executable, "-m", "mpaudit", "rule", "--all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("encoding", "shown"), [("latin-1", "\\u6f22.py\n"), ("ascii", "漢.py\n"), ("utf-8", "漢.py\n")]
)
def test_a_terminal_that_lacks_a_character(tmp_path: Path, encoding: str, shown: str) -> None:
    (tmp_path / "漢.py").write_text("")
    done = python("-m", "mpaudit", "lint", "--show-files", cwd=tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.stdout == shown
