"""What evidence runs saw, as data: ops with lines, dtypes and times; memory by category; gradients and the scaler.

`mpaudit.runtime.optables` joins the ops of two variants into tables.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mpaudit.runtime.kernels import Capability, TensorCores, judge_all, multiplies_matrices
from mpaudit.runtime.loss_scaling import GradientEvidence

Phase = Literal["forward", "backward", "optimizer", "other"]
"""`other` is what runs in none of them: clipping, zeroing, metrics, data."""


class Kernel(msgspec.Struct, frozen=True):
    """A device kernel of an op, over all profiled steps."""

    name: str
    calls: int
    us: float
    tensor_cores: TensorCores


class OpRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """An aten op, told apart by phase, dtypes, shapes, line and module."""

    op: str
    """As `aten::mm`, overloads together."""
    phase: Phase
    inputs: tuple[str, ...]
    """Dtypes of its tensor inputs, as `bfloat16`; of a list of tensors each dtype once."""
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Of its tensor inputs; of a list of tensors their number and their elements."""
    path: str
    """The user's file, absolute; empty where the op could not be attributed."""
    line: int
    module: str
    calls: float
    """Over all profiled steps. An op that updates the parameters of several lines counts in parts."""
    us: tuple[float, ...]
    """Microseconds in each profiled step: of its device kernels where it has any, else on the host."""
    kernels: tuple[Kernel, ...] = ()
    flops: float = 0.0
    """Of all calls; as `torch.utils.flop_counter` counts (a multiply-add is two)."""
    bytes: float = 0.0
    """Of all calls: inputs read and outputs written once; none for views."""
    layout: Literal["", "NCHW", "NHWC"] = ""
    """Of a convolution's input."""

    @property
    def total_us(self) -> float:
        return sum(self.us)

    @property
    def is_cast(self) -> bool:
        """A change of float dtype, autocast's or the script's own."""
        return (
            self.op == "aten::_to_copy"
            and self.inputs[:1] != self.outputs[:1]
            and all("float" in name for name in (*self.inputs[:1], *self.outputs[:1]))
        )

    @property
    def dtype_used(self) -> str:
        """That it computes in: of a product of matrices its inputs', else its float output's; of a cast both ends."""
        if self.is_cast:
            return f"{self.inputs[0]}→{self.outputs[0]}"
        groups = (self.inputs, self.outputs) if multiplies_matrices(self.op) else (self.outputs, self.inputs)
        known = [name for group in groups for name in group]
        return next((name for name in known if "float" in name), known[0] if known else "")

    @property
    def tensor_cores(self) -> TensorCores | None:
        """None where it ran no kernel on a device."""
        return judge_all([kernel.tensor_cores for kernel in self.kernels]) if self.kernels else None


class OpEvidence(msgspec.Struct, frozen=True):
    """Of one evidence run."""

    steps: int
    rows: tuple[OpRow, ...]
    """Unattributed ones included."""
    device: str = "cpu"
    capability: Capability | None = None
    """Compute capability of the GPU."""
    tf32_matmul: bool = False
    tf32_convolution: bool = False
    """Whether TF32 was allowed."""
    unlinked_us: float = 0.0
    """Of device events that no op launched in a profiled step (a captured graph, another thread)."""
    notes: tuple[str, ...] = ()

    @property
    def attributed(self) -> float:
        """The share of op time that has a line of the user's code; 1 where no time was seen."""
        total = sum(row.total_us for row in self.rows) + self.unlinked_us
        return sum(row.total_us for row in self.rows if row.path) / total if total else 1.0


class MemoryByCategory(msgspec.Struct, frozen=True):
    """Bytes, at the backward pass of a step that is the largest: what is held then."""

    parameters: int = 0
    gradients: int = 0
    """As many as there are at the end of that pass."""
    optimizer_state: int = 0
    activations: int = 0
    """Saved for the backward pass, casts left out; each storage once."""
    casts: int = 0
    """Saved copies of other tensors in another float dtype."""

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer_state + self.activations + self.casts


class ScalerStep(msgspec.Struct, frozen=True):
    """One step of a loss scaler, the script's own or the one that was put in."""

    step: int
    scale: float
    """That the step's gradients were scaled by."""
    skipped: bool
    loss_finite: bool = True
    """Whether the unscaled loss was: where not, no scale is to blame."""


class Overflow(msgspec.Struct, frozen=True):
    """Where the numbers of a step that was left out first became infinite or NaN."""

    step: int
    op: str
    backward: bool
    path: str
    """The user's file, absolute; empty where the op could not be attributed."""
    line: int
    """Of the forward pass: that whose gradient it was, where it was in the backward pass."""
    parameter: str = ""
    """The first, in backward order, whose gradient was not finite; empty where none came so far."""


class RunEvidence(msgspec.Struct, frozen=True):
    """All that one evidence run gave; what was not asked for is None."""

    run: str
    variant: str
    ops: OpEvidence | None = None
    gradients: GradientEvidence | None = None
    memory: MemoryByCategory | None = None
    scaler: tuple[ScalerStep, ...] = ()
    overflow: Overflow | None = None
    trace: str | None = None
    """The folder of the trace, absolute."""
    emulated: bool = False
    """CUDA's autocast on a CPU: numerics only, no time of this run may be shown."""
    notes: tuple[str, ...] = ()


EVIDENCE_FILE = "evidence.json"
TRACE_FOLDER = "trace"


class Layout(msgspec.Struct, frozen=True):
    """Which probe works at which step of an evidence run, by the number of steps that are finished before it."""

    gradients: frozenset[int]
    """Two early steps and the last two."""
    memory: int
    ops: int
    ops_steps: int
    trace: int
    """The first step under the profiler; it is not kept, those after it are."""
    trace_steps: int


OPS_STEPS, TRACE_STEPS = 5, 3
EVIDENCE_WARMUP = 3
EVIDENCE_STEPS = 1 + OPS_STEPS + 1 + TRACE_STEPS + 2
"""The least: memory, ops, the trace with a step to start it, the last gradients."""


def layout(warmup: int, steps: int) -> Layout:
    """Of `warmup` + `steps` steps; a script that makes fewer leaves out what comes last."""
    last = warmup + max(steps, EVIDENCE_STEPS)
    ops = warmup + 1
    return Layout(
        gradients=frozenset([*range(max(warmup - 2, 0), warmup), last - 2, last - 1]),
        memory=warmup,
        ops=ops,
        ops_steps=OPS_STEPS,
        trace=ops + OPS_STEPS,
        trace_steps=TRACE_STEPS,
    )
