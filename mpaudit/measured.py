"""What the runtime wing adds to the Audit: runs, what they come to, and how they compare. Plain data.

Times are milliseconds, memory is bytes, ratios are of the baseline over the variant for times (above 1 is faster) and
of the variant over the baseline for memory (below 1 is less). Numbers that are not finite are null.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LEAST_ROUNDS = 3
"""For an interval. Of two rounds Student's t makes one of 14 standard errors to each side: honest, and no use."""

PERTURBED = "fp32-perturbed"
"""The run whose parameters are moved by one unit in the last place, where an optimizer takes them."""

Verdict = Literal["faster", "slower", "no measurable difference", "too few runs"]
"""What the interval of a speedup says: it lies above 1, below 1, holds 1, or there is none."""

LossVerdict = Literal["within the noise floor", "within rounding", "beyond rounding", "not finite", "unknown"]
"""How far a loss curve is from that of the baseline: no further than runs of the baseline are from each other; no
further, on average, than one rounding to the variant's precision moves a number; further; it became NaN or infinite
where the baseline's did not; there is nothing to compare, or no noise floor to judge by."""


BatchFate = Literal["fits", "too large", "no larger", "failed"]
"""Of a batch that was tried: within the limit; beyond it, or out of memory; it holds no more than a smaller one; its
run gave no figure for another reason."""


class Place(msgspec.Struct, frozen=True, order=True):
    """A line of the user's code, and what was seen there. Paths are as in findings."""

    path: str
    line: int
    what: str


class Failure(msgspec.Struct, frozen=True):
    """The exception that ended a script, with the user's frames only."""

    type: str
    message: str
    path: str
    line: int
    traceback: str


class Memory(msgspec.Struct, frozen=True):
    """Peaks in bytes: of CUDA's allocator (null elsewhere), and of the process."""

    allocated: int | None
    reserved: int | None
    resident: int | None


class Run(msgspec.Struct, frozen=True):
    """One process: the script under one precision, once."""

    run: str
    variant: str
    kind: str
    """timing, evidence or floor."""
    round: int
    """Timing runs of the same round are neighbours in time; 0 for other kinds."""
    perturbed: bool
    """The parameters were moved by one unit in the last place: what chaos makes of a difference of that size. False
    where that was planned and no optimizer took a parameter."""
    outcome: str
    sentence: str
    """The outcome in words."""
    steps: int
    """Steps made, those of the warm-up too."""
    counted: str
    """What a step was: `optimizer` or `backward`; `none` where there was none."""
    optimizers: dict[str, int]
    """Steps of each optimizer, in order of their first step."""
    step_ms: tuple[float, ...]
    """From the end of a step to the end of the next, after the warm-up."""
    outside_ms: tuple[float | None, ...]
    """Of each of those, the time outside of forward, backward and optimizer; of quick steps that of one in eight."""
    losses: tuple[float | None, ...]
    """Of each step, from the first on."""
    peak_memory_bytes: int | None
    """Allocated on the device, or resident on a CPU."""
    memory: Memory
    precision: str
    """How the precision came about: as-is, injected, overridden or neutralised."""
    sites: tuple[Place, ...]
    """Where the script's own autocast, scaler or raw switch was met."""
    unfaithful: tuple[Place, ...]
    """What could not be brought to this precision faithfully."""
    scale: float | None
    """The loss scale at the end, where one was in use."""
    skipped: int
    """Steps left out because of gradients that were not finite."""
    patched: tuple[str, ...]
    """What mpaudit replaced in the process."""
    unseeded: tuple[Place, ...]
    redirected: tuple[Place, ...]
    """Writes and deletions that were turned away or led elsewhere."""
    notes: tuple[str, ...]
    error: Failure | None
    output: str
    """The end of what a run that went wrong printed; empty for the others."""
    wall_s: float
    nothing: str = ""
    """Why nothing was computed in this precision, so that the run is compared with no other; empty where something
    was."""


class Variant(msgspec.Struct, frozen=True):
    """What the timing runs of one precision come to."""

    variant: str
    runs: int
    """Those that could be used."""
    step_ms: float
    """The geometric mean of the runs' median steps."""
    steps_per_s: float
    outside_share: float | None
    """Of a step, the share outside of forward, backward and optimizer: the median over the steps of all runs."""
    timing_floor: float | None
    """Identical variants with this spread and number of runs are told apart by more than this factor one time in
    twenty."""
    peak_memory_bytes: int | None
    """The median over the runs."""


class Comparison(msgspec.Struct, frozen=True):
    baseline: str
    variant: str
    rounds: int
    """In which both were measured."""
    speedup: float | None
    interval: tuple[float, float] | None
    """95 %, at the level of runs. Null with fewer than three rounds."""
    verdict: Verdict
    memory_ratio: float | None
    loss_deviation: float | None
    """The mean absolute difference of the losses, relative to their mean size."""
    noise_floor: float | None
    """The same between runs of the baseline: repeated, and from perturbed parameters; the larger of the two."""
    loss_verdict: LossVerdict


class OpTotals(msgspec.Struct, frozen=True):
    """All ops of one precision, milliseconds per profiled step. A profiler was on: no step time comes from here."""

    variant: str
    runs: int
    steps: int
    """Profiled, in all runs."""
    ops_ms: float
    attributed: float
    """The share of it that has a line of the user's code."""
    step_ms: float | None
    """A step of the timing runs, to set it against; null where there is none."""


class ComparedOps(msgspec.Struct, frozen=True):
    """The ops of one line, or op, module or shape, under two precisions; milliseconds per profiled step."""

    op: str
    """Of several the one that takes the most time."""
    path: str
    """Empty where the op could not be attributed to a line."""
    line: int
    module: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    """That the variant computes in, the one with the most time first; casts left out."""
    calls: float
    """Per step of the variant."""
    baseline_ms: float
    variant_ms: float
    """Medians over all profiled steps."""
    ratio: float | None
    """Op-time ratio, baseline over variant; null where its spread holds 1 or too little was profiled."""
    spread: tuple[float, float] | None
    """The quartiles of the steps of one against the opposite quartiles of the other."""
    float32_ms: float
    """Of the variant's time: still in float32, forward and backward; an optimizer works in float32 by design."""
    cast_ms: float
    """Of the variant's time: changing one float dtype into another."""
    tensor_cores: str | None
    """yes, no or unknown of the variant's products of matrices; null without one and where there are none."""


class OpTable(msgspec.Struct, frozen=True):
    by: str
    """op, line, module or shape."""
    baseline: str
    variant: str
    rows: tuple[ComparedOps, ...]
    """With most time still in float32 first."""


class WithoutTensorCores(msgspec.Struct, frozen=True):
    """An op that could have used tensor cores on this GPU and did not."""

    variant: str
    op: str
    path: str
    line: int
    shapes: tuple[tuple[int, ...], ...]
    ms: float
    reason: str
    """dtype, shape, layout or unknown."""
    text: str


class HeldMemory(msgspec.Struct, frozen=True):
    """Bytes held at the largest backward pass of a step, by what they are for."""

    variant: str
    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    casts: int
    batch_ratio: float | None = None
    """How many times the batch would hold as much as the baseline does; an estimate: activations and casts grow with
    the batch, the rest does not. Null for the baseline and where nothing grows."""


class ModuleRange(msgspec.Struct, frozen=True):
    """The gradients of one module at the sampled steps, as float16 would have them without a loss scale."""

    module: str
    kind: str
    """parameter or activation."""
    values: int
    """Finite and not zero; shares are of these."""
    zero: float
    subnormal: float
    infinite: float
    smallest: int
    """log2 of the smallest loss scale that keeps all but 1 % from zero."""
    largest: int
    """log2 of the largest without an infinity."""


class GradientSizes(msgspec.Struct, frozen=True):
    """How many gradients lie in each binade, of all modules and of the steps of one part of a run."""

    kind: str
    """parameter or activation."""
    late: bool
    """Of the last steps; else of the first."""
    zeros: int
    nonfinite: int
    binades: dict[int, int]
    """By exponent e: 2^e ≤ |gradient| < 2^(e+1), without a loss scale."""


class Scaled(msgspec.Struct, frozen=True):
    """A step of a loss scaler."""

    step: int
    """From 0."""
    scale: float
    skipped: bool
    loss_finite: bool
    """Whether the loss was, before it was scaled."""


class FirstOverflow(msgspec.Struct, frozen=True):
    """Where, in a step that a loss scaler left out, numbers first became infinite or NaN."""

    step: int
    op: str
    backward: bool
    path: str
    """Empty where the op could not be attributed to a line."""
    line: int
    """Of the forward pass: that whose gradient it was, where it was in the backward pass."""
    parameter: str
    """The first, in backward order, whose gradient was not finite; empty where none came so far."""


class LossScaling(msgspec.Struct, frozen=True):
    """Whether float16 needs loss scaling in this script, from the gradients of one precision."""

    variant: str
    emulated: bool
    needed: bool | None
    sentence: str
    smallest: int | None
    """log2 of the safe scales."""
    largest: int | None
    """At which no sampled gradient becomes infinite, and below the scales at which a float16 run left a step out."""
    modules: tuple[ModuleRange, ...]
    sizes: tuple[GradientSizes, ...]
    update_ratio: float | None
    """‖Δw‖ / ‖w‖ of an optimizer step: the median over parameters and steps."""
    masters_fp16: bool | None
    """Whether float32 weights are needed beside float16 ones. Null where no weight was seen to change."""
    masters_bf16: bool | None
    lost_updates_fp16: float
    """The share of changed weights that would round back to what they were, were the weights float16."""
    lost_updates_bf16: float
    scaler: tuple[Scaled, ...]
    """The history of the script's own loss scaler, or of the one that was put in."""
    overflow: FirstOverflow | None


class Evidence(msgspec.Struct, frozen=True):
    """What the evidence runs gave."""

    totals: tuple[OpTotals, ...]
    tables: tuple[OpTable, ...]
    without_tensor_cores: tuple[WithoutTensorCores, ...]
    memory: tuple[HeldMemory, ...]
    loss_scaling: tuple[LossScaling, ...]
    traces: str | None = None
    """The log directory for TensorBoard, a run for each precision; null where it was not kept."""


class BatchTrial(msgspec.Struct, frozen=True):
    """A short run with another batch size."""

    variant: str
    batch: int
    fate: BatchFate
    bytes: int | None
    """Held at the largest backward pass; on CUDA the most that was allocated. Null where the run gave no figure."""
    sentence: str
    """How it ended."""


class BatchSearch(msgspec.Struct, frozen=True):
    """The largest batch that fits under autocast, tried."""

    argument: str | None
    """Of the script, as on its command line; null where none was found."""
    batch: int | None
    """That the script has."""
    given: bool
    """By the user; else it is the script's default."""
    variant: str
    limit_bytes: int | None
    """What fp32 holds with that batch; null where the memory of the device is the limit."""
    largest: int | None
    """The largest that fitted; the true one is less than an eighth above it where a larger one did not fit."""
    trials: tuple[BatchTrial, ...]
    why: str
    """Why no larger one was tried, or none at all; empty where the next larger one did not fit."""


class Ceiling(msgspec.Struct, frozen=True):
    """The best that this device gave for one operation in one precision."""

    operation: str
    """matmul or convolution."""
    size: str
    variant: str
    tflop_per_s: float


class LeftOut(msgspec.Struct, frozen=True):
    """A precision that was not run, and why."""

    variant: str
    reason: str


class Profile(msgspec.Struct, frozen=True):
    """What was asked for and what was planned."""

    command: tuple[str, ...]
    """The script and its arguments; with `-m` first where it is a module."""
    device: str
    device_name: str
    warmup: int
    steps: int
    rounds: int
    seed: int
    stop: str
    allow_writes: bool
    budget_s: float | None
    planned_runs: int
    interrupted: bool
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    """How the plan was changed on the way."""
    ceilings: tuple[Ceiling, ...]
    variants: tuple[Variant, ...]
    batch_search: BatchSearch | None = None
    """Null where it was not asked for."""
