"""Which files may run in one process: a script, what it imports however far, and what imports the script itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from .definitions import ModuleInfo
from .linker import Project

_BY_NAME = frozenset(("__import__", "exec", "import_module", "import_from_string", "instantiate", "locate"))
_LOADERS = frozenset(("imp", "importlib", "pkgutil", "runpy"))
"""What imports by a name that the text of the program may not hold."""


def together(project: Project, paths: Iterable[str]) -> frozenset[str]:
    """The files that may run in one process with one of `paths`; all of them where anything is imported by a computed
    name."""
    [found] = together_with_each(project, [frozenset(paths)])
    return found


def together_with_each(project: Project, groups: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """As `together`, of several groups of paths."""
    if not any(groups):
        return [frozenset() for _ in groups]
    modules = project.modules.values()
    if any(map(_imports_by_name, modules)):
        return [frozenset(project.modules) if wanted else frozenset() for wanted in groups]
    stems: dict[str, set[str]] = {}
    for module in modules:
        stems.setdefault(module.parts[-1] if module.parts else "", set()).add(module.path)
    imports = {module.path: set(_needed(project, module, stems)) for module in modules}
    importers: dict[str, set[str]] = {}
    for path, needed in imports.items():
        for other in needed:
            importers.setdefault(other, set()).add(path)
    above = [_closure(set(wanted), lambda path: importers.get(path, set())) for wanted in groups]
    return [frozenset(_closure(found, lambda path: imports[path])) for found in above]


def _imports_by_name(module: ModuleInfo) -> bool:
    called = (unit.calls for unit in module.outline.units)
    return (
        bool(module.imported_roots & _LOADERS)
        or not module.names.isdisjoint(_BY_NAME)
        or any(not _BY_NAME.isdisjoint(names) for names in called)
    )


def _closure(start: set[str], after: Callable[[str], set[str]]) -> set[str]:
    found, queue = set(start), list(start)
    while queue:
        new = after(queue.pop()) - found
        found |= new
        queue += new
    return found


def _needed(project: Project, module: ModuleInfo, stems: dict[str, set[str]]) -> Iterator[str]:
    """What a module imports, wherever it does, with the packages around it; of an import that may mean one of several
    files all of them."""
    for _, source, name in module.outline.imports:
        for dotted in (f"{source.rstrip('.')}.{name}" if source.strip(".") else f"{source}{name}", source):
            found = project.find(module, dotted) if dotted.strip(".*") else None
            if found is not None:
                yield found.path
            else:
                yield from stems.get(dotted.rpartition(".")[2], ())
    for length in range(1, len(module.parts)):
        for path in stems.get(module.parts[length - 1], ()):
            other = project.modules[path]
            if other.is_package and other.parts == module.parts[:length]:
                yield path
