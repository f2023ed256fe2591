"""What memory is held at the largest backward pass of one step, by category. Sizes are those of storages.

Counted from the tensors themselves, as no allocator knows what a block is for: what a library keeps to itself
(workspaces, caches) is in none of the categories, so the sum stays below the peak.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from mpaudit.runtime.child.events import Events
from mpaudit.runtime.child.probes.modes import leave
from mpaudit.runtime.evidence import MemoryByCategory

_Base: Any = TorchDispatchMode  # not annotated


@dataclass(slots=True)
class HeldProbe:
    """Looks at the step after `at` finished ones."""

    at: int
    parameters: dict[int, torch.Tensor] = field(default_factory=dict)
    saved: dict[int, int] = field(default_factory=dict)
    """Bytes of each storage that autograd saved since the last backward pass, by address."""
    casts: set[int] = field(default_factory=set)
    """Addresses of storages that hold a copy of another tensor in another float dtype."""
    entered: list[Any] = field(default_factory=list)
    result: MemoryByCategory | None = None

    def step_finished(self, finished: int) -> None:
        """To be called when the script has finished `finished` steps."""
        if self.entered:
            self.stop()
        elif finished == self.at and self.result is None:
            self.start()

    def start(self) -> None:
        hooks: Any = saved_tensors_hooks  # not annotated
        self.entered = [_Casts(self), hooks(self._pack, lambda tensor: tensor)]
        for context in self.entered:
            context.__enter__()

    def stop(self) -> None:
        if self.entered:
            mode, hooks = self.entered
            hooks.__exit__(None, None, None)
            leave(mode)
        self.entered.clear()
        self.saved.clear()
        self.casts.clear()

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            self.saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def backward(self) -> None:
        if not self.entered:
            return
        own = {tensor.untyped_storage().data_ptr() for tensor in self.parameters.values()}
        saved = {address: size for address, size in self.saved.items() if address not in own}
        casts = sum(size for address, size in saved.items() if address in self.casts)
        found = MemoryByCategory(
            parameters=_bytes(self.parameters.values()),
            activations=sum(saved.values()) - casts,
            casts=casts,
        )
        if self.result is None or found.total > self.result.total:
            self.result = found

    def backward_done(self) -> None:
        if self.entered and self.result is not None:
            gradients = _bytes(p.grad for p in self.parameters.values() if p.grad is not None)
            if gradients > self.result.gradients:
                self.result = msgspec.structs.replace(self.result, gradients=gradients)
            self.saved.clear()

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        if self.entered and self.result is not None:
            states = [value for state in optimizer.state.values() for value in state.values()]
            size = _bytes(value for value in states if isinstance(value, torch.Tensor))
            self.result = msgspec.structs.replace(self.result, optimizer_state=self.result.optimizer_state + size)


class _Casts(_Base):  # type: ignore[misc]
    def __init__(self, probe: HeldProbe) -> None:
        super().__init__()
        self.probe = probe

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in the ops probe

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor) and output.layout is torch.strided and not func.is_view:
            address = output.untyped_storage().data_ptr()
            # an address is used again once its storage is gone
            self.probe.casts.discard(address)
            given = args[0] if args else None
            if func._overloadpacket is torch.ops.aten._to_copy and isinstance(given, torch.Tensor):
                if given.is_floating_point() and output.is_floating_point() and given.dtype != output.dtype:
                    self.probe.casts.add(address)
        return output


def install(events: Events, at: int) -> HeldProbe:
    """To be called once, after `events.install`."""
    probe = HeldProbe(at)

    def took(optimizer: Any, parameters: list[torch.Tensor]) -> None:
        probe.parameters.update((id(parameter), parameter) for parameter in parameters)

    def backward(roots: Any) -> Any:
        probe.backward()
        return roots

    events.parameters.append(took)
    events.backward_begin.append(backward)
    events.backward_end.append(probe.backward_done)
    events.step_end.append(probe.stepped)
    if at == 0:
        probe.start()
    return probe


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Each storage once."""
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.layout is torch.strided}
    return sum(sizes.values())
