"""`mpaudit lint` as a process on a real tree: nothing but the sources decides what it says."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpaudit import rulebook
from mpaudit.static.cache import FOLDER

ROOT = Path(rulebook.__file__).parent.parent


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bad examples, each a project of its own: the first of every page and all that have several files."""
    top = tmp_path_factory.mktemp("examples")
    for rule in rulebook.rules().values():
        for number, group in enumerate(rule.bad):
            if number and len(group) == 1:
                continue
            (top / f"{rule.code}-{number}" / ".git").mkdir(parents=True)
            for example in group:
                file = top / f"{rule.code}-{number}" / (example.file or "example.py")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(example.source, encoding="utf-8")
    return top


@pytest.fixture
def tree(examples: Path, tmp_path: Path) -> Path:
    shutil.copytree(examples, tmp_path / "tree", ignore=shutil.ignore_patterns(FOLDER))
    return tmp_path / "tree"


def start(cwd: Path, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mpaudit", "lint", "--format", "json", "--fail-on", "never", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def output(process: subprocess.Popen[bytes]) -> bytes:
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, b"")
    return out


def lint(cwd: Path, *arguments: str, **variables: str) -> bytes:
    return output(start(cwd, *arguments, **variables))


def findings(document: bytes) -> list[dict[str, Any]]:
    found = json.loads(document)["findings"]
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="module")
def expected(examples: Path) -> bytes:
    document = lint(examples, "--no-cache", "--jobs", "1")
    assert len(findings(document)) > len(rulebook.rules()) / 2
    assert json.loads(document)["errors"] == []
    return document


def test_neither_cache_nor_jobs_nor_hash_seed_matter(tree: Path, expected: bytes) -> None:
    assert lint(tree, "--jobs", "2", PYTHONHASHSEED="1") == expected  # cold
    assert lint(tree, "--jobs", "1", PYTHONHASHSEED="2") == expected  # warm
    assert lint(tree, "--no-cache", "--jobs", "2", PYTHONHASHSEED="3") == expected
    assert lint(tree, "--cache-dir", "elsewhere", PYTHONHASHSEED="4", CI="1") == expected


def test_the_order_of_paths_does_not_matter(tree: Path, expected: bytes) -> None:
    paths = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.py"))
    random.Random(5).shuffle(paths)
    assert lint(tree, *paths) == expected


@pytest.mark.parametrize("seed", range(4))
def test_a_subset_says_what_the_whole_says(tree: Path, expected: bytes, seed: int) -> None:
    paths = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.py"))
    some = random.Random(seed).sample(paths, len(paths) // 3)
    assert findings(lint(tree, *some)) == [entry for entry in findings(expected) if entry["path"] in some]


def test_ten_runs_at_once(tree: Path, expected: bytes) -> None:
    runs = [start(tree, "--cache-dir", "shared", "--jobs", "1") for _ in range(10)]
    assert {output(run) for run in runs} == {expected}
    assert lint(tree, "--cache-dir", "shared") == expected


def test_a_damaged_cache_changes_nothing(tree: Path, expected: bytes) -> None:
    lint(tree, "--cache-dir", "shared")
    [database] = (tree / "shared").glob("*.sqlite")
    whole = database.read_bytes()
    for damaged in (b"garbage", whole[: len(whole) // 2], whole[:5000] + bytes(3000) + whole[8000:]):
        for file in (tree / "shared").glob("*.sqlite"):
            file.write_bytes(damaged)
        assert lint(tree, "--cache-dir", "shared") == expected


def test_a_cache_that_cannot_be_made_changes_nothing(tree: Path, expected: bytes) -> None:
    (tree / "taken").write_text("")
    assert lint(tree, "--cache-dir", "taken/cache") == expected


def test_the_cache_of_a_project_is_its_own_and_ignored(tree: Path) -> None:
    project = next(tree.iterdir())
    lint(tree, project.name)
    assert (project / FOLDER / ".gitignore").read_text() == "*\n"
    assert [folder.parent for folder in tree.rglob(FOLDER)] == [project]


def test_strange_files_are_named_and_stop_nothing(tree: Path, expected: bytes) -> None:
    os.mkfifo(tree / "pipe.py")
    (tree / "loop.py").symlink_to("loop.py")
    (tree / "large.py").write_bytes(b"x = 1\n" * 1_000_000)
    (tree / "empty.py").write_bytes(b"")
    (tree / "binary.py").write_bytes(bytes(range(256)) * 100)
    (tree / "bom.py").write_bytes(b"\xef\xbb\xbfimport torch\r\nx = 1\r\n")
    (tree / "new\nline\x1b[31m.py").write_text("x = 1\n")
    document = json.loads(lint(tree))
    assert {error["path"] for error in document["errors"]} == {"pipe.py", "loop.py", "large.py", "binary.py"}
    assert document["findings"] == findings(expected)


def test_nothing_to_audit(tmp_path: Path) -> None:
    document = json.loads(lint(tmp_path))
    assert (document["findings"], document["errors"], document["summary"]["files"]) == ([], [], 0)
