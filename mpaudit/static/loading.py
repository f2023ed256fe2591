"""From the files of one project to linked modules: what to look at, what to parse, what the cache has.

The order of the sieve is its point: a byte scan of every file, an `ast` triage of the files that can matter, LibCST
for the statements that can. Each result is a function of contents alone and is cached by their hash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import msgspec

from mpaudit.model import Problem

from .cache import Cache
from .facts import ir
from .program.linker import ModuleIndex, ModuleInfo, Project
from .sources import decode, read
from .triggers import compile_triggers, import_lines, text_triggers

ENGINE_TRIGGERS = (
    r"GradScaler", r"\bautocast\b", r"\.backward\(", r"\.step\(", r"\.unscale_\(", r"zero_grad", r"clip_grad",
    r"\.grad\b", r"torch\.optim", r"\boptim\.", r"Adam", r"\bSGD\b", r"nullcontext", r"ExitStack", r"\.half\(",
    r"float16", r"bfloat16", r"float64", r"\.double\(", r"from_numpy", r"as_tensor", r"torch\.tensor", r"torch\.device",
    r"\.cuda\(", r"BCELoss", r"binary_cross_entropy", r"state_dict", r"torch\.save", r"DataParallel", r"no_grad",
    r"custom_(?:fwd|bwd)", r"\bamp\.", r"autocast_(?:gpu|cpu)_dtype", r"set_default_(?:dtype|tensor_type)",
)  # fmt: skip
"""What makes a statement worth a parse once its file matters: also where scalers, optimizers and devices come from."""

HELPER_LINES = 12
"""A function of at most so many lines is parsed where parsed code calls it by name."""
IMPORTER_LEVELS = 4
"""How far up the importers of a file with precision code are followed: the script that runs the epochs is above."""


class _Scan(msgspec.Struct, array_like=True, frozen=True):
    """The byte scan of one file."""

    hot: bool
    imports: tuple[tuple[str, str, str], ...]


class _Outlined(msgspec.Struct, array_like=True, frozen=True):
    outline: ir.Outline | None
    problem: ir.SyntaxProblem | None


class _Lowered(msgspec.Struct, array_like=True, frozen=True):
    statements: tuple[ir.Stmt, ...]
    problem: ir.SyntaxProblem | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How much each stage let through, in files and bytes."""

    files: int = 0
    bytes: int = 0
    seeds: int = 0
    admitted: int = 0
    admitted_bytes: int = 0
    parsed_units: int = 0
    parsed_bytes: int = 0


@dataclass(slots=True)
class Loaded:
    project: Project
    admitted: set[str]
    syntax: dict[str, ir.SyntaxProblem]
    problems: dict[str, Problem]
    counts: Counts


@dataclass(slots=True)
class _File:
    path: str
    parts: tuple[str, ...]
    is_package: bool
    digest: bytes
    data: bytes | None = None
    scan: _Scan | None = None
    outline: ir.Outline | None = None
    hot: set[int] = field(default_factory=set)


Lower = Callable[[list[str]], list["tuple[ir.Stmt, ...] | ir.SyntaxProblem"]]
"""Parses chunks of source; may do so in several processes."""


def load(root: Path, paths: Iterable[Path], cache: Cache, triggers: Iterable[str], lower: Lower) -> Loaded:
    """Links the Python files `paths` below `root`."""
    seed_pattern = compile_triggers(triggers)
    unit_pattern = text_triggers(compile_triggers([*triggers, *ENGINE_TRIGGERS]))
    salt = blake2b(seed_pattern.pattern + unit_pattern.pattern.encode(), digest_size=8).digest()
    problems: dict[str, Problem] = {}
    files = _contents(root, paths, cache, problems)
    _scan(files, cache, seed_pattern, salt, problems)
    files = [f for f in files if f.scan is not None]
    admitted = _admit(files)
    syntax: dict[str, ir.SyntaxProblem] = {}
    _outline(admitted, cache, unit_pattern, salt, syntax, problems)
    admitted = [f for f in admitted if f.outline is not None]
    _heat(admitted)
    _heat_helpers(admitted)
    chunks, parsed, parsed_bytes = _lower(admitted, cache, lower, syntax)
    modules = [ModuleInfo(f.path, f.parts, f.is_package, f.outline, chunks[f.path]) for f in admitted if f.outline]
    counts = Counts(
        files=len(files), bytes=sum(len(f.data or b"") for f in files), seeds=sum(f.scan.hot for f in files if f.scan),
        admitted=len(admitted), admitted_bytes=sum(len(f.data or b"") for f in admitted),
        parsed_units=parsed, parsed_bytes=parsed_bytes,
    )  # fmt: skip
    return Loaded(Project(modules), {f.path for f in admitted} | set(syntax), syntax, problems, counts)


# ---------------------------------------------------------------- contents


def _contents(root: Path, paths: Iterable[Path], cache: Cache, problems: dict[str, Problem]) -> list[_File]:
    stats: dict[str, os.stat_result] = {}
    for path in sorted(map(str, paths)):
        try:
            stats[path] = os.stat(path)
        except OSError as error:
            problems[path] = Problem(path, 0, f"cannot be read: {error.strerror or error}")
    known = cache.known(stats)
    fresh: dict[str, tuple[os.stat_result, bytes]] = {}
    files = []
    for path, status in stats.items():
        data: bytes | None = None
        digest = known.get(path)
        if digest is None:
            got = read(path)
            if isinstance(got, str):
                problems[path] = Problem(path, 0, got)
                continue
            data, digest = got, blake2b(got, digest_size=16).digest()
            fresh[path] = (status, digest)
        parts, is_package = _module_parts(root, path)
        files.append(_File(path, parts, is_package, digest, data))
    cache.remember(fresh)
    return files


def _module_parts(root: Path, path: str) -> tuple[tuple[str, ...], bool]:
    try:
        parts = Path(path).relative_to(root).with_suffix("").parts
    except ValueError:
        parts = (Path(path).stem,)
    if parts and parts[-1] == "__init__":
        return parts[:-1], True
    return parts, False


def _bytes_of(file: _File, problems: dict[str, Problem]) -> bytes:
    if file.data is None:
        got = read(file.path)
        if isinstance(got, str):
            problems[file.path] = Problem(file.path, 0, got)
            return b""
        file.data = got
    return file.data


# ------------------------------------------------------------------- stages


def _scan(
    files: list[_File], cache: Cache, pattern: re.Pattern[bytes], salt: bytes, problems: dict[str, Problem]
) -> None:
    decoder = msgspec.msgpack.Decoder(_Scan)
    keys = {f.path: b"scan" + salt + f.digest for f in files}
    stored = cache.get_many(sorted(set(keys.values())))
    new: dict[bytes, bytes] = {}
    for file in files:
        key = keys[file.path]
        if key in stored:
            file.scan = decoder.decode(stored[key])
            continue
        data = _bytes_of(file, problems)
        file.scan = _Scan(pattern.search(data) is not None, import_lines(data))
        new[key] = msgspec.msgpack.encode(file.scan)
    cache.put_many(new)


def _admit(files: list[_File]) -> list[_File]:
    """Files with precision code, what they import, and what imports them, transitively and bounded."""
    index = ModuleIndex((f.parts, f) for f in files)
    imports: dict[str, list[_File]] = {}
    importers: dict[str, list[_File]] = {}
    for file in files:
        assert file.scan is not None
        targets: dict[str, _File] = {}
        for _, module, attribute in file.scan.imports:
            for dotted in {module, f"{module}.{attribute}" if not module.endswith(".") else module + attribute}:
                found = index.find(file.parts, file.is_package, dotted) if dotted.strip(".*") else None
                if found is not None and found is not file:
                    targets[found.path] = found
        imports[file.path] = list(targets.values())
        for target in targets.values():
            importers.setdefault(target.path, []).append(file)
    admitted = {f.path: f for f in files if f.scan and f.scan.hot}
    level = list(admitted.values())
    for _ in range(IMPORTER_LEVELS):
        above = {f.path: f for file in level for f in importers.get(file.path, ()) if f.path not in admitted}
        admitted |= above
        level = list(above.values())
    for file in list(admitted.values()):
        admitted |= {f.path: f for f in imports[file.path]}
    return [admitted[path] for path in sorted(admitted)]


def _outline(
    files: list[_File],
    cache: Cache,
    pattern: re.Pattern[str],
    salt: bytes,
    syntax: dict[str, ir.SyntaxProblem],
    problems: dict[str, Problem],
) -> None:
    decoder = msgspec.msgpack.Decoder(_Outlined)
    keys = {f.path: b"outline" + salt + f.digest for f in files}
    stored = cache.get_many(sorted(set(keys.values())))
    new: dict[bytes, bytes] = {}
    for file in files:
        key = keys[file.path]
        if key in stored:
            found = decoder.decode(stored[key])
        else:
            found = _outline_of(_bytes_of(file, problems), pattern)
            new[key] = msgspec.msgpack.encode(found)
        if found.problem is not None:
            syntax[file.path] = found.problem
        else:
            file.outline = found.outline
    cache.put_many(new)


def _outline_of(data: bytes, pattern: re.Pattern[str]) -> _Outlined:
    from .outline import outline
    from .syntax import decode as strict

    text = strict(data)
    found = text if isinstance(text, ir.SyntaxProblem) else outline(text, pattern)
    return _Outlined(None, found) if isinstance(found, ir.SyntaxProblem) else _Outlined(found, None)


def _heat(files: list[_File]) -> None:
    """Marks the units to parse: those with a trigger, those that name something in a unit to parse, and the
    top-level code of modules that have any."""
    users: dict[str, list[tuple[_File, int]]] = {}
    queue: list[tuple[_File, int]] = []
    for file in files:
        assert file.outline is not None
        for number, unit in enumerate(file.outline.units):
            for name in unit.calls:
                users.setdefault(name, []).append((file, number))
            if unit.hot:
                queue.append((file, number))
    spread: set[str] = set()
    while queue:
        file, number = queue.pop()
        if number in file.hot:
            continue
        assert file.outline is not None
        first = not file.hot
        file.hot.add(number)
        unit = file.outline.units[number]
        names = set(unit.hot_defines) if unit.hot else set()
        if unit.kind == "def":
            names.add(unit.name)
        elif unit.kind == "class":
            names |= {unit.name, *unit.defines} if not unit.hot else {unit.name}
        for name in names - spread - _EVERYWHERE:
            spread.add(name)
            queue += users.get(name, ())
        if first:
            queue += [(file, n) for n, u in enumerate(file.outline.units) if u.kind == "code"]


def _heat_helpers(files: list[_File]) -> None:
    """Small functions that a unit to parse calls: they say what a device, a dtype or an array is."""
    called: set[str] = set()
    for file in files:
        if file.outline is not None:
            called.update(*(file.outline.units[number].calls for number in file.hot))
    for file in files:
        for number, unit in enumerate(file.outline.units if file.outline else ()):
            if unit.kind == "def" and unit.name in called and unit.last_line - unit.first_line < HELPER_LINES:
                file.hot.add(number)


_EVERYWHERE = frozenset({"__init__", "__call__", "forward", "__getitem__", "__len__", "__iter__", "__enter__", "__exit__"})


def _lower(
    files: list[_File], cache: Cache, lower: Lower, syntax: dict[str, ir.SyntaxProblem]
) -> tuple[dict[str, tuple[tuple[ir.Unit, tuple[ir.Stmt, ...] | None], ...]], int, int]:
    wanted = [(f, f.outline.units[n]) for f in files if f.outline for n in sorted(f.hot)]
    keys = {unit.digest: b"unit" + unit.digest for _, unit in wanted}
    stored = cache.get_many(sorted(keys.values()))
    known: dict[bytes, _Lowered] = {}
    for digest, key in keys.items():
        if key in stored:
            known[digest] = _UNPACK.decode(stored[key])
    missing: dict[bytes, str] = {}
    for file, unit in wanted:
        if unit.digest not in known and unit.digest not in missing:
            missing[unit.digest] = _text(file, unit)
    size = sum(map(len, missing.values()))
    if missing:
        results = lower(list(missing.values()))
        for digest, result in zip(missing, results, strict=True):
            failed = isinstance(result, ir.SyntaxProblem)
            known[digest] = _Lowered((), result) if failed else _Lowered(result, None)
        cache.put_many({keys[d]: msgspec.msgpack.encode(known[d]) for d in missing})
    chunks = {}
    for file in files:
        assert file.outline is not None
        entries: list[tuple[ir.Unit, tuple[ir.Stmt, ...] | None]] = []
        for number, unit in enumerate(file.outline.units):
            found = known.get(unit.digest) if number in file.hot else None
            if found is not None and found.problem is not None:
                problem = found.problem
                line = problem.line + unit.first_line - 1
                syntax.setdefault(file.path, ir.SyntaxProblem(line, problem.column, problem.message))
                found = None
            entries.append((unit, found.statements if found is not None else None))
        chunks[file.path] = tuple(entries)
    return chunks, len(missing), size


_UNPACK = msgspec.msgpack.Decoder(_Lowered)


def _text(file: _File, unit: ir.Unit) -> str:
    from .outline import split_lines, unit_text

    data = file.data
    if data is None:
        got = read(file.path)
        data = got if isinstance(got, bytes) else b""
        file.data = data
    return unit_text(split_lines(decode(data)), unit)
