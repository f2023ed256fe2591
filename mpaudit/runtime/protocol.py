"""What parent and child say to each other: plain data, kept as JSON files in the folder of a run.

The parent writes a `ChildPlan` to `plan.json`, the child writes a `ChildResult` to `result.json`, atomically. A child
that dies leaves no result: the parent then says how it died (`launch`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

PLAN_FILE = "plan.json"
RESULT_FILE = "result.json"

Variant = Literal["fp32", "tf32", "amp-bf16", "amp-fp16"]
"""fp32 is strict (TF32 off); tf32 is fp32 tensors with TF32 matmuls and convolutions allowed (CUDA, sm80 on)."""
VARIANTS: tuple[Variant, ...] = ("fp32", "tf32", "amp-bf16", "amp-fp16")

Kind = Literal["timing", "evidence", "floor", "batch"]
"""`timing` runs carry no probe but the clock; `evidence` runs are instrumented and never timed; a `floor` run measures
how far losses drift without any change of precision; a `batch` run tries what a batch size holds in memory."""

Stop = Literal["clean", "hard"]
"""`clean` raises out of the training loop and lets `finally` blocks run, `hard` ends the process from the hook."""

Ending = Literal["bounded", "completed", "exit", "exception", "no-steps", "out-of-memory", "time-limit"]
"""How the script ended, as the child saw it: stopped by us after the planned steps; ended by itself before; called
`sys.exit` with another status than 0; raised; ended without a step of an optimizer; ran out of memory;
was told by the parent that its time is over."""


class Target(msgspec.Struct, frozen=True):
    """What is run: a script by its path, a module by its name (`-m`), or a notebook by its path."""

    kind: Literal["script", "module", "notebook"]
    name: str
    arguments: tuple[str, ...] = ()


class ChildPlan(msgspec.Struct, frozen=True):
    """One run."""

    run: str
    """Unique in a session, as in `amp-bf16-2`."""
    kind: Kind
    variant: Variant
    target: Target
    device: Literal["cpu", "cuda", "mps", "xpu"]
    warmup: int
    """Steps that are made and not counted."""
    steps: int
    """Steps that are measured after those."""
    seed: int
    stop: Stop
    allow_writes: bool
    folder: str
    """Of this run, absolute: results, redirected writes."""
    perturb: bool = False
    """Every parameter is moved by one unit in the last place when an optimizer takes it: the chaos floor."""
    emulate: bool = False
    """On a CPU: CUDA's autocast and the arithmetic of its tensor cores, for numerics only."""
    own_amp: bool | None = None
    """`Control.own_amp` of an earlier run; None where there was none. A region inside of a model is otherwise met only
    after autocast was injected around it, and the first step is then neither (and `Control.unfaithful` says so)."""
    counted: Literal["optimizer", "backward"] | None = None
    """`ChildResult.counted` of an earlier run, so that a step is the same in all; None where there was none."""


class Place(msgspec.Struct, frozen=True, order=True):
    """A line of the user's code, and what was seen there."""

    path: str
    line: int
    what: str


class ScriptError(msgspec.Struct, frozen=True):
    """The exception that ended a script. The traceback holds the user's frames and none of ours."""

    type: str
    message: str
    path: str
    line: int
    traceback: str


class Control(msgspec.Struct, frozen=True):
    """How the precision of this run was brought about."""

    mode: Literal["as-is", "injected", "overridden", "neutralised"]
    """`as-is`: nothing to do; `injected`: autocast put on a script that has none; `overridden`: the script's own
    autocast set to another dtype; `neutralised`: the script's own autocast and scaler switched off."""
    sites: tuple[Place, ...] = ()
    """Where the script's own autocast, scaler or raw switch was met."""
    unfaithful: tuple[Place, ...] = ()
    """What could not be brought to this precision faithfully (half weights, a raw switch), with the reason."""
    own_amp: bool = False
    """The script has autocast or a scaler of its own, on or switched off by its options."""
    scale: float | None = None
    """The loss scale at the end, where one was in use."""
    skipped: int = 0
    """Steps left out because of non-finite gradients."""
    moved: int = 0
    """Parameters that were perturbed (`ChildPlan.perturb`)."""
    nothing: str = ""
    """Why nothing was computed in this precision; empty where something was."""


class Memory(msgspec.Struct, frozen=True):
    """Peaks in bytes. On CUDA of the allocator; on CPU `allocated` is unknown and `resident` is the process's own."""

    allocated: int | None = None
    reserved: int | None = None
    resident: int | None = None


class ChildResult(msgspec.Struct, frozen=True):
    """What the child saw, in the order in which it happened."""

    run: str
    ending: Ending
    steps: int
    """Steps made, warm-up included, skipped ones of a scaler too."""
    counted: Literal["optimizer", "backward", "none"]
    """What a step was: one of the primary optimizer, or a backward where there is none or its first does not end."""
    optimizers: dict[str, int] = {}
    """Steps of each optimizer by `Class#number in order of its first step`."""
    warmup_ms: tuple[float, ...] = ()
    step_ms: tuple[float, ...] = ()
    """Milliseconds between the ends of two successive primary steps, after the warm-up."""
    outside_ms: tuple[float | None, ...] = ()
    """Of each of those, the time outside of forward, backward and optimizer: data, logging, anything else. Of quick
    steps that of one in eight, of the others None."""
    losses: tuple[float | None, ...] = ()
    """Unscaled loss of each step from the first on: the sum over its backward passes; None where it is not finite or
    the step had no backward."""
    memory: Memory = Memory()
    control: Control = Control("as-is")
    patched: tuple[str, ...] = ()
    """Everything that was replaced in the process, as qualified names."""
    error: ScriptError | None = None
    exit_status: int | None = None
    unseeded: tuple[Place, ...] = ()
    """Sources of randomness that a seed does not reach."""
    redirected: tuple[Place, ...] = ()
    """Writes, renames and deletions that were turned away or led elsewhere."""
    notes: tuple[str, ...] = ()
    children: int = 0
    """Processes that the script started."""
    rank: int = 0
    """Of this process in a distributed training."""
    environment: dict[str, str | int | float | bool | None] = {}
