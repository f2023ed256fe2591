"""Every aten op of the profiled steps: dtypes, shapes, time, FLOPs, bytes, and the user's line that it belongs to.

A dispatch mode sees each op below autograd and autocast, so with the dtypes it really has, casts included; a profiler
gives its time, and its kernels on a device, by the span that the mode opens around it. Ops of a backward pass are
charged to the line of the forward op whose gradient they compute, by the sequence number of the autograd node; ops of
an optimizer to the lines where the parameters they update were first used. Instrumented: such a run is never timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch._C._profiler import _RecordFunctionFast
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mpaudit.runtime.child.events import Events
from mpaudit.runtime.child.module_paths import ModulePaths
from mpaudit.runtime.child.probes.lines import Site, finder, is_user_file
from mpaudit.runtime.child.probes.modes import leave
from mpaudit.runtime.child.probes.spans import PREFIX, Event, device_time, inside_spans
from mpaudit.runtime.evidence import Kernel, OpEvidence, OpRow, Phase
from mpaudit.runtime.kernels import judge

_autograd: Any = torch.autograd  # its sequence numbers and device types are not in its stubs
_Base: Any = TorchDispatchMode  # not annotated
_record: Callable[[bool], None] = torch._C._autograd._enable_record_function
"""Whether a profiler sees the ops of this thread."""

Owner = tuple[str, int, str]
"""File, line, module path."""
NOBODY: Owner = ("", 0, "")


@dataclass(slots=True)
class _Row:
    op: str
    phase: Phase
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    owner: Owner
    flops: float
    bytes: float
    layout: Literal["", "NCHW", "NHWC"]
    calls: float = 0.0


@dataclass(slots=True)
class OpsProbe:
    """Profiles `count` steps from the end of step `first` on (0: from the start)."""

    first: int
    count: int
    find: Callable[[], Site | None]
    paths: ModulePaths = field(default_factory=ModulePaths)
    mode: Any = None
    profiler: Any = None
    step: int = 0
    """The profiled step that is under way, from 0."""
    modules: list[str] = field(default_factory=list)
    in_module: int = 0
    in_backward: int = 0
    in_optimizer: int = 0
    rows: list[_Row] = field(default_factory=list)
    index: dict[tuple[Any, ...], int] = field(default_factory=dict)
    calls: list[tuple[int, tuple[tuple[int, float], ...]]] = field(default_factory=list)
    """Of the n-th op: its step, and the rows that share it, with their shares."""
    only_inside: bool = False
    """Ops are recorded in their spans alone, and not once more around the mode: on a CPU, where nothing is lost by it,
    as the profiler takes longer for each event that it keeps than the mode does."""
    of_node: dict[int, Owner] = field(default_factory=dict)
    """By the sequence number of an autograd node: who ran the forward op."""
    of_parameter: dict[int, Owner] = field(default_factory=dict)
    of_state: dict[int, Owner] = field(default_factory=dict)
    """By id of a tensor that an optimizer works on: the owner of its parameter."""
    ended: bool = False
    result: OpEvidence | None = None

    def step_finished(self, finished: int) -> None:
        """To be called when the script has finished `finished` steps."""
        if self.mode is not None:
            self.step += 1
            if self.step == self.count:
                self.stop()
        elif finished == self.first and not self.ended:
            self.start()

    def start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self.profiler = profile(activities=activities)
        self.profiler.start()
        self.only_inside = not torch.cuda.is_available()
        _record(not self.only_inside)
        self.mode = _Mode(self)
        self.mode.__enter__()

    def stop(self) -> None:
        """Ends the profiling early where it is under way; the steps that were finished are kept."""
        if self.mode is None:
            return
        leave(self.mode)
        self.mode = None
        _record(True)
        self.profiler.stop()
        self.ended = True

    def evidence(self) -> OpEvidence:
        """To be called when the script has been stopped: what was recorded is read here, not in one of its steps."""
        self.stop()
        if not self.ended:
            return OpEvidence(0, ())
        if self.result is None:
            self.result = _evidence(self)
            self.profiler = None
        return self.result


def install(events: Events, first: int, count: int, is_user: Callable[[str], bool] = is_user_file) -> OpsProbe:
    """To be called once, after `events.install`. A dispatch mode ends at the border of a compiled region, so such
    regions run eagerly from here on."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    probe = OpsProbe(first, count, finder(is_user, ours=__file__))

    def forward(module: torch.nn.Module) -> None:
        probe.paths.learn(module)
        probe.in_module += 1

    def forwarded(module: torch.nn.Module) -> None:
        probe.in_module -= 1
        probe.modules.clear()

    def backward(roots: Any) -> Any:
        probe.in_backward += 1
        return roots

    def backwarded() -> None:
        probe.in_backward -= 1

    def grad() -> None:
        probe.in_backward += 1

    def stepping(optimizer: Any) -> None:
        probe.in_optimizer += 1
        if probe.mode is not None:
            _learn_state(probe, optimizer)

    def stepped(optimizer: Any) -> None:
        probe.in_optimizer -= 1
        probe.of_state.clear()

    events.forward_begin.append(forward)
    events.forward_end.append(forwarded)
    events.backward_begin.append(backward)
    events.backward_end.append(backwarded)
    events.gradient_begin.append(grad)
    events.gradient_end.append(backwarded)
    events.step_begin.append(stepping)
    events.step_end.append(stepped)
    register_module_forward_pre_hook(lambda module, args: _enter(probe, module))
    register_module_forward_hook(lambda module, args, output: _leave(probe), always_call=True)
    if first == 0:
        probe.start()
    return probe


def _enter(probe: OpsProbe, module: torch.nn.Module) -> None:
    if probe.mode is not None:
        probe.modules.append(probe.paths.module(module))


def _leave(probe: OpsProbe) -> None:
    if probe.modules:
        probe.modules.pop()


class _Mode(_Base):  # type: ignore[misc]
    def __init__(self, probe: OpsProbe) -> None:
        super().__init__()
        self.probe = probe

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled in these steps, and torch guards against it at a cost for each op

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        probe = self.probe
        node = torch._C._current_autograd_node()
        found = probe.find()
        if found is None:
            return func(*args, **kwargs)
        path, line = found
        tensors, signature = _signature(args, kwargs)
        phase = _phase(probe, node, tensors)
        owner = (path, line, probe.modules[-1] if probe.modules else "")
        if node is not None:
            owner = _of_backward(probe, node, owner)
        number = len(probe.calls)
        probe.calls.append((probe.step, ()))
        _record(True)
        try:
            with _RecordFunctionFast(f"{PREFIX}{number}"):
                output = func(*args, **kwargs)
        finally:
            _record(not probe.only_inside)
        if phase == "optimizer":
            shares = _of_optimizer(probe, args, tensors, output, owner)
        else:
            shares = ((owner, 1.0),)
            if owner != NOBODY:
                _remember(probe, tensors, owner)
        step = probe.step
        rows = []
        for one, share in shares:
            key = (func, phase, signature, one)
            index = probe.index.get(key)
            if index is None:
                index = probe.index[key] = len(probe.rows)
                probe.rows.append(_row(func, phase, signature, one, args, kwargs, tensors, output))
            probe.rows[index].calls += share
            rows.append((index, share))
        probe.calls[number] = (step, tuple(rows))
        return output


def _signature(args: Any, kwargs: Any) -> tuple[list[torch.Tensor], tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """The tensors among the arguments; their dtypes and shapes."""
    tensors: list[torch.Tensor] = []
    dtypes: list[torch.dtype] = []
    shapes: list[tuple[int, ...]] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
            dtypes.append(value.dtype)
            shapes.append(tuple(value.shape))
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
            several = [one for one in value if isinstance(one, torch.Tensor)]
            tensors += several
            dtypes += dict.fromkeys(one.dtype for one in several)
            shapes.append((len(several), sum(one.numel() for one in several)))
    return tensors, (tuple(dtypes), tuple(shapes))


def _phase(probe: OpsProbe, node: Any, tensors: list[torch.Tensor]) -> Phase:
    if node is not None or probe.in_backward:
        return "backward"
    if probe.in_optimizer:
        return "optimizer"
    if probe.in_module or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return "forward"
    return "other"


def _of_backward(probe: OpsProbe, node: Any, seen: Owner) -> Owner:
    if seen[0]:  # user code that a backward pass runs: a recomputed segment, a Function's own backward, a hook
        return seen
    parameter = getattr(node, "variable", None)
    if parameter is not None:
        return probe.of_parameter.get(id(parameter), NOBODY)
    return probe.of_node.get(node._sequence_nr(), NOBODY)


def _remember(probe: OpsProbe, tensors: list[torch.Tensor], owner: Owner) -> None:
    # the node of this op was made just before it came here; ops without one look at that of an earlier op
    probe.of_node.setdefault(_autograd._get_sequence_nr() - 1, owner)
    for tensor in tensors:
        if tensor.requires_grad and tensor.is_leaf:
            probe.of_parameter.setdefault(id(tensor), owner)


def _learn_state(probe: OpsProbe, optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            owner = probe.of_parameter.get(id(parameter))
            if owner is None:
                continue
            probe.of_state[id(parameter)] = owner
            if parameter.grad is not None:
                probe.of_state[id(parameter.grad)] = owner
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, torch.Tensor):
                    probe.of_state[id(value)] = owner


def _of_optimizer(
    probe: OpsProbe, args: Any, tensors: list[torch.Tensor], output: Any, caller: Owner
) -> tuple[tuple[Owner, float], ...]:
    """The owners of the tensors with their shares of the elements; what it makes is theirs too."""
    elements: dict[Owner, int] = {}
    for tensor in tensors:
        owner = probe.of_state.get(id(tensor))
        if owner is not None:
            elements[owner] = elements.get(owner, 0) + max(tensor.numel(), 1)
    made = [output] if isinstance(output, torch.Tensor) else list(output) if isinstance(output, (list, tuple)) else []
    sources = args[0] if args and isinstance(args[0], (list, tuple)) else tensors[:1]
    for number, tensor in enumerate(made):
        source = probe.of_state.get(id(sources[number])) if len(sources) == len(made) else None
        if source is None and len(elements) == 1:
            (source,) = elements
        if source is not None:
            probe.of_state[id(tensor)] = source
        else:
            probe.of_state.pop(id(tensor), None)
    total = sum(elements.values())
    if not total:
        return ((caller, 1.0),)
    return tuple((owner, count / total) for owner, count in elements.items())


def _row(
    func: Any,
    phase: Phase,
    signature: tuple[tuple[Any, ...], tuple[Any, ...]],
    owner: Owner,
    args: Any,
    kwargs: Any,
    tensors: list[torch.Tensor],
    output: Any,
) -> _Row:
    made = [output] if isinstance(output, torch.Tensor) else output if isinstance(output, (list, tuple)) else []
    made = [tensor for tensor in made if isinstance(tensor, torch.Tensor)]
    count = flop_registry.get(func._overloadpacket)
    moved = 0 if func.is_view else sum(tensor.numel() * tensor.element_size() for tensor in (*tensors, *made))
    return _Row(
        f"{func.namespace}::{func._schema.name.split('::')[-1]}",
        phase,
        tuple(map(_dtype, signature[0])),
        tuple(dict.fromkeys(_dtype(tensor.dtype) for tensor in made)),
        signature[1],
        owner,
        float(count(*args, **kwargs, out_val=output)) if count else 0.0,
        float(moved),
        _layout(func, tensors),
    )


def _layout(func: Any, tensors: list[torch.Tensor]) -> Literal["", "NCHW", "NHWC"]:
    inputs = [tensor for tensor in tensors if tensor.dim() in (4, 5)]
    if "convolution" not in func._schema.name or not inputs:
        return ""
    # of a backward the gradient comes before the input
    given = inputs[-2] if len(inputs) > 1 else inputs[0]
    last = torch.channels_last if given.dim() == 4 else torch.channels_last_3d
    return "NHWC" if given.is_contiguous(memory_format=last) else "NCHW"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _evidence(probe: OpsProbe) -> OpEvidence:
    events = list(_events(probe.profiler.profiler.kineto_results.events()))
    inside = inside_spans(events)
    steps = probe.step
    us = [[0.0] * steps for _ in probe.rows]
    kernels: list[dict[str, list[float]]] = [{} for _ in probe.rows]
    linked = 0
    for number, (step, shares) in enumerate(probe.calls):
        found = inside.get(number)
        if found is None or step >= steps:
            continue
        device = sum(duration for _, duration in found.kernels)
        linked += device
        for row, share in shares:
            us[row][step] += share * (device if found.kernels else found.host_ns) / 1000
            for name, duration in found.kernels:
                entry = kernels[row].setdefault(name, [0, 0.0])
                entry[0] += 1
                entry[1] += share * duration / 1000
    cuda = torch.cuda.is_available()
    rows = tuple(
        OpRow(
            op=row.op,
            phase=row.phase,
            inputs=row.inputs,
            outputs=row.outputs,
            shapes=row.shapes,
            path=row.owner[0],
            line=row.owner[1],
            module=row.owner[2],
            calls=row.calls,
            us=tuple(times),
            kernels=_kernels(row, used) if used else (),
            flops=row.flops * row.calls,
            bytes=row.bytes * row.calls,
            layout=row.layout,
        )
        for row, times, used in zip(probe.rows, us, kernels, strict=True)
    )
    lost = max(device_time(events) - linked, 0) / 1000 if cuda else 0.0
    if not cuda:
        return OpEvidence(steps, rows)
    return OpEvidence(
        steps,
        rows,
        "cuda",
        torch.cuda.get_device_capability(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        lost,
    )


def _kernels(row: _Row, used: dict[str, list[float]]) -> tuple[Kernel, ...]:
    capability = torch.cuda.get_device_capability()
    dtype = next((name for name in row.inputs if "float" in name), None)
    tf32 = torch.backends.cudnn.allow_tf32 if "conv" in row.op else torch.backends.cuda.matmul.allow_tf32
    return tuple(
        Kernel(name, int(calls), us, judge(name, dtype, capability, tf32)) for name, (calls, us) in used.items()
    )


def _events(found: Iterable[Any]) -> Iterable[Event]:
    if not torch.cuda.is_available():  # only what is needed is asked for: there are many thousands
        for number, event in enumerate(found):
            yield Event(event.name(), event.start_ns(), event.end_ns(), event.start_thread_id(), False, number, 0)
        return
    for event in found:
        yield Event(
            event.name(),
            event.start_ns(),
            event.end_ns(),
            event.start_thread_id(),
            event.device_type() != _autograd.DeviceType.CPU,
            event.correlation_id(),
            event.linked_correlation_id(),
        )
