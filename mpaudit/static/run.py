"""`mpaudit lint`: from paths and settings to the Audit document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from mpaudit import rulebook
from mpaudit.audit import Audit, assemble
from mpaudit.model import Confidence, Finding, Location, Problem, Related
from mpaudit.settings import Settings

from .cache import FOLDER, Cache
from .checks import SYNTAX_ERROR, Draft, Seen, Target, check
from .facts import ir
from .loading import Loaded, load
from .parsing import lower_all
from .program.analysis import follow
from .program.linker import Site
from .program.traits import computes_in_float64, turns_tf32_on, version_shims
from .shown import shown
from .sources import decode, discover, project_root, read


def lint(
    paths: Sequence[str],
    settings: Settings,
    *,
    cwd: Path,
    jobs: int = 0,
    cache_dir: Path | None = None,
    use_cache: bool = True,
) -> Audit:
    """Audits the files under `paths`. The whole project of each file is linked; findings are those in the given files.

    `jobs` 0 decides by the work. Raises UsageError for a path that does not exist.
    """
    given = discover(paths, settings, cwd)
    by_root: dict[Path, list[Path]] = {}
    for file in given.files:
        by_root.setdefault(project_root(file), []).append(file)
    headers = rulebook.headers()
    triggers = sorted({pattern for code in settings.codes if code in headers for pattern in headers[code].triggers})
    findings: list[Finding] = []
    errors = list(given.errors)
    analysed = 0
    for root, wanted in sorted(by_root.items()):
        cache = Cache((cache_dir or root / FOLDER) if use_cache else None)
        try:
            whole = sorted({*wanted, *discover([str(root)], settings, cwd).files})
            loaded = load(root, whole, cache, triggers, lambda texts: lower_all(texts, jobs))
        finally:
            cache.close()
        asked = {str(file) for file in wanted}
        findings += [f for f in _findings(loaded, settings) if f.location.path in asked]
        errors += [problem for path, problem in sorted(loaded.problems.items()) if path in asked]
        analysed += len(loaded.admitted & asked)
    let_through = shown(findings, settings, _text)
    return assemble(
        let_through.findings,
        errors,
        settings,
        cwd=cwd,
        lines=_lines,
        files=len(given.files),
        analysed=analysed,
        without_precision_code=len(given.files) - analysed - len({e.path for e in errors if e.path}),
        suppressed=let_through.suppressed,
    )


@lru_cache(maxsize=64)
def _text(path: str) -> str:
    data = read(path)
    return decode(data) if isinstance(data, bytes) else ""


def _lines(path: str) -> Sequence[str]:
    return _text(path).split("\n")


def _findings(loaded: Loaded, settings: Settings) -> list[Finding]:
    headers = rulebook.headers()
    codes = frozenset(settings.codes)
    found = [
        _finding(Draft(SYNTAX_ERROR, Site(path, p.line, p.column, p.line, p.column + 1),
                       f"cannot be parsed: {p.message}", "correct the syntax; the file was not audited",
                       Confidence.DEFINITE))
        for path, p in loaded.syntax.items() if SYNTAX_ERROR in codes
    ]  # fmt: skip
    seen = Seen(
        trace=follow(loaded.project),
        target=Target(settings.target_torch, settings.target_device),
        sciences=computes_in_float64(loaded.project),
        tf32=turns_tf32_on(loaded.project),
        shims=version_shims(loaded.project),
    )
    found += [_finding(draft) for draft in check(seen, codes) if draft.code in headers]
    return found


def _finding(draft: Draft) -> Finding:
    rule = rulebook.headers()[draft.code]
    return Finding(
        code=draft.code,
        name=rule.name,
        severity=draft.severity or rule.severity,
        confidence=min(draft.confidence, rule.confidence, key=lambda c: c.rank),
        location=_location(draft.site),
        message=draft.message,
        remedy=draft.remedy,
        related=tuple(Related(_location(site), text) for site, text in draft.related if site is not None),
    )


def _location(site: Site) -> Location:
    return Location(site.path, site.line, site.column, site.end_line, site.end_column)
