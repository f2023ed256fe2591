"""The history of a loss scaler: the scale of each step and whether the step was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from mpaudit.runtime.child.events import Events
from mpaudit.runtime.child.precision.control import Controller
from mpaudit.runtime.evidence import ScalerStep


def install(events: Events, controller: Controller, step: Callable[[], int], history: list[ScalerStep]) -> None:
    """Adds to `history`, for the script's own scaler or the one that precision control puts in."""
    finite = True
    of_scaler = False
    """The script's own scaler has told of this step's loss: what goes into the backward pass is scaled already."""
    begun = 0

    def own(scaler: Any, outputs: Any) -> None:
        nonlocal finite, of_scaler
        finite, of_scaler = finite and _finite(outputs), True

    def backward(roots: Any) -> Any:
        nonlocal finite
        if not of_scaler:
            finite = finite and _finite(roots)
        return roots

    def put_in(scale: float, skipped: bool) -> None:
        history.append(ScalerStep(step(), scale, skipped, finite))

    def own_begins(scaler: Any, optimizer: Any) -> None:
        nonlocal begun
        begun = step()

    def own_ends(scaler: Any, optimizer: Any) -> None:
        if not scaler.is_enabled():  # switched off, by the script or for this precision: it scales nothing
            return
        left_out = _left_out(scaler, optimizer)
        history.append(ScalerStep(begun, float(scaler.get_scale()), left_out, finite or not left_out))
        closed(optimizer)

    def closed(optimizer: Any) -> None:
        nonlocal finite, of_scaler
        finite, of_scaler = True, False

    events.scaled.append(own)
    events.backward_begin.append(backward)
    events.scaler_step_begin.append(own_begins)
    events.scaler_step_end.append(own_ends)
    controller.watch_scaling(put_in)
    events.step_begin.append(closed)


def _left_out(scaler: Any, optimizer: Any) -> bool:
    state = getattr(scaler, "_per_optimizer_states", {}).get(id(optimizer), {})
    return any(float(found) for found in state.get("found_inf_per_device", {}).values())


def _finite(outputs: Any) -> bool:
    return all(bool(tensor.detach().isfinite().all()) for tensor in _tensors(outputs))


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
