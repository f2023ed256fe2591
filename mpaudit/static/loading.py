"""From the files of one project to what belongs together: what to look at, what to parse, what is already known.

The order of the sieve is its point: a byte scan of every file, an `ast` triage of the files that can matter, the facts
of the statements that can, LibCST for those that a finding stands in. Files that import each other form a component; a
component is analysed alone, so that what is said of a file depends on its component and on nothing else. Each result is
a function of contents and is cached by their hash; an unchanged component is answered without a parse.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import msgspec

from mpaudit.model import Problem

from .cache import Cache
from .facts import ir
from .fingerprints import PARSING, digest_of, fingerprint
from .heat import MATERIAL_TRIGGERS, PROJECT_TRIGGERS, SCIENCES
from .program.index import BY_NAME, ModuleIndex
from .sources import read
from .triggers import Scanner, import_lines, looked_up_entries, path_entries

IMPORTER_LEVELS = 4
"""How far up the importers of a file with precision code are followed: the script that runs the epochs is above."""
IMPORT_LEVELS = 6
"""How far down the imports of these are followed: the data, the model and the kernels that it compiles are below."""
MAX_IMPORTERS = 40
"""A file that more files import is a library's foundation, no part of a training loop: they are not followed."""
MAX_ADMITTED = 6_000_000
"""Bytes. What is linked with the files that hold precision code is followed, level by level, as long as all of it
together stays below: in a library of thousands of files everything imports everything."""
MAX_IMPORTS = 100
"""A file that imports more of the project is an index of it: these are not followed."""


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
        """Raises Unreadable where they are no longer those of the digest."""
        if self.data is None:
            got = read(self.path)
            if isinstance(got, str):
                raise Unreadable(got)
            if digest_of(got) != self.digest:
                raise Unreadable("changed while it was read")
            self.data = got
        return self.data


class Unreadable(Exception):
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


def survey(root: Path, paths: Iterable[Path], cache: Cache, triggers: Iterable[str]) -> Tree:
    """Reads or recognises the files of a project, scans their bytes and finds what belongs together."""
    patterns = tuple(sorted(set(triggers)))
    salt = digest_of(fingerprint(PARSING) + repr(patterns).encode())[:8]
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
            data, digest = got, digest_of(got)
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
            except Unreadable as error:
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
    return digest_of(b"".join(file.name.encode() + b"\0" + file.digest for file in group))
