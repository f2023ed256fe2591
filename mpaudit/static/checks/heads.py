"""Heads that are trained on the features of a frozen network: what takes the time there is the frozen forward."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence

from ..program.trace import Frozen, Step, Trace
from ..program.values import Use
from .draft import name_of

_DENSE = frozenset(("Linear", "LazyLinear"))
_PLAIN = _DENSE | frozenset(
    (
        "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Dropout",
        "ELU", "Flatten", "GELU", "Hardswish", "Identity", "LayerNorm", "LeakyReLU", "LogSoftmax", "MaxPool2d",
        "Module", "ModuleList", "Parameter", "ReLU", "SELU", "Sequential", "SiLU", "Sigmoid", "Softmax",
        "SyncBatchNorm", "Tanh",
    )
)  # fmt: skip
_HEAD = re.compile(
    r"(?i)(^|[._])(linear|lin_?cls|head|probe|classifier|reglog|log_?reg|fc)(s|_?\d+)?($|[._\[])|linear_?classifier"
)


def is_head(module: Hashable, trace: Trace) -> bool:
    """Dense layers and nothing else; of a module that is not in sight the name has to say so."""
    layers = trace.layers.get(module)
    if layers:
        return layers <= _PLAIN and bool(layers & _DENSE)
    return bool(_HEAD.search(name_of(trace, module, "")))


def is_linear(module: Hashable, trace: Trace) -> bool:
    """One dense layer and nothing else: what it is fed with was computed before."""
    layers = trace.layers.get(module, frozenset())
    return bool(layers) and layers <= _DENSE


def frozen_beside(uses: Iterable[Use], steps: Sequence[Step], trace: Trace) -> list[Frozen]:
    """The forwards without gradients in the very loop of the steps, of networks that are not trained there."""
    trained = {use.module for use in uses}
    loops = {(step.basis.root, step.loops) for step in steps}
    return [f for f in trace.frozen if (f.root, f.loops) in loops and f.use.module not in trained]
