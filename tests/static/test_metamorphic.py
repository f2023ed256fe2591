"""Changes that change nothing: what is said of a project follows its meaning, not its spelling or its surroundings."""

from __future__ import annotations

import ast
import os
import random
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.model import Example
from mpaudit.settings import Settings
from mpaudit.static.run import lint

Files = dict[str, str]
CHECKOUTS = [Path(place) for place in os.environ.get("MPAUDIT_CHECKOUTS", "").split(os.pathsep) if place]
SAMPLES = Path(rulebook.__file__).parent.parent / "sample_projects"
TREES = [*CHECKOUTS, *(sorted(p for p in SAMPLES.iterdir() if p.is_dir()) if SAMPLES.is_dir() else [])]


def groups() -> list[object]:
    """The first bad example of every page."""
    return [
        pytest.param(rule.bad[0], id=code) for code, rule in rulebook.rules().items() if rule.bad and code != "MPA001"
    ]


def files_of(group: tuple[Example, ...]) -> Files:
    return {example.file or "example.py": example.source for example in group}


def found(folder: Path, files: Files) -> list[str]:
    """The codes that are reported, sorted, wherever they are."""
    (folder / ".git").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    settings = Settings(root=str(folder), codes=tuple(rulebook.headers()))
    audit = lint(["."], settings, cwd=folder, jobs=1, use_cache=False)
    assert audit.errors == ()
    return sorted(finding.code for finding in audit.findings)


def with_comments(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "# a comment\n\n" + "".join(lines)


def with_dead_code(text: str) -> str:
    return text + "\n\ndef _never_called(rows):\n    return [row for row in rows if row]\n"


def with_unrelated_imports(text: str) -> str:
    future = text.startswith("from __future__")
    return text if future else "import collections\nimport itertools\n" + text


def reprinted(text: str) -> str:
    return ast.unparse(ast.parse(text)) + "\n"


def with_crlf(text: str) -> str:
    return text.replace("\n", "\r\n")


def indented_by_a_tab(text: str) -> str:
    lines = []
    for line in text.splitlines():
        body = line.lstrip(" ")
        depth, rest = divmod(len(line) - len(body), 4)
        lines.append("\t" * depth + " " * rest + body)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "change", [with_comments, with_dead_code, with_unrelated_imports, reprinted, with_crlf, indented_by_a_tab]
)
@pytest.mark.parametrize("group", groups())
def test_changes_of_spelling(tmp_path: Path, group: tuple[Example, ...], change: Callable[[str], str]) -> None:
    files = files_of(group)
    changed = {name: change(text) for name, text in files.items()}
    assert found(tmp_path / "after", changed) == found(tmp_path / "before", files)


@pytest.mark.parametrize("group", groups())
def test_a_project_in_a_folder_and_one_beside_it(tmp_path: Path, group: tuple[Example, ...]) -> None:
    files = files_of(group)
    expected = found(tmp_path / "before", files)
    beside = {"other/lonely.py": textwrap.dedent("import torch\n\n\ndef half(x):\n    return x.to(torch.float16)\n")}
    lonely = found(tmp_path / "lonely", beside)
    moved = {f"deep/er/{name}": text for name, text in files.items()}
    assert found(tmp_path / "both", {**moved, **beside}) == sorted(expected + lonely)


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_some_files_say_what_all_say(tree: Path, tmp_path: Path) -> None:
    settings = Settings(root=str(tree), codes=tuple(rulebook.headers()))

    def audit(*paths: str, jobs: int = 1) -> list[object]:
        return list(lint(paths, settings, cwd=tree, jobs=jobs, cache_dir=tmp_path).findings)

    whole = audit(".")
    assert audit(".", jobs=2) == whole
    paths = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.py"))
    for seed in range(3):
        some = random.Random(seed).sample(paths, (len(paths) + 1) // 2)
        assert audit(*some) == [finding for finding in whole if finding.path in some]  # type: ignore[attr-defined]
