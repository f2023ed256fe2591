"""The precision that a script brings itself: autocast regions, raw switches and scalers, switched off or recast.

Methods are replaced, not names, so that every alias, subclass and decorator is reached; compiled code enters its
regions through the same methods. What torch opens by itself (recomputation under checkpointing, custom functions)
carries a state that is controlled already, and is left alone.
"""

from __future__ import annotations

import functools
import linecache
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any
from weakref import WeakSet

import torch
from torch.amp import autocast_mode
from torch.amp.grad_scaler import GradScaler

from ..events import Events, by_user
from ..patches import Patches
from .local import Local
from .record import Record

_HALF = (torch.float16, torch.bfloat16)
_AUTOCAST_MODULES = {f"torch.{device}amp.autocast_mode" for device in ("", "cuda.", "cpu.", "xpu.")}
_PASSED = _AUTOCAST_MODULES | {"contextlib", "functools", "typing_extensions", "warnings"}
_ORIGIN = "_mpaudit_origin"


@dataclass(frozen=True, slots=True)
class Origin:
    """An autocast region as the script asked for it."""

    enabled: bool
    island: bool
    """Off, and written so: `enabled=False`, not a flag that happens to be off."""


@dataclass(slots=True)
class Own:
    target: torch.dtype | None
    """What half-precision regions are to compute in; None: they are to be off."""
    device: str
    record: Record
    local: Local
    present: bool = False
    """The script has autocast or a scaler of its own, on or switched off by its options."""
    on: bool = False
    """One of its regions is on as the script runs."""
    changed: bool = False
    """Something of it runs otherwise than it was written."""
    recast: bool = False
    """A region computes in another dtype than it was written for, or was off."""
    scaling: bool = False
    """A scaler of the script scales."""
    scaler_missed: bool = False
    """The script has a scaler that torch has switched off, as its device is not there."""
    skipped: int = 0
    scalers: WeakSet[Any] = field(default_factory=WeakSet)
    met: list[Callable[[], None]] = field(default_factory=list)
    """Called before `present` becomes true."""
    left: list[Callable[[], None]] = field(default_factory=list)
    """Called when a thread has left its outermost region."""
    _seen: set[tuple[CodeType, int]] = field(default_factory=set)

    def install(self, events: Events, patches: Patches) -> None:
        patches.replace(autocast_mode.autocast, "__init__", self._construct)
        patches.replace(autocast_mode.autocast, "__enter__", self._enter)
        patches.replace(autocast_mode.autocast, "__exit__", self._exit)
        patches.replace(autocast_mode, "_cast", self._cast)
        patches.replace(GradScaler, "__init__", self._scaler)
        for name in ("set_autocast_enabled", "set_autocast_cpu_enabled"):
            if hasattr(torch, name):
                patches.replace(torch, name, self._switch)
        for name in ("set_autocast_dtype", "set_autocast_cpu_dtype", "set_autocast_gpu_dtype"):
            if hasattr(torch, name):
                patches.replace(torch, name, self._switch_dtype)
        self._count_skips(events)

    def _meet(self, what: str, frame: FrameType) -> None:
        if not self.present:
            for subscriber in self.met:
                subscriber()
            self.present = True
        line = (frame.f_code, frame.f_lineno)
        if line not in self._seen:
            self._seen.add(line)
            self.record.site(what)

    def _construct(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def __init__(
            region: Any,
            device_type: str,
            dtype: torch.dtype | None = None,
            enabled: bool = True,
            cache_enabled: bool | None = None,
        ) -> None:
            original(region, device_type, dtype, enabled, cache_enabled)
            frame = _user(sys._getframe(1))
            if frame is None:
                return
            half = dtype is None or dtype in _HALF
            island = not half or (not enabled and _written_off(frame))
            origin = Origin(bool(enabled) and half, island)
            region.__dict__[_ORIGIN] = origin
            if origin.enabled:
                self.on = True
                self._meet(f"autocast({device_type!r})", frame)
            elif not island and not self.on:
                self._meet(f"autocast({device_type!r}), switched off by the script's options", frame)

        return __init__

    def _enter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def __enter__(region: Any) -> Any:
            self.local.regions += 1
            origin = region.__dict__.get(_ORIGIN)
            if origin is not None and not origin.island:
                self._decide(region, origin)
            return original(region)

        return __enter__

    def _decide(self, region: Any, origin: Origin) -> None:
        if self.target is None:
            self.changed = self.changed or region._enabled
            region._enabled = False
            return
        # where one region is on, one that is off by a flag is meant to be off
        if not origin.enabled and self.on:
            return
        written = region.fast_dtype if origin.enabled and region._enabled else None
        if region.device != self.device and not region._enabled:
            region.device = self.device  # a region of a device that is not there
        self.recast = self.recast or written != self.target
        self.changed = self.changed or written != self.target
        region._enabled, region.fast_dtype = True, self.target

    def _exit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def __exit__(region: Any, *exception: Any) -> Any:
            result = original(region, *exception)
            self.local.regions -= 1
            if not self.local.regions:
                for subscriber in self.left:
                    subscriber()
            return result

        return __exit__

    def _cast(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Of the inputs of a function under `custom_fwd(cast_inputs=...)`; only called where autocast is on."""

        @functools.wraps(original)
        def cast(value: Any, device_type: str, dtype: torch.dtype) -> Any:
            return original(value, device_type, self.target if self.target and dtype in _HALF else dtype)

        return cast

    def _scaler(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def __init__(scaler: Any, *args: Any, **kwargs: Any) -> None:
            original(scaler, *args, **kwargs)
            if not kwargs.get("enabled", args[5] if len(args) > 5 else True):
                return
            if not scaler._enabled:  # by torch, and so as one that is switched off by the script: it is not there
                self.scaler_missed = True
                return
            self._meet("GradScaler", sys._getframe(1))
            if self.target is torch.float16:
                self.scaling = True
                self.scalers.add(scaler)
            else:
                self.changed = True
                scaler._enabled = False

        return __init__

    def _switch(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def switch(*args: Any, **kwargs: Any) -> None:
            frame = sys._getframe(1)
            if not by_user(frame):
                original(*args, **kwargs)
                return
            enabled = kwargs.get("enabled", args[-1] if args else None)
            if enabled:
                self.on = True
                self._meet("autocast switched on without a region", frame)
                if self.target is None:
                    self.changed = True
                    args = (*args[:-1], False) if args and "enabled" not in kwargs else args
                    kwargs = {name: False if name == "enabled" else value for name, value in kwargs.items()}
                else:
                    device = self._switched(original, args, kwargs)
                    written = torch.get_autocast_dtype(device)
                    self._recast(written)
                    torch.set_autocast_dtype(device, self.target)
            original(*args, **kwargs)

        return switch

    def _switched(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if "cpu" in original.__name__:
            return "cpu"
        device = kwargs.get("device_type", args[0] if args else None)
        return device if isinstance(device, str) else "cuda"

    def _switch_dtype(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def switch(*args: Any, **kwargs: Any) -> None:
            if by_user(sys._getframe(1)) and self.target is not None:
                written = kwargs.get("dtype", args[-1] if args else None)
                if written in _HALF:
                    self._recast(written)
                    args = tuple(self.target if value is written else value for value in args)
                    kwargs = {name: self.target if value is written else value for name, value in kwargs.items()}
            original(*args, **kwargs)

        return switch

    def _recast(self, written: torch.dtype) -> None:
        if written != self.target:
            self.recast = self.changed = True

    def _count_skips(self, events: Events) -> None:
        waiting: list[Any] = []

        def begin(scaler: Any, optimizer: Any) -> None:
            if step not in events.step_begin:
                events.step_begin.append(step)  # a script without a scaler need not pay for it
            waiting.append(optimizer)

        def step(optimizer: Any) -> None:
            waiting.clear()

        def end(scaler: Any, optimizer: Any) -> None:
            self.skipped += len(waiting)
            waiting.clear()

        events.scaler_step_begin.append(begin)
        events.scaler_step_end.append(end)

    def scale(self) -> float | None:
        """The scale of the script's own scaler now; the smallest of several."""
        scales = [scaler.get_scale() for scaler in self.scalers if scaler._scale is not None]
        return float(min(scales)) if scales else None


def _user(frame: FrameType | None) -> FrameType | None:
    """The frame that asked for a region, if it is not torch's own."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name in _AUTOCAST_MODULES:
            if frame.f_code.co_name == "_enter_autocast":  # compiled code of the user
                return frame
            if frame.f_code.co_name.startswith("decorate_"):  # custom_fwd, custom_bwd
                return None
        elif name not in _PASSED:
            return frame if by_user(frame) else None
        frame = frame.f_back
    return None


def _written_off(frame: FrameType) -> bool:
    """Whether the call that is being run has `enabled=False` in its text. Where there is no text, yes: an unknown
    region that is off is left as it is."""
    if frame.f_code.co_name == "_enter_autocast":
        return True
    text = _call_text(frame)
    return not text or re.search(r"enabled\s*=\s*False\b|autocast\(\s*False\b", text) is not None


def _call_text(frame: FrameType) -> str:
    path, first, last = frame.f_code.co_filename, frame.f_lineno, frame.f_lineno
    if sys.version_info >= (3, 11):
        positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
        first, last = positions[0] or first, positions[1] or last
    return "".join(linecache.getline(path, line) for line in range(first, last + 1))
