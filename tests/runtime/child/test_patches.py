"""The registry of what was replaced: put in, named, taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpaudit.runtime.child.patches import Patches


class Base:
    def greet(self) -> str:
        return "base"


class Derived(Base):
    pass


def louder(original: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda self: original(self).upper()


def test_undo_gives_back_what_was_there_last_first() -> None:
    patches = Patches()
    own = Base.__dict__["greet"]
    patches.replace(Base, "greet", louder)
    patches.replace(Base, "greet", lambda original: lambda self: original(self) + "!")
    assert Base().greet() == "BASE!"
    patches.undo()
    assert Base.__dict__["greet"] is own


def test_an_inherited_method_is_inherited_again() -> None:
    patches = Patches()
    patches.replace(Derived, "greet", louder)
    assert (Derived().greet(), Base().greet()) == ("BASE", "base")
    patches.undo()
    assert "greet" not in vars(Derived)


def test_names_say_each_change_once() -> None:
    patches = Patches()
    patches.replace(Base, "greet", louder)
    patches.replace(Base, "greet", louder)
    patches.note("a hook")
    assert patches.names == (f"{__name__}.Base.greet", "a hook")
    patches.undo()
