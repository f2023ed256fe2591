"""What no variant can undo: tensors that the script itself makes half, by their line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from ..events import Events, by_user, without
from ..patches import Patches
from .record import Record

_HALF = (torch.float16, torch.bfloat16)
_FIRST = 3
"""Outermost forwards whose modules, inputs and outputs are looked at."""


class Half:
    """Names casts to half precision that are not the ones of the variant, and modules, parameters and losses in it."""

    def __init__(self, target: torch.dtype | None, record: Record) -> None:
        self._target = target
        self._record = record
        self._forwards = 0
        self._backwards = 0

    def install(self, events: Events, patches: Patches) -> None:
        for owner, kind in ((torch.nn.Module, "module"), (torch.Tensor, "tensor")):
            for name, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16)):
                patches.replace(owner, name, functools.partial(self._cast, kind, dtype))
            patches.replace(owner, "to", functools.partial(self._to, kind))
        patches.replace(torch.nn.Module, "type", functools.partial(self._to, "module"))
        patches.replace(torch.Tensor, "type", functools.partial(self._to, "tensor"))
        patches.replace(torch, "set_default_dtype", self._default)
        self._events = events
        events.parameters.append(self._parameters)
        events.forward_begin.append(self._forward_begin)
        events.returned.append(self._returned)
        events.backward_begin.append(self._backward_begin)

    def _cast(self, kind: str, dtype: torch.dtype, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def cast(value: Any, *args: Any, **kwargs: Any) -> Any:
            self._saw(kind, dtype, value, sys._getframe(1))
            return original(value, *args, **kwargs)

        return cast

    def _to(self, kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def to(value: Any, *args: Any, **kwargs: Any) -> Any:
            for asked in (*args, *kwargs.values()):
                dtype = _dtype(asked)
                if isinstance(dtype, torch.dtype) and dtype in _HALF:
                    self._saw(kind, dtype, value, sys._getframe(1))
            return original(value, *args, **kwargs)

        return to

    def _saw(self, kind: str, dtype: torch.dtype, value: Any, caller: FrameType) -> None:
        # torch's own modules cast as they have to; a tensor in the variant's own type changes nothing
        if not by_user(caller) or (kind == "tensor" and dtype == self._target):
            return
        if kind == "tensor" and (not value.is_floating_point() or value.dtype == dtype):
            return
        self._record.doubt(f"a {kind} is made {_name(dtype)} by the script")

    def _default(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def set_default_dtype(dtype: Any) -> None:
            if dtype in _HALF:
                self._record.doubt(f"the default type is set to {_name(dtype)}")
            original(dtype)

        return set_default_dtype

    def _parameters(self, optimizer: Any, taken: list[torch.Tensor]) -> None:
        self._look("parameters that an optimizer takes", taken)

    def _forward_begin(self, callee: Any) -> None:
        if isinstance(callee, torch.nn.Module):
            self._look(f"weights of {type(callee).__name__}", [*callee.parameters(), *callee.buffers()])

    def _returned(self, callee: Any, result: Any) -> None:
        if self._target is None and isinstance(result, torch.Tensor):
            self._look("the output of the model", [result])
        self._forwards += 1
        if self._forwards == _FIRST:
            self._events.forward_begin = without(self._events.forward_begin, self._forward_begin)
            self._events.returned = without(self._events.returned, self._returned)

    def _backward_begin(self, roots: Any) -> Any:
        if self._target is None and isinstance(roots, torch.Tensor):
            self._look("the loss", [roots])
        self._backwards += 1
        if self._backwards == _FIRST:
            self._events.backward_begin = without(self._events.backward_begin, self._backward_begin)
        return roots

    def _look(self, what: str, tensors: list[torch.Tensor]) -> None:
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors if tensor.dtype in _HALF):
            self._record.doubt(f"{what} in {_name(dtype)}")


_NAMES = {
    "torch.HalfTensor": torch.float16,
    "torch.cuda.HalfTensor": torch.float16,
    "torch.BFloat16Tensor": torch.bfloat16,
    "torch.cuda.BFloat16Tensor": torch.bfloat16,
}


def _dtype(asked: Any) -> Any:
    """What `to` or `type` was asked for: a type, its name, or a tensor to be alike."""
    if isinstance(asked, str):
        return _NAMES.get(asked)
    return asked.dtype if isinstance(asked, torch.Tensor) else asked


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
