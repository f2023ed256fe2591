"""Libraries that open files by themselves, past Python: their paths are led into the overlay too."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..patches import Patches
from .functions import Report
from .overlay import Overlay, Path

Callback = Callable[[ModuleType], None]


def callbacks(overlay: Overlay, report: Report, patches: Patches) -> dict[str, Callback]:
    """What is to be done when each of these modules has been imported."""

    def reading(path: Path) -> Path:
        return overlay.read(path)

    def writing(path: Path) -> Path:
        return written(path, keep=False)

    def changing(path: Path) -> Path:
        return path if isinstance(path, str) and path in (":memory:", "") else written(path, keep=True)

    def written(path: Path, keep: bool) -> Path:
        place = overlay.write(path, keep=keep)
        if place is not path:
            report("write", path)
        return place

    def argument(owner: Any, name: str, lead: Callable[[Path], Path], position: int = 0) -> None:
        """The path is the argument at `position`."""

        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if len(args) > position and _is_path(args[position]):
                    args = (*args[:position], lead(os.fspath(args[position])), *args[position + 1 :])
                for key in ("filename", "database", "f"):
                    if _is_path(kwargs.get(key)):
                        kwargs[key] = lead(os.fspath(kwargs[key]))
                return original(*args, **kwargs)

            return wrapper

        if hasattr(owner, name):
            patches.replace(owner, name, wrap)

    def torch(module: Any) -> None:
        native = module._C
        patches.replace(native, "PyTorchFileWriter", lambda original: _by_path(original, writing))
        patches.replace(native, "PyTorchFileReader", lambda original: _by_path(original, reading))
        argument(native.ScriptModule, "save", writing, 1)
        argument(native, "import_ir_module", reading, 1)
        argument(module.UntypedStorage, "from_file", reading)

    def safetensors(module: Any) -> None:
        argument(module, "serialize_file", writing, 1)
        argument(module, "safe_open", reading)

    def cv2(module: Any) -> None:
        argument(module, "imwrite", writing)
        argument(module, "imread", reading)

    return {
        "torch": torch,
        "safetensors": safetensors,
        "cv2": cv2,
        "sqlite3": lambda module: argument(module, "connect", changing),
    }


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def _by_path(original: type, lead: Callable[[Path], Path]) -> type:
    """A class of torch whose first argument is a path or a stream. It stays a class, for `isinstance`."""

    class Led(original):  # type: ignore[misc]
        def __init__(self, target: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(lead(target) if _is_path(target) else target, *args, **kwargs)

    Led.__name__, Led.__qualname__, Led.__module__ = original.__name__, original.__qualname__, original.__module__
    return Led
