"""How often each rule reports."""

from __future__ import annotations

from tabulate import tabulate

from mpaudit.audit import Audit
from mpaudit.render.text import closing


def render(audit: Audit) -> str:
    """A table of counts, the most frequent rule first, and the closing line."""
    first = {entry.code: entry for entry in reversed(audit.findings)}
    counts = sorted(audit.summary.by_code.items(), key=lambda item: (-item[1], item[0]))
    rows = [(count, code, first[code].name, first[code].severity.value) for code, count in counts]
    table = tabulate(rows, headers=("findings", "code", "name", "severity"), tablefmt="simple") + "\n\n" if rows else ""
    return f"{table}{closing(audit.summary)}\n"
