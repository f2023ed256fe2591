"""The file functions under the layer: as Python has them, taken before the guard replaces any, and made of those."""

from __future__ import annotations

import errno
import os
from typing import Any

from .. import real

getcwd = os.getcwd
listdir = os.listdir
lstat = os.lstat
mkdir = os.mkdir
readlink = os.readlink
replace = os.replace
rmdir = os.rmdir
scandir = os.scandir
stat = os.stat
symlink = os.symlink
unlink = os.unlink
utime = os.utime
chmod = os.chmod

_CHUNK = 1 << 20


def lexists(path: str) -> bool:
    try:
        lstat(path)
    except (OSError, ValueError):
        return False
    return True


def isdir(path: Any) -> bool:
    return _is(stat, path, 0o040000)


def is_folder(path: Any) -> bool:
    """And no link to one."""
    return _is(lstat, path, 0o040000)


def islink(path: Any) -> bool:
    return _is(lstat, path, 0o120000)


def _is(look: Any, path: Any, kind: int) -> bool:
    try:
        return bool(look(path).st_mode & 0o170000 == kind)
    except (OSError, ValueError):
        return False


def makedirs(path: str, exist_ok: bool = False) -> None:
    if isdir(path):
        return
    makedirs(os.path.dirname(path))
    try:
        mkdir(path)
    except FileExistsError:  # by another process, meanwhile
        if not isdir(path):
            raise


def realpath(path: str, _links: int = 0) -> str:
    """With all links resolved; parts that do not exist stay as they are, as do links that go in a circle."""
    resolved = os.sep
    for part in os.path.normpath(path).split(os.sep):
        if not part:
            continue
        step = os.path.join(resolved, part)
        if _links < 40 and islink(step):
            step = realpath(os.path.join(resolved, readlink(step)), _links + 1)
        resolved = step
    return resolved


def read(path: str) -> bytes:
    parts = []
    descriptor = real.open_file(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while part := os.read(descriptor, _CHUNK):
            parts.append(part)
    finally:
        real.close(descriptor)
    return b"".join(parts)


def append(path: str, data: bytes) -> None:
    descriptor = real.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        real.write(descriptor, data)
    finally:
        real.close(descriptor)


def copy(source: Any, target: Any) -> None:
    """Content, mode and times; what a link leads to, not the link."""
    seen = stat(source)
    incoming = real.open_file(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        outgoing = real.open_file(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while part := os.read(incoming, _CHUNK):
                rest = memoryview(part)
                while rest:
                    rest = rest[real.write(outgoing, rest) :]
        finally:
            real.close(outgoing)
    finally:
        real.close(incoming)
    chmod(target, seen.st_mode & 0o777 | 0o200)
    utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def move(source: Any, target: Any) -> None:
    """A rename, or a copy where the two are on different file systems."""
    try:
        replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV or isdir(source):
            raise
        copy(source, target)
        unlink(source)


def discard(path: str) -> None:
    """Removes a file, or a folder with all that is in it, if it is there."""
    if not lexists(path):
        return
    if isdir(path) and not islink(path):
        for name in listdir(path):
            discard(os.path.join(path, name))
        rmdir(path)
    else:
        unlink(path)
