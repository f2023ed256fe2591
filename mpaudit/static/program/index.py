"""Which file an import means."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Generic, TypeAlias, TypeVar

M = TypeVar("M")

Imports: TypeAlias = "tuple[tuple[str, str, str], ...]"
"""As `ir.Import.bindings`."""

ON_PATH = ("", "sys.path")
"""How the binding of a folder begins that a file puts on `sys.path`; the name of the folder follows."""

BY_NAME = ("", "importlib")
"""How the binding of a constant begins that may name a module that a file imports by name; the constant follows."""


class ModuleIndex(Generic[M]):
    """Finds what an import means among the files of a project, where nothing says what is on `sys.path`.

    A script's own folder, the folders above it and `src` are taken for path entries, the nearest first, and so is a
    folder below one of these that some file puts on the path; otherwise a dotted name counts only where exactly one
    file ends like it.
    """

    def __init__(
        self, modules: Iterable[tuple[tuple[str, ...], M]], name: str = "", imports: Iterable[Imports] = ()
    ) -> None:
        """`imports`: those of all files; their path entries count."""
        self._entries = {"src", "lib", "python"}
        self._entries |= {entry for bound in imports for local, module, entry in bound if (local, module) == ON_PATH}
        self._name = name
        """That of the project's own folder: a repository may be a package itself, found from the folder above."""
        self._root: M | None = None
        self._by_tail: dict[str, list[tuple[tuple[str, ...], M]]] = {}
        for parts, module in modules:
            if not parts:
                self._root = module
            else:
                self._by_tail.setdefault(parts[-1], []).append((parts, module))

    def find(self, importer: tuple[str, ...], is_package: bool, dotted: str) -> M | None:
        folder = importer if is_package else importer[:-1]
        level = len(dotted) - len(dotted.lstrip("."))
        names = tuple(part for part in dotted.split(".") if part)
        if level:
            base = folder[: len(folder) - (level - 1)] if level > 1 else folder
            if level - 1 > len(folder):
                return None
            return self._at(base + names)
        if not names:
            return None
        candidates = [(p, m) for p, m in self._by_tail.get(names[-1], []) if p[-len(names) :] == names]
        best: tuple[int, M] | None = None
        for parts, module in candidates:
            base = parts[: -len(names)]
            if folder[: len(base)] == base:
                rank = len(base) + 1
            elif base and base[-1] in self._entries and folder[: len(base) - 1] == base[:-1]:
                rank = 0
            else:
                continue
            if best is None or rank > best[0]:
                best = rank, module
        if best is not None:
            near = best[0] == len(folder) + 1
            return None if names[0] in sys.stdlib_module_names and not near else best[1]
        if len(candidates) == 1 and len(names) > 1 and names[0] not in sys.stdlib_module_names:
            return candidates[0][1]
        itself = names[0] == self._name and names[0] not in sys.stdlib_module_names
        return self._at(names[1:]) if itself else None

    def _at(self, wanted: tuple[str, ...]) -> M | None:
        if not wanted:
            return self._root
        return next((module for parts, module in self._by_tail.get(wanted[-1], ()) if parts == wanted), None)
