"""Mutation analysis of `mpaudit lint`: correct mixed-precision code is broken in every place where it can be, one place
at a time, and each broken project must give a new finding of the right code at the right place.

    python benchmarks/mutations.py [--operators a,b] [--limit-per-operator N] [--seed S] [--json FILE] [--again FILE]
        [--minutes-per-tree M] [--seconds-per-mutant S] TREES...

The trees are copied and never changed. `--again` takes what an earlier run caught from its JSON file, and runs what it
did not catch or did not come to. Under `--minutes-per-tree` the sites come in a random order, the same for a seed, and
those that time did not suffice for are counted as not reached.

Sites are found by syntax alone (operators.py); a site in a function that has a finding before anything is broken is
left out and counted as «not clean». `equivalent_mutants.json` lists, by hand and with the reason, the mutants that
break nothing.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, MappingProxyType

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.operators import OPERATORS, Mutant, Tree  # noqa: E402
from benchmarks.source import Edit, Rewritten, Source, rewrite  # noqa: E402
from mpaudit import settings  # noqa: E402
from mpaudit.audit import Entry, Related  # noqa: E402
from mpaudit.model import Confidence  # noqa: E402
from mpaudit.static import run  # noqa: E402
from mpaudit.static.checks import CODES  # noqa: E402

SECONDS = 20
"""CPU time for the audit of one mutant."""
SECONDS_UNBROKEN = 120
"""For the first audit of a tree, which fills the cache."""
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
MATTERS = re.compile(r"scaler|autocast|GradScaler|\.grad\b")
"""Gradients too: a function that clips them may stand in a file that knows no scaler."""
PROTOCOL = frozenset(code for code in CODES if code[3] == "2" or code in ("MPA103", "MPA104")) - {"MPA214"}
"""A function with one of these is not correct code to begin with."""
OUTCOMES = ("caught", "possible", "elsewhere", "missed", "timeout")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutant. `outcome` is one of OUTCOMES, or equivalent."""

    tree: str
    sample: bool
    operator: str
    path: str
    line: int
    outcome: str
    expected: tuple[str, ...]
    places: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    """The findings that the unbroken project did not have, at any confidence."""
    diff: str = ""


@dataclass(slots=True)
class Report:
    results: list[Result] = field(default_factory=list)
    not_clean: Counter[tuple[bool, str]] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    """Trees that were not run, and why."""
    not_reached: dict[str, int] = field(default_factory=dict)
    """Sites by tree that there was no time for."""


class OutOfTime(BaseException):
    """Raised by the alarm; no `except Exception` on the way may take it."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _options().parse_args(argv)
    names = options.operators.split(",") if options.operators else sorted(OPERATORS)
    unknown = sorted(set(names) - set(OPERATORS))
    if unknown:
        print(f"no such operator: {', '.join(unknown)}; there are {', '.join(sorted(OPERATORS))}", file=sys.stderr)
        return 2
    report = Report()
    caught = _caught(options.again) if options.again else {}
    for tree in options.trees:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            until = time.monotonic() + 60 * options.minutes_per_tree if options.minutes_per_tree else None
            chosen = options.limit_per_operator, options.seed, caught, until, options.seconds_per_mutant
            audit_mutants(tree.resolve(), Path(folder), names, report, *chosen)
        _say(f"{tree.name}: {_counts(r for r in report.results if r.tree == tree.name)}", options.quiet)
        if options.json:
            options.json.write_text(as_json(report))
    print(as_text(report))
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("trees", nargs="+", type=Path, metavar="TREES")
    parser.add_argument("--operators", help="comma-separated; all by default")
    parser.add_argument("--limit-per-operator", type=int, help="at most so many mutants of each operator per tree")
    parser.add_argument("--seed", type=int, default=0, help="which ones, under a limit")
    parser.add_argument("--minutes-per-tree", type=float, help="begin no mutant of a tree after so long")
    parser.add_argument("--seconds-per-mutant", type=int, default=SECONDS, help="CPU time; more on a slow machine")
    parser.add_argument("--json", type=Path, help="every mutant with its outcome")
    parser.add_argument("--again", type=Path, help="the JSON file of an earlier run")
    parser.add_argument("--quiet", action="store_true", help="no line for each tree")
    return parser


_Site = tuple[str, str, str, int]


def _site(result: Result) -> _Site:
    return result.tree, result.operator, result.path, result.line


def _caught(file: Path) -> dict[_Site, Result]:
    """What an earlier run caught."""
    results = (msgspec.convert(given, Result) for given in json.loads(file.read_text())["results"])
    return {_site(result): result for result in results if result.outcome == "caught"}


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


# -------------------------------------------------------------------------- one tree


def audit_mutants(
    tree: Path,
    folder: Path,
    operators: Sequence[str],
    report: Report,
    limit: int | None = None,
    seed: int = 0,
    caught: Mapping[_Site, Result] = MappingProxyType({}),
    until: float | None = None,
    seconds: int = SECONDS,
) -> None:
    """Breaks a copy of `tree` in `folder` in every place, and adds what was reported to `report`."""
    copy = folder / (_repository(tree).rpartition("/")[2] or "tree")  # some import themselves by this name
    sources = _copied(tree, copy)
    audited = _Audited(copy, folder / "cache", seconds)
    audited.findings(SECONDS_UNBROKEN)
    before = audited.findings(seconds)
    if before is None:
        report.left_out[tree.name] = f"the audit of the unbroken project takes more than {seconds} s"
        return
    sample = "sample_projects" in tree.parts
    by_path = {source.path: source for source in sources}
    dirty = _dirty(by_path, before)
    equivalent = _equivalent(tree)
    every: list[Mutant] = []
    for name in operators:
        mutants = []
        for mutant in OPERATORS[name](Tree(sources)):
            if not mutant.codes & CODES:
                continue
            around = _region(by_path[mutant.path], mutant.line)
            if dirty.get((mutant.path, around), set()) & (PROTOCOL | mutant.codes):
                report.not_clean[sample, name] += 1
            elif (mutant.path, mutant.line, name) in equivalent:
                result = Result(tree.name, sample, name, mutant.path, mutant.line, "equivalent", tuple(mutant.codes))
                report.results.append(result)
            else:
                mutants.append(mutant)
        if limit is not None and len(mutants) > limit:
            chosen = random.Random(f"{seed} {tree.name} {name}").sample(range(len(mutants)), limit)
            mutants = [mutants[number] for number in sorted(chosen)]
        every += mutants
    if until is not None:
        random.Random(f"{seed} {tree.name}").shuffle(every)
    for mutant in every:
        known = caught.get((tree.name, mutant.operator, mutant.path, mutant.line))
        if known is not None:
            report.results.append(known)
        elif until is not None and time.monotonic() > until:
            report.not_reached[tree.name] = report.not_reached.get(tree.name, 0) + 1
        else:
            report.results.append(_judged(mutant, by_path, audited, before, tree.name, sample))


_LEFT_OUT = frozenset((".git", ".ipynb_checkpoints"))
"""Folders of what is no source: `lint` does not look into them either."""


def _copied(tree: Path, copy: Path) -> list[Source]:
    """Copies the Python files, which become a project of their own, and parses those that can hold a site."""
    sources = []
    for file in sorted(tree.rglob("*.py")):
        path = file.relative_to(tree)
        if file.is_symlink() or not file.is_file() or not _LEFT_OUT.isdisjoint(path.parts):
            continue
        target = copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        try:
            text = file.read_text()
            if MATTERS.search(text) and not re.search(r"[\0\1]", text):
                sources.append(Source(path.as_posix(), text))
        except (SyntaxError, ValueError, RecursionError):
            continue
    (copy / ".git").mkdir(parents=True, exist_ok=True)
    return sources


@dataclass(slots=True)
class _Audited:
    """The copy of a tree, audited in this process, with a cache for all its mutants."""

    copy: Path
    cache: Path
    seconds: int
    """CPU time for each audit of a mutant."""

    def findings(self, seconds: int) -> tuple[Entry, ...] | None:
        """At any confidence, with paths relative to the tree; None where time runs out."""
        chosen = settings.load([str(self.copy)], cwd=self.copy, overrides={"min_confidence": Confidence.POSSIBLE})
        previous = signal.signal(signal.SIGPROF, _alarm)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            audit = run.lint([str(self.copy)], chosen, cwd=self.copy, jobs=1, cache_dir=self.cache)
        except OutOfTime:
            return None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, previous)
        return tuple(audit.findings)


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise OutOfTime


def _judged(
    mutant: Mutant,
    sources: dict[str, Source],
    audited: _Audited,
    before: tuple[Entry, ...],
    tree: str,
    sample: bool,
) -> Result:
    rewritten = apply(mutant, sources)
    try:
        for path, changed in rewritten.items():
            (audited.copy / path).write_text(changed.text)
        after = audited.findings(audited.seconds)
    finally:
        for path in rewritten:
            (audited.copy / path).write_text(sources[path].text)
    known = {(f.code, f.path, _moved(f.path, f.line, rewritten), _shown(f)) for f in before}
    fresh = [f for f in after or () if not {(f.code, f.path, f.line, s) for s in (True, _shown(f))} & known]
    places = {(path, line) for path, changed in rewritten.items() for line in changed.places}
    right = [f for f in fresh if f.code in mutant.codes and _at(f, places)]
    if after is None:
        outcome = "timeout"
    elif any(_shown(f) for f in right):
        outcome = "caught"
    elif right:
        outcome = "possible"
    elif any(_shown(f) for f in fresh):
        outcome = "elsewhere"
    else:
        outcome = "missed"
    return Result(
        tree,
        sample,
        mutant.operator,
        mutant.path,
        mutant.line,
        outcome,
        tuple(sorted(mutant.codes)),
        tuple(f"{path}:{line}" for path, line in sorted(places)),
        tuple(f"{f.path}:{f.line} {f.code} {f.confidence.value}" for f in fresh),
        _diff(rewritten, sources),
    )


def apply(mutant: Mutant, sources: dict[str, Source]) -> dict[str, Rewritten]:
    """The changed files by path. Raises ValueError or SyntaxError where an operator made something else than Python."""
    by_path: dict[str, list[Edit]] = {}
    for edit in mutant.edits:
        by_path.setdefault(edit.path, []).append(edit)
    rewritten = {path: rewrite(sources[path], edits) for path, edits in by_path.items()}
    for changed in rewritten.values():
        ast.parse(changed.text)
    return rewritten


def _moved(path: str, line: int, rewritten: dict[str, Rewritten]) -> int:
    return rewritten[path].line(line) if path in rewritten else line


def _at(finding: Entry, places: set[tuple[str, int]]) -> bool:
    """Whether the finding or a place it speaks of begins at one of `places`."""
    return any((place.path, place.line) in places for place in _places(finding))


def _places(finding: Entry) -> list[Entry | Related]:
    return [finding, *finding.related]


def _shown(finding: Entry) -> bool:
    """Whether it is shown at default settings."""
    return finding.confidence is not Confidence.POSSIBLE


def _diff(rewritten: dict[str, Rewritten], sources: dict[str, Source]) -> str:
    lines: list[str] = []
    for path, changed in rewritten.items():
        lines += difflib.unified_diff(sources[path].lines, changed.text.split("\n"), path, path, n=1, lineterm="")
    return "\n".join(lines)


# --------------------------------------------------------------- what is left out


def _dirty(sources: dict[str, Source], findings: Iterable[Entry]) -> dict[tuple[str, int], set[str]]:
    """The codes that the unbroken project shows, by file and region."""
    dirty: dict[tuple[str, int], set[str]] = {}
    for finding in filter(_shown, findings):
        for place in _places(finding):
            if place.path in sources:
                region = _region(sources[place.path], place.line)
                dirty.setdefault((place.path, region), set()).add(finding.code)
    return dirty


def _region(source: Source, line: int) -> int:
    """The first line of the outermost function around a line; of the statement, in code of no function; 0 if none."""
    body: Sequence[ast.stmt] = source.tree.body
    while True:
        around = next((s for s in body if s.lineno <= line <= (s.end_lineno or 0)), None)
        if not isinstance(around, ast.ClassDef):
            return around.lineno if around is not None else 0
        body = around.body


def _repository(tree: Path) -> str:
    """owner/name, which the folder of a checkout says as owner__name, owner+name, or either with @commit."""
    return re.sub(r"__|\+", "/", tree.name.partition("@")[0], count=1)


def _equivalent(tree: Path) -> set[tuple[str, int, str]]:
    """(path, line, operator) of the mutants of a tree that break nothing.

    Where a commits.json beside the trees says that the commit is another, none of the lines holds.
    """
    if not EQUIVALENT.is_file():
        return set()
    name = _repository(tree)
    beside = tree.parent / "commits.json"
    commit = json.loads(beside.read_text()).get(name) if beside.is_file() else None
    return {
        (entry["path"], entry["line"], operator)
        for entry in json.loads(EQUIVALENT.read_text())
        for operator in entry["operators"]
        if entry["repo"] == name and commit in (None, entry["commit"])
    }


# ------------------------------------------------------------------------- reports


def as_text(report: Report) -> str:
    """A table for the sample projects, one for real checkouts, and what was not caught, by operator."""
    from tabulate import tabulate

    parts = []
    for sample, title in ((True, "Sample projects"), (False, "Real checkouts")):
        results = [r for r in report.results if r.sample is sample]
        if results:
            trees = len({r.tree for r in results})
            rows = list(_rows(results, {op: n for (s, op), n in report.not_clean.items() if s is sample}))
            head = ["operator", "sites", *OUTCOMES, "equivalent", "not clean", "%"]
            parts.append(f"{title} ({trees})\n\n" + tabulate(rows, head, tablefmt="github", floatfmt=".1f"))
    misses = [r for r in report.results if r.outcome not in ("caught", "equivalent")]
    if misses:
        lines = [
            f"{r.operator:34} {r.outcome:9} {r.tree}/{r.path}:{r.line} wanted {'|'.join(r.expected)}"
            + (f", got {'; '.join(r.new[:3])}" if r.new else "")
            for r in sorted(misses, key=lambda r: (r.operator, r.outcome, r.tree, r.path, r.line))
        ]
        parts.append("Not caught\n\n" + "\n".join(lines))
    parts += [f"{tree}: not run, {why}" for tree, why in sorted(report.left_out.items())]
    parts += [f"{tree}: {sites} sites not reached" for tree, sites in sorted(report.not_reached.items())]
    return "\n\n".join(parts)


def _rows(results: list[Result], not_clean: dict[str, int]) -> Iterator[list[object]]:
    for name in [*sorted({r.operator for r in results}), ""]:
        own = [r for r in results if name in ("", r.operator)]
        counts = Counter(r.outcome for r in own)
        sites = len(own) - counts["equivalent"]
        share = 100 * counts["caught"] / sites if sites else None
        left = not_clean.get(name, 0) if name else sum(not_clean.values())
        yield [name or "all", sites, *(counts[o] for o in OUTCOMES), counts["equivalent"], left, share]


def _counts(results: Iterable[Result]) -> str:
    counts = Counter(r.outcome for r in results)
    return ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) or "no mutants"


def as_json(report: Report) -> str:
    return json.dumps(
        {
            "results": [asdict(result) for result in report.results],
            "not_clean": [
                {"sample": sample, "operator": name, "sites": number}
                for (sample, name), number in sorted(report.not_clean.items())
            ],
            "left_out": report.left_out,
            "not_reached": report.not_reached,
        },
        indent=1,
    )


if __name__ == "__main__":
    started = time.perf_counter()
    code = main()
    print(f"\n{time.perf_counter() - started:.0f} s", file=sys.stderr)
    raise SystemExit(code)
