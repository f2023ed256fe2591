"""The plain data that every room shares: findings, places, severities, rules."""

from __future__ import annotations

from enum import Enum

import msgspec


class Severity(str, Enum):
    """What happens to the user's training: it breaks, it loses something, or advice."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """Higher is worse: info 0, warning 1, error 2."""
        return _SEVERITY_RANK[self]


class Confidence(str, Enum):
    """How sure the analysis is: on every path, on some path, or a guess."""

    DEFINITE = "definite"
    LIKELY = "likely"
    POSSIBLE = "possible"

    @property
    def rank(self) -> int:
        """Higher is surer: possible 0, likely 1, definite 2."""
        return _CONFIDENCE_RANK[self]


_SEVERITY_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}
_CONFIDENCE_RANK = {Confidence.POSSIBLE: 0, Confidence.LIKELY: 1, Confidence.DEFINITE: 2}


class Location(msgspec.Struct, frozen=True, order=True):
    """A range in a file; lines and columns are 1-based, columns count code points, the end is exclusive."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int


class Related(msgspec.Struct, frozen=True, order=True):
    """Another place that a finding speaks of."""

    location: Location
    message: str


class Finding(msgspec.Struct, frozen=True):
    """One defect at one place. `path` in the location is absolute until the audit is rendered."""

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    location: Location
    message: str
    """One sentence: what is wrong, in the user's own names, and the consequence."""
    remedy: str = ""
    """One sentence: what to do."""
    related: tuple[Related, ...] = ()


class Problem(msgspec.Struct, frozen=True, order=True):
    """A file or folder that could not be audited, and why. `line` is 0 where there is none; the path is absolute."""

    path: str
    line: int
    message: str
    internal: bool = False
    """The fault is ours, not the file's."""


class Example(msgspec.Struct, frozen=True):
    """A code block of a rule page. `marks` are the (line, code) pairs that must be reported."""

    file: str
    source: str
    marks: tuple[tuple[int, str], ...]
    options: dict[str, str]


class Rule(msgspec.Struct, frozen=True):
    """One page of `rules/`, parsed."""

    code: str
    name: str
    category: str
    severity: Severity
    confidence: Confidence
    fix: str
    since: str
    triggers: tuple[str, ...]
    primary: str
    torch: str
    references: tuple[str, ...]
    summary: str
    """First paragraph of «What it does»."""
    why: str
    """First paragraph of «Why is this bad?»."""
    markdown: str
    bad: tuple[tuple[Example, ...], ...] = ()
    good: tuple[tuple[Example, ...], ...] = ()
    fixed: tuple[tuple[Example, ...], ...] = ()
    limits: tuple[tuple[Example, ...], ...] = ()
