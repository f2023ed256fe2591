"""What is watched from the import of torch on: steps, clock, losses, memory, and the bound that ends it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Any, Literal

from mpaudit.runtime.protocol import ChildPlan, Control, Memory
from mpaudit.runtime.results import PROGRESS_FILE

from . import environment, events, evidence, real
from .bound import Bound
from .evidence import Evidence, emulate
from .patches import Patches
from .precision import control
from .probes import loss, memory, timing
from .steps import Steps

_EVERY_S = 0.2
_QUICK_S = 0.005


@dataclass(slots=True)
class Training:
    plan: ChildPlan
    steps: Steps
    bound: Bound
    timing: timing.Timing
    losses: loss.Losses
    control: Callable[[], Control]
    progress: int
    """A file descriptor."""
    warm: int
    """Steps until the measured ones begin."""
    looked: tuple[float, int] = (-inf, 0)
    """When that was last so, and the steps that were made."""
    shown: float = 0.0
    begun: bool = False
    """The measured steps have."""
    evidence: Evidence | None = None
    """The probes of an evidence run."""
    emulation: object = None
    """Lasts as long as it is held."""

    def look(self) -> None:
        """After the clock: all that costs time comes here, and the bound last."""
        now, made = perf_counter(), self.steps.made
        if now - self.shown > _EVERY_S:
            self.shown = now
            self.show()
        if made >= self.warm and not self.begun:
            self.begun = True
            memory.begin()
        if made >= self.steps.planned:
            self.bound.end()
        before, then = self.looked
        self.looked = now, made
        pace = max(now - before, 1e-6) / max(made - then, 1)
        self.steps.hurry(pace < _QUICK_S)
        # steps that are so quick that many of them fit between two looks need not be looked at one by one
        soon = made + max(int(_EVERY_S / pace), 1)
        self.steps.due = min(soon, self.steps.planned, soon if self.begun else self.warm)

    def show(self) -> None:
        """Tells the parent how far the training is."""
        text = f"{self.steps.made}{' bounded' if self.bound.fired else ''}"
        try:
            real.pwrite(self.progress, text.ljust(24).encode(), 0)
        except OSError:  # the disk is full, which the writing of the result will say
            self.shown = inf

    def forget(self) -> None:
        """Begins anew, in the child of a fork."""
        self.steps.forget()
        self.timing.forget()
        self.bound.fired = self.begun = False
        self.looked = -inf, 0

    def keep(self) -> None:
        """Writes what the probes of an evidence run have found, where this process is the one that trains."""
        if self.evidence is not None and self.steps.made and _rank() == 0:
            self.evidence.write()

    def measured(self) -> dict[str, Any]:
        """The fields of a ChildResult that a training has."""
        found: dict[str, Any] = {
            "steps": self.steps.made,
            "counted": self._counted(),
            "optimizers": dict(zip(self.steps.names, self.steps.counts, strict=True)),
            "control": self.control(),
            "environment": environment.read(),
            "rank": _rank(),
        }
        try:
            times = timing.read(self.timing, self.plan.warmup)
            found |= {"warmup_ms": times.warmup_ms, "step_ms": times.step_ms, "outside_ms": times.outside_ms}
            found |= {"losses": loss.read(self.losses), "memory": memory.read()}
        except RuntimeError as error:  # a device that has failed answers nothing any more
            found |= {"notes": (f"the device could not be read at the end: {error}",), "memory": Memory()}
        return found

    def _counted(self) -> Literal["optimizer", "backward", "none"]:
        if not self.steps.made:
            return "none"
        return "backward" if self.steps.by_backward else "optimizer"


def begin(plan: ChildPlan, patches: Patches, finish: Callable[[], None]) -> Training:
    """Called right after torch was imported, before any other line of the script. `finish` keeps what was measured."""
    path = os.path.join(plan.folder, PROGRESS_FILE)
    sources = events.Events()
    events.install(sources, patches)
    steps = Steps(planned=max(plan.warmup, 1) + plan.steps, counted=plan.counted)
    clock, losses = timing.Timing(steps), loss.Losses(steps)
    steps.watch(sources)
    clock.watch(sources)
    losses.watch(sources)
    emulation = emulate(patches) if plan.emulate else None
    controller = control.install(plan, sources, patches)
    training = Training(
        plan=plan,
        steps=steps,
        bound=Bound(plan.stop, lambda: _reached(training, finish)),
        timing=clock,
        losses=losses,
        control=controller.report,
        warm=max(plan.warmup, 1),
        progress=real.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644),
    )
    training.emulation = emulation
    if plan.kind in ("evidence", "batch"):
        training.evidence = evidence.begin(plan, steps, sources, controller)
        steps.ended.append(training.evidence.step_ended)  # before the bound, which does not come back
    steps.look = training.look
    return training


def _reached(training: Training, finish: Callable[[], None]) -> None:
    finish()
    training.show()


def _rank() -> int:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return int(os.environ.get("RANK", "0") or 0)
