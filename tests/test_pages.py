"""Every example of every rule page, run: a Bad block gives exactly its marks, a Good block nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.model import Confidence, Example, Rule, Severity
from mpaudit.settings import Settings, device, torch_version
from mpaudit.static.checks import CODES
from mpaudit.static.run import lint

Group = tuple[Example, ...]
SECTIONS = ("bad", "good", "fixed", "limits")


def test_pages_and_checks_are_the_same_set() -> None:
    assert list(rulebook.rules()) == sorted(CODES)


def groups(*sections: str, files: int = 1) -> list[object]:
    """Every project of the pages with at least so many files."""

    def found() -> Iterator[object]:
        for rule in rulebook.rules().values():
            for section in sections:
                for number, group in enumerate(getattr(rule, section), 1):
                    if len(group) >= files:
                        yield pytest.param(rule, group, id=f"{rule.code} {section} {number}")

    return list(found())


@pytest.mark.parametrize(("rule", "group"), groups(*SECTIONS))
def test_examples(tmp_path: Path, rule: Rule, group: Group) -> None:
    assert reported(tmp_path, group) == marked(group)


@pytest.mark.parametrize(("rule", "group"), groups("bad"))
def test_a_rule_that_is_selected_alone_finds_as_much(tmp_path: Path, rule: Rule, group: Group) -> None:
    """Its own triggers reach every file that it needs."""
    alone = reported(tmp_path, group, codes=(rule.code,))
    assert alone == [mark for mark in marked(group) if mark[2] == rule.code]


@pytest.mark.parametrize(("rule", "group"), groups(*SECTIONS, files=2))
def test_each_file_alone_says_what_the_project_says(tmp_path: Path, rule: Rule, group: Group) -> None:
    for example in group:
        alone = [mark for mark in marked(group) if mark[0] == name(example)]
        assert reported(tmp_path, group, given=name(example)) == alone


def reported(
    folder: Path, group: Group, *, given: str = ".", codes: tuple[str, ...] | None = None
) -> list[tuple[str, int, str]]:
    """File, line and code of what a lint of `given` shows, where the group is the whole project."""
    (folder / ".git").mkdir(exist_ok=True)
    for example in group:
        file = folder / name(example)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(example.source, encoding="utf-8")
    options = {key: value for example in group for key, value in example.options.items()}
    settings = Settings(
        root=str(folder),
        codes=codes or tuple(rulebook.headers()),
        min_confidence=Confidence.POSSIBLE if options.get("show") == "possible" else Confidence.LIKELY,
        min_severity=Severity.INFO if options.get("show") == "info" else Severity.WARNING,
        target_torch=torch_version(options["torch"]) if "torch" in options else None,
        target_device=device(options["device"]) if "device" in options else None,
    )
    audit = lint([given], settings, cwd=folder, jobs=1, use_cache=False)
    assert audit.errors == ()
    return sorted((finding.path, finding.line, finding.code) for finding in audit.findings)


def marked(group: Group) -> list[tuple[str, int, str]]:
    return sorted((name(example), line, code) for example in group for line, code in example.marks)


def name(example: Example) -> str:
    return example.file or "example.py"
