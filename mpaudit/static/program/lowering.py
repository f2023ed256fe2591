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
from .vocabulary import AFTER_TRAINING, is_after_training

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
    if "detectron2" in module.imported_roots and "build_model" in module.names:
        return True  # of what a registry holds
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


def _halves(module: ModuleInfo) -> bool:
    """Whether something is made fp16 in code that may be of the training, by the names of its folders, file and
    function."""
    if is_after_training(module.path):
        return False
    code = [info.node for info in module.nested if info.parent is None and _may_train(info)]
    top = [stmts for unit, stmts in module.chunks if unit.kind == "code"]
    lowers = _lowers_a_network if _holds_no_layer(module) else _makes_half
    return any(lowers(node) for root in (*code, *top) for node in _outside_autocast(root or ()))


def _holds_no_layer(module: ModuleInfo) -> bool:
    """No class with a forward, nor any other that may compute in what it is given."""
    return not any("forward" in unit.defines or "Function" in unit.calls for unit in module.outline.units)


def _makes_half(node: object) -> bool:
    return _is_half(node) and not _is_of_no_network(node)


def _is_of_no_network(node: object) -> bool:
    """`tensor.half()` of an image, `state_dict[key].half()` of what is saved."""
    if not (isinstance(node, ir.Call) and isinstance(node.func, ir.Attr)):
        return False
    return any(map(_NO_NETWORK.search, names_among(walk_nodes(node.func.base))))


_NO_NETWORK = re.compile(r"(?i)^(tensor|image|img|frame|picture)s?$|state_?dict$")


def _lowers_a_network(node: object) -> bool:
    """A network is made half, by its name, or a tensor is for what it is given to: float32 layers refuse one of
    float16, and one that is kept lowers nothing."""
    if isinstance(node, ir.Call) and any(map(_makes_half, node.args)):
        return True
    if not _makes_half(node):
        return False
    base = node.func.base if isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) else node
    parts = tuple(walk_nodes(base))
    keys = {part.value for part in parts if isinstance(part, ir.Const) and isinstance(part.value, str)}
    names = names_among(parts) | keys
    return base is node or not names or any(map(_NETWORK.search, names))


_NETWORK = re.compile(
    r"(?i)model|net|module|coder|layer|block|backbone|head|former|generator|discriminator|teacher|student|ema|clip|bert"
    r"|gpt|vae|llm|critic|policy|actor|weight|param|^(self|m|g|d|c|l|p)$"
)


def _may_train(info: FunctionInfo) -> bool:
    if AFTER_TRAINING.search(info.name) or (info.cls is not None and AFTER_TRAINING.search(info.cls.name)):
        return False
    return not (info.cls is not None and _gives_data(info.cls))


def _gives_data(cls: ClassInfo) -> bool:
    """A class of data, by the names of its methods, that is no network: float32 layers refuse float16 data, and a loss
    in float32 stays so whatever it is compared with."""
    return any(map(_GIVES.search, cls.methods)) and cls.methods.keys().isdisjoint(_OF_NETWORKS)


_GIVES = re.compile(r"(?i)^__getitem__$|^_?collate|data_?loader$")
_OF_NETWORKS = frozenset(("forward", "training_step", "configure_optimizers"))


def _outside_autocast(root: object) -> Iterator[object]:
    """The nodes below one, without what takes effect in an autocast alone: the arguments of `custom_fwd`, and what asks
    whether there is one, or for 16 bits; and without what is undone at once, what is made to be evaluated, and what
    mends a failure."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is tuple:
            stack += node
        elif kind in CHILDREN and not _is_of_autocast(node) and not _is_undone(node) and not _is_of_evaluation(node):
            yield node
            stack += [getattr(node, name) for name in CHILDREN[kind] if name != "handlers"]


def _is_of_autocast(node: object) -> bool:
    if isinstance(node, ir.Call):
        return isinstance(node.func, ir.Name | ir.Attr) and "custom_fwd" in names_among((node.func,))
    return isinstance(node, ir.If | ir.IfExp) and any(map(_asks, walk_nodes(node.test)))


def _asks(node: object) -> bool:
    """`torch.is_autocast_enabled()`, `x.type() == "torch.cuda.HalfTensor"`, or what has asked for a dtype before."""
    if isinstance(node, ir.Const):
        return isinstance(node.value, str) and node.value.endswith("HalfTensor")
    return bool(names_among((node,)) & _ASKS) or (isinstance(node, ir.Name) and node.id == "is_half")


_ASKS = frozenset(("is_autocast_enabled", "is_autocast_cpu_enabled", "HalfTensor"))


def _is_undone(node: object) -> bool:
    """`model.half().float()` rounds the weights once; `deepcopy(model).half()` leaves them as they are, and what is
    moved to the CPU, or put into a dict, is kept."""
    if isinstance(node, ir.Dict):
        return any(value is not None and isinstance(value, ir.Call) and _is_half(value) for _, value in node.items)
    if not (isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and isinstance(node.func.base, ir.Call)):
        return False
    made = node.func.base.func
    if node.func.name in ("cpu", "float"):
        return _is_half(node.func.base)
    return node.func.name == "half" and bool(names_among((made,)) & {"copy", "cpu", "deepcopy"})


def _is_of_evaluation(node: object) -> bool:
    """`test(model=load(path).half())`"""
    return isinstance(node, ir.Call) and isinstance(node.func, ir.Name | ir.Attr) and any(
        AFTER_TRAINING.search(name) for name in names_among(walk_nodes(node.func))
    )  # fmt: skip


def _is_half(node: object) -> bool:
    """`x.half()`, or `torch.half`."""
    if isinstance(node, ir.Attr) and node.name == "half":
        return isinstance(node.base, ir.Name) and node.base.id == "torch"
    return isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.func.name == "half" and not node.args
