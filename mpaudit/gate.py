"""What an audit means for the exit code."""

from __future__ import annotations

from mpaudit.audit import Audit
from mpaudit.model import Severity

OK, FINDINGS = 0, 1


def exit_code(audit: Audit, fail_on: Severity | None) -> int:
    """FINDINGS where the audit shows a finding of at least this severity, else OK; None never fails."""
    if fail_on is None:
        return OK
    return FINDINGS if any(finding.severity.rank >= fail_on.rank for finding in audit.findings) else OK
