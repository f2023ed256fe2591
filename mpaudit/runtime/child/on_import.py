"""Runs a function right after a module was imported by the script, and imports nothing before the script does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

Callback = Callable[[ModuleType], None]


class _Watch(MetaPathFinder):
    def __init__(self, callbacks: dict[str, Callback]) -> None:
        self.waiting = callbacks

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        callback = self.waiting.pop(fullname, None)  # also so that the search below does not come back here
        if callback is None:
            return None
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            self.waiting[fullname] = callback
            return None
        _call_after(spec.loader, callback)
        return spec


def _call_after(loader: Loader, callback: Callback) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        # the loader is the module's own; it is left as it was, for tools that look at it
        del loader.exec_module
        execute(module)
        callback(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


def on_import(callbacks: dict[str, Callback]) -> None:
    """Calls each function once, with its module, after the module's own code has run and before the import returns.
    A module that is there already is passed at once."""
    later = {}
    for name, callback in callbacks.items():
        module = sys.modules.get(name)
        if module is None:
            later[name] = callback
        else:
            callback(module)
    sys.meta_path.insert(0, _Watch(later))
