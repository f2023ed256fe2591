"""Where the forward of a script begins without the call of a module.

A torch function mode sees each operation, and costs some microseconds for each. So it is on only outside of spans, and
only until the first backward has shown that the forwards of this script begin in modules; in a script where one does
not, from then on.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.overrides
from torch.overrides import TorchFunctionMode

from ..events import Events
from ..patches import Patches
from .local import Local
from .record import Record
from .span import Span

_CAST = frozenset(
    (
        "matmul",
        "__matmul__",
        "__rmatmul__",
        "mm",
        "mv",
        "bmm",
        "addmm",
        "addmm_",
        "addmv",
        "addmv_",
        "addr",
        "baddbmm",
        "baddbmm_",
        "addbmm",
        "addbmm_",
        "dot",
        "vdot",
        "chain_matmul",
        "multi_dot",
        "linalg_multi_dot",
        "linalg_matmul",
        "linear",
        "bilinear",
        "einsum",
        "tensordot",
        "inner",
        "conv1d",
        "conv2d",
        "conv3d",
        "convolution",
        "_convolution",
        "conv_tbc",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "conv_transpose",
        "scaled_dot_product_attention",
        "multi_head_attention_forward",
        "prelu",
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "lstm_cell",
        "gru_cell",
        "rnn_tanh_cell",
        "rnn_relu_cell",
        "embedding_bag",
    )
)
"""By `__name__`: what autocast computes in half precision, and what is made of such operations."""


class FirstUse(TorchFunctionMode):
    """Opens a span at the first operation that autocast would cast and that has an argument with a gradient."""

    def __init__(self, span: Span, local: Local) -> None:
        super().__init__()
        self.span = span
        self.used = False
        self._local = local

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        opened = False
        if getattr(func, "__name__", "") in _CAST and torch.is_grad_enabled() and self.span.idle:
            leading = next((a for a in _tensors((*args, *kwargs.values())) if a.requires_grad), None)
            if leading is not None:
                self.used = opened = True
                self.span.open(leading.device.type)
        self._local.handling += 1  # torch has taken the mode off its stack for as long as this lasts
        try:
            result = func(*args, **kwargs)
        finally:
            self._local.handling -= 1
        if opened:
            self.span.follow(result)
        return result


def watch(span: Span, events: Events, patches: Patches, local: Local, record: Record) -> None:
    """Puts the mode on and off as the training goes on. To be called after `span.watch`."""
    mode: Any = FirstUse(span, local)
    decided = False

    def on() -> None:
        wanted = mode.used or not decided
        if wanted and not local.watched and not local.handling and not span.withdrawn():
            local.watched = True
            mode.__enter__()

    def off() -> None:
        # the stack only gives up what is on its top: a mode of the script may be there
        if local.watched and not local.handling and _stack()[-1:] == [mode]:
            local.watched = False
            mode.__exit__(None, None, None)

    def forward_end(callee: Any) -> None:
        if not span.on:
            on()

    def backward_begin(roots: Any) -> Any:
        off()
        return roots

    def backward_end() -> None:
        nonlocal decided
        decided = True
        on()

    def outside() -> None:
        if not mode.used:
            mode.used = True
            record.doubt("this loss was not computed by the call of a module: autocast was not on")

    on()
    patches.note("torch.overrides.TorchFunctionMode", off)
    events.forward_begin.append(lambda callee: off())
    events.forward_end.append(forward_end)
    events.backward_begin.append(backward_begin)
    events.backward_end.append(backward_end)
    span.outside.append(outside)


def _stack() -> list[Any]:
    get: Any = torch.overrides._get_current_function_mode_stack
    return list(get())


def _tensors(values: tuple[Any, ...]) -> Any:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(tuple(value))
