"""`mpaudit lint`: from paths and settings to the Audit document."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from mpaudit import rulebook
from mpaudit.audit import Audit, assemble
from mpaudit.model import Confidence, Finding, Location, Problem, Related
from mpaudit.settings import Settings

from .answers import Stored
from .cache import FOLDER, Cache
from .judging import Verdict, judge
from .loading import Component, Counts, survey
from .pool import Pool
from .shown import shown
from .sources import decode, discover, project_files, project_root, read

SYNTAX_ERROR = "MPA001"
"""Found by the parser, not by a check."""

_TOGETHER = 32
"""Project roots whose caches are open at the same time."""


def lint(
    paths: Sequence[str],
    settings: Settings,
    *,
    cwd: Path,
    jobs: int = 0,
    cache_dir: Path | None = None,
    use_cache: bool = True,
    counts: Counts | None = None,
) -> Audit:
    """Audits the files under `paths`. The whole project of each file is linked; findings are those in the given files.

    `jobs` 0 decides by the work. `counts` is filled with what each stage let through. Raises UsageError for a path
    that does not exist.
    """
    given = discover(paths, settings, cwd)
    by_root: dict[Path, list[Path]] = {}
    for file in given.files:
        by_root.setdefault(project_root(file), []).append(file)
    asked = {str(file) for file in given.files}
    findings: list[Finding] = []
    errors = list(given.errors)
    analysed: set[str] = set()
    roots = sorted(by_root.items())
    with _without_collections(), Pool(jobs) as pool:
        for start in range(0, len(roots), _TOGETHER):
            with ExitStack() as caches:
                trees = []
                for root, wanted in roots[start : start + _TOGETHER]:
                    cache = Cache((cache_dir or root / FOLDER) if use_cache else None)
                    caches.callback(cache.close)
                    whole = {*wanted, *project_files(root, settings).files}
                    trees.append(({str(file) for file in wanted}, survey(root, whole, cache, _triggers())))
                touched = [
                    (own, tree, component)
                    for own, tree in trees
                    for component in tree.components
                    if any(file.path in own for file in component.files)
                ]
                target = (settings.target_torch, settings.target_device)
                verdicts = judge([(tree, component) for _, tree, component in touched], pool, _triggers(), target)
                for own, tree in trees:
                    errors += [problem for problem in tree.problems if problem.path in own]
                    if counts is not None:
                        counts.add(tree.counts)
                for (own, _, component), verdict in zip(touched, verdicts, strict=True):
                    # a project inside of another is audited as its own: here its files only link
                    analysed |= {file.path for file in component.files if file.path in own}
                    findings += _findings(component, verdict, own)
                    errors += _errors(component, verdict, own)
    analysed -= {error.path for error in errors}
    text = _texts()
    let_through = shown(findings, settings, text)
    return assemble(
        let_through.findings,
        errors,
        settings,
        cwd=cwd,
        lines=lambda path: text(path).split("\n"),
        files=len(given.files),
        analysed=len(analysed),
        without_precision_code=len(asked - analysed - {error.path for error in errors}),
        suppressed=let_through.suppressed,
    )


def _triggers() -> list[str]:
    """Those of all rules: what a rule finds does not depend on which others are selected."""
    return [pattern for header in rulebook.headers().values() for pattern in header.triggers]


def _texts() -> Callable[[str], str]:
    """The text of a file by its path, for the length of a run."""

    @lru_cache(maxsize=64)
    def text(path: str) -> str:
        data = read(path)
        return decode(data) if isinstance(data, bytes) else ""

    return text


@contextmanager
def _without_collections() -> Iterator[None]:
    """Trees of syntax are large and without cycles: looking for some in them takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.unfreeze()  # all is old now: the next collection does not go through it
            gc.enable()


# ------------------------------------------------------------------- findings


def _findings(component: Component, verdict: Verdict, asked: set[str]) -> Iterator[Finding]:
    headers = rulebook.headers()
    absolute = {file.name: file.path for file in component.files}
    found = [*verdict.findings, *_syntax_errors(verdict)]
    for stored in found:
        if absolute[stored.place.path] not in asked or stored.code not in headers:
            continue
        rule = headers[stored.code]
        yield Finding(
            code=stored.code,
            name=rule.name,
            severity=stored.severity or rule.severity,
            confidence=min(stored.confidence, rule.confidence, key=lambda c: c.rank),
            location=_placed(stored.place, absolute),
            message=stored.message,
            remedy=stored.remedy,
            related=tuple(Related(_placed(other.location, absolute), other.message) for other in stored.related),
        )


def _syntax_errors(verdict: Verdict) -> Iterator[Stored]:
    remedy = "correct the syntax; the file was not audited"
    for name, problem in verdict.syntax:
        place = Location(name, problem.line, problem.column, problem.line, problem.column + 1)
        message = f"cannot be parsed: {problem.message}"
        yield Stored(SYNTAX_ERROR, place, message, remedy, Confidence.DEFINITE, (), None)


def _placed(place: Location, absolute: dict[str, str]) -> Location:
    return Location(absolute[place.path], place.line, place.column, place.end_line, place.end_column)


def _errors(component: Component, verdict: Verdict, asked: set[str]) -> Iterator[Problem]:
    absolute = {file.name: file.path for file in component.files}
    for problem in verdict.problems:
        if absolute[problem.path] in asked:
            yield Problem(absolute[problem.path], problem.line, problem.message, problem.internal)
    if verdict.failure:
        paths = [file.path for file in component.files if file.path in asked]
        others = f" and {len(component.files) - 1} files linked with it" if len(component.files) > 1 else ""
        message = f"internal error while analysing this file{others}: {verdict.failure}; please report it"
        yield Problem(paths[0], 0, message, True)
