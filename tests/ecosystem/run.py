"""Holds the findings of `mpaudit lint` on public repositories to what was judged of them.

    python tests/ecosystem/run.py CHECKOUTS

CHECKOUTS is a folder of working trees named OWNER+NAME, each at the commit that `verdicts.json` names. Every tree is
linted at default settings. Printed are, for each rule, the findings that were judged, how many are right, the precision
and the lower end of its 95 % Wilson interval, and what has changed: findings that nobody has judged, and judged ones
that are no longer reported. Codes 5xx and 7xx are counted apart. Exits with 1 where something has changed.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

VERDICTS = Path(__file__).parent / "verdicts.json"
APART = ("MPA5", "MPA7")
"""Beginnings of the codes that are counted apart: advice on hardware, and old names."""


@dataclass(frozen=True, order=True)
class Place:
    """A finding of one repository."""

    repository: str
    path: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.repository} {self.path}:{self.line} {self.code}"


@dataclass(frozen=True)
class Verdict:
    place: Place
    verdict: str
    """'right', 'wrong' or 'arguable'. Only the first counts as right."""
    why: str


@dataclass(frozen=True)
class Precision:
    judged: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.judged if self.judged else 0.0

    @property
    def lower(self) -> float:
        return wilson_lower(self.right, self.judged)


@dataclass(frozen=True)
class Change:
    unjudged: tuple[Place, ...]
    vanished: tuple[Verdict, ...]


def wilson_lower(right: int, judged: int, z: float = 1.959964) -> float:
    """Lower end of the Wilson score interval of a proportion (E. B. Wilson, JASA 22, 1927); `z`: 95 % two-sided."""
    if judged == 0:
        return 0.0
    share = right / judged
    centre = share + z * z / (2 * judged)
    spread = z * math.sqrt(share * (1 - share) / judged + z * z / (4 * judged * judged))
    return max(0.0, (centre - spread) / (1 + z * z / judged))


def by_rule(verdicts: Iterable[Verdict]) -> dict[str, Precision]:
    """Judged and right per code, in order of the codes."""
    counts: dict[str, list[int]] = {}
    for verdict in verdicts:
        count = counts.setdefault(verdict.place.code, [0, 0])
        count[0] += 1
        count[1] += verdict.verdict == "right"
    return {code: Precision(*counts[code]) for code in sorted(counts)}


def together(rules: dict[str, Precision], apart: bool) -> Precision:
    """All codes that are (or are not) counted apart as one."""
    chosen = [p for code, p in rules.items() if code.startswith(APART) == apart]
    return Precision(sum(p.judged for p in chosen), sum(p.right for p in chosen))


def compare(verdicts: Sequence[Verdict], found: Iterable[Place], linted: frozenset[str]) -> Change:
    """What is reported and was not judged, and what was judged and is not reported, in the linted repositories."""
    reported = set(found)
    known = {verdict.place for verdict in verdicts}
    return Change(
        tuple(sorted(reported - known)),
        tuple(v for v in verdicts if v.place.repository in linted and v.place not in reported),
    )


def reported(verdicts: Sequence[Verdict], change: Change) -> list[Verdict]:
    """The verdicts on findings that are still reported, which are those that precision is about."""
    gone = {verdict.place for verdict in change.vanished}
    return [verdict for verdict in verdicts if verdict.place not in gone]


def load(path: Path) -> tuple[dict[str, str], list[Verdict]]:
    """Commits by repository, and the verdicts."""
    document = json.loads(path.read_text(encoding="utf-8"))
    verdicts = [
        Verdict(Place(v["repository"], v["path"], v["line"], v["code"]), v["verdict"], v["why"])
        for v in document["verdicts"]
    ]
    return document["commits"], verdicts


def commit_of(tree: Path) -> str:
    done = subprocess.run(["git", "-C", str(tree), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def findings(repository: str, tree: Path) -> list[Place]:
    """The default findings in a tree, paths with forward slashes. Raises CalledProcessError where lint fails."""
    command = [sys.executable, "-m", "mpaudit", "lint", ".", "--format", "json", "--no-cache", "--fail-on", "never"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
    audit = json.loads(done.stdout)
    return [Place(repository, f["path"].replace("\\", "/"), f["line"], f["code"]) for f in audit["findings"]]


def table(rules: dict[str, Precision]) -> str:
    rows = [f"{'code':10}{'judged':>8}{'right':>8}{'precision':>11}{'at least':>10}"]
    lines = [
        *rules.items(),
        ("1xx-4xx", together(rules, apart=False)),
        ("5xx, 7xx", together(rules, apart=True)),
    ]
    rows += [f"{code:10}{p.judged:8}{p.right:8}{p.share:11.1%}{p.lower:10.1%}" for code, p in lines]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("--only", nargs="*", default=None, metavar="OWNER/NAME")
    options = parser.parse_args(arguments)
    commits, verdicts = load(VERDICTS)
    found: list[Place] = []
    linted: set[str] = set()
    for repository, commit in sorted(commits.items()):
        tree = options.checkouts / repository.replace("/", "+")
        if options.only is not None and repository not in options.only:
            continue
        if commit_of(tree) != commit:
            print(f"{repository}: not there at {commit[:10]}", file=sys.stderr)
            continue
        found += findings(repository, tree)
        linted.add(repository)
    change = compare(verdicts, found, frozenset(linted))
    print(table(by_rule(v for v in reported(verdicts, change) if v.place.repository in linted)))
    for place in change.unjudged:
        print(f"not judged: {place}")
    for verdict in change.vanished:
        print(f"no longer reported ({verdict.verdict}): {verdict.place}")
    return 1 if change.unjudged or change.vanished else 0


if __name__ == "__main__":
    raise SystemExit(main())
