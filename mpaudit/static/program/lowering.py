"""What computes in a low precision without an autocast: float16 weights, policies of FSDP, kernels of packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..facts import ir
from .definitions import ClassInfo, FunctionInfo, ModuleInfo
from .linker import Project
from .nodes import CHILDREN, names_among, walk_nodes
from .processes import together

_OTHER_WAYS = frozenset(
    (
        "MixedPrecision", "FullyShardedDataParallel", "fully_shard", "ShardedGradScaler", "set_autocast_enabled",
        "set_autocast_gpu_dtype", "convert_to_fp16", "convert_network",
    )
)  # fmt: skip
"""Not `custom_fwd`: outside an autocast it does nothing, whatever it casts to."""
_OTHER_PACKAGES = frozenset(("tinycudann", "transformer_engine", "deepspeed"))
_KERNELS = frozenset(("xformers", "triton"))
"""Kernels that compute in the dtype of what they get, and get or make a 16-bit one where it is named."""
_NAMES_OF_16_BITS = frozenset(("half", "float16", "bfloat16", "fp16", "bf16", "float8e5", "float8e4nv"))


def lowering_files(project: Project) -> frozenset[str]:
    """Files that may run together with one that computes in a low precision without autocast."""
    return together(project, (module.path for module in project.modules.values() if _lowers(module)))


def _lowers(module: ModuleInfo) -> bool:
    if module.imported_roots & _OTHER_PACKAGES or _imports_apex_amp(module):
        return True
    if module.imported_roots & _KERNELS and _says(module) & _NAMES_OF_16_BITS:
        return True
    return bool(module.names & _OTHER_WAYS) or ("half" in module.names and _halves(module))


def _says(module: ModuleInfo) -> frozenset[str]:
    """What it calls or hands on, also in code that was not parsed, and all names in what was."""
    return module.names.union(*(unit.calls for unit in module.outline.units))


def _imports_apex_amp(module: ModuleInfo) -> bool:
    """Apex has optimizers and layers too, which lower nothing."""
    origins = {origin for found in module.imports.values() for origin in found}
    return any(
        source.startswith(("apex.amp", "apex.fp16_utils")) or (source == "apex" and name in ("", "amp", "fp16_utils"))
        for source, name in origins
    )


_AFTER_TRAINING = re.compile(r"(?i)eval|valid|test|infer|predict|demo|export|convert|onnx|deploy|bench|sample|generat")


def _halves(module: ModuleInfo) -> bool:
    """Whether something is made fp16 in code that may be of the training, by the names of its file and function."""
    if _AFTER_TRAINING.search(module.path.rsplit("/", 1)[-1]):
        return False
    code = [info.node for info in module.nested if info.parent is None and _may_train(info)]
    top = [stmts for unit, stmts in module.chunks if unit.kind == "code"]
    return any(_is_half(node) for root in (*code, *top) for node in _outside_autocast(root or ()))


def _may_train(info: FunctionInfo) -> bool:
    return not _AFTER_TRAINING.search(info.name) and not (info.cls is not None and _gives_data(info.cls))


def _gives_data(cls: ClassInfo) -> bool:
    """A class of data, by the names of its methods, that is no network: float32 layers refuse float16 data, and a loss
    in float32 stays so whatever it is compared with."""
    return any(map(_GIVES.search, cls.methods)) and cls.methods.keys().isdisjoint(_OF_NETWORKS)


_GIVES = re.compile(r"(?i)^__getitem__$|^_?collate|data_?loader$")
_OF_NETWORKS = frozenset(("forward", "training_step", "configure_optimizers"))


def _outside_autocast(root: object) -> Iterator[object]:
    """The nodes below one, without what takes effect in an autocast alone: the arguments of `custom_fwd`, and what asks
    whether there is one."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is tuple:
            stack += node
        elif kind in CHILDREN and not _is_of_autocast(node):
            yield node
            stack += [getattr(node, name) for name in CHILDREN[kind]]


def _is_of_autocast(node: object) -> bool:
    if isinstance(node, ir.Call):
        return isinstance(node.func, ir.Name | ir.Attr) and "custom_fwd" in names_among((node.func,))
    return isinstance(node, ir.If | ir.IfExp) and bool(names_among(walk_nodes(node.test)) & _ASKS)


_ASKS = frozenset(("is_autocast_enabled", "is_autocast_cpu_enabled"))


def _is_half(node: object) -> bool:
    """`x.half()`, or `torch.half`."""
    if isinstance(node, ir.Attr) and node.name == "half":
        return isinstance(node.base, ir.Name) and node.base.id == "torch"
    return isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.func.name == "half" and not node.args
