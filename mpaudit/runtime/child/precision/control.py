"""The precision of a run, from the import of torch to the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Literal

import torch

from mpaudit.runtime.protocol import ChildPlan, Control, Place

from ..events import Events
from ..patches import Patches
from . import functional, tf32
from .half import Half
from .local import Local
from .lowered import Lowered
from .own import Own
from .perturb import Perturbation
from .record import Record
from .scaling import Scaling
from .span import Span

_NEVER_ON = "nothing was computed in autocast: the script has a scaler or a region of its own, and none is on"
_TARGETS = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}


class Controller:
    """What was installed, and what came of it."""

    def __init__(
        self,
        record: Record,
        own: Own,
        lowered: Lowered,
        span: Span | None = None,
        scaling: Scaling | None = None,
        perturbation: Perturbation | None = None,
    ) -> None:
        self._record = record
        self._own = own
        self._lowered = lowered
        self._span = span
        self._scaling = scaling
        self._perturbation = perturbation

    def report(self) -> Control:
        """What is known now. May be called again."""
        own, scaling = self._own, self._scaling
        unfaithful = dict(self._record.unfaithful)
        unfaithful.update(dict.fromkeys(_foreign()))
        if nothing := self._nothing():
            unfaithful[Place("", 0, nothing)] = None
        scaled = scaling is not None and scaling.used
        return Control(
            mode=self._mode(),
            sites=tuple(self._record.sites),
            unfaithful=tuple(unfaithful),
            own_amp=own.present,
            scale=scaling.scale if scaling is not None and scaled else own.scale(),
            skipped=scaling.skipped if scaling is not None and scaled else own.skipped,
            moved=self._perturbation.moved if self._perturbation is not None else 0,
            nothing=nothing,
        )

    def _nothing(self) -> str:
        never_on = self._span is not None and not (self._span.opened or self._own.on or self._own.recast)
        if self._span is not None and self._span.trained and never_on:
            return _NEVER_ON
        return self._lowered.nothing()

    def loss_scale(self) -> float:
        """By which the backward pass that is under way was scaled here; 1 where it was not."""
        return self._scaling.under_way if self._scaling is not None else 1.0

    def watch_scaling(self, told: Callable[[float, bool], None]) -> None:
        """`told` gets the scale of each step whose loss was scaled here, and whether the step was left out."""
        if self._scaling is not None:
            self._scaling.told.append(told)

    def _mode(self) -> Literal["as-is", "injected", "overridden", "neutralised"]:
        if self._own.changed:
            return "overridden" if self._span is not None else "neutralised"
        return "injected" if self._span is not None and self._span.opened else "as-is"


def install(plan: ChildPlan, events: Events, patches: Patches) -> Controller:
    """Called right after torch was imported, before any code of the user uses it."""
    record, local = Record(), Local()
    target = _TARGETS.get(plan.variant)
    own = Own(target, plan.device, record, local, present=bool(plan.own_amp))
    span = scaling = None
    if target is None:
        tf32.force(plan.variant == "tf32", patches, record)
    else:
        span = Span(target, plan.device, local, record, lambda: own.present)
        scaling = Scaling(lambda: _scales(own), local, record) if target is torch.float16 else None
        own.met.append(lambda: _late(span, record))
        own.left.append(span.left)
        span.watch(events)
        functional.watch(span, events, patches, local, record)
        if scaling is not None:
            scaling.install(events, patches)
    own.install(events, patches)
    Half(target, record).install(events, patches)
    lowered = Lowered(target, events)
    perturbation = Perturbation(plan.seed, events) if plan.perturb else None
    # its entries do not know that a region of the script was changed
    os.environ["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"
    patches.note("os.environ['TORCHINDUCTOR_AUTOGRAD_CACHE']")
    return Controller(record, own, lowered, span, scaling, perturbation)


def _scales(own: Own) -> bool:
    """Whether the losses of a float16 run are ours to scale."""
    return not own.scaling and (not own.present or own.recast or own.scaler_missed)


def _late(span: Span, record: Record) -> None:
    if span.on:
        record.doubt("autocast of the script's own, met after the injected one was on: this step is neither")


def _foreign() -> list[Place]:
    """Mixed precision that does not go through torch.amp and that is not controlled here."""
    names = {"apex.amp": "apex.amp", "deepspeed": "deepspeed", "transformer_engine.pytorch": "transformer_engine"}
    return [
        Place("", 0, f"{name} is imported, and its own mixed precision is not controlled")
        for module, name in names.items()
        if module in sys.modules
    ]
