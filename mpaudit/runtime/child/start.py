"""What happens in each Python process of a run before the user's first line. Imports nothing heavy."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, ModuleType

import msgspec

from mpaudit.runtime.protocol import PLAN_FILE, ChildPlan
from mpaudit.runtime.results import PROCESSES
from mpaudit.runtime.surroundings import RUN_VARIABLE

from . import ending, guard
from .on_import import on_import
from .patches import Patches
from .process import Process
from .seeding import Seeding

_SCRIPT = "MPAUDIT_SCRIPT"
"""Holds the number of the process that runs the script itself."""


def start() -> None:
    folder = os.environ[RUN_VARIABLE]
    with open(os.path.join(folder, PLAN_FILE), "rb") as file:
        plan = msgspec.json.decode(file.read(), type=ChildPlan)
    number = str(os.getpid())
    own = os.environ.setdefault(_SCRIPT, number) == number
    os.makedirs(os.path.join(folder, PROCESSES), exist_ok=True)
    patches = Patches()
    patches.note("sitecustomize")
    process = Process(plan, patches, own)
    process.register()
    watches: dict[str, list[Callable[[ModuleType], None]]] = {}
    seeding = Seeding(plan.seed, patches)
    process.unseeded = seeding.unseeded
    _add(watches, seeding.begin())
    if not plan.allow_writes:
        process.redirected, callbacks = guard.install(plan, patches)
        _add(watches, callbacks)
    _add(watches, {"torch": process.attach})
    on_import({name: _each(callbacks) for name, callbacks in watches.items()})
    _at_the_end(process, patches)


def _at_the_end(process: Process, patches: Patches) -> None:
    atexit.register(process.end)  # the first that is registered is the last that is called
    os.register_at_fork(after_in_child=process.forked)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = ending.show
        patches.note("sys.excepthook")

    def leave(original: Callable[[int], None]) -> Callable[[int], None]:
        def _exit(status: int) -> None:
            process.finish(status)
            original(status)

        return _exit

    # forked workers end so, and scripts that are in a hurry
    patches.replace(os, "_exit", leave)

    def terminate(number: int, frame: FrameType | None) -> None:
        process.cut = True
        os._exit(128 + number)

    if process.own:
        signal.signal(signal.SIGTERM, terminate)
        patches.note("signal.SIGTERM")


def _add(watches: dict[str, list[Callable[[ModuleType], None]]], more: dict[str, Callable[[ModuleType], None]]) -> None:
    for name, callback in more.items():
        watches.setdefault(name, []).append(callback)


def _each(callbacks: list[Callable[[ModuleType], None]]) -> Callable[[ModuleType], None]:
    def call(module: ModuleType) -> None:
        for callback in callbacks:
            callback(module)

    return call
