"""What an audit means for the exit code."""

from __future__ import annotations

from mpaudit.audit import Audit
from mpaudit.errors import FAILURE
from mpaudit.model import Severity

OK, FINDINGS = 0, 1


def exit_code(audit: Audit, fail_on: Severity | None, *, strict: bool = False) -> int:
    """FAILURE where something went wrong inside, or `strict` and a file could not be audited; else FINDINGS where the
    audit shows a finding of at least this severity, else OK; `fail_on` None ignores findings."""
    if any(error.internal or strict for error in audit.errors):
        return FAILURE
    if fail_on is None:
        return OK
    return FINDINGS if any(finding.severity.rank >= fail_on.rank for finding in audit.findings) else OK
