"""What earlier runs have worked out: one SQLite file per project.

It keeps blobs under keys, and the digests of files under their stat. It decides nothing: a run without it gives the
same answer, so nothing here raises. What fails is counted, and the run goes on without a cache.

What keeps it safe: a rollback journal, so that the next process undoes what a killed one left half done; a checksum
over key and value of every row; the version of mpaudit, of the facts and of Python in every key, so that nothing is
read that another version wrote; and for a damaged file a successor under a new name, since to remove a database that
another process has open and to reuse its name would hand the new one a foreign journal.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from mpaudit import __version__
from mpaudit.static.facts.ir import SCHEMA

FOLDER = ".mpaudit_cache"
MAX_BYTES = 256_000_000
"""Beyond this the blobs that have not been used for the longest time go."""

_LAYOUT = 1
_BUSY_SECONDS = 5.0
_BATCH = 400
_CHECK_BYTES = 8
_RACY_NS = 2_000_000_000
"""A file written so recently may be written again without a change of its times: it is not remembered yet."""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS blobs (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS files "
    "(key BLOB PRIMARY KEY, stat BLOB NOT NULL, digest BLOB NOT NULL, used INTEGER NOT NULL)",
    f"PRAGMA user_version = {_LAYOUT}",
)
_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of mpaudit; it may be deleted at any time. See https://bford.info/cachedir/
"""

T = TypeVar("T")


class Cache:
    """The cache in one folder; one that holds nothing where `folder` is None or cannot be used."""

    def __init__(self, folder: Path | None, *, max_bytes: int = MAX_BYTES) -> None:
        self.failures = 0
        """How often SQLite or the file system failed."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._version = blake2b(f"{__version__} {SCHEMA} {sys.version_info[:2]}".encode(), digest_size=8).digest()
        self._today = int(time.time()) // 86_400
        self._file: Path | None = None
        self._db: sqlite3.Connection | None = None
        if folder is not None:
            self._guarded(self._open, None)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The blobs that are there and whole."""
        return self._guarded(lambda: self._get_many(keys), {}) if self._db else {}

    def put_many(self, items: Mapping[bytes, bytes]) -> None:
        """Keeps blobs, all or none of them."""
        if items and self._db:
            self._guarded(lambda: self._put_many(items), None)

    def known(self, stats: Mapping[str, os.stat_result]) -> dict[str, bytes]:
        """The content digests of those files (absolute paths) that are as they were when they were remembered.

        None where the environment says CI: the times in a fresh checkout mean nothing.
        """
        return self._guarded(lambda: self._known(stats), {}) if self._db and not _in_ci() else {}

    def remember(self, files: Mapping[str, tuple[os.stat_result, bytes]]) -> None:
        """Keeps the digest of each file under its stat, which must be older than the reading of the file."""
        if files and self._db and not _in_ci():
            self._guarded(lambda: self._remember(files), None)

    def close(self) -> None:
        """Lets go of the file. The cache is empty from then on."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    # --------------------------------------------------------------------- rows

    def _get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        stale: list[tuple[int, bytes]] = []
        for key, value, used in self._select("SELECT key, value, used FROM blobs", [self._key(key) for key in keys]):
            blob = value[_CHECK_BYTES:]
            if value[:_CHECK_BYTES] == _checksum(key, blob):
                found[key[len(self._version) :]] = blob
                if used != self._today:
                    stale.append((self._today, key))
        self._touch("blobs", stale)
        return found

    def _put_many(self, items: Mapping[bytes, bytes]) -> None:
        rows = [(self._key(key), _checksum(self._key(key), value) + value, self._today) for key, value in items.items()]
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", rows)
            self._evict(db)

    def _known(self, stats: Mapping[str, os.stat_result]) -> dict[str, bytes]:
        paths = {self._key(os.fsencode(path)): path for path in stats}
        found: dict[str, bytes] = {}
        stale: list[tuple[int, bytes]] = []
        for key, check, digest, used in self._select("SELECT key, stat, digest, used FROM files", list(paths)):
            path = paths[key]
            if check == _identity(stats[path], digest):
                found[path] = digest
                if used != self._today:
                    stale.append((self._today, key))
        self._touch("files", stale)
        return found

    def _remember(self, files: Mapping[str, tuple[os.stat_result, bytes]]) -> None:
        settled = time.time_ns() - _RACY_NS
        rows = [
            (self._key(os.fsencode(path)), _identity(stat, digest), digest, self._today)
            for path, (stat, digest) in files.items()
            if max(stat.st_mtime_ns, stat.st_ctime_ns) < settled
        ]
        if rows:
            with self._transaction() as db:
                db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def _touch(self, table: str, rows: list[tuple[int, bytes]]) -> None:
        """Marks rows as used today; at most once a day, so that a run without news does not write."""
        with suppress(sqlite3.OperationalError):
            if rows:
                with self._transaction() as db:
                    db.executemany(f"UPDATE {table} SET used = ? WHERE key = ?", rows)

    def _evict(self, db: sqlite3.Connection) -> None:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        excess = (pages - free) * size - self._max_bytes
        if excess <= 0:
            return
        excess += self._max_bytes // 4  # so that the next run need not evict again
        doomed: list[tuple[bytes]] = []
        for key, length in db.execute("SELECT key, length(value) FROM blobs ORDER BY used, rowid"):
            doomed.append((key,))
            excess -= length
            if excess <= 0:
                break
        db.executemany("DELETE FROM blobs WHERE key = ?", doomed)
        db.execute("DELETE FROM files WHERE used < ?", (self._today - 7,))

    def _select(self, query: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        assert self._db is not None
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            yield from self._db.execute(f"{query} WHERE key IN ({','.join('?' * len(batch))})", batch)

    def _key(self, key: bytes) -> bytes:
        return self._version + key

    # --------------------------------------------------------------------- the file

    def _guarded(self, action: Callable[[], T], otherwise: T) -> T:
        try:
            return action()
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self.failures += 1
            damaged = self._file if _means_damage(error) else None
            with suppress(sqlite3.Error, OSError):
                self.close()
            if damaged is not None:
                with suppress(sqlite3.Error, OSError):
                    self._connect(_successor(damaged))
                    _remove(damaged)
            return otherwise

    def _open(self) -> None:
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        files = sorted(self._folder.glob("facts-*.sqlite"), key=_generation)
        with suppress(OSError):
            _mark(self._folder)
        self._connect(files[-1] if files else self._folder / "facts-1.sqlite")

    def _connect(self, file: Path) -> None:
        self._file = file
        self._db = sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None)
        # A lost power supply may damage the file, which is noticed; a killed process cannot.
        self._db.execute("PRAGMA synchronous = OFF")
        layout = self._db.execute("PRAGMA user_version").fetchone()[0]
        if layout == 0:
            with self._transaction() as db:
                for statement in _TABLES:
                    db.execute(statement)
        elif layout != _LAYOUT:
            raise sqlite3.DatabaseError(f"layout {layout}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _checksum(key: bytes, value: bytes) -> bytes:
    return blake2b(value, key=key[:64], digest_size=_CHECK_BYTES).digest()


def _identity(stat: os.stat_result, digest: bytes) -> bytes:
    """What must be the same for a file to count as unchanged, and for its row to be whole."""
    numbers = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} "
    return blake2b(numbers.encode() + digest, digest_size=16).digest()


def _means_damage(error: Exception) -> bool:
    """Whether the file is at fault, and not its lock, its disk or its permissions."""
    if isinstance(error, sqlite3.OperationalError):
        return any(sign in str(error) for sign in ("no such", "malformed", "decode"))
    return not isinstance(error, OSError)


def _generation(file: Path) -> int:
    number = file.stem.partition("-")[2]
    return int(number) if number.isdecimal() else 0


def _successor(file: Path) -> Path:
    return file.with_name(f"facts-{_generation(file) + 1}.sqlite")


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.with_name(file.name + "-journal").unlink(missing_ok=True)


def _mark(folder: Path) -> None:
    """Tells git and backup programs to pass by; not in a folder that holds anything else."""
    marks = {".gitignore": "*\n", "CACHEDIR.TAG": _TAG}
    names = set(os.listdir(folder))
    if all(name in marks or name.startswith("facts-") for name in names):
        for name in marks.keys() - names:
            (folder / name).write_text(marks[name])
