"""Which statements of the admitted files are worth a LibCST parse."""

from __future__ import annotations

from collections.abc import Sequence

from .facts.ir import Outline

ENGINE_TRIGGERS = (
    r"GradScaler", r"\bautocast\b", r"\.backward\(", r"\.step\(", r"\.unscale_\(", r"zero_grad", r"clip_grad",
    r"\.grad\b", r"torch\.optim", r"\boptim\.", r"Adam", r"\bSGD\b", r"nullcontext", r"ExitStack", r"\.half\(",
    r"float16", r"bfloat16", r"float64", r"\.double\(", r"from_numpy", r"as_tensor", r"torch\.tensor", r"torch\.device",
    r"\.cuda\(", r"BCELoss", r"binary_cross_entropy", r"state_dict", r"torch\.save", r"DataParallel", r"no_grad",
    r"custom_(?:fwd|bwd)", r"\bamp\.", r"autocast_(?:gpu|cpu)_dtype", r"set_default_(?:dtype|tensor_type)",
    r"(?:LSTM|GRU|RNN)Cell\b",
)  # fmt: skip
"""What makes a statement worth a parse once its file matters: also where scalers, optimizers and devices come from."""

MATERIAL_TRIGGERS = frozenset(
    (
        r"\bfrom_numpy\s*\(", r"\btorch\.(?:as_)?tensor\s*\(", r"bfloat16", r"\bfloat16\b", r"\.half\(\s*\)",
        r"torch\.half\b", r"\.state_dict\(\s*\)",
    )
)  # fmt: skip
"""Triggers of rules that report only what a training loop does with it: without one that it is linked with, a file
that holds nothing else can have no finding."""

PROJECT_TRIGGERS = frozenset(
    (
        r"load_state_dict", r"allow_tf32", r"fp32_precision", r"set_float32_matmul_precision", r"cpp_extension",
        r"utils\.ffi\b", r"nn\.Module\b", r"\(Module\)", r"\bautograd\.Function\b", r"\(Function\)",
    )
)  # fmt: skip
"""What checks ask of a project as a whole: whether anything resumes a training, turns TF32 on, or compiles kernels, and
what its networks are made of."""

SCIENCES = frozenset(
    (
        "gpytorch", "botorch", "torchdiffeq", "e3nn", "mace", "ase", "torchani", "schnetpack", "rdkit", "openmm",
        "pyscf", "deepxde", "torchquad", "healpy", "astropy",
    )
)  # fmt: skip
"""Packages of fields that compute in float64 on purpose."""

HELPER_LINES = 12
"""A function of at most so many lines is parsed where parsed code calls it by name."""

_EVERYWHERE = frozenset(
    {"__init__", "__call__", "forward", "__getitem__", "__len__", "__iter__", "__enter__", "__exit__"}
)


def units_to_parse(outlines: Sequence[Outline]) -> list[set[int]]:
    """The numbers of the units to parse of each file."""
    hot = _reaching(outlines)
    _add_helpers(outlines, hot)
    return hot


def _reaching(outlines: Sequence[Outline]) -> list[set[int]]:
    """Units with a trigger, those that name something in a unit to parse, and the top-level code of modules that
    have any."""
    users: dict[str, list[tuple[int, int]]] = {}
    queue: list[tuple[int, int]] = []
    for file, outline in enumerate(outlines):
        for number, unit in enumerate(outline.units):
            for name in unit.calls:
                users.setdefault(name, []).append((file, number))
            if unit.hot:
                queue.append((file, number))
    hot: list[set[int]] = [set() for _ in outlines]
    spread: set[str] = set()
    while queue:
        file, number = queue.pop()
        if number in hot[file]:
            continue
        first = not hot[file]
        hot[file].add(number)
        unit = outlines[file].units[number]
        names = set(unit.hot_defines) if unit.hot else set()
        if unit.kind == "def":
            names.add(unit.name)
        elif unit.kind == "class":
            names |= {unit.name, *unit.defines} if not unit.hot else {unit.name}
        for name in names - spread - _EVERYWHERE:
            spread.add(name)
            queue += users.get(name, ())
        if first:
            queue += [(file, n) for n, u in enumerate(outlines[file].units) if u.kind == "code"]
    return hot


def _add_helpers(outlines: Sequence[Outline], hot: list[set[int]]) -> None:
    """Small functions that a unit to parse calls: they say what a device, a dtype or an array is."""
    called = {
        name for outline, units in zip(outlines, hot, strict=True) for n in units for name in outline.units[n].calls
    }
    for outline, units in zip(outlines, hot, strict=True):
        for number, unit in enumerate(outline.units):
            if unit.kind == "def" and unit.name in called and unit.last_line - unit.first_line < HELPER_LINES:
                units.add(number)
