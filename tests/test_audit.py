"""The document: its exact form, its paths, its fingerprints, its way through JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit import __version__
from mpaudit.audit import SCHEMA_VERSION, Audit, AuditError, assemble, effective, from_json, relative, to_json
from mpaudit.gate import exit_code
from mpaudit.model import Confidence, Finding, Location, Problem, Related, Severity
from mpaudit.settings import Settings

CWD = Path("/work dir/project")
SOURCE = ["import torch", "clip(a)", "", "clip(a)", "  clip( a )"]


def finding(
    line: int = 2,
    path: str = "/work dir/project/src/train.py",
    code: str = "MPA205",
    severity: Severity = Severity.ERROR,
    **fields: object,
) -> Finding:
    given = {"confidence": Confidence.LIKELY, "message": "clips too early", "remedy": "unscale first"} | fields
    return Finding(code, "a-name", severity, location=Location(path, line, 1, line, 8), **given)  # type: ignore[arg-type]


def audit(
    *findings: Finding, errors: tuple[Problem, ...] = (), source: list[str] = SOURCE, **settings: object
) -> Audit:
    return assemble(
        findings,
        errors,
        Settings(root=str(CWD), **settings),  # type: ignore[arg-type]
        cwd=CWD,
        lines=lambda path: source,
        files=9,
        analysed=3,
        without_precision_code=5,
        suppressed=1,
    )


def test_the_json_document() -> None:
    related = (
        Related(Location("/elsewhere/engine.py", 7, 5, 7, 9), "created here"),
        Related(Location("/work dir/project/src/train.py", 1, 2, 1, 3), "scaled here"),
    )
    document = audit(
        finding(related=related),
        errors=(Problem("/work dir/project/b.py", 0, "unreadable"), Problem("/work dir/project/a.py", 4, "too deep")),
        codes=("MPA205",),
        exclude=("old",),
        severity=(("MPA205", Severity.INFO),),
        per_file_ignores=(("tests/", ("MPA1",)),),
        target_torch=(2, 3),
        file="/work dir/project/pyproject.toml",
        fail_on=None,
    )
    decoded = json.loads(to_json(document))
    fingerprint = decoded["findings"][0].pop("fingerprint")
    assert len(bytes.fromhex(fingerprint)) == 16
    assert decoded == {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "mpaudit", "version": __version__},
        "settings": {
            "config": "pyproject.toml",
            "select": ["MPA205"],
            "per-file-ignores": {"tests/": ["MPA1"]},
            "exclude": ["old"],
            "severity": {"MPA205": "info"},
            "min-severity": "warning",
            "min-confidence": "likely",
            "fail-on": "never",
            "target-torch": "2.3",
            "target-device": None,
        },
        "findings": [
            {
                "code": "MPA205",
                "name": "a-name",
                "severity": "error",
                "confidence": "likely",
                "path": "src/train.py",
                "line": 2,
                "column": 1,
                "end_line": 2,
                "end_column": 8,
                "cell": None,
                "message": "clips too early",
                "remedy": "unscale first",
                "related": [
                    {"path": "src/train.py", "line": 1, "column": 2, "message": "scaled here"},
                    {"path": "/elsewhere/engine.py", "line": 7, "column": 5, "message": "created here"},
                ],
                "fix": None,
            }
        ],
        "errors": [
            {"path": "a.py", "line": 4, "message": "too deep"},
            {"path": "b.py", "line": None, "message": "unreadable"},
        ],
        "summary": {
            "files": 9,
            "analysed": 3,
            "without_precision_code": 5,
            "findings": 1,
            "errors": 2,
            "by_severity": {"error": 1, "warning": 0, "info": 0},
            "by_code": {"MPA205": 1},
            "suppressed": 1,
        },
        "environment": {},
        "profile": None,
        "runs": [],
        "comparisons": [],
        "evidence": None,
    }


def test_an_audit_from_before_there_were_runs_can_be_read() -> None:
    old = json.loads(to_json(audit(finding())))
    for key in ("environment", "profile", "runs", "comparisons"):
        del old[key]
    assert from_json(json.dumps(old)) == audit(finding())


def test_there_and_back() -> None:
    document = audit(
        finding(), finding(4, related=(Related(Location("/x.py", 1, 1, 1, 2), "m"),)), errors=(Problem("/y", 0, "z"),)
    )
    assert from_json(to_json(document)) == document
    assert to_json(document).endswith(b"}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"schema_version": 1}',
        '{"schema_version": "1"}',
        "\x00",
        '{"schema_version": 1, "tool": 3}',
    ],
)
def test_what_is_no_audit(text: str) -> None:
    with pytest.raises(AuditError, match="this is not an audit"):
        from_json(text)


def test_an_audit_of_another_schema() -> None:
    with pytest.raises(AuditError, match=f"schema version 99; this mpaudit reads {SCHEMA_VERSION}"):
        from_json('{"schema_version": 99, "whatever": 1}')


def test_findings_are_in_the_order_of_their_places() -> None:
    findings = [finding(4), finding(2, code="MPA206"), finding(2), finding(9, path="/work dir/project/a.py")]
    expected = audit(*findings)
    assert [(entry.path, entry.line, entry.code) for entry in expected.findings] == [
        ("a.py", 9, "MPA205"),
        ("src/train.py", 2, "MPA205"),
        ("src/train.py", 2, "MPA206"),
        ("src/train.py", 4, "MPA205"),
    ]
    assert audit(*reversed(findings)) == expected


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/work dir/project/a.py", "a.py"),
        ("/work dir/project/a/b.py", "a/b.py"),
        ("/work dir/project", "/work dir/project"),
        ("/work dir/projects/a.py", "/work dir/projects/a.py"),
        ("/other/a.py", "/other/a.py"),
        (os.fsdecode(b"/work dir/project/\xff\xc3\xa9.py"), "\\xffé.py"),
    ],
)
def test_paths(path: str, shown: str) -> None:
    assert relative(path, CWD) == shown


def test_any_path_survives_json() -> None:
    name = os.fsdecode(b"/work dir/project/\n\xff\"'<script>\x1b[31m.py")
    document = audit(finding(path=name), errors=(Problem(name, 0, "unreadable"),))
    assert from_json(to_json(document)) == document


def test_the_root_as_working_directory() -> None:
    assert relative("/a/b.py", Path("/")) == "a/b.py"


# ------------------------------------------------------------------ fingerprints


def prints(document: Audit) -> list[str]:
    return [entry.fingerprint for entry in document.findings]


def test_fingerprints_differ_within_an_audit() -> None:
    other_file = finding(path="/work dir/project/src/other.py")
    found = prints(audit(finding(2), finding(4), finding(5), finding(2, code="MPA206"), other_file))
    assert len(set(found)) == 5


def test_fingerprints_stay_when_lines_move_or_are_reformatted() -> None:
    before = audit(finding(2), finding(4))
    after = audit(finding(3), finding(6), source=["", "", "  clip(a)", "", "", "clip(a)  "])
    assert prints(before) == prints(after)


def test_fingerprints_do_not_depend_on_the_message() -> None:
    assert prints(audit(finding())) == prints(audit(finding(message="said otherwise", severity=Severity.INFO)))


def test_fingerprints_need_no_source() -> None:
    assert len(set(prints(audit(finding(2), finding(900), source=[])))) == 2


# -------------------------------------------------------------------- settings


def test_every_setting_is_in_the_document() -> None:
    from mpaudit import settings

    written = set(effective(Settings(root="/"), CWD)) | {"ignore", "extend-select", "extend-exclude"}
    assert written == {*settings._KEYS, "config"}


# ------------------------------------------------------------------------ gate


@given(st.lists(st.sampled_from(Severity)), st.sampled_from([*Severity, None]))
def test_exit_code(severities: list[Severity], fail_on: Severity | None) -> None:
    document = audit(*(finding(severity=severity) for severity in severities))
    fails = fail_on is not None and any(severity.rank >= fail_on.rank for severity in severities)
    assert exit_code(document, fail_on) == (1 if fails else 0)
