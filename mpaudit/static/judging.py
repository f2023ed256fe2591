"""The verdict on each component: outlined, lowered, analysed, and read with LibCST where a finding stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from mpaudit.model import Problem

from .answers import ANSWER, Part, Question, Stored
from .cache import Cache
from .facts import ir
from .fingerprints import PARSING, digest_of, fingerprint
from .heat import ENGINE_TRIGGERS, units_to_parse
from .loading import Component, File, Tree, Unreadable
from .parsing import LOWER, OUTLINE, TREE, Lowered, ToOutline
from .pool import Pool
from .sources import decode
from .tasks import Lost, Task

Q = TypeVar("Q")
A = TypeVar("A")


class Verdict(msgspec.Struct, array_like=True, frozen=True):
    """What is said of a component; paths are below the project's root."""

    findings: tuple[Stored, ...] = ()
    syntax: tuple[tuple[str, ir.SyntaxProblem], ...] = ()
    problems: tuple[Problem, ...] = ()
    failure: str = ""
    """An internal error that cost the findings."""


def judge(
    wanted: Sequence[tuple[Tree, Component]],
    pool: Pool,
    triggers: Iterable[str],
    target: tuple[tuple[int, ...] | None, str | None],
) -> list[Verdict]:
    """The verdict on each component, from the caches or worked out, in order."""
    patterns = tuple(sorted({*triggers, *ENGINE_TRIGGERS}))
    whole = fingerprint(("",))
    keys = [
        b"verdict" + digest_of(whole + repr((patterns, target, tree.sciences, tree.name)).encode() + component.key)
        for tree, component in wanted
    ]
    verdicts: list[Verdict | None] = [None] * len(wanted)
    decoder = msgspec.msgpack.Decoder(Verdict)
    for tree, indices in _by_tree(tree for tree, _ in wanted):
        stored = tree.cache.get_many(keys[i] for i in indices)
        for i in indices:
            if keys[i] in stored:
                verdicts[i] = decoder.decode(stored[keys[i]])
                tree.counts.answered += 1
    missing = [i for i, verdict in enumerate(verdicts) if verdict is None]
    worked_out = _work_out([wanted[i] for i in missing], pool, patterns, target)
    for i, (verdict, lasting) in zip(missing, worked_out, strict=True):
        verdicts[i] = verdict
        if lasting:
            wanted[i][0].cache.put_many({keys[i]: msgspec.msgpack.encode(verdict)})
    return verdicts  # type: ignore[return-value]


def _by_tree(trees: Iterable[Tree]) -> Iterator[tuple[Tree, list[int]]]:
    found: dict[int, tuple[Tree, list[int]]] = {}
    for number, tree in enumerate(trees):
        found.setdefault(id(tree), (tree, []))[1].append(number)
    yield from found.values()


_UnitPlace = tuple[File, int]
"""A file and the number of a unit in it."""


@dataclass(slots=True)
class _Work:
    """A component on its way through the stages."""

    tree: Tree
    files: list[File]
    outlines: list[ir.Outline] = field(default_factory=list)
    hot: list[set[int]] = field(default_factory=list)
    syntax: list[tuple[str, ir.SyntaxProblem]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    statements: dict[_UnitPlace, tuple[ir.Stmt, ...]] = field(default_factory=dict)
    confirmed: set[_UnitPlace] = field(default_factory=set)
    """Units whose statements are those of their LibCST tree."""
    lasting: bool = True
    """The same again at every try: may be cached."""

    def problem(self, file: File, line: int, message: str) -> None:
        self.problems.append(Problem(file.name, line, message))

    def lost(self, file: File, lost: Lost, line: int = 0) -> None:
        self.lasting = False
        message = f"internal error: {lost.reason}; please report it" if lost.internal else lost.reason
        self.problems.append(Problem(file.name, line, f"could not be analysed: {message}", lost.internal))


def _work_out(
    wanted: Sequence[tuple[Tree, Component]],
    pool: Pool,
    patterns: tuple[str, ...],
    target: tuple[tuple[int, ...] | None, str | None],
) -> list[tuple[Verdict, bool]]:
    if not wanted:
        return []
    works = [_Work(tree, list(component.files)) for tree, component in wanted]
    lead = pool.lead(ANSWER, [sum(file.size for file in work.files) for work in works])
    if lead is None:
        answers = _answers(works, pool, patterns, target)
    else:
        _read([works[lead]], pool, patterns)
        question = _question(works[lead], target)
        first = pool.begin(ANSWER, question, _weight(question))
        answers = _answers([*works[:lead], *works[lead + 1 :]], pool, patterns, target)
        given = dict(works[lead].statements)
        _read_ahead(works[lead], first.goes_on, pool)
        answer = first.answer()
        if works[lead].statements != given:
            answer = _ask([_question(works[lead], target)], pool)[0]
        answers[lead:lead] = _confirmed([works[lead]], [answer], pool, target)
    verdicts = []
    for work, answer in zip(works, answers, strict=True):
        for file in work.files:
            file.data = None
        failed = isinstance(answer, Lost)
        failure = answer.reason if isinstance(answer, Lost) else ""
        findings = answer if not isinstance(answer, Lost) else ()
        syntax, problems = tuple(sorted(work.syntax, key=lambda item: item[0])), tuple(sorted(set(work.problems)))
        verdicts.append((Verdict(findings, syntax, problems, failure), work.lasting and not failed))
    return verdicts


def _answers(
    works: list[_Work], pool: Pool, patterns: tuple[str, ...], target: tuple[tuple[int, ...] | None, str | None]
) -> list[tuple[Stored, ...] | Lost]:
    _read(works, pool, patterns)
    return _confirmed(works, _ask([_question(work, target) for work in works], pool), pool, target)


def _read(works: list[_Work], pool: Pool, patterns: tuple[str, ...]) -> None:
    """Outlines the files, and lowers what is worth it."""
    _outline(works, pool, patterns)
    for work in works:
        work.hot = units_to_parse(work.outlines)
    _lower(works, pool)


def _ask(questions: list[Question], pool: Pool) -> list[tuple[Stored, ...] | Lost]:
    return pool.map(ANSWER, questions, list(map(_weight, questions)))


def _confirmed(
    works: list[_Work],
    answers: list[tuple[Stored, ...] | Lost],
    pool: Pool,
    target: tuple[tuple[int, ...] | None, str | None],
) -> list[tuple[Stored, ...] | Lost]:
    """The answers, once LibCST has read all that they speak of."""
    asked = list(range(len(works)))
    while asked:
        changed = _confirm([(works[i], answers[i]) for i in asked], pool)
        asked = [i for i in asked if works[i] in changed]
        for i, answer in zip(asked, _ask([_question(works[i], target) for i in asked], pool), strict=True):
            answers[i] = answer
    return answers


def _read_ahead(work: _Work, goes_on: Callable[[], bool], pool: Pool) -> None:
    """While a worker follows a component, LibCST reads what its findings will speak of, if there are any: the code that
    trains."""
    for file, outline in zip(work.files, work.outlines, strict=True):
        for number, unit in enumerate(outline.units):
            if set(unit.calls) >= _TRAINS and (file, number) in work.statements.keys() - work.confirmed:
                if not goes_on():
                    return
                _read_units([(work, (file, number))], TREE, b"tree", pool)


_TRAINS = frozenset(("backward", "step"))
"""What code calls that trains something."""


def _question(work: _Work, target: tuple[tuple[int, ...] | None, str | None]) -> Question:
    parts = [
        Part(
            file.name,
            file.parts,
            file.is_package,
            outline,
            tuple((unit, work.statements.get((file, number))) for number, unit in enumerate(outline.units)),
        )
        for file, outline in zip(work.files, work.outlines, strict=True)
    ]
    return Question(tuple(parts), target[0], target[1], work.tree.sciences, work.tree.name)


def _weight(question: Question) -> int:
    chunks = (chunk for part in question.parts for chunk in part.chunks)
    return sum(unit.last_line - unit.first_line for unit, stmts in chunks if stmts) * 35


def _outline(works: Sequence[_Work], pool: Pool, patterns: tuple[str, ...]) -> None:
    salt = digest_of(fingerprint(PARSING) + repr(patterns).encode())[:8]
    places = [(work, file) for work in works for file in work.files]
    found = _remembered(
        pool,
        OUTLINE,
        [(work.tree.cache, b"outline" + salt + file.digest) for work, file in places],
        lambda i: ToOutline(places[i][1].contents(), patterns),
        lambda question: len(question.data),
    )
    for work in works:
        work.files = []
    for (work, file), (outlined, size) in zip(places, found, strict=True):
        work.tree.counts.outlined += size > 0
        work.tree.counts.outlined_bytes += size
        if isinstance(outlined, Lost):
            work.lost(file, outlined)
        elif outlined.outline is not None:
            work.files.append(file)
            work.outlines.append(outlined.outline)
        elif outlined.problem is not None and outlined.is_syntax:
            work.syntax.append((file.name, outlined.problem))
        elif outlined.problem is not None:
            work.problem(file, outlined.problem.line, _sentence(outlined.problem.message))


def _lower(works: Sequence[_Work], pool: Pool) -> None:
    """The statements of all units that are worth it."""
    places = [
        (work, (file, number))
        for work in works
        for file, hot in zip(work.files, work.hot, strict=True)
        for number in sorted(hot)
    ]
    _read_units(places, LOWER, b"unit", pool)


def _confirm(answers: Sequence[tuple[_Work, tuple[Stored, ...] | Lost]], pool: Pool) -> list[_Work]:
    """What a finding speaks of is read from its LibCST tree too; the components of which that says something else, and
    which have to be analysed again."""
    places: dict[tuple[int, _UnitPlace], tuple[_Work, _UnitPlace]] = {}
    for work, answer in answers:
        named = {file.name: file for file in work.files}
        units = {file: outline.units for file, outline in zip(work.files, work.outlines, strict=True)}
        for found in () if isinstance(answer, Lost) else answer:
            for place in (found.place, *(other.location for other in found.related)):
                file = named[place.path]
                for number, unit in enumerate(units[file]):
                    within = unit.first_line <= place.line <= unit.last_line
                    if within and (file, number) in work.statements.keys() - work.confirmed:
                        places[id(work), (file, number)] = work, (file, number)
    before = {key: work.statements[unit] for key, (work, unit) in places.items()}
    _read_units(list(places.values()), TREE, b"tree", pool)
    return [work for key, (work, unit) in places.items() if work.statements.get(unit) != before[key]]


def _read_units(places: Sequence[tuple[_Work, _UnitPlace]], task: Task[str, Lowered], kind: bytes, pool: Pool) -> None:
    """Puts the statements of units, or why there are none, with the work that they belong to."""
    salt = fingerprint(PARSING)[:8]
    outlines = {file: outline for work, _ in places for file, outline in zip(work.files, work.outlines, strict=True)}
    lines: dict[File, list[str]] = {}

    def text(i: int) -> str:
        from .outline import split_lines, unit_text

        file, number = places[i][1]
        if file not in lines:
            lines.clear()  # one file's units come one after another
            lines[file] = split_lines(decode(file.contents()))
        return unit_text(lines[file], outlines[file].units[number])

    keys = [(work.tree.cache, kind + salt + outlines[file].units[n].digest) for work, (file, n) in places]
    found = _remembered(pool, task, keys, text, len)
    for (work, (file, number)), (lowered, size) in zip(places, found, strict=True):
        counts, first = work.tree.counts, outlines[file].units[number].first_line
        work.statements.pop((file, number), None)
        if task is LOWER:
            counts.lowered += size > 0
            counts.lowered_bytes += size
        if isinstance(lowered, Lost):
            work.lost(file, lowered, first)
            continue
        if lowered.by_tree:
            counts.parsed += size > 0
            counts.parsed_bytes += size
            work.confirmed.add((file, number))
        if lowered.problem is not None:
            work.problem(file, lowered.problem.line + first - 1, _sentence(lowered.problem.message))
        else:
            work.statements[file, number] = lowered.statements


def _sentence(message: str) -> str:
    return message if message.startswith("too complex") else f"could not be analysed: {message}"


def _remembered(
    pool: Pool,
    task: Task[Q, A],
    keys: Sequence[tuple[Cache, bytes]],
    question: Callable[[int], Q],
    size: Callable[[Q], int],
) -> list[tuple[A | Lost, int]]:
    """The answer to each question, from the caches or worked out once for each key, with the size of the question
    where it had to be asked."""
    decode = msgspec.msgpack.Decoder(task.answer).decode
    known: dict[bytes, A | Lost] = {}
    by_cache: dict[int, tuple[Cache, list[bytes]]] = {}
    for cache, key in keys:
        by_cache.setdefault(id(cache), (cache, []))[1].append(key)
    for cache, wanted in by_cache.values():
        for key, value in cache.get_many(sorted(set(wanted))).items():
            known[key] = decode(value)
    asked: dict[bytes, Any] = {}
    sizes: dict[int, int] = {}
    for i, (_, key) in enumerate(keys):
        if key not in known and key not in asked:
            try:
                asked[key] = question(i)
                sizes[i] = max(size(asked[key]), 1)
            except Unreadable as error:
                known[key] = Lost(str(error))
    answers = pool.map(task, list(asked.values()), list(sizes.values()))
    new: dict[int, dict[bytes, bytes]] = {}
    for i, key, answer in zip(sizes, asked, answers, strict=True):
        known[key] = answer
        if not isinstance(answer, Lost):
            new.setdefault(id(keys[i][0]), {})[key] = msgspec.msgpack.encode(answer)
    for cache, _ in by_cache.values():
        cache.put_many(new.get(id(cache), {}))
    return [(known[key], sizes.get(i, 0)) for i, (_, key) in enumerate(keys)]
