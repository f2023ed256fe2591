"""What the parts of a model are called: the path of each module and parameter from the model's root."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(slots=True)
class ModulePaths:
    """Learned from roots, the modules that a script calls outermost."""

    modules: dict[int, str] = field(default_factory=dict)
    parameters: dict[int, tuple[str, str]] = field(default_factory=dict)
    """The path of the owner and the full name."""
    has_model: bool = False

    def learn(self, root: torch.nn.Module) -> None:
        if id(root) in self.modules:
            return
        label = type(root).__name__
        # the parts of one model go by their path alone, those of a second (a critic, a teacher) and of losses by class
        alone = not self.has_model and next(root.parameters(), None) is not None
        self.has_model |= alone
        prefix = "" if alone else label
        for path, module in root.named_modules():
            full = _join(prefix, path) or label
            self.modules.setdefault(id(module), full)
            for name, parameter in module.named_parameters(recurse=False):
                self.parameters.setdefault(id(parameter), (full, _join(prefix, path, name)))

    def module(self, module: torch.nn.Module) -> str:
        """The class where the module belongs to no root that was called."""
        return self.modules.get(id(module), type(module).__name__)


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
