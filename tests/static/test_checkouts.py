"""Changes that change nothing, on whole projects: the sample projects, and the checkouts that MPAUDIT_CHECKOUTS names
(paths joined as in PATH). Everything is compared that the analysis finds, at the lowest severity and confidence; and
since real trees have few findings, defects are planted in copies of them, so that there is something to lose."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

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
from tests.static.rearranged import Files, keywords, moved, renamed, with_dead_code, wrapped

CHECKOUTS = [Path(place) for place in os.environ.get("MPAUDIT_CHECKOUTS", "").split(os.pathsep) if place]
SAMPLES = Path(rulebook.__file__).parent.parent / "sample_projects"
TREES = [*(sorted(p for p in SAMPLES.iterdir() if p.is_dir()) if SAMPLES.is_dir() else []), *CHECKOUTS]
DEFECTS = ("drop-update", "raw-step", "drop-unscale", "raw-backward", "unscale-twice", "backward-into-autocast")
EVERYTHING: dict[str, object] = {"min_severity": Severity.INFO, "min_confidence": Confidence.POSSIBLE}

whole_trees = pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
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


def _moved(files: Files) -> Files:
    """Helpers of each file, in a file beside it."""
    changed = dict(files)
    for name, text in files.items():
        folder, _, last = name.rpartition("/")
        module = f"helper_2_{last.removesuffix('.py')}"
        parts = moved(text, module) if last != "__init__.py" else None
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
