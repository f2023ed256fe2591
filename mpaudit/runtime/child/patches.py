"""Everything that is replaced in the user's process, in one list: put in, named in the report, taken out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Patch:
    owner: Any
    name: str
    original: Any
    """What the owner itself held; absent where the attribute was inherited."""
    label: str
    undo: Callable[[], object] | None = None


@dataclass(slots=True)
class Patches:
    """A registry of replaced attributes, in order of their replacement."""

    applied: list[Patch] = field(default_factory=list)

    def replace(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        """Sets `owner.name` to `wrap(what it was)`. Raises AttributeError where the owner has no such attribute."""
        own = vars(owner).get(name, _ABSENT)
        current = own if own is not _ABSENT else getattr(owner, name)
        setattr(owner, name, wrap(current))
        self.applied.append(Patch(owner, name, own, _label(owner, name)))

    def note(self, label: str, undo: Callable[[], object] | None = None) -> None:
        """Names a change that is no attribute: a registered hook, an environment variable."""
        self.applied.append(Patch(None, "", _ABSENT, label, undo))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(patch.label for patch in self.applied))

    def undo(self) -> None:
        """The last replacement first."""
        while self.applied:
            patch = self.applied.pop()
            if patch.owner is None:
                if patch.undo is not None:
                    patch.undo()
            elif patch.original is _ABSENT:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.original)


def _label(owner: Any, name: str) -> str:
    home = getattr(owner, "__module__", None) or ""
    own = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", type(owner).__name__)
    return ".".join(part for part in (home, own, name) if part)
