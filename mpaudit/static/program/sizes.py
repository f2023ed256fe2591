"""Scripts that start a network narrow or train on small images: each kernel is over before the next one starts."""

from __future__ import annotations

import re

from .definitions import ModuleInfo
from .linker import Project
from .traits import with_option

VERY_FEW = 16
"""So many channels to begin with are too few for any images."""
FEW = 36
"""So many are too few for images of 32 by 32 pixels."""


def starts_narrow(project: Project, channels: int) -> frozenset[str]:
    """Scripts that start a network with so many channels at most unless an option says otherwise: networks of cells,
    of dense blocks."""
    return with_option(project, lambda unit: bool(unit.first_channels) and unit.first_channels[0] <= channels)


_PIXELS = 40
_STOCK = re.compile(r"^(wide_)?resnet\d+(_2)?$")
_ALTERED = frozenset(("conv1", "maxpool", "interpolate", "Upsample"))


def shrinks_images(project: Project) -> frozenset[str]:
    """Files that make images of 32 by 32 pixels or so, and call a ResNet of torchvision as it is: its first layers
    leave 8 by 8 of these pixels, and its last ones a single one."""
    return frozenset(module.path for module in project.modules.values() if _shrinks(module))


def _shrinks(module: ModuleInfo) -> bool:
    size = max((unit.pixels for unit in module.outline.units), default=0)
    if not 0 < size <= _PIXELS or not _ALTERED.isdisjoint(module.names):
        return False
    called = {name for unit in module.outline.units for name in unit.calls if _STOCK.match(name)}
    own = {name for unit in module.outline.units for name in unit.defines}
    sources = {source for name in called | {"models", "torchvision"} for source, _ in module.imports.get(name, ())}
    sources |= {source for _, source, name in module.outline.imports if name == "*"}
    return bool(called - own) and bool(sources) and all(source.startswith("torchvision") for source in sources)


def small_batches(project: Project) -> frozenset[str]:
    """Scripts whose batches hold a handful of examples unless an option says otherwise."""
    return with_option(project, lambda unit: unit.small_batch)
