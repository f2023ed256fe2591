"""Where a script may write as it would without mpaudit: devices, temporary files, caches."""

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


def free() -> tuple[str, ...]:
    """Absolute paths of folders that exist, links resolved. The folder for temporary files is the run's own."""
    home = os.path.expanduser("~")
    caches = [os.path.join(home, name) for name in _CACHES]
    caches += [os.environ[name] for name in _VARIABLES if os.environ.get(name)]
    areas = ["/dev", "/proc", "/sys", tempfile.gettempdir(), *caches]
    found = dict.fromkeys(os.path.realpath(area) for area in areas if os.path.isdir(area))
    return tuple(area for area in found if area not in (os.sep, os.path.realpath(home), os.path.realpath(os.getcwd())))
