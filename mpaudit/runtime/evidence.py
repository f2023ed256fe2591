"""What evidence runs saw, as data: ops with their lines, dtypes and times; lines joined across variants."""

from __future__ import annotations

from typing import Literal

import msgspec

from mpaudit.runtime.kernels import TensorCores

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


class OpEvidence(msgspec.Struct, frozen=True):
    """Of one evidence run."""

    steps: int
    rows: tuple[OpRow, ...]
    """Unattributed ones included."""
    device: str = "cpu"
    unlinked_us: float = 0.0
    """Of device events that no op launched in a profiled step (a captured graph, another thread)."""
    notes: tuple[str, ...] = ()

    @property
    def attributed(self) -> float:
        """The share of op time that has a line of the user's code; 1 where no time was seen."""
        total = sum(row.total_us for row in self.rows) + self.unlinked_us
        return sum(row.total_us for row in self.rows if row.path) / total if total else 1.0
