"""Which findings the user sees: rule selection, severities, thresholds and suppression comments."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from mpaudit.model import Finding
from mpaudit.settings import Settings
from mpaudit.static.sources import Patterns
from mpaudit.static.suppressions import Suppressions, suppressions


class Shown(msgspec.Struct, frozen=True):
    findings: tuple[Finding, ...]
    """With the severities that the settings give them."""
    suppressed: int
    """How many more would be shown, were it not for comments in the source."""


def shown(findings: Iterable[Finding], settings: Settings, text: Callable[[str], str]) -> Shown:
    """What of `findings` the settings and the comments let through.

    `text` gives the source of a file by its absolute path, newlines as \\n; it is asked for files with findings only.
    """
    enabled = frozenset(settings.codes)
    severity = dict(settings.severity)
    ignored_in = _ignored_in(settings)
    comments: dict[str, Suppressions] = {}
    kept: list[Finding] = []
    suppressed = 0
    for finding in findings:
        if finding.code not in enabled or ignored_in(finding.location.path, finding.code):
            continue
        if finding.code in severity:
            finding = msgspec.structs.replace(finding, severity=severity[finding.code])
        if finding.severity.rank < settings.min_severity.rank or finding.confidence.rank < settings.min_confidence.rank:
            continue
        place = finding.location
        if place.path not in comments:
            comments[place.path] = suppressions(text(place.path))
        if comments[place.path].covers(finding.code, finding.name, place.line, place.end_line):
            suppressed += 1
        else:
            kept.append(finding)
    return Shown(tuple(kept), suppressed)


def _ignored_in(settings: Settings) -> Callable[[str, str], bool]:
    """Whether per-file-ignores hide a code in a file."""
    rules = [(Patterns(settings.root, [glob]), codes) for glob, codes in settings.per_file_ignores]

    def ignored(path: str, code: str) -> bool:
        return any(code.startswith(codes) and patterns.decide(path, False) for patterns, codes in rules)

    return ignored
