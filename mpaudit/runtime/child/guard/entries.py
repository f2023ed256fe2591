"""`os.scandir` of a folder that is partly in the layer."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any


class Entry:
    """As `os.DirEntry`, by path."""

    __slots__ = ("name", "path")

    def __init__(self, folder: Any, name: Any) -> None:
        self.name = name
        self.path = os.path.join(folder, name)

    def __fspath__(self) -> Any:
        return self.path

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self.path) if follow_symlinks else os.lstat(self.path)

    def inode(self) -> int:
        return os.lstat(self.path).st_ino

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(stat.S_ISLNK, False)

    def is_junction(self) -> bool:
        return False

    def _is(self, kind: Any, follow_symlinks: bool) -> bool:
        try:
            return bool(kind(self.stat(follow_symlinks=follow_symlinks).st_mode))
        except FileNotFoundError:
            return False


class Entries:
    """The iterator and context manager that `os.scandir` gives."""

    def __init__(self, folder: Any, names: list[str]) -> None:
        folder = os.fspath(folder)
        own = [os.fsencode(name) for name in names] if isinstance(folder, bytes) else names
        self._entries: Iterator[Entry] = iter([Entry(folder, name) for name in own])

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        return next(self._entries)

    def close(self) -> None:
        self._entries = iter(())

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
