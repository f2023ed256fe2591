"""Where a script may write as it would without mpaudit: devices, temporary files, caches; and which files are nobody's
work."""

from __future__ import annotations

import os
import tempfile

_CACHES = (
    ".cache/fontconfig",
    ".cache/huggingface",
    ".cache/matplotlib",
    ".cache/numba",
    ".cache/torch",
    ".cache/torch_extensions",
    ".cache/triton",
    ".config/matplotlib",
    ".keras",
    ".nv",
    ".triton",
)
_VARIABLES = (
    "CUDA_CACHE_PATH",
    "HF_HOME",
    "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_EXTENSIONS_DIR",
    "TORCH_HOME",
    "TRITON_CACHE_DIR",
)


def _caches() -> list[str]:
    home = os.path.expanduser("~")
    return [os.path.join(home, name) for name in _CACHES] + [
        os.environ[name] for name in _VARIABLES if name in os.environ
    ]


def is_cache(path: str) -> bool:
    """Whether a file or folder is one that libraries make again by themselves, in the folders where they do; also a
    folder around such folders. Kept as safe as any other, but not worth naming."""
    home = os.path.expanduser("~")
    path = os.path.join(os.path.abspath(path), "")
    caches = [*_caches(), os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")]
    inside = any(path.startswith(os.path.join(os.path.abspath(cache), "")) for cache in caches if cache)
    around = path in (os.path.join(home, ".config", ""), os.path.join(home, ".cache", ""))
    return inside or around or f"{os.sep}__pycache__{os.sep}" in path


def free() -> tuple[str, ...]:
    """Absolute paths of folders that exist, links resolved. The folder for temporary files is the run's own."""
    home = os.path.expanduser("~")
    areas = ["/dev", "/proc", "/sys", tempfile.gettempdir(), *filter(None, _caches())]
    found = dict.fromkeys(os.path.realpath(area) for area in areas if os.path.isdir(area))
    return tuple(area for area in found if area not in (os.sep, os.path.realpath(home), os.path.realpath(os.getcwd())))
