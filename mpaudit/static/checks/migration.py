"""MPA7xx: names that torch is giving up."""

from __future__ import annotations

from collections.abc import Iterator

from mpaudit.model import Confidence, Severity

from ..program import torch_api
from ..program.definitions import Site
from .draft import Draft, Seen


def _kind(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def deprecated(seen: Seen) -> Iterator[Draft]:
    """MPA701: names of torch.cuda.amp and torch.cpu.amp."""
    target = seen.target.torch
    modern = {(c.site.path, _kind(c.name)) for c in seen.trace.calls if c.name not in torch_api.DEPRECATED}
    done: set[Site] = set()
    for call in seen.trace.calls:
        if call.name not in torch_api.DEPRECATED or call.shim or call.site in done:
            continue
        if call.site.path in seen.shims and (call.site.path, _kind(call.name)) in modern:
            continue  # a file that asks which torch it runs on, and has both names
        if target is not None and target < (2, 3):
            continue
        done.add(call.site)
        old = target is not None and target < (2, 4)
        yield Draft(
            "MPA701", call.site,
            f"{call.name} is deprecated since torch 2.4 (FutureWarning at every use)",
            f"use {torch_api.DEPRECATED[call.name]}", Confidence.DEFINITE, severity=Severity.INFO if old else None,
        )  # fmt: skip
