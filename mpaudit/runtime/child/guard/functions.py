"""Puts the overlay under `open` and the functions of `os`, and so under all that is built of them: pathlib, shutil,
tempfile, logging, csv, zipfile, NumPy, pandas, pickle."""

from __future__ import annotations

import builtins
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..patches import Patches
from . import native
from .entries import Entries
from .overlay import Overlay, Path

Report = Callable[[str, Path], None]
"""Is told what was led elsewhere: a verb and the path as the script gave it."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def install(overlay: Overlay, report: Report, patches: Patches) -> None:
    """From here on the script lives in the overlay."""
    replaced: dict[Any, Any] = {}

    def put(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name, None)
        if original is None:  # not on this system
            return
        wrapped = functools.wraps(original)(_with_own_names(overlay, make(original)))
        patches.replace(owner, name, lambda _: wrapped)
        replaced[original] = wrapped

    put(builtins, "open", lambda original: _open(overlay, report, original))
    patches.replace(io, "open", lambda _: builtins.open)
    put(os, "open", lambda original: _os_open(overlay, report, original))
    for name in ("stat", "access", "statvfs", "getxattr", "listxattr"):
        put(os, name, lambda original: _reading(overlay, original, follow=True))
    for name in ("lstat", "readlink"):
        put(os, name, lambda original: _reading(overlay, original, follow=False))
    for name, make in _REPLACEMENTS.items():
        put(os, name, functools.partial(make, overlay, report))
    _sweep(replaced)


def _with_own_names(overlay: Overlay, function: Callable[..., Any]) -> Callable[..., Any]:
    """Errors name the files as the script did."""

    def named(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            for name in ("filename", "filename2"):
                path = getattr(error, name)
                if isinstance(path, str) and path.startswith(overlay.layer):
                    setattr(error, name, path[len(overlay.layer) :])
            raise

    return named


def _open(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def open(file: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int) or not isinstance(mode, str):
            return original(file, mode, *args, **kwargs)
        if not set(mode) & set("wax+"):
            return original(overlay.read(file), mode, *args, **kwargs)
        place = overlay.write(file, keep="w" not in mode, new="x" in mode, create="r" not in mode)
        if place is not file:
            report("write", file)
        return original(place, mode, *args, **kwargs)

    return open


def _os_open(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def open(path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> Any:
        if dir_fd is not None:
            return original(path, flags, mode, dir_fd=dir_fd)
        if not flags & _WRITING:
            return original(overlay.read(path), flags, mode)
        exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        creates = bool(flags & os.O_CREAT)
        place = overlay.write(path, keep=not flags & os.O_TRUNC, new=exclusive, create=creates)
        if place is not path:
            report("write", path)
        return original(place, flags, mode)

    return open


def _reading(overlay: Overlay, original: Callable[..., Any], follow: bool) -> Callable[..., Any]:
    def read(path: Path, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("dir_fd") is not None:
            return original(path, *args, **kwargs)
        place = overlay.read(path, follow and kwargs.get("follow_symlinks", True))
        return original(place, *args, **kwargs)

    return read


def _changing(
    verb: str, change: Callable[..., None], follow: bool = False
) -> Callable[[Overlay, Report, Callable[..., Any]], Callable[..., Any]]:
    """A function of one path, which `change` does in the overlay."""

    def make(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(path: Path, *args: Any, **kwargs: Any) -> Any:
            logical = None if kwargs.get("dir_fd") is not None else overlay.logical(path, follow)
            if logical is None:
                return original(path, *args, **kwargs)
            kwargs.pop("dir_fd", None)
            change(overlay, logical, *args, **kwargs)
            report(verb, path)
            return None

        return function

    return make


def _mkdir(overlay: Overlay, logical: str, mode: int = 0o777) -> None:
    overlay.mkdir(logical, mode)


def _truncate(overlay: Overlay, logical: str, length: int) -> None:
    descriptor = os.open(logical, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, length)
    finally:
        os.close(descriptor)


def _of_layer(name: str) -> Callable[..., None]:
    """Modes and times are set in the layer; those of the files below stay."""
    original = getattr(os, name, None)

    def change(overlay: Overlay, logical: str, *args: Any, **kwargs: Any) -> None:
        upper = overlay.upper(logical)
        if native.lexists(upper):
            assert original is not None
            original(upper, *args, **kwargs)
        elif not overlay.below(logical):
            native.stat(upper)  # raises as it should

    return change


def _moving(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def rename(src: Path, dst: Path, **kwargs: Any) -> Any:
        if any(value is not None for value in kwargs.values()):
            return original(src, dst, **kwargs)
        if overlay.find(src, False).free and overlay.find(dst, False).free:
            return original(src, dst)
        overlay.rename(src, dst)
        report("move to", dst)
        return None

    return rename


def _linking(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def link(src: Path, dst: Path, **kwargs: Any) -> Any:
        if overlay.find(src).free and overlay.find(dst, False).free:
            return original(src, dst, **kwargs)
        overlay.link(src, dst)
        report("link", dst)
        return None

    return link


def _symlinking(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def symlink(src: Path, dst: Path, target_is_directory: bool = False, **kwargs: Any) -> Any:
        logical = overlay.logical(dst, follow=False)
        if logical is None:
            return original(src, dst, target_is_directory, **kwargs)
        overlay.symlink(os.fsdecode(src), logical)
        report("link", dst)
        return None

    return symlink


def _listdir(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def listdir(path: Path = ".") -> Any:
        logical = overlay.logical(path)
        if logical is None or overlay.is_plain(logical):
            return original(overlay.read(path))
        names = overlay.names(logical)
        return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names

    return listdir


def _scandir(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def scandir(path: Path = ".") -> Any:
        logical = overlay.logical(path)
        if logical is None or (overlay.is_plain(logical) and overlay.read(path) is path):
            return original(path)
        return Entries(path, overlay.names(logical))

    return scandir


def _chdir(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    def chdir(path: Path) -> None:
        logical = overlay.logical(path)
        # the folder below where there is one: libraries that are no Python look there
        original(path if logical is None else logical if overlay.below(logical) else overlay.read(path))

    return chdir


def _getcwd(overlay: Overlay, report: Report, original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda: overlay.getcwd()


_REPLACEMENTS: dict[str, Callable[[Overlay, Report, Callable[..., Any]], Callable[..., Any]]] = {
    "mkdir": _changing("make the folder", _mkdir),
    "remove": _changing("delete", Overlay.remove),
    "unlink": _changing("delete", Overlay.remove),
    "rmdir": _changing("delete", Overlay.rmdir),
    "truncate": _changing("write", _truncate, follow=True),
    "chmod": _changing("chmod", _of_layer("chmod"), follow=True),
    "chown": _changing("chown", _of_layer("chown"), follow=True),
    "utime": _changing("touch", _of_layer("utime"), follow=True),
    "rename": _moving,
    "replace": _moving,
    "link": _linking,
    "symlink": _symlinking,
    "listdir": _listdir,
    "scandir": _scandir,
    "chdir": _chdir,
    "getcwd": _getcwd,
}


def _sweep(replaced: dict[Any, Any]) -> None:
    """Modules of Python that were imported before, and keep the functions under names of their own."""
    for name in ("pathlib", "pathlib._local", "pathlib._os", "glob", "shutil", "tempfile", "genericpath", "posixpath"):
        module = sys.modules.get(name)
        if module is None:
            continue
        for owner in (module, *_classes(module)):
            for key, value in list(vars(owner).items()):
                plain = value.__func__ if isinstance(value, staticmethod) else value
                try:
                    new = replaced.get(plain)
                except TypeError:  # not hashable
                    continue
                if new is not None:
                    setattr(owner, key, staticmethod(new) if isinstance(owner, type) else new)
    shutil = sys.modules.get("shutil")
    if shutil is not None:
        shutil._use_fd_functions = False  # type: ignore[attr-defined] # by path, so that rmtree can be led elsewhere


def _classes(module: Any) -> Iterator[type]:
    return (value for value in list(vars(module).values()) if isinstance(value, type))
