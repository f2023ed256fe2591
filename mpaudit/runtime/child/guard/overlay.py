"""A layer over the file system: what a script writes goes into the layer, what it deletes is hidden by a mark.

The files below are never touched. A path that lies in no free area has a *logical* name: absolute, its links resolved,
those of the layer too. Its *upper* file is the one of that name in the layer. Reading takes the upper file where there
is one, else the file below unless that is marked as gone. This is what overlayfs does, without its privileges, and for
the processes that run Python with the guard.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mpaudit.runtime.results import LAYER

from . import native

Path = Any
"""str, bytes, os.PathLike, or a file descriptor."""

_LINKS = 40
"""So many links are followed at most, as Linux does."""


class Found(NamedTuple):
    """Where a path leads."""

    name: str
    free: bool
    """It may be written as it is."""
    through: bool
    """A link of the layer was on the way: the system does not find it by the path as it was given."""


class Overlay:
    def __init__(self, folder: str, free: tuple[str, ...]) -> None:
        """`folder` is that of the run. `free` areas are written as they are."""
        folder = native.realpath(folder)
        self.layer = os.path.join(folder, LAYER)
        self._free = tuple(os.path.join(area, "") for area in (folder, *free))
        self._marks = os.path.join(folder, "gone")
        self._gone = self._read_marks()
        self._resolved: dict[str, tuple[str, bool]] = {}

    # --- names

    def absolute(self, path: Path) -> str:
        """As the user knows it, its links not resolved."""
        name = os.path.normpath(os.path.join(self.getcwd(), os.fsdecode(path)))
        return name[len(self.layer) :] or os.sep if self._in_layer(name) else name

    def find(self, path: Path, follow: bool = True) -> Found:
        """`follow`: where the last part is a link, to what it leads."""
        name = self.absolute(path)
        if self._is_free(name):
            return Found(name, True, False)
        folder, base = os.path.split(name)
        if folder not in self._resolved:
            self._resolved[folder] = self._resolve(folder)
        folder, through = self._resolved[folder]
        name = os.path.join(folder, base)
        if follow and self._link(name)[0] is not None:
            name, more = self._resolve(name)
            through = through or more
        return Found(name, self._is_free(name), through)

    def logical(self, path: Path, follow: bool = True) -> str | None:
        """None for a descriptor, for what lies in a free area, and for devices, pipes and sockets."""
        if isinstance(path, int):
            return None
        found = self.find(path, follow)
        return None if found.free or self._is_special(found.name) else found.name

    def getcwd(self) -> str:
        """The working directory as the user knows it."""
        place = native.getcwd()
        return place[len(self.layer) :] if self._in_layer(place) else place

    def upper(self, logical: str) -> str:
        return self.layer + logical

    def allows(self, path: str | bytes, follow: bool) -> bool:
        """The system may change this file when it is called so: it lies in the layer or in a free area, or has no
        content."""
        name = os.path.normpath(os.path.join(native.getcwd(), os.fsdecode(path)))
        folder, base = os.path.split(name)
        name = native.realpath(name) if follow else os.path.join(native.realpath(folder), base)
        return self._is_free(name) or self._is_special(name)

    # --- what is there

    def below(self, logical: str) -> bool:
        """There is a file below that is not gone."""
        return not self._is_gone(logical) and native.lexists(logical)

    def exists(self, logical: str) -> bool:
        return native.lexists(self.upper(logical)) or self.below(logical)

    def is_folder(self, logical: str) -> bool:
        """And no link to one."""
        upper = self.upper(logical)
        if native.lexists(upper):
            return native.is_folder(upper)
        return self.below(logical) and native.is_folder(logical)

    def names(self, logical: str) -> list[str]:
        """Of the entries of a folder. Raises as `os.listdir`."""
        if not self.is_folder(logical):
            raise self._error(errno.ENOTDIR if self.exists(logical) else self._missing(logical), logical)
        upper, found = self.upper(logical), {}
        if native.isdir(upper):
            found = dict.fromkeys(native.listdir(upper))
        if self.below(logical):
            entries = native.listdir(logical)
            found |= dict.fromkeys(name for name in entries if os.path.join(logical, name) not in self._gone)
        return list(found)

    def is_plain(self, logical: str) -> bool:
        """A folder that is below only, with nothing of it gone: it can be read as it is."""
        if native.lexists(self.upper(logical)) or self._is_gone(logical):
            return False
        prefix = os.path.join(logical, "")
        return not any(name.startswith(prefix) for name in self._gone)

    # --- reading and writing

    def read(self, path: Path, follow: bool = True) -> Path:
        """The path to read instead. Raises FileNotFoundError for what is not there."""
        if isinstance(path, int) or (not self._gone and not native.lexists(self.layer)):
            return path  # nothing was written yet
        found = self.find(path, follow)
        if found.free:
            return _like(path, found.name) if found.through else path
        upper = self.upper(found.name)
        if native.lexists(upper):
            return _like(path, upper)
        if not self.below(found.name):
            raise self._error(self._missing(found.name), path)
        return _like(path, found.name) if found.through else path

    def write(self, path: Path, *, keep: bool, new: bool = False, create: bool = True) -> Path:
        """The path to write instead. `keep`: with the content that is there; `new`: only if there is nothing yet;
        `create`: also then. Raises what opening the file would."""
        if isinstance(path, int):
            return path
        found = self.find(path, follow=not new)
        if found.free or self._is_special(found.name):
            return _like(path, found.name) if found.through else path
        logical = found.name
        if self.is_folder(logical):
            raise self._error(errno.EEXIST if new else errno.EISDIR, path)
        there = self.exists(logical)
        if new and there:
            raise self._error(errno.EEXIST, path)
        if not there and not create:
            raise self._error(self._missing(logical), path)
        self._make_folder_of(logical)
        upper = self.upper(logical)
        if there and not native.lexists(upper):
            if keep:
                native.copy(logical, upper)
            elif not create:
                native.append(upper, b"")
        return _like(path, upper)

    # --- changes by logical name

    def remove(self, logical: str) -> None:
        if self.is_folder(logical):
            raise self._error(errno.EISDIR, logical)
        self._hide(logical, native.unlink)

    def rmdir(self, logical: str) -> None:
        if self.names(logical):
            raise self._error(errno.ENOTEMPTY, logical)
        self._hide(logical, native.rmdir)

    def mkdir(self, logical: str, mode: int) -> None:
        if self.exists(logical):
            raise self._error(errno.EEXIST, logical)
        self._make_folder_of(logical)
        native.mkdir(self.upper(logical), mode)

    def symlink(self, text: str, logical: str) -> None:
        if self.exists(logical):
            raise self._error(errno.EEXIST, logical)
        self._make_folder_of(logical)
        native.symlink(text, self.upper(logical))
        self._resolved.clear()

    def link(self, source: Path, target: Path) -> None:
        """A hard link becomes a copy: it would reach a file below."""
        native.copy(self.read(source), self.write(target, keep=False, new=True))

    def rename(self, source: Path, target: Path) -> None:
        """As `os.replace`, for files and folders, also between the layer and free areas."""
        old, new = self.find(source, follow=False), self.find(target, follow=False)
        for found, path in ((old, source), (new, target)):
            if not found.free and not self.is_folder(os.path.dirname(found.name)):
                raise self._error(self._missing(found.name), path)
        if not (native.lexists(old.name) if old.free else self.exists(old.name)):
            raise self._error(errno.ENOENT, source)
        if old.name == new.name:
            return
        if new.name.startswith(old.name + os.sep):
            raise self._error(errno.EINVAL, source)
        if old.name.startswith(new.name + os.sep):
            raise self._error(errno.ENOTEMPTY, source)
        place = new.name
        if not new.free:
            self._make_folder_of(new.name)
            self._make_way(native.is_folder(old.name) if old.free else self.is_folder(old.name), new.name)
            place = self.upper(new.name)
        if old.free:
            native.move(old.name, place)
        else:
            self._move(old.name, place)
        self._resolved.clear()

    def _move(self, logical: str, place: str) -> None:
        upper, under = self.upper(logical), self.below(logical)
        if self.is_folder(logical) and under:
            self._copy_folder(logical, place)
        elif native.lexists(upper):
            native.move(upper, place)
        else:
            link = native.readlink(logical) if native.islink(logical) else None
            if native.islink(place) or (link and native.lexists(place)):
                native.unlink(place)
            if link is None:
                native.copy(logical, place)
            else:
                native.symlink(link, place)
        native.discard(upper)
        if under:
            self._mark(logical)

    def _make_way(self, from_folder: bool, new: str) -> None:
        """What `os.replace` demands of a target that is there."""
        if self.is_folder(new):
            if not from_folder:
                raise self._error(errno.EISDIR, new)
            self.rmdir(new)
        elif from_folder and self.exists(new):
            raise self._error(errno.ENOTDIR, new)

    def _copy_folder(self, logical: str, place: str) -> None:
        native.makedirs(place)
        for name in self.names(logical):
            inner, copy = os.path.join(logical, name), os.path.join(place, name)
            text, _ = self._link(inner)
            if text is not None:
                native.symlink(text, copy)
            elif self.is_folder(inner):
                self._copy_folder(inner, copy)
            else:
                native.copy(self.read(inner), copy)

    def _make_folder_of(self, logical: str) -> None:
        """In the layer. Raises where it does not exist in the user's world."""
        folder = os.path.dirname(logical)
        if not self.is_folder(folder):
            raise self._error(self._missing(logical), logical)
        native.makedirs(self.upper(folder))

    def _hide(self, logical: str, remove: Callable[[str], None]) -> None:
        under, upper = self.below(logical), self.upper(logical)
        if native.lexists(upper):
            remove(upper)
            self._resolved.clear()
        elif not under:
            raise self._error(self._missing(logical), logical)
        if under:
            self._mark(logical)

    # --- marks

    def _mark(self, logical: str) -> None:
        self._gone.add(logical)
        self._resolved.clear()
        native.append(self._marks, os.fsencode(logical) + b"\0")

    def _is_gone(self, logical: str) -> bool:
        if not self._gone:
            return False
        return logical in self._gone or any(folder in self._gone for folder in _folders(logical))

    def _read_marks(self) -> set[str]:
        """Those of the processes before this one."""
        try:
            return {os.fsdecode(name) for name in native.read(self._marks).split(b"\0") if name}
        except FileNotFoundError:
            return set()

    # --- parts

    def _resolve(self, path: str, links: Iterator[int] | None = None) -> tuple[str, bool]:
        """Without links, and whether one of them was in the layer. Raises OSError where they go in a circle."""
        links = links or iter(range(_LINKS))
        resolved, through = os.sep, False
        for part in path.split(os.sep):
            if not part:
                continue
            step = os.path.join(resolved, part)
            text, own = self._link(step)
            if text is not None:
                if next(links, None) is None:
                    raise self._error(errno.ELOOP, path)
                step, more = self._resolve(os.path.normpath(os.path.join(resolved, text)), links)
                through = through or own or more
            resolved = step
        return resolved, through

    def _link(self, name: str) -> tuple[str | None, bool]:
        """The text of a link, and whether it is in the layer; None for what is no link."""
        upper = self.upper(name)
        if native.lexists(upper):
            return (native.readlink(upper), True) if native.islink(upper) else (None, False)
        return (native.readlink(name), False) if native.islink(name) and not self._is_gone(name) else (None, False)

    def _is_special(self, name: str) -> bool:
        """A device, a pipe or a socket: no content to keep."""
        try:
            mode = native.stat(name).st_mode
        except OSError:
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

    def _is_free(self, name: str) -> bool:
        return (name + os.sep).startswith(self._free)

    def _in_layer(self, name: str) -> bool:
        return (name + os.sep).startswith(self.layer + os.sep)

    def _missing(self, logical: str) -> int:
        """The error of a path that does not exist: ENOTDIR if a part before the last is a file."""
        for folder in _folders(logical):
            if self.exists(folder):
                return errno.ENOENT if self.is_folder(folder) else errno.ENOTDIR
        return errno.ENOENT

    @staticmethod
    def _error(number: int, path: Path) -> OSError:
        return OSError(number, os.strerror(number), path)  # of the class that belongs to the number


def _folders(path: str) -> Iterator[str]:
    """From the innermost outwards."""
    while (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


def _like(path: Path, name: str) -> Path:
    return os.fsencode(name) if isinstance(path, bytes) else name
