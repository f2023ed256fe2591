"""The pages of `rules/`, read into `model.Rule`.

A page's header (title and toml block) is all that a lint needs of it; its prose and examples are parsed on demand.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mpaudit.errors import UsageError, nearest
from mpaudit.model import Confidence, Example, Rule, Severity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEADINGS = ("What it does", "Why is this bad?", "Bad", "Good", "Fixed", "Fix safety", "Known limits", "References")
OPTIONS = ("file", "torch", "device", "show", "run")
"""What a block's info string may carry: its file, the target torch and device, what must be shown for it to be seen
(`show=possible`, `show=info`), and `run=cpu` where running it shows its effect."""
_REQUIRED = HEADINGS[:4]
_TITLE = re.compile(r"# (MPA\d{3}) ([a-z0-9]+(?:-[a-z0-9]+)*)\s*")
_FENCE = re.compile(r"(`{3,}|~{3,})\s*(.*)")
_MARK = re.compile(r"\s*# <- (MPA\d{3}(?:,\s*MPA\d{3})*)\s*$")
_FIXES = ("always", "sometimes", "none")


class PageError(Exception):
    """A rule page that does not have the form of DESIGN §4; names page and line."""

    def __init__(self, page: str, line: int, message: str) -> None:
        super().__init__(f"{page}:{line}: {message}")


@cache
def headers() -> dict[str, Rule]:
    """Every rule by code, in the order of codes, without its examples. Raises PageError."""
    return _in_order(parse(name, text, examples=False) for name, text in _pages())


@cache
def rules() -> dict[str, Rule]:
    """Every rule by code, in the order of codes, with its examples. Raises PageError."""
    return _in_order(parse(name, text) for name, text in _pages())


def find(word: str) -> Rule:
    """The rule of a code or a name. Raises UsageError, which names the nearest one."""
    by_word = {key: rule for rule in rules().values() for key in (rule.code, rule.name)}
    rule = by_word.get(word) or by_word.get(word.upper()) or by_word.get(word.lower())
    if rule is None:
        raise UsageError(f"no rule is called {word!r}{nearest(word, by_word)}")
    return rule


def expand(selector: str) -> str | None:
    """The code prefix that a selector (code, prefix of a code, or rule name) stands for; None if no rule matches."""
    known = headers()
    for code, rule in known.items():
        if rule.name == selector.lower():
            return code
    prefix = selector.upper()
    return prefix if len(prefix) >= len("MPA") and any(code.startswith(prefix) for code in known) else None


def parse(page: str, text: str, examples: bool = True) -> Rule:
    """One page. Raises PageError."""
    lines = text.split("\n")
    title = _TITLE.fullmatch(lines[0])
    if title is None:
        raise PageError(page, 1, "the first line must read «# MPA000 rule-name»")
    code, name = title.groups()
    header, body_start = _header(page, lines)
    sections = _sections(page, lines, body_start) if examples else {}

    def groups(heading: str) -> tuple[tuple[Example, ...], ...]:
        start, stop = sections.get(heading, (0, 0))
        return tuple(_examples(page, lines, start, stop))

    rule = Rule(
        code=code,
        name=name,
        markdown=text,
        summary=_first_paragraph(text, "What it does"),
        why=_first_paragraph(text, "Why is this bad?"),
        bad=groups("Bad"),
        good=groups("Good"),
        fixed=groups("Fixed"),
        limits=groups("Known limits"),
        **header,
    )
    if examples:
        _check_examples(page, rule, sections)
    return rule


def _pages() -> Iterator[tuple[str, str]]:
    """Name and text of every page: package data where mpaudit is installed, else the checkout's `rules/`."""
    for folder in _folders():
        found = sorted(
            entry.name for entry in folder.iterdir() if entry.name.startswith("MPA") and entry.name.endswith(".md")
        )
        if found:
            for name in found:
                yield name, (folder / name).read_text(encoding="utf-8")
            return


def _folders() -> Iterator[Any]:
    try:
        import mpaudit.rules as package  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        pass
    else:
        plain = [Path(entry) for entry in package.__path__ if os.path.isdir(entry)]
        if plain:  # as resources.files() would say, without the 15 ms that importing it takes
            yield from plain
        else:
            from importlib import resources

            yield resources.files("mpaudit.rules")
    yield Path(__file__).parent.parent / "rules"


def _in_order(pages: Iterator[Rule]) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for rule in sorted(pages, key=lambda rule: rule.code):
        if rule.code in rules:
            raise PageError(rule.name, 1, f"{rule.code} has two pages")
        rules[rule.code] = rule
    return rules


# ------------------------------------------------------------------- the form of a page


def _header(page: str, lines: list[str]) -> tuple[dict[str, Any], int]:
    """The fields of the toml block, and the index of the line after it."""
    try:
        start = next(i for i, line in enumerate(lines) if line.strip() == "```toml") + 1
        stop = next(i for i in range(start, len(lines)) if lines[i].strip() == "```")
    except StopIteration:
        raise PageError(page, 2, "the title must be followed by a toml block") from None
    try:
        table = tomllib.loads("\n".join(lines[start:stop]))
    except tomllib.TOMLDecodeError as error:
        raise PageError(page, start + 1, f"the toml block cannot be read: {error}") from None
    fields: dict[str, Any] = {}
    for key, read in _FIELDS.items():
        try:
            fields[key] = read(table.pop(key))
        except KeyError:
            raise PageError(page, start, f"the toml block lacks {key!r}") from None
        except (ValueError, TypeError) as error:
            raise PageError(page, start + 1, f"{key}: {error}") from None
    for key in table:
        raise PageError(page, start + 1, f"unknown key {key!r}{nearest(key, _FIELDS)}")
    return fields, stop + 1


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list of strings")
    return tuple(map(_text, value))


def _fix(value: object) -> str:
    if value not in _FIXES:
        raise ValueError(f"{value!r} is none of {', '.join(_FIXES)}")
    return _text(value)


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "category": _text,
    "severity": Severity,
    "confidence": Confidence,
    "fix": _fix,
    "since": _text,
    "triggers": _texts,
    "primary": _text,
    "torch": _text,
    "references": _texts,
}


def _sections(page: str, lines: list[str], start: int) -> dict[str, tuple[int, int]]:
    """The lines [start, stop) of every `##` section."""
    sections: dict[str, tuple[int, int]] = {}
    heading, begin = "", start
    for number, line in _outside_fences(page, lines, start):
        if not line.startswith("## "):
            continue
        sections[heading] = (begin, number)
        heading, begin = line[3:].strip(), number + 1
        if heading not in HEADINGS:
            raise PageError(page, number + 1, f"unknown heading {heading!r}{nearest(heading, HEADINGS)}")
        if heading in sections:
            raise PageError(page, number + 1, f"{heading!r} appears twice")
    sections[heading] = (begin, len(lines))
    for required in _REQUIRED:
        if required not in sections:
            raise PageError(page, len(lines), f"the section {required!r} is missing")
    return sections


def _outside_fences(page: str, lines: list[str], start: int) -> Iterator[tuple[int, str]]:
    opened, fence = 0, ""
    for number in range(start, len(lines)):
        found = _FENCE.fullmatch(lines[number].strip())
        if not fence:
            if found:
                fence, opened = found.group(1), number
            else:
                yield number, lines[number]
        elif found and found.group(1).startswith(fence) and not found.group(2):
            fence = ""
    if fence:
        raise PageError(page, opened + 1, "this code block is never closed")


def _examples(page: str, lines: list[str], start: int, stop: int) -> Iterator[tuple[Example, ...]]:
    """The python blocks of a section; blocks with `file=` that only blank lines part are one project."""
    project: list[Example] = []
    number = start
    while number < stop:
        found = _FENCE.fullmatch(lines[number].strip())
        if not found:
            if lines[number].strip() and project:
                yield tuple(project)
                project = []
            number += 1
            continue
        first = number + 1
        last = next(i for i in range(first, stop) if lines[i].strip() == found.group(1))
        number = last + 1
        info = found.group(2).split()
        if not info or info[0] != "python":
            continue
        example = _example(page, lines, first, last, info[1:])
        if example.file and any(example.file == other.file for other in project):
            raise PageError(page, first, f"{example.file} appears twice in one project")
        if project and not example.file:
            yield tuple(project)
            project = []
        if example.file:
            project.append(example)
        else:
            yield (example,)
    if project:
        yield tuple(project)


def _example(page: str, lines: list[str], first: int, last: int, info: list[str]) -> Example:
    options: dict[str, str] = {}
    for word in info:
        key, equals, value = word.partition("=")
        if not equals or key not in OPTIONS:
            raise PageError(page, first, f"unknown block option {word!r}{nearest(key, OPTIONS)}")
        options[key] = value
    source: list[str] = []
    marks: list[tuple[int, str]] = []
    for number, line in enumerate(lines[first:last], 1):
        mark = _MARK.search(line)
        if mark:
            marks += [(number, code.strip()) for code in mark.group(1).split(",")]
            line = line[: mark.start()]
        elif "# <-" in line:
            raise PageError(page, first + number, "a mark reads «# <- MPA000» and ends its line")
        source.append(line)
    file = options.pop("file", "")
    return Example(file=file, source="\n".join(source) + "\n", marks=tuple(sorted(marks)), options=options)


def _check_examples(page: str, rule: Rule, sections: dict[str, tuple[int, int]]) -> None:
    def line(heading: str) -> int:
        return sections[heading][0]

    if not rule.bad:
        raise PageError(page, line("Bad"), "there is no python block under «Bad»")
    if not rule.good:
        raise PageError(page, line("Good"), "there is no python block under «Good»")
    for group in rule.bad:
        if not any(code == rule.code for example in group for _, code in example.marks):
            raise PageError(page, line("Bad"), f"a bad example has no mark for {rule.code}: {group[0].source[:60]!r}")
    for heading, groups in (("Good", rule.good), ("Fixed", rule.fixed)):
        for group in groups:
            if any(example.marks for example in group):
                raise PageError(page, line(heading), f"a block under «{heading}» has a mark")
    for pattern in rule.triggers:
        try:
            re.compile(pattern)
        except re.error as error:
            raise PageError(page, 2, f"the trigger {pattern!r} is no regular expression: {error}") from None


def _first_paragraph(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\s*\n(.+?)(?:\n\s*\n|\n#|\n```|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""
