"""The Audit: the one document that both wings write, every output reads, and JSON keeps."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from mpaudit import __version__
from mpaudit.measured import Comparison, Evidence, Profile, Run
from mpaudit.model import Confidence, Finding, Problem, Severity
from mpaudit.settings import Settings

SCHEMA_VERSION = 1

Lines = Callable[[str], Sequence[str]]
"""The lines of a file by its absolute path; empty where it cannot be read."""


class Tool(msgspec.Struct, frozen=True):
    name: str = "mpaudit"
    version: str = __version__


class Related(msgspec.Struct, frozen=True):
    path: str
    line: int
    column: int
    message: str


class Entry(msgspec.Struct, frozen=True):
    """A finding as it is reported. Paths are relative to the working directory, absolute where they lie outside it,
    with forward slashes; lines and columns are 1-based, columns in code points, the end is exclusive."""

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    cell: int | None
    """The notebook cell; None in a .py file."""
    message: str
    remedy: str
    related: tuple[Related, ...]
    fix: None
    fingerprint: str
    """Stays the same while the finding moves to other lines; differs between the findings of an audit."""


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file or folder that could not be audited. `line` is null where there is none."""

    path: str
    line: int | None
    message: str
    internal: bool = False
    """The fault is the tool's, not the file's: the run fails."""


class Summary(msgspec.Struct, frozen=True):
    """Counts. Nothing in it depends on when, where or how fast the audit ran."""

    files: int
    """Files looked at."""
    analysed: int
    """Files that hold precision code, or are needed to understand it, and were parsed or taken from the cache."""
    without_precision_code: int
    findings: int
    errors: int
    by_severity: dict[str, int]
    by_code: dict[str, int]
    suppressed: int
    """Findings that a comment in the source hides."""


class Audit(msgspec.Struct, frozen=True):
    schema_version: int
    tool: Tool
    settings: dict[str, Any]
    findings: tuple[Entry, ...]
    errors: tuple[Error, ...]
    summary: Summary
    environment: dict[str, str | int | float | bool | None] = {}
    """Of the runs: torch, device, driver, flags, threads."""
    profile: Profile | None = None
    runs: tuple[Run, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    evidence: Evidence | None = None


NOTHING_READ = Summary(
    files=0,
    analysed=0,
    without_precision_code=0,
    findings=0,
    errors=0,
    by_severity={severity.value: 0 for severity in Severity},
    by_code={},
    suppressed=0,
)
"""Of an audit in which no source was read."""


class AuditError(Exception):
    """A document that is not an Audit of this schema."""


def assemble(
    findings: Iterable[Finding],
    errors: Iterable[Problem],
    settings: Settings,
    *,
    cwd: Path,
    lines: Lines,
    files: int,
    analysed: int,
    without_precision_code: int,
    suppressed: int,
) -> Audit:
    """The document of one lint: findings and errors in the order of their places, with relative paths."""
    shown = sorted(findings, key=lambda finding: (finding.location, finding.code, finding.message))
    seen: Counter[tuple[str, str, str]] = Counter()
    entries = []
    for finding in shown:
        place = finding.location
        path = relative(place.path, cwd)
        identity = (finding.code, path, _normalised(lines(place.path), place.line))
        entries.append(
            Entry(
                code=finding.code,
                name=finding.name,
                severity=finding.severity,
                confidence=finding.confidence,
                path=path,
                line=place.line,
                column=place.column,
                end_line=place.end_line,
                end_column=place.end_column,
                cell=None,
                message=finding.message,
                remedy=finding.remedy,
                related=tuple(
                    Related(relative(other.path, cwd), other.line, other.column, message)
                    for other, message in sorted(
                        ((other.location, other.message) for other in finding.related),
                        key=lambda item: (item[0].path != place.path, item),
                    )
                ),
                fix=None,
                fingerprint=_fingerprint(*identity, str(seen[identity])),
            )
        )
        seen[identity] += 1
    problems = tuple(Error(relative(p.path, cwd), p.line or None, p.message, p.internal) for p in sorted(set(errors)))
    severities = Counter(entry.severity.value for entry in entries)
    return Audit(
        schema_version=SCHEMA_VERSION,
        tool=Tool(),
        settings=effective(settings, cwd),
        findings=tuple(entries),
        errors=problems,
        summary=Summary(
            files=files,
            analysed=analysed,
            without_precision_code=without_precision_code,
            findings=len(entries),
            errors=len(problems),
            by_severity={severity.value: severities[severity.value] for severity in Severity},
            by_code=dict(sorted(Counter(entry.code for entry in entries).items())),
            suppressed=suppressed,
        ),
    )


def relative(path: str, cwd: Path) -> str:
    """`path` as the document has it. Bytes of a file name that are not UTF-8 become \\xNN."""
    inside = str(cwd).rstrip(os.sep) + os.sep
    shown = path[len(inside) :] if path.startswith(inside) else path
    shown = shown.replace(os.sep, "/")
    try:
        shown.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(shown).decode("utf-8", "backslashreplace")
    return shown


def without(cwd: Path, text: str) -> str:
    """`text` with the paths in it relative to `cwd` where they lie in it."""
    return text.replace(str(cwd).rstrip(os.sep) + os.sep, "")


def effective(settings: Settings, cwd: Path) -> dict[str, Any]:
    """The settings as the document has them: the keys of `[tool.mpaudit]`."""
    return {
        "config": None if settings.file is None else relative(settings.file, cwd),
        "select": list(settings.codes),
        "per-file-ignores": {glob: list(codes) for glob, codes in settings.per_file_ignores},
        "exclude": list(settings.exclude),
        "severity": {code: severity.value for code, severity in settings.severity},
        "min-severity": settings.min_severity.value,
        "min-confidence": settings.min_confidence.value,
        "fail-on": "never" if settings.fail_on is None else settings.fail_on.value,
        "target-torch": None if settings.target_torch is None else ".".join(map(str, settings.target_torch)),
        "target-device": settings.target_device,
    }


def to_json(audit: Audit) -> bytes:
    """The document, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(audit), indent=2) + b"\n"


def from_json(data: bytes | str) -> Audit:
    """The document that `to_json` wrote. Raises AuditError for another schema or other JSON."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise AuditError(f"the audit has schema version {version}; this mpaudit reads {SCHEMA_VERSION}")
        return msgspec.json.decode(data, type=Audit)
    except msgspec.DecodeError as error:
        raise AuditError(f"this is not an audit: {error}") from None


class _Version(msgspec.Struct):
    schema_version: int


def _normalised(lines: Sequence[str], line: int) -> str:
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _fingerprint(*parts: str) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
