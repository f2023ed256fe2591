"""One Python process of a run: what is known of it, and the result that it leaves if it trains."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from mpaudit.runtime.protocol import RESULT_FILE, ChildPlan, ChildResult, Ending, Place
from mpaudit.runtime.results import PROCESSES

from . import ending, real
from .patches import Patches
from .writer import leave, write

if TYPE_CHECKING:
    from .training import Training


@dataclass(slots=True)
class Process:
    plan: ChildPlan
    patches: Patches
    own: bool
    """Runs the script itself; another is one that the script started."""
    unseeded: dict[Place, None] = field(default_factory=dict)
    redirected: dict[Place, None] = field(default_factory=dict)
    training: Training | None = None
    """From the import of torch on."""
    cut: bool = False
    """The parent has said that the time is over."""

    def register(self) -> None:
        """Lets the parent count this process."""
        path = os.path.join(self.plan.folder, PROCESSES, str(os.getpid()))
        real.close(real.open_file(path, os.O_WRONLY | os.O_CREAT, 0o644))

    def attach(self, torch: ModuleType) -> None:
        from .training import begin

        self.training = begin(self.plan, self.patches, self.finish)

    def forked(self) -> None:
        """In the child of a fork: what was measured belongs to the parent."""
        self.own = False
        self.register()
        if self.training is not None:
            self.training.forget()

    def finish(self, status: int | None = None) -> None:
        """Writes what is known now; called at the bound, and again at the end."""
        if self.own:
            path = os.path.join(self.plan.folder, RESULT_FILE)
        elif self.training is not None and self.training.steps.made:
            path = os.path.join(self.plan.folder, PROCESSES, f"{os.getpid()}.json")
        else:
            return
        write(path, msgspec.json.encode(self._result(status)))
        if self.training is not None:
            self.training.keep()

    def end(self) -> None:
        """After the script's own exit handlers. What is left of a stopped training need not be taken apart."""
        self.finish()
        if self._bounded and not self.plan.allow_writes:
            leave(0)

    def _result(self, status: int | None) -> ChildResult:
        error = ending.uncaught()
        measured = self.training.measured() if self.training is not None else None
        result = ChildResult(
            run=self.plan.run,
            ending=self._ending(error, status),
            steps=0,
            counted="none",
            error=None if error is None or self._bounded else ending.describe(error),
            exit_status=status,
            patched=self.patches.names,
            unseeded=tuple(self.unseeded),
            redirected=tuple(self.redirected),
            children=len(self._started()),
        )
        return result if measured is None else msgspec.structs.replace(result, **measured)

    @property
    def _bounded(self) -> bool:
        return self.training is not None and self.training.bound.fired

    def _ending(self, error: BaseException | None, status: int | None) -> Ending:
        if self._bounded:
            return "bounded"
        if self.cut:
            return "time-limit"
        if error is not None:
            return ending.classify(error)
        if status:
            return "exit"
        return "completed" if self.training is not None and self.training.steps.made else "no-steps"

    def _started(self) -> list[str]:
        """The other processes of the run, by number."""
        own = str(os.getpid())
        return [
            name for name in os.listdir(os.path.join(self.plan.folder, PROCESSES)) if name.isdigit() and name != own
        ]
