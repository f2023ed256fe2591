"""From the files of one project to what belongs together: what to look at, what to parse, what is already known.

The order of the sieve is its point: a byte scan of every file, an `ast` triage of the files that can matter, the facts
of the statements that can, LibCST for those that a finding stands in. Files that import each other form a component; a
component is analysed alone, so that what is said of a file depends on its component and on nothing else. Each result is
a function of contents and is cached by their hash; an unchanged component is answered without a parse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache as once
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mpaudit.model import Problem

from .answers import ANSWER, Part, Question, Stored
from .cache import Cache
from .facts import ir
from .heat import ENGINE_TRIGGERS, MATERIAL_TRIGGERS, PROJECT_TRIGGERS, SCIENCES, units_to_parse
from .parsing import LOWER, OUTLINE, TREE, Lowered, ToOutline
from .pool import Lost, Pool, Task
from .program.index import BY_NAME, ModuleIndex
from .sources import decode, read
from .triggers import Scanner, import_lines, looked_up_entries, path_entries

IMPORTER_LEVELS = 4
"""How far up the importers of a file with precision code are followed: the script that runs the epochs is above."""

IMPORT_LEVELS = 4
"""How far down the imports of these are followed: the data and the model are below."""

MAX_IMPORTERS = 40
"""A file that more files import is a library's foundation, no part of a training loop: they are not followed."""

MAX_ADMITTED = 6_000_000
"""Bytes. What is linked with the files that hold precision code is followed, level by level, as long as all of it
together stays below: in a library of thousands of files everything imports everything."""

MAX_IMPORTS = 100
"""A file that imports more of the project is an index of it: these are not followed."""

_PARSING = ("outline.py", "syntax.py", "complexity.py", "triggers.py", "parsing.py", "facts")
"""The sources of this package that the facts of a file depend on."""

Q = TypeVar("Q")
A = TypeVar("A")


class _Scan(msgspec.Struct, array_like=True, frozen=True):
    """The byte scan of one file. A file with a problem has no text."""

    hot: bool
    """It holds what may be a finding by itself."""
    material: bool
    """It holds what a training loop elsewhere may make a finding of, or what decides on one."""
    imports: tuple[tuple[str, str, str], ...]
    problem: ir.SyntaxProblem | None = None


@dataclass(eq=False, slots=True)
class File:
    path: str
    name: str
    """The path below the project's root, as text that can be encoded."""
    parts: tuple[str, ...]
    is_package: bool
    digest: bytes
    size: int
    scan: _Scan
    data: bytes | None = None

    def contents(self) -> bytes:
        """Raises _Unreadable where they are no longer those of the digest."""
        if self.data is None:
            got = read(self.path)
            if isinstance(got, str):
                raise _Unreadable(got)
            if _digest(got) != self.digest:
                raise _Unreadable("changed while it was read")
            self.data = got
        return self.data


class _Unreadable(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Component:
    """Admitted files that import each other, in order of their names, and the hash of all that they say."""

    files: tuple[File, ...]
    key: bytes


@dataclass(slots=True)
class Tree:
    """The files of one project root."""

    name: str
    """That of the root's folder."""
    cache: Cache
    components: list[Component]
    problems: list[Problem]
    sciences: bool
    counts: Counts


@dataclass(slots=True)
class Counts:
    """How much each stage let through, in files or units and in bytes."""

    files: int = 0
    bytes: int = 0
    read: int = 0
    seeds: int = 0
    admitted: int = 0
    admitted_bytes: int = 0
    answered: int = 0
    outlined: int = 0
    outlined_bytes: int = 0
    lowered: int = 0
    lowered_bytes: int = 0
    parsed: int = 0
    """With LibCST."""
    parsed_bytes: int = 0

    def add(self, other: Counts) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Verdict(msgspec.Struct, array_like=True, frozen=True):
    """What is said of a component; paths are below the project's root."""

    findings: tuple[Stored, ...] = ()
    syntax: tuple[tuple[str, ir.SyntaxProblem], ...] = ()
    problems: tuple[Problem, ...] = ()
    failure: str = ""
    """An internal error that cost the findings."""


# ------------------------------------------------------------------ the survey


def survey(root: Path, paths: Iterable[Path], cache: Cache, triggers: Iterable[str]) -> Tree:
    """Reads or recognises the files of a project, scans their bytes and finds what belongs together."""
    patterns = tuple(sorted(set(triggers)))
    salt = _digest(fingerprint(_PARSING) + repr(patterns).encode())[:8]
    problems: list[Problem] = []
    counts = Counts()
    name = os.fsencode(root.name).decode("utf-8", "backslashreplace")
    files = _scanned(_contents(root, paths, cache, problems, counts), cache, patterns, salt, problems)
    admitted, imports = _admit(files, name)
    for file in files:
        if file not in admitted:
            file.data = None
    counts.files = len(files)
    counts.seeds = sum(file.scan.hot for file in files)
    counts.admitted = len(admitted)
    sciences = any(module.partition(".")[0] in SCIENCES for file in admitted for _, module, _ in file.scan.imports)
    components = [Component(group, _key(group)) for group in _components(admitted, imports)]
    return Tree(name, cache, components, problems, sciences, counts)


def _contents(
    root: Path, paths: Iterable[Path], cache: Cache, problems: list[Problem], counts: Counts
) -> Iterator[File]:
    stats: dict[str, os.stat_result] = {}
    for path in sorted(map(str, paths)):
        try:
            stats[path] = os.stat(path)
        except (OSError, ValueError) as error:
            problems.append(Problem(path, 0, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
    known = cache.known(stats)
    fresh: dict[str, tuple[os.stat_result, bytes]] = {}
    for path, status in stats.items():
        data: bytes | None = None
        digest = known.get(path)
        if digest is None:
            got = read(path)
            if isinstance(got, str):
                problems.append(Problem(path, 0, got))
                continue
            data, digest = got, _digest(got)
            counts.read += 1
            fresh[path] = (status, digest)
        counts.bytes += status.st_size
        name = _below(str(root), path)
        parts = tuple(name.removesuffix(".py").split("/"))
        is_package = parts[-1] == "__init__"
        yield File(
            path, name, parts[:-1] if is_package else parts, is_package, digest, status.st_size, _UNSCANNED, data
        )
    cache.remember(fresh)


def _below(root: str, path: str) -> str:
    prefix = root.rstrip(os.sep) + os.sep
    name = path[len(prefix) :] if path.startswith(prefix) else os.path.basename(path)
    name = name.replace(os.sep, "/")
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


_UNSCANNED = _Scan(False, False, ())


def _scanned(
    found: Iterable[File], cache: Cache, patterns: tuple[str, ...], salt: bytes, problems: list[Problem]
) -> list[File]:
    decoder = msgspec.msgpack.Decoder(_Scan)
    files = list(found)
    stored = cache.get_many(sorted({b"scan" + salt + file.digest for file in files}))
    new: dict[bytes, bytes] = {}
    scanned = []
    for file in files:
        key = b"scan" + salt + file.digest
        if key in stored:
            file.scan = decoder.decode(stored[key])
        else:
            try:
                file.scan = _scan(file.contents(), _scanners(patterns))
            except _Unreadable as error:
                problems.append(Problem(file.path, 0, str(error)))
                continue
            new[key] = msgspec.msgpack.encode(file.scan)
        if file.scan.problem is not None:
            problems.append(Problem(file.path, file.scan.problem.line, file.scan.problem.message))
        else:
            scanned.append(file)
    cache.put_many(new)
    return scanned


def _scan(data: bytes, scanners: tuple[Scanner[bytes], Scanner[bytes]]) -> _Scan:
    if not data.isascii() or b"\0" in data or b"coding" in data[:200]:
        from .syntax import decode as strict

        text = strict(data)
        if isinstance(text, ir.SyntaxProblem):
            return _Scan(False, False, (), text)
    seeds, material = scanners
    hot = seeds.search(data)
    return _Scan(
        hot, hot or material.search(data), (*import_lines(data), *path_entries(data), *looked_up_entries(data))
    )


@once
def _scanners(patterns: tuple[str, ...]) -> tuple[Scanner[bytes], Scanner[bytes]]:
    """For what may be a finding by itself, and for what may become one."""
    alone = [pattern for pattern in patterns if pattern not in MATERIAL_TRIGGERS]
    return Scanner(alone, bytes), Scanner(MATERIAL_TRIGGERS.intersection(patterns) | PROJECT_TRIGGERS, bytes)


def _admit(files: Sequence[File], name: str) -> tuple[dict[File, None], dict[File, list[File]]]:
    """Files with precision code, what they import, and what imports them, transitively and bounded, in order of their
    names; and what each file imports."""
    imports = _imports(files, name)
    importers: dict[File, list[File]] = {}
    for file, targets in imports.items():
        for target in targets:
            importers.setdefault(target, []).append(file)
    admitted = dict.fromkeys(file for file in files if file.scan.hot)
    size = sum(file.size for file in admitted)

    def neighbours(level: Iterable[File], links: Mapping[File, Sequence[File]], most: int) -> dict[File, None]:
        known = (links.get(file, ()) for file in level)
        return dict.fromkeys(f for group in known if len(group) <= most for f in group if f not in admitted)

    level = list(admitted)
    for _ in range(IMPORTER_LEVELS):
        level = list(neighbours(level, importers, MAX_IMPORTERS))
        size += sum(file.size for file in level)
        if size > MAX_ADMITTED:
            break
        admitted |= dict.fromkeys(level)
    size, level = sum(file.size for file in admitted), list(admitted)
    for number in range(IMPORT_LEVELS):
        # beyond what these import themselves: only what holds something
        level = [f for f in neighbours(level, imports, MAX_IMPORTS) if not number or f.scan.material or f.is_package]
        size += sum(file.size for file in level)
        if size > MAX_ADMITTED:
            break
        admitted |= dict.fromkeys(level)
    return dict.fromkeys(file for file in files if file in admitted), imports


def _imports(files: Sequence[File], name: str) -> dict[File, list[File]]:
    index = ModuleIndex(((file.parts, file) for file in files), name, (file.scan.imports for file in files))
    found: dict[File, list[File]] = {}
    known: dict[tuple[tuple[str, ...], bool, str], File | None] = {}
    for file in files:
        folder = file.parts if file.is_package else file.parts[:-1]

        def find(dotted: str, file: File = file, folder: tuple[str, ...] = folder) -> File | None:
            place = (folder, True, dotted)
            if place not in known:
                known[place] = index.find(file.parts, file.is_package, dotted)
            return known[place]

        targets: dict[File, None] = {}
        for local, module, attribute in file.scan.imports:
            wanted: list[File | None]
            if (local, module) == BY_NAME:
                named = find(attribute)
                wanted = [named if named is not None and named.scan.material else None]
            elif not local:  # import a.b.c: the packages on the way too
                names = module.split(".")
                wanted = [find(".".join(names[:n])) for n in range(2, len(names) + 1)]
            elif module.strip("."):
                wanted = [find(module), find(f"{module}.{attribute}") if attribute not in ("", "*") else None]
            else:  # from . import x: a module, else something that the package defines
                wanted = [find(module + attribute) or find(module)]
            targets |= dict.fromkeys(target for target in wanted if target is not None and target is not file)
        found[file] = list(targets)
    return found


def _components(admitted: dict[File, None], imports: dict[File, list[File]]) -> list[tuple[File, ...]]:
    """The admitted files, grouped by who imports whom, in either direction."""
    leader = {file: file for file in admitted}

    def find(file: File) -> File:
        while leader[file] is not file:
            leader[file] = leader[leader[file]]
            file = leader[file]
        return file

    for file in admitted:
        for target in imports[file]:
            if target in leader:
                leader[find(target)] = find(file)
    groups: dict[File, list[File]] = {}
    for file in admitted:
        groups.setdefault(find(file), []).append(file)
    return [tuple(group) for group in groups.values()]


def _key(group: tuple[File, ...]) -> bytes:
    return _digest(b"".join(file.name.encode() + b"\0" + file.digest for file in group))


# ----------------------------------------------------------------- the verdicts


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
        b"verdict" + _digest(whole + repr((patterns, target, tree.sciences, tree.name)).encode() + component.key)
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
    _outline(works, pool, patterns)
    for work in works:
        work.hot = units_to_parse(work.outlines)
    _lower(works, pool)
    answers: list[tuple[Stored, ...] | Lost] = [()] * len(works)
    asked = list(range(len(works)))
    while asked:
        questions = [_question(works[i], target) for i in asked]
        found = pool.map(ANSWER, questions, list(map(_weight, questions)))
        for i, answer in zip(asked, found, strict=True):
            answers[i] = answer
        changed = _confirm([(works[i], answers[i]) for i in asked], pool)
        asked = [i for i in asked if works[i] in changed]
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
    salt = _digest(fingerprint(_PARSING) + repr(patterns).encode())[:8]
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
    salt = fingerprint(_PARSING)[:8]
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
            except _Unreadable as error:
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


# ---------------------------------------------------------------------- hashes


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


@once
def fingerprint(places: tuple[str, ...]) -> bytes:
    """The hash of sources of this package: what was worked out by others than these is not read again."""
    here = Path(__file__).parent
    files = {
        file for place in places for file in ([here / place] if place.endswith(".py") else (here / place).rglob("*.py"))
    }
    found = blake2b(digest_size=16)
    for file in sorted(files):
        data = read(file)
        found.update(file.name.encode() + (data if isinstance(data, bytes) else b"") + b"\0")
    return found.digest()
