"""Programs that are written twice in one text, right and wrong, and what `lint` says of either.

A line that ends in `# right` stands in the right program only, one in `# wrong` in the wrong one only; `# MPA205` says
what is reported there in the wrong program. The right one is silent.
"""

from __future__ import annotations

import re
from pathlib import Path

from mpaudit import rulebook
from mpaudit.model import Finding
from mpaudit.settings import Settings
from mpaudit.static.run import lint

HEAD = "import torch\nfrom torch import nn\nfrom torch.amp import GradScaler, autocast\n"
TOLD = "\n# The options are those of argparse, the images those of ImageNet.\n"
"""What MPA101 wants to be told of programs of several files: at the end of each, for tests of its other reasons."""
NOTE = re.compile(r"\s*# (right|wrong)?\s*(MPA\d+)?$")


def variant(files: dict[str, str], which: str) -> tuple[dict[str, str], list[tuple[str, int, str]]]:
    """The sources of the right or wrong program, and its marks: file, line, code."""
    sources, marks = {}, []
    for name, text in files.items():
        lines = HEAD.splitlines()
        for line in text.splitlines():
            note = NOTE.search(line)
            only, code = note.groups() if note else (None, None)
            if only in (None, which):
                lines.append(line[: note.start()] if note else line)
                if code:
                    marks.append((name, len(lines), code))
        sources[name] = "\n".join(lines) + "\n"
    return sources, sorted(marks)


def found_in(folder: Path, sources: dict[str, str]) -> tuple[Finding, ...]:
    (folder / ".git").mkdir()
    for name, text in sources.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    settings = Settings(root=str(folder), codes=tuple(rulebook.headers()))
    audit = lint(["."], settings, cwd=folder, jobs=1, use_cache=False)
    assert audit.errors == ()
    return tuple(audit.findings)


def reported(folder: Path, sources: dict[str, str], all_codes: bool = False) -> list[tuple[str, int, str]]:
    # many shapes spare the autocast
    found = [finding for finding in found_in(folder, sources) if all_codes or finding.code != "MPA216"]
    return sorted((finding.path, finding.line, finding.code) for finding in found)
