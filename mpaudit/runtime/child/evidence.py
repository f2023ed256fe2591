"""The probes of an evidence run, one after the other: none works while another does, so none sees another's ops."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import msgspec

from mpaudit.runtime.evidence import EVIDENCE_FILE, TRACE_FOLDER, RunEvidence, ScalerStep, layout
from mpaudit.runtime.protocol import ChildPlan

from .events import Events
from .patches import Patches
from .precision.control import Controller
from .probes import gradients, held, ops, overflow, scaler, trace
from .steps import Steps
from .writer import write


@dataclass(slots=True)
class Evidence:
    plan: ChildPlan
    steps: Steps
    gradients: gradients.GradientProbe | None = None
    held: held.HeldProbe | None = None
    ops: ops.OpsProbe | None = None
    trace: trace.TraceProbe | None = None
    overflow: overflow.OverflowProbe | None = None
    scaler: list[ScalerStep] = field(default_factory=list)
    seen: int = 0

    def step_ended(self) -> None:
        """At the end of each step of any optimizer, and of each backward pass that counts as a step: goes on where
        it closed a training step."""
        made = self.steps.made
        if made == self.seen:
            return
        self.seen = made
        if self.overflow is not None:
            self.overflow.step_finished(made, any(step.skipped and step.step == made - 1 for step in self.scaler))
        for probe in (self.held, self.ops, self.trace):
            if probe is not None:
                probe.step_finished(made)

    def write(self) -> None:
        """What is known, into the folder of the run. May be called again."""
        for probe in (self.held, self.trace, self.overflow):
            if probe is not None:
                probe.stop()
        found = RunEvidence(
            run=self.plan.run,
            variant=self.plan.variant,
            ops=self.ops.evidence() if self.ops is not None else None,
            gradients=self.gradients.evidence() if self.gradients is not None else None,
            memory=self.held.result if self.held is not None else None,
            scaler=tuple(self.scaler),
            overflow=self.overflow.result if self.overflow is not None else None,
            trace=os.path.abspath(self.trace.folder) if self.trace is not None else None,
            emulated=self.plan.emulate,
        )
        write(os.path.join(self.plan.folder, EVIDENCE_FILE), msgspec.json.encode(found))


def begin(plan: ChildPlan, steps: Steps, events: Events, controller: Controller) -> Evidence:
    """To be called after precision control was installed."""
    if plan.kind == "batch":
        return _trial(plan, steps, events)
    when = layout(plan.warmup, plan.steps)
    evidence = Evidence(
        plan,
        steps,
        gradients.install(events, lambda: steps.made, lambda step: step in when.gradients, controller.loss_scale),
    )
    scaler.install(events, controller, lambda: steps.made, evidence.scaler)
    if plan.variant == "amp-fp16":
        # in an emulation nothing is timed, so that all steps may be looked at; else those that no time is taken of
        evidence.overflow = overflow.install(
            events, lambda step: plan.emulate or step < plan.warmup or step in when.gradients
        )
    if plan.emulate:  # of an emulation no time may be shown
        return evidence
    evidence.held = held.install(events, when.memory)
    evidence.ops = ops.install(events, when.ops, when.ops_steps)
    evidence.trace = trace.install(os.path.join(plan.folder, TRACE_FOLDER, plan.variant), when.trace, when.trace_steps)
    return evidence


def _trial(plan: ChildPlan, steps: Steps, events: Events) -> Evidence:
    """Only what is held in memory, and on CUDA nothing, as its allocator knows what was used."""
    evidence = Evidence(plan, steps)
    if plan.device != "cuda":
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiled code would keep its tensors from the probe
        evidence.held = held.install(events, plan.warmup)
    return evidence


def emulate(patches: Patches) -> object:
    """CUDA's autocast on this CPU, for as long as what is returned is kept."""
    from .emulate import install

    return install(patches)
