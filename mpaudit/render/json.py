"""The document itself, as `mpaudit.audit.from_json` reads it."""

from __future__ import annotations

import json
import re

from mpaudit.audit import Audit, to_json


def render(audit: Audit) -> str:
    """Indented JSON; characters that a terminal would obey are written as \\uNNNN."""
    return re.sub(r"[^\n -~]", _character, to_json(audit).decode())


def _character(found: re.Match[str]) -> str:
    char = found.group()
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else json.dumps(char)[1:-1]
