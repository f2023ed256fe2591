"""Changes that change nothing, on whole projects: the sample projects, and the checkouts that MPAUDIT_CHECKOUTS names
(paths joined as in PATH). Everything is compared that the analysis finds, at the lowest severity and confidence; and
since real trees have few findings, defects are planted in copies of them, so that there is something to lose.

    MPAUDIT_CHECKOUTS=~/src/minGPT:~/src/mae MPAUDIT_SEEDS=5 python -m pytest tests/static/test_checkouts.py

MPAUDIT_SEEDS is how often each change is made at one place that is drawn at random."""

from __future__ import annotations

import difflib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.mutations import MATTERS, apply
from benchmarks.operators import OPERATORS
from benchmarks.operators import Tree as Mutable
from benchmarks.source import Source
from mpaudit import rulebook
from mpaudit.audit import Audit
from mpaudit.model import Confidence, Severity
from mpaudit.settings import Settings
from mpaudit.static.run import lint
from tests.static.rearranged import (
    Choose,
    Files,
    all_of,
    keywords,
    moved,
    renamed,
    with_block_wrapped,
    with_dead_code,
    wrapped,
)

CHECKOUTS = [Path(place) for place in os.environ.get("MPAUDIT_CHECKOUTS", "").split(os.pathsep) if place]
SAMPLES = Path(rulebook.__file__).parent.parent / "sample_projects"
TREES = [*(sorted(p for p in SAMPLES.iterdir() if p.is_dir()) if SAMPLES.is_dir() else []), *CHECKOUTS]
SEEDS = range(int(os.environ.get("MPAUDIT_SEEDS", "1")))
DEFECTS = ("drop-update", "raw-step", "drop-unscale", "raw-backward", "unscale-twice", "backward-into-autocast")
EVERYTHING: dict[str, object] = {"min_severity": Severity.INFO, "min_confidence": Confidence.POSSIBLE}

whole_trees = pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
T = TypeVar("T")
Place = tuple[str, str]
"""Path and code: lines move."""


def files_of(tree: Path) -> Files:
    """The Python files that parse here, by path."""
    files = {}
    for path in sorted(tree.rglob("*.py")):
        name = path.relative_to(tree)
        if path.is_file() and not path.is_symlink() and ".git" not in name.parts:
            try:
                text = path.read_bytes().decode().replace("\r\n", "\n")
                compile(text, str(name), "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                continue
            files[name.as_posix()] = text
    assert files, f"no Python file in {tree}"
    return files


def write(folder: Path, files: Files) -> Path:
    (folder / ".git").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def audit(tree: Path, *paths: str, cache: Path | None = None, jobs: int = 1) -> Audit:
    settings = Settings(root=str(tree), codes=tuple(rulebook.headers()), **EVERYTHING)  # type: ignore[arg-type]
    return lint(paths or ["."], settings, cwd=tree, jobs=jobs, cache_dir=cache, use_cache=cache is not None)


def found(tree: Path, cache: Path) -> Counter[Place]:
    result = audit(tree, cache=cache)
    return Counter((finding.path.replace("helper_2_", ""), finding.code) for finding in result.findings)


# ------------------------------------------------------------- rearrangements


def _renamed(files: Files) -> Files:
    keep = keywords(files.values())
    return {name: renamed(text, keep) for name, text in files.items()}


def _moved(files: Files, chosen: Choose = all_of) -> Files:
    """Helpers of each file, in a file beside it."""
    changed = dict(files)
    for name, text in files.items():
        folder, _, last = name.rpartition("/")
        module = f"helper_2_{last.removesuffix('.py')}"
        parts = moved(text, module, chosen) if last != "__init__.py" else None
        if parts is not None:
            changed[name], changed[f"{folder}/{module}.py" if folder else f"{module}.py"] = parts
    return changed


CHANGES: dict[str, Callable[[Files], Files]] = {
    "renamed": _renamed,
    "wrapped": lambda files: {name: wrapped(text) for name, text in files.items()},
    "moved": _moved,
    "dead code": lambda files: {name: with_dead_code(text) for name, text in files.items()},
}


@pytest.mark.parametrize("change", CHANGES)
@whole_trees
def test_a_change_that_changes_nothing(tree: Path, change: str, tmp_path: Path) -> None:
    files = files_of(tree)
    again = CHANGES[change](files)
    before = found(write(tmp_path / "before" / tree.name, files), tmp_path / "cache")
    assert found(write(tmp_path / "again" / tree.name, again), tmp_path / "cache") == before


def planted(files: Files) -> Iterator[tuple[str, Files]]:
    """Copies of a project with one defect each, the first of each kind that there is a place for."""
    sources = {name: Source(name, text) for name, text in files.items() if MATTERS.search(text)}
    for operator in DEFECTS:
        mutant = next(OPERATORS[operator](Mutable(sources.values())), None)
        if mutant is not None:
            yield operator, {**files, **{name: changed.text for name, changed in apply(mutant, sources).items()}}


@whole_trees
def test_a_defect_is_found_wherever_its_code_is_put(tree: Path, tmp_path: Path) -> None:
    for operator, files in planted(files_of(tree)):
        before = found(write(tmp_path / operator / "before" / tree.name, files), tmp_path / "cache")
        for name, change in CHANGES.items():
            again = found(write(tmp_path / operator / name / tree.name, change(files)), tmp_path / "cache")
            assert again == before, f"{operator}, {name}"


# ------------------------------------------------- one place, drawn at random


def _at_one_place(files: Files, change: str, draw: random.Random) -> Files:
    """A change at one place of one file that holds precision code, where there is such a place."""

    def one(places: Sequence[T]) -> Sequence[T]:
        return draw.sample(places, 1) if places else places

    def shuffled(places: Sequence[T]) -> Sequence[T]:
        return draw.sample(places, len(places))

    keep = keywords(files.values())
    changes: dict[str, Callable[[str, str], Files]] = {
        "renamed": lambda name, text: {name: renamed(text, keep, one)},
        "wrapped": lambda name, text: {name: wrapped(text, one)},
        "moved": lambda name, text: _moved({name: text}, one),
        "dead code": lambda name, text: {name: with_dead_code(text, one)},
        "block": lambda name, text: {name: with_block_wrapped(text, shuffled)},
    }
    names = [name for name, text in files.items() if MATTERS.search(text)] or list(files)
    for name in draw.sample(names, len(names)):
        made = changes[change](name, files[name])
        if made[name] != files[name]:
            for path, source in made.items():
                compile(source, path, "exec", dont_inherit=True)
            return {**files, **made}
    return files


def _edits(before: Files, after: Files) -> str:
    pairs = [(before.get(name, ""), text) for name, text in after.items()]
    return "\n".join(
        line
        for a, b in pairs
        if a != b
        for line in difflib.unified_diff(a.split("\n"), b.split("\n"), n=2, lineterm="")
    )


@pytest.mark.parametrize("seed", SEEDS)
@whole_trees
def test_a_change_at_one_place(tree: Path, seed: int, tmp_path: Path) -> None:
    draw = random.Random(f"{tree.name} {seed}")
    original = files_of(tree)
    broken = list(planted(original))
    for defect, files in [("nothing", original), *draw.sample(broken, min(1, len(broken)))]:
        before = found(write(tmp_path / defect / "before" / tree.name, files), tmp_path / "cache")
        for change in (*CHANGES, "block"):
            changed = _at_one_place(files, change, draw)
            again = found(write(tmp_path / defect / change / tree.name, changed), tmp_path / "cache")
            lost, gained = dict(before - again), dict(again - before)
            if lost or gained:
                said = f"{defect} planted, {change}: lost {lost}, gained {gained}"
                pytest.fail(f"{said}\n{_edits(files, changed)}", pytrace=False)


# -------------------------------------------------- how it is asked, not what


@whole_trees
def test_some_files_say_what_all_say(tree: Path, tmp_path: Path) -> None:
    copy = write(tmp_path / tree.name, files_of(tree))
    whole = audit(copy, cache=tmp_path / "cache")
    paths = sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*.py"))
    random_ = random.Random(tree.name)
    sizes = [1, 1, 1, 2, max(1, len(paths) // 4), max(1, len(paths) // 2), max(1, len(paths) - 1)]
    for size in sizes:
        some = random_.sample(paths, min(size, len(paths)))
        expected = [finding for finding in whole.findings if finding.path in some]
        assert list(audit(copy, *some, cache=tmp_path / "cache").findings) == expected, some
    alone = random_.choice(sorted({finding.path for finding in whole.findings}) or paths)
    expected = [finding for finding in whole.findings if finding.path == alone]
    assert list(audit(copy, alone).findings) == expected, f"{alone}, without a cache"


@whole_trees
def test_jobs_order_and_cache(tree: Path, tmp_path: Path) -> None:
    files = files_of(tree)
    copy = write(tmp_path / tree.name, files)
    cold = audit(copy, cache=tmp_path / "cache").findings
    assert audit(copy, cache=tmp_path / "cache").findings == cold
    shuffled = random.Random(0).sample(sorted(files), len(files))
    assert audit(copy, *shuffled, jobs=3).findings == cold
    name = random.Random(tree.name).choice(sorted(files))
    (copy / name).write_text(files[name] + "\n\nunused_2 = 0\n", encoding="utf-8")
    edited = audit(copy, cache=tmp_path / "cache").findings
    assert audit(copy).findings == edited


@whole_trees
def test_hash_seeds(tree: Path, tmp_path: Path) -> None:
    copy = write(tmp_path / tree.name, files_of(tree))
    outputs = set()
    for seed in ("0", "1", "4242"):
        command = [sys.executable, "-m", "mpaudit", "lint", "--format", "json", "--no-cache", "--fail-on", "never"]
        command += ["--min-confidence", "possible", "--min-severity", "info", "."]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.add(json.dumps(json.loads(done.stdout)["findings"]))
    assert len(outputs) == 1


def test_there_is_something_to_rearrange_and_to_lose(tmp_path: Path) -> None:
    files = files_of(SAMPLES / "char_gpt_wrapper")
    assert all(change(files) != files for change in CHANGES.values())
    clean = files_of(SAMPLES / "digits_amp_clean")
    before = found(write(tmp_path / "clean", clean), tmp_path / "cache")
    lost = {
        name for name, broken in planted(clean) if found(write(tmp_path / name, broken), tmp_path / "cache") != before
    }
    assert lost == set(DEFECTS)
