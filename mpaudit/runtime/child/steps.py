"""The steps of a training, in the order in which they ended, and which of its optimizers they are counted by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Literal
from weakref import ReferenceType, ref

if TYPE_CHECKING:
    from .events import Events

BACKWARD = "backward"

_STAMPED = Random(0).choices((True, False), (1, 7), k=256)
"""Which of the quick steps have their spans stamped: one in eight, at no regular distance, as what is outside may come
at one (a worker of the data has its turn)."""

_RARER = 8
"""An optimizer that steps less than once in so many steps of another does not set the pace."""


def primary(counts: Sequence[int]) -> int:
    """The optimizer that closes a training step, by the steps each has made: the rarest, as the generator of a GAN
    with three discriminator steps to its one, but none that is much rarer than the others. Of several the first."""
    most = max(counts)
    return min(range(len(counts)), key=lambda number: (counts[number] * _RARER < most, counts[number]))


@dataclass(slots=True)
class Steps:
    """Who stepped, one entry for each step of any optimizer, skipped ones of a scaler too."""

    planned: int
    counted: Literal["optimizer", "backward"] | None = None
    """What a step is, where that is known: from an earlier run, or because no optimizer has stepped for so long."""
    names: list[str] = field(default_factory=list)
    """Of the optimizers, by number: in the order of their first step."""
    counts: list[int] = field(default_factory=list)
    log: list[int] = field(default_factory=list)
    """The number of the optimizer at each end of a step."""
    made: int = 0
    """Training steps: of the primary optimizer, or backward passes where they are what is counted."""
    backwards: int = 0
    expected: bool = False
    """An optimizer exists."""
    ends: list[int] = field(default_factory=list)
    """For each entry of the log, how much of the journal of times there was."""
    passes: list[int] = field(default_factory=list)
    """The same for backward passes, as long as they may be what is counted."""
    ended: list[Callable[[], None]] = field(default_factory=list)
    """Called at the end of each step of an optimizer, after it is in the log, and of each backward pass that counts as
    a step."""
    due: int = 0
    """From so many steps on, `look` is called at the end of each."""
    look: Callable[[], None] = lambda: None
    quick: bool = False
    """Steps of optimizers are so quick that the stamps of all their spans would be felt."""
    _numbers: dict[int, tuple[ReferenceType[Any], int]] = field(default_factory=dict)
    """By the identity of an optimizer, which another may take over after its end: hence the reference."""
    _events: Events | None = None
    _journal: list[Any] = field(default_factory=list)
    _waiting: bool = False
    """Inside a scaler's step whose optimizer has not stepped yet."""

    @property
    def by_backward(self) -> bool:
        """Backward passes are what is counted: there is no optimizer, none that is used, or one whose first step has
        no end in sight, as that of an L-BFGS that is to make thousands of iterations in one call."""
        if self.counted is not None:
            return self.counted == "backward"
        return not self.log and not self.expected

    def positions(self) -> list[int]:
        """Where the planned steps ended in the log (by backward: which passes)."""
        if self.by_backward:
            return list(range(min(self.backwards, self.planned)))
        if not self.log:
            return []
        chosen = primary(self.counts)
        return [place for place, number in enumerate(self.log) if number == chosen][: self.planned]

    def lengths(self) -> list[int]:
        """How long the journal was at the ends of the planned steps, as far as that is known."""
        lengths = self.passes if self.by_backward else self.ends
        return [lengths[place] for place in self.positions() if place < len(lengths)]

    def step(self, optimizer: Any) -> None:
        known = self._numbers.get(id(optimizer))
        number = known[1] if known is not None and known[0]() is optimizer else self._meet(optimizer)
        self.counts[number] += 1
        self.log.append(number)
        self.ends.append(len(self._journal))
        self._waiting = False
        if self.counted != "backward":
            self.made = self.counts[0] if len(self.counts) == 1 else self.counts[primary(self.counts)]
        if self.ended:
            for subscriber in self.ended:
                subscriber()
        if self.made >= self.due:
            self.look()
        if self.quick and self._events is not None:
            self._events.spans = _STAMPED[self.made & 255]

    def _meet(self, optimizer: Any) -> int:
        number = len(self.names)
        self._numbers[id(optimizer)] = ref(optimizer), number
        self.names.append(f"{type(optimizer).__name__}#{number + 1}")
        self.counts.append(0)
        return number

    def forget(self) -> None:
        """Begins anew, in the child of a fork. Optimizers that exist are still expected to step."""
        self.made = self.backwards = self.due = 0
        self._waiting = False
        self.hurry(False)
        self._numbers.clear()
        for entries in (self.names, self.counts, self.log, self.ends, self.passes):
            entries.clear()
        self._listen(True)

    def hurry(self, quick: bool) -> None:
        self.quick = quick and not self.by_backward
        if self._events is not None and not self.quick:
            self._events.spans = True

    def watch(self, events: Events) -> None:
        self._events, self._journal = events, events.journal
        events.step_over.append(self.step)
        self._listen(True)
        events.parameters.append(self._parameters)
        events.scaler_step_begin.append(self._scaler_begin)
        events.scaler_step_end.append(self._scaler_end)

    def _listen(self, to_passes: bool) -> None:
        """In new lists, as the old ones may be in use."""
        if self._events is not None:
            others = [other for other in self._events.backward_over if other != self._backward_over]
            self._events.backward_over = [*others, self._backward_over] if to_passes else others

    def _parameters(self, optimizer: Any, taken: Any) -> None:
        self.expected = True

    def _backward_over(self) -> None:
        if self.log and self.counted != "backward":  # optimizers are what is counted
            self._listen(False)
            return
        self.backwards += 1
        self.passes.append(len(self._journal))
        if self.counted is None and self.backwards >= 100 + 10 * self.planned:
            self.counted = "backward"
        if self.by_backward:
            self.made = self.backwards
            for subscriber in self.ended:
                subscriber()
            if self.made >= self.due:
                self.look()
        else:
            self.made = 0

    def _scaler_begin(self, scaler: Any, optimizer: Any) -> None:
        self._waiting = True

    def _scaler_end(self, scaler: Any, optimizer: Any) -> None:
        if self._waiting:  # the scaler left the step out
            if self._events is not None:
                self._events.tick()
            self.step(optimizer)
