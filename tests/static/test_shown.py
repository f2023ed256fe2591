"""What of the findings the user sees."""

from __future__ import annotations

import pytest

from mpaudit.model import Confidence, Finding, Location, Severity
from mpaudit.settings import Settings
from mpaudit.static.shown import Shown, shown

SOURCE = "clip()\nclip()  # noqa: MPA205\nclip()  # mpaudit: ignore[double-unscale]\n"


def finding(
    code: str = "MPA205", severity: str = "error", confidence: str = "likely", path: str = "/p/train.py", line: int = 1
) -> Finding:
    place = Location(path, line, 1, line, 5)
    return Finding(code, "some-name", Severity(severity), Confidence(confidence), place, "message")


def see(*findings: Finding, **settings: object) -> Shown:
    settings.setdefault("codes", ("MPA205", "MPA206"))
    return shown(findings, Settings(root="/p", **settings), lambda path: SOURCE)  # type: ignore[arg-type]


def test_only_what_is_selected() -> None:
    assert see(finding("MPA205"), finding("MPA301")) == Shown((finding("MPA205"),), 0)


@pytest.mark.parametrize(
    ("severity", "confidence", "settings", "seen"),
    [
        ("error", "likely", {}, True),
        ("warning", "definite", {}, True),
        ("info", "definite", {}, False),
        ("error", "possible", {}, False),
        ("info", "definite", {"min_severity": Severity.INFO}, True),
        ("error", "possible", {"min_confidence": Confidence.POSSIBLE}, True),
        ("warning", "definite", {"min_severity": Severity.ERROR}, False),
        ("error", "likely", {"min_confidence": Confidence.DEFINITE}, False),
    ],
)
def test_thresholds(severity: str, confidence: str, settings: dict[str, object], seen: bool) -> None:
    assert len(see(finding("MPA205", severity, confidence), **settings).findings) == seen


def test_severity_of_the_settings_comes_before_the_threshold() -> None:
    raised = see(finding(severity="info"), severity=(("MPA205", Severity.ERROR),))
    assert [entry.severity for entry in raised.findings] == [Severity.ERROR]
    assert see(finding(), severity=(("MPA205", Severity.INFO),)).findings == ()


@pytest.mark.parametrize(
    ("pattern", "path", "seen"),
    [
        ("train.py", "/p/train.py", False),
        ("train.py", "/p/a/b/train.py", False),
        ("/train.py", "/p/a/train.py", True),
        ("a/*.py", "/p/a/train.py", False),
        ("a/**", "/p/a/b/train.py", False),
        ("a/", "/p/a/b/train.py", False),
        ("b", "/p/a/train.py", True),
        ("*.py", "/elsewhere/train.py", True),
    ],
)
def test_per_file_ignores(pattern: str, path: str, seen: bool) -> None:
    assert len(see(finding(path=path), per_file_ignores=((pattern, ("MPA2",)),)).findings) == seen
    assert len(see(finding(path=path), per_file_ignores=((pattern, ("MPA3", "MPA206")),)).findings) == 1


def test_comments_hide_and_are_counted() -> None:
    assert see(*(finding(line=line) for line in (1, 2, 3))) == Shown((finding(line=1), finding(line=3)), 1)


def test_what_is_not_shown_anyway_is_not_counted_as_suppressed() -> None:
    assert see(finding(line=2, severity="info"), finding("MPA301", line=2)) == Shown((), 0)


def test_files_without_findings_are_not_read() -> None:
    read: list[str] = []

    def text(path: str) -> str:
        read.append(path)
        return SOURCE

    findings = [finding(), finding(line=3), finding(severity="info", path="/p/other.py")]
    shown(findings, Settings(root="/p", codes=("MPA205",)), text)
    assert read == ["/p/train.py"]
