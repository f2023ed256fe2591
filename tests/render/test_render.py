"""The formats: what people and programs read, and that no name in it is obeyed by a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit.audit import Audit, assemble, from_json
from mpaudit.model import Confidence, Finding, Location, Problem, Related, Severity
from mpaudit.render import FORMATS, escaped, render
from mpaudit.settings import Settings

CWD = Path("/project")
SOURCE = [
    "import torch",
    "",
    "    clip_grad_norm_(model.parameters(), 1.0)",
    "\tscaler.step(optimizer)",
    "x = '漢字'; scaler.update()",
    "scaler.step(",
    "    optimizer)",
]


def finding(line: int, column: int, end: int, code: str = "MPA205", **fields: object) -> Finding:
    values = {
        "name": "clip-before-unscale",
        "severity": Severity.ERROR,
        "confidence": Confidence.LIKELY,
        "message": "clips gradients that are still multiplied by the loss scale",
        "remedy": "call scaler.unscale_(optimizer) before it",
    } | fields
    location = values.pop("location", Location("/project/train.py", line, column, line, end))
    return Finding(code=code, location=location, **values)  # type: ignore[arg-type]


def audit(*findings: Finding, errors: tuple[Problem, ...] = (), source: list[str] = SOURCE, **counts: int) -> Audit:
    numbers = {"files": 1216, "analysed": 12, "without_precision_code": 1204, "suppressed": 0} | counts
    settings = Settings(root="/project")
    return assemble(findings, errors, settings, cwd=CWD, lines=lambda path: source, **numbers)


def text(document: Audit, source: list[str] = SOURCE, width: int | None = None) -> str:
    return render(document, "text", lines=lambda path: source if path == "train.py" else (), width=width)


def test_text() -> None:
    related = (Related(Location("/project/engine.py", 8, 9, 8, 10), "the gradients are scaled here"),)
    document = audit(
        finding(3, 5, 45, related=related),
        finding(
            6,
            1,
            0,
            "MPA204",
            location=Location("/project/train.py", 6, 1, 7, 15),
            name="n",
            severity=Severity.WARNING,
            remedy="",
        ),
        finding(1, 1, 2, location=Location("/gone.py", 1, 1, 1, 2)),
        errors=(
            Problem("/project/bad.py", 0, "Permission denied"),
            Problem("/project/deep.py", 3, "nested too deeply"),
        ),
        suppressed=1,
    )
    assert (
        text(document)
        == """\
/gone.py:1:1 MPA205 clip-before-unscale [error, likely]
  clips gradients that are still multiplied by the loss scale
  help: call scaler.unscale_(optimizer) before it

train.py:3:5 MPA205 clip-before-unscale [error, likely]
    3 | clip_grad_norm_(model.parameters(), 1.0)
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  clips gradients that are still multiplied by the loss scale
  help: call scaler.unscale_(optimizer) before it
  note: engine.py:8:9: the gradients are scaled here

train.py:6:1 MPA204 n [warning, likely]
    6 | scaler.step(
      | ^^^^^^^^^^^^
  clips gradients that are still multiplied by the loss scale

bad.py not audited: Permission denied
deep.py:3 not audited: nested too deeply

2 errors, 1 warning in 12 files (1,204 files without precision code, 1 finding suppressed, 2 not audited)
"""
    )


def test_text_without_findings() -> None:
    assert text(audit()) == "no findings in 12 files (1,204 files without precision code)\n"
    assert text(audit(analysed=1, without_precision_code=0)) == "no findings in 1 file\n"
    assert text(audit(without_precision_code=1)) == "no findings in 12 files (1 file without precision code)\n"


@pytest.mark.parametrize(
    ("line", "column", "end", "shown", "carets"),
    [
        (4, 2, 24, "scaler.step(optimizer)", "^^^^^^^^^^^^^^^^^^^^^^"),
        (4, 14, 23, "scaler.step(optimizer)", "            ^^^^^^^^^"),
        (5, 11, 26, "x = '漢字'; scaler.update()", "            ^^^^^^^^^^^^^^^"),
        (5, 5, 9, "x = '漢字'; scaler.update()", "    ^^^^^^"),
        (1, 1, 1, "import torch", "^"),
        (1, 13, 14, "import torch", "            ^"),
        (1, 99, 120, "import torch", "            ^"),
        (2, 1, 5, "", "^"),
    ],
)
def test_carets_stand_under_the_columns(line: int, column: int, end: int, shown: str, carets: str) -> None:
    rows = text(audit(finding(line, column, end))).splitlines()
    assert rows[1].partition("| ")[2] == shown
    assert rows[2].partition("| ")[2] == carets


def test_a_line_of_a_megabyte_is_cut_around_the_finding() -> None:
    source = ["a" * 500_000 + "clip()" + "b" * 500_000]
    rows = text(audit(finding(1, 500_001, 500_007), source=source), source).splitlines()
    shown, carets = rows[1].partition("| ")[2], rows[2].partition("| ")[2]
    assert len(shown) < 200
    assert (shown[0], shown[-1]) == ("…", "…")
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "clip()"


def test_a_finding_longer_than_the_window() -> None:
    source = ["x(" + "a, " * 400 + ")"]
    rows = text(audit(finding(1, 1, 1204), source=source), source).splitlines()
    assert len(rows[2]) <= len(rows[1]) < 200


def test_concise() -> None:
    document = audit(finding(3, 5, 45), errors=(Problem("/project/bad.py", 0, "Permission denied"),))
    assert render(document, "concise", lines=lambda path: ()) == (
        "train.py:3:5: MPA205 clip-before-unscale [error, likely] "
        "clips gradients that are still multiplied by the loss scale\n"
        "bad.py:1:1: not audited: Permission denied\n"
    )


@pytest.mark.parametrize("form", ["text", "concise"])
def test_statistics(form: str) -> None:
    document = audit(finding(1, 1, 2), finding(3, 1, 2), finding(4, 1, 2, "MPA101", name="missing-autocast"))
    rows = render(document, form, lines=lambda path: (), statistics=True).splitlines()
    assert [row.split() for row in rows[2:4]] == [
        ["2", "MPA205", "clip-before-unscale", "error"],
        ["1", "MPA101", "missing-autocast", "error"],
    ]
    assert rows[-1] == "3 errors in 12 files (1,204 files without precision code)"
    assert render(audit(), form, lines=lambda path: (), statistics=True).startswith("no findings in 12 files")


def test_json_has_the_counts_anyway() -> None:
    document = audit(finding(1, 1, 2))
    assert from_json(render(document, "json", lines=lambda path: (), statistics=True)) == document


HOSTILE = "a\x7f\U000e0001\nb\r\x1b[31m\x9b0m\x07\u202e\u2028\x00'\"<script>`|\\.py"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("statistics", [False, True])
def test_hostile_names(form: str, statistics: bool) -> None:
    path = f"/project/{HOSTILE}"
    related = (Related(Location(path, 1, 1, 1, 2), HOSTILE),)
    hostile = finding(1, 1, 9, location=Location(path, 1, 1, 1, 9), message=HOSTILE, remedy=HOSTILE, related=related)
    document = audit(hostile, errors=(Problem(path, 2, HOSTILE),), source=[HOSTILE])
    shown = render(document, form, lines=lambda path: [HOSTILE], statistics=statistics)
    assert all(char.isprintable() or char == "\n" for char in shown)
    if form == "json":
        assert from_json(shown) == document
    elif form == "concise" and not statistics:
        assert shown.count("\n") == 2


@pytest.mark.parametrize("width", [1, 40, 72, 100, 300])
def test_in_colour_it_says_the_same(width: int) -> None:
    document = audit(
        finding(3, 5, 45, message="one two three " * 20), errors=(Problem("/project/a[b].py", 0, "[red]x[/red]"),)
    )
    coloured = text(document, width=width)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert bare != coloured
    assert bare.split() == text(document).split()
    assert max(len(row) for row in bare.splitlines() if "three" in row) <= max(min(width, 100), 40)


@given(st.text(max_size=80), st.integers(1, 90), st.integers(1, 90), st.integers(0, 2))
def test_any_line_and_any_span(line: str, column: int, end: int, more: int) -> None:
    place = Location("/project/train.py", 1, column, 1 + more, end)
    shown = text(audit(finding(1, 1, 1, location=place), source=[line]), [line])
    rows = shown.split("\n")
    assert set(rows[2].partition("| ")[2]) <= {" ", "^"}
    assert "^" in rows[2]


@given(st.text())
def test_escaped_is_printable_and_leaves_the_printable_alone(value: str) -> None:
    assert escaped(value).isprintable()
    assert escaped(value) == value or not value.isprintable()
