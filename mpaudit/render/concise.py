"""One line per finding."""

from __future__ import annotations

from mpaudit.audit import Audit
from mpaudit.render import escaped


def render(audit: Audit) -> str:
    """`path:line:column: MPA205 clip-before-unscale [error, likely] message`, then the files that could not be read."""
    rows = [
        f"{entry.path}:{entry.line}:{entry.column}: {entry.code} {entry.name} "
        f"[{entry.severity.value}, {entry.confidence.value}] {entry.message}"
        for entry in audit.findings
    ]
    rows += [f"{error.path}:{error.line or 1}:1: not audited: {error.message}" for error in audit.errors]
    return "".join(f"{escaped(row)}\n" for row in rows)
