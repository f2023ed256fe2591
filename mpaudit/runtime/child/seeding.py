"""Seeds what a script may draw from, before it draws, so that runs can be compared; names what no seed reaches.

A script that seeds for itself has the last word, as its calls come later.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from mpaudit.runtime.protocol import Place

from . import places
from .patches import Patches


@dataclass(slots=True)
class Seeding:
    seed: int
    patches: Patches
    unseeded: dict[Place, None] = field(default_factory=dict)

    def begin(self) -> dict[str, Callable[[ModuleType], None]]:
        """Seeds `random` at once; gives what is to be called when the others are imported."""
        random.seed(self.seed)
        self._watch(random, "seed", "random.seed() without a seed")
        return {"numpy.random": self._numpy, "torch": self._torch}

    def _numpy(self, module: Any) -> None:
        module.seed(self.seed % 2**32)
        self._watch(module, "seed", "numpy.random.seed() without a seed")
        self._watch(module, "default_rng", "numpy.random.default_rng() without a seed")

    def _torch(self, module: Any) -> None:
        module.manual_seed(self.seed)
        self._watch(module, "seed", "torch.seed()", always=True)

    def _watch(self, module: Any, name: str, what: str, always: bool = False) -> None:
        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if always or _is_none(args, kwargs):
                    self._note(what)
                return original(*args, **kwargs)

            return wrapper

        self.patches.replace(module, name, wrap)

    def _note(self, what: str) -> None:
        place = places.caller(what, imports=False)
        if place is not None:
            self.unseeded[place] = None


def _is_none(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return all(value is None for value in (*args[:1], *list(kwargs.values())[:1]))
