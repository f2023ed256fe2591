"""Which files are audited, where their project begins, and what is in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from mpaudit.errors import UsageError
from mpaudit.model import Problem
from mpaudit.settings import Settings, is_pattern

MAX_BYTES = 5_000_000
"""Larger files are generated data, not training code: they are named in the errors and not read."""

_UNREAD = (".pyi", ".ipynb")
_PROJECT_FILES = frozenset(
    ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", ".gitignore", "tox.ini", "environment.yml")
)


class Sources(msgspec.Struct, frozen=True):
    """The files to audit, absolute and in order of their paths, and what could not be looked at."""

    files: tuple[Path, ...]
    errors: tuple[Problem, ...]


def discover(paths: Sequence[str], settings: Settings, cwd: Path) -> Sources:
    """The Python files under `paths` (relative to `cwd`), without what .gitignore files and settings exclude.

    A path that is named is taken, whatever excludes it; links to folders are not followed unless named. Raises
    UsageError for a path that does not exist.
    """
    _root_of_folder.cache_clear()
    walk = _Walk(settings)
    for path in paths or (".",):
        absolute = os.path.normpath(os.path.join(cwd, path))
        if os.path.isdir(absolute):
            walk.tree(absolute)
        elif os.path.lexists(absolute):
            walk.named(absolute)
        else:
            raise UsageError(f"there is no file or folder {path!r}")
    return walk.sources()


def project_files(root: Path, settings: Settings) -> Sources:
    """The Python files of a project, by its root; of the home folder and its like only what lies directly in it."""
    walk = _Walk(settings)
    walk.tree(str(root), deep=str(root) not in _stops())
    return walk.sources()


def read(path: str | os.PathLike[str]) -> bytes | str:
    """The bytes of a regular file of at most MAX_BYTES, or a sentence that says why not. Never blocks or raises."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        return _reason(error)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if status.st_size > MAX_BYTES:
            return f"too large to analyse ({status.st_size / 1e6:.1f} MB; the limit is {MAX_BYTES / 1e6:.1f} MB)"
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        return _reason(error)
    finally:
        os.close(descriptor)


def decode(data: bytes) -> str:
    """The text of a Python file, newlines as \\n; bytes that its encoding does not know become U+FFFD."""
    encoding = "utf-8"
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    elif b"coding" in data[:400]:
        import io
        import tokenize

        with suppress(SyntaxError):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    try:
        text = data.decode(encoding, "replace")
    except (LookupError, ValueError):  # codecs that are not of text
        text = data.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@cache
def _root_of_folder(folder: str) -> str:
    stops = _stops()
    ancestors = [folder]
    while (parent := os.path.dirname(ancestors[-1])) != ancestors[-1]:
        ancestors.append(parent)
    for ancestor in ancestors:
        if ancestor in stops:
            break
        if any(os.path.exists(os.path.join(ancestor, name)) for name in (".git", ".hg")):
            return ancestor
    root = folder
    for parent in ancestors[1:]:
        if root in stops or parent in stops or not _looks_like_project(parent):
            break
        root = parent
    return root


def project_root(file: Path) -> Path:
    """The folder that holds the project of a file: a function of the file alone, not of the files that were given.

    It is the nearest folder above with .git or .hg; without one, the highest reached by climbing while the parent
    itself holds Python files or the files of a project (pyproject.toml, README …). Never the file system's root, the
    home folder or the folder for temporary files.
    """
    return Path(_root_of_folder(os.path.dirname(os.path.abspath(file))))


def _looks_like_project(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(
                entry.name.endswith(".py")
                or entry.name in _PROJECT_FILES
                or entry.name.startswith(("README", "LICENSE"))
                for entry in entries
            )
    except OSError:
        return False


def _stops() -> frozenset[str]:
    places = {os.path.abspath(os.sep), os.path.expanduser("~"), "/tmp", "/var/tmp"}
    places |= {os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)}
    return frozenset(spelling for place in places for spelling in (os.path.abspath(place), os.path.realpath(place)))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class Patterns:
    """gitignore patterns of one folder. Lines that are none, such as a lone `!`, say nothing, as with git."""

    def __init__(self, folder: str, lines: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec, PathSpec

        self.prefix = folder.rstrip(os.sep) + os.sep
        try:
            self.files = GitIgnoreSpec.from_lines(lines)
        except ValueError:
            self.files = GitIgnoreSpec.from_lines(line for line in lines if is_pattern(line))
        # GitIgnoreSpec lets `*` win over a later `!*/`, which git does not.
        self.folders = PathSpec(self.files.patterns)

    def decide(self, path: str, is_folder: bool) -> bool | None:
        """True: ignored; False: taken back by a `!` pattern; None: not spoken of, or outside the folder."""
        if not path.startswith(self.prefix):
            return None
        relative = path[len(self.prefix) :].replace(os.sep, "/")
        return (self.folders.check_file(relative + "/") if is_folder else self.files.check_file(relative)).include


class _Walk:
    def __init__(self, settings: Settings) -> None:
        self.excluded_names = {name for name in settings.exclude if not set(name) & set("*?[]!/\\ ")}
        patterns = [pattern for pattern in settings.exclude if pattern not in self.excluded_names]
        self.excluded = Patterns(settings.root, patterns) if patterns else None
        self.files: set[str] = set()
        self.errors: set[Problem] = set()

    def sources(self) -> Sources:
        return Sources(tuple(map(Path, sorted(self.files))), tuple(sorted(self.errors)))

    def named(self, path: str) -> None:
        """A file that the user named."""
        if path.endswith(_UNREAD):
            self.errors.add(Problem(path, 0, f"{os.path.splitext(path)[1]} files are not audited"))
        elif self.readable(path):
            self.files.add(path)

    def tree(self, top: str, deep: bool = True) -> None:
        """A folder that the user named, and what is in it; without `deep` not what is in its folders."""
        inherited = [patterns for patterns in _above(top) if not patterns.decide(top, True)]
        stack = [(top, tuple(inherited))]
        while stack:
            folder, ignores = stack.pop()
            try:
                with os.scandir(folder) as found:
                    entries = [(entry, entry.is_dir(follow_symlinks=False)) for entry in found]
            except OSError as error:
                self.errors.add(Problem(folder, 0, _reason(error)))
                continue
            names = {entry.name for entry, _ in entries}
            if "pyvenv.cfg" in names and folder != top:
                continue
            if ".gitignore" in names:
                ignores = (*_gitignore(folder), *ignores)
            for entry, is_folder in entries:
                if not is_folder and not entry.name.endswith(".py"):
                    continue
                if self.is_excluded(entry, is_folder, ignores):
                    continue
                if is_folder:
                    if deep:
                        stack.append((entry.path, ignores))
                elif entry.is_file(follow_symlinks=False) or self.readable(entry.path):
                    self.files.add(entry.path)

    def is_excluded(self, entry: os.DirEntry[str], is_folder: bool, ignores: tuple[Patterns, ...]) -> bool:
        if entry.name in self.excluded_names:
            return True
        if self.excluded and self.excluded.decide(entry.path, is_folder):
            return True
        for patterns in ignores:  # the deepest .gitignore that speaks decides
            verdict = patterns.decide(entry.path, is_folder)
            if verdict is not None:
                return verdict
        return False

    def readable(self, path: str) -> bool:
        """Whether a name that is no plain file leads to one; if not, says so in the errors."""
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            self.errors.add(
                Problem(path, 0, f"broken link ({_reason(error)})" if os.path.islink(path) else _reason(error))
            )
            return False
        if stat.S_ISDIR(mode):  # a link to a folder that is called something.py
            return False
        if not stat.S_ISREG(mode):
            self.errors.add(Problem(path, 0, "not a regular file"))
            return False
        return True


def _gitignore(folder: str) -> Iterator[Patterns]:
    data = read(os.path.join(folder, ".gitignore"))
    if isinstance(data, bytes) and data.strip():
        yield Patterns(folder, data.decode("utf-8-sig", "replace").splitlines())


def _above(top: str) -> list[Patterns]:
    """The .gitignore files between a folder and its project's root, the nearest first."""
    root = _root_of_folder(top)
    found: list[Patterns] = []
    folder = top
    while folder != root and len(folder) > len(root):
        folder = os.path.dirname(folder)
        found += _gitignore(folder)
    return found
