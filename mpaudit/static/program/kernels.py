"""Files with CUDA kernels of the project's own, or of a package of such."""

from __future__ import annotations

import re

from .definitions import ModuleInfo
from .linker import Project
from .networks import is_known
from .traits import importers


def kernel_files(project: Project) -> frozenset[str]:
    """Files that compile CUDA kernels of their own, and those that import one, however far: such a kernel knows the
    dtypes that it was written for, which autocast does not ask it for."""
    found = {
        module.path for module in project.modules.values()
        if any(source.startswith(_COMPILERS) for _, source, _ in module.outline.imports)
        or module.imported_roots & _PACKAGES_OF_KERNELS
        or _calls_compiled(project, module)
    }  # fmt: skip
    while found and (more := importers(project, found) - found):
        found |= more
    return frozenset(found)


_COMPILERS = ("torch.utils.cpp_extension", "torch.utils.ffi")
_PACKAGES_OF_KERNELS = frozenset(
    (
        "MinkowskiEngine",
        "sparseconvnet",
        "pointnet2_ops",
        "knn_cuda",
        "inplace_abn",
        "nvdiffrast",
        "diff_gaussian_rasterization",
    )
)  # fmt: skip
"""Packages whose layers are kernels for float32."""


def _calls_compiled(project: Project, module: ModuleInfo) -> bool:
    """`import kernels_cuda` of something that is no file of the project, in a file with an autograd Function of its
    own: what its forward calls was compiled elsewhere."""
    if not any("Function" in unit.calls and "backward" in unit.defines for unit in module.outline.units):
        return False
    return any(
        _is_compiled_beside(project, module, source, name) or _is_compiled_elsewhere(project, module, source, name)
        for _, source, name in module.outline.imports
    )


def _is_compiled_elsewhere(project: Project, module: ModuleInfo, source: str, name: str) -> bool:
    return (
        bool(source)
        and not is_known(source)
        and _COMPILED.search(f"{source} {name.lower()}") is not None
        and project.find(module, source) is None
        and (not name or project.find(module, f"{source.rstrip('.')}.{name}") is None)
    )


def _is_compiled_beside(project: Project, module: ModuleInfo, source: str, name: str) -> bool:
    """`from . import _ext`, of which the project holds nothing before it is built."""
    return (
        source.startswith(".")
        and _EXTENSION.search(name) is not None
        and project.find(module, f"{source}{name}" if not source.strip(".") else f"{source}.{name}") is None
    )


_EXTENSION = re.compile(r"^_?ext$|_ext$|^_C$|_cuda$")
_COMPILED = re.compile(r"cuda|cupy|^tvm|kernel|native|_ext|_c$|_C |3[dD]|^[A-Z]\w*[a-z]")
"""Names that extension modules have: in capitals, or after what they are."""
