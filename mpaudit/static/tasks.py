"""A function that may be called in another process, and what becomes of a call that is lost there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Lost:
    """A piece of work without a result, and why."""

    reason: str
    internal: bool = False
    """We are at fault: to be reported, and the run fails."""


@dataclass(frozen=True)
class Task(Generic[Q, A]):
    """A function that can be called in a worker: its home, and how its argument and its result travel."""

    module: str
    function: str
    question: Any
    answer: Any
    subject: str
    """What it works with, for the sentence that says it died."""
    worth: int
    """Weights that add up to less are not worth a worker."""
    dangerous: int = 1 << 60
    """A single piece of this weight is never done in this process."""
    shared: int = 1 << 60
    """So much is worth to be handed to a worker that stands idle while this process does the rest."""
    seconds: Callable[[int], float] | None = None
    """Processor time that a piece of some weight may take in a worker."""
    needs: tuple[str, ...] = ()
    """Modules that it imports when it is first called."""

    def run(self, question: Q) -> A | Lost:
        """In this process."""
        from importlib import import_module

        try:
            answer: A = getattr(import_module(self.module), self.function)(question)
            return answer
        except Exception as error:
            if os.environ.get("MPAUDIT_DEBUG"):
                raise
            return Lost(" ".join(f"{type(error).__name__}: {error}".split()), internal=True)
