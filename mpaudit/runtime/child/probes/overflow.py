"""Where the numbers of a float16 run first leave its range: op, line and module, and the first parameter it reached.

Each op of the watched steps has its outputs looked at. The first whose inputs were finite and whose output is not is
where it began; whether the loss scale is to blame is told by the phase: a forward pass knows no loss scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import msgspec
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mpaudit.runtime.child.events import Events
from mpaudit.runtime.child.module_paths import ModulePaths
from mpaudit.runtime.child.probes.lines import NOWHERE, Site, finder, is_user_file
from mpaudit.runtime.child.probes.modes import leave
from mpaudit.runtime.evidence import Overflow

_Base: Any = TorchDispatchMode  # not annotated
_autograd: Any = torch.autograd  # its sequence numbers are not in its stubs

_UNWRITTEN = ("empty", "new_empty", "resize")
"""Ops whose output holds what was in memory before."""


@dataclass(slots=True)
class OverflowProbe:
    """Watches the steps that are `wanted`, and no further than to the first that was left out."""

    wanted: Callable[[int], bool]
    """By the number of steps that are finished before it."""
    find: Callable[[], Site | None]
    paths: ModulePaths
    parameters: dict[int, torch.Tensor]
    step: int = 0
    mode: Any = None
    hooks: list[Any] = field(default_factory=list)
    of_node: dict[int, Site] = field(default_factory=dict)
    seen: Overflow | None = None
    """Of the step that is under way."""
    result: Overflow | None = None
    done: bool = False

    def start(self) -> None:
        self.mode = _Mode(self)
        self.mode.__enter__()

    def stop(self) -> None:
        if self.mode is not None:
            leave(self.mode)
            self.mode = None

    def step_finished(self, finished: int, skipped: bool) -> None:
        """To be called at the end of each step. What was seen in one that was not left out came to nothing (a mask)."""
        watched = self.mode is not None
        if watched and skipped:
            self.result, self.done = self.seen, True
        self.step, self.seen = finished, None
        self.of_node.clear()
        if self.done or not self.wanted(finished):
            self.stop()
        elif not watched:
            self.start()


def install(
    events: Events, wanted: Callable[[int], bool], is_user: Callable[[str], bool] = is_user_file
) -> OverflowProbe:
    """To be called once, before the script's first step."""
    probe = OverflowProbe(wanted, finder(is_user, ours=__file__), ModulePaths(), {})

    def took(optimizer: Any, parameters: list[torch.Tensor]) -> None:
        probe.parameters.update((id(parameter), parameter) for parameter in parameters)

    def backward(roots: Any) -> Any:
        if probe.mode is not None:
            for parameter in probe.parameters.values():
                if parameter.requires_grad and parameter.is_leaf:
                    hook: Any = parameter.register_hook  # not annotated in torch
                    probe.hooks.append(hook(_arrived(probe, parameter)))
        return roots

    def done() -> None:
        for hook in probe.hooks:
            hook.remove()
        probe.hooks.clear()

    events.parameters.append(took)
    events.forward_begin.append(probe.paths.learn)
    events.backward_begin.append(backward)
    events.backward_end.append(done)
    if wanted(0):
        probe.start()
    return probe


def _arrived(probe: OverflowProbe, parameter: torch.Tensor) -> Callable[[torch.Tensor], None]:
    def look(gradient: torch.Tensor) -> None:
        if probe.seen is not None and not probe.seen.parameter and not _finite([gradient]):
            _, name = probe.paths.parameters.get(id(parameter), ("", "a parameter of no module"))
            probe.seen = msgspec.structs.replace(probe.seen, parameter=name)

    return look


class _Mode(_Base):  # type: ignore[misc]
    def __init__(self, probe: OverflowProbe) -> None:
        super().__init__()
        self.probe = probe

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        probe = self.probe
        site = None if probe.seen is not None else probe.find()
        if site is None:
            return func(*args, **kwargs)
        node = torch._C._current_autograd_node()
        if node is None:
            # the node of this op was made just before it came here
            probe.of_node.setdefault(_autograd._get_sequence_nr() - 1, site)
        elif site == NOWHERE:
            site = probe.of_node.get(node._sequence_nr(), NOWHERE)
        output = func(*args, **kwargs)
        if func.is_view or _finite(_floats((output,))):
            return output
        name = func._schema.name.split("::")[-1]
        given = [tensor for tensor in _floats((*args, *kwargs.values())) if tensor is not output]
        began_here = bool(given) and _finite(given) and _numbers_finite((*args, *kwargs.values()))
        if began_here and not name.startswith(_UNWRITTEN):
            probe.seen = Overflow(
                step=probe.step,
                op=f"{func.namespace}::{name}",
                backward=node is not None,
                path=site[0],
                line=site[1],
            )
        return output


def _floats(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point() and value.layout is torch.strided:
                yield value
        elif isinstance(value, (list, tuple)):
            yield from _floats(value)


def _numbers_finite(values: Iterable[Any]) -> bool:
    """A mask is filled with minus infinity on purpose."""
    return all(isfinite(value) for value in values if isinstance(value, float))


def _finite(tensors: Iterable[torch.Tensor]) -> bool:
    """A sum, which takes a tenth of the time, is finite only where all are; where it is not it may have grown too large
    itself."""
    for tensor in tensors:
        values = tensor.detach()
        if not isfinite(values.sum(dtype=torch.float32)) and not bool(values.isfinite().all()):
            return False
    return True
