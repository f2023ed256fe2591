"""The rules: each check turns what was seen into findings of its codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from mpaudit.model import Confidence

from . import autocast, checkpoints, dtypes, migration, missing, protocol, scaler
from .draft import Draft, Seen, Target, in_tests

Check = Callable[[Seen], Iterator[Draft]]

CHECKS: dict[Check, frozenset[str]] = {
    missing.missing_autocast: frozenset({"MPA101"}),
    autocast.backward_under_autocast: frozenset({"MPA103", "MPA104"}),
    autocast.not_entered: frozenset({"MPA105"}),
    autocast.invalid_device: frozenset({"MPA106"}),
    autocast.argument_order: frozenset({"MPA108"}),
    autocast.bce: frozenset({"MPA112"}),
    scaler.fp16_without_scaler: frozenset({"MPA201"}),
    protocol.violations: protocol.TYPESTATE,
    scaler.created_in_loop: frozenset({"MPA213"}),
    checkpoints.state_not_kept: frozenset({"MPA214"}),
    scaler.with_bf16: frozenset({"MPA215"}),
    scaler.without_low_precision: frozenset({"MPA216"}),
    scaler.half_weights: frozenset({"MPA221"}),
    scaler.argument_order: frozenset({"MPA222"}),
    dtypes.default_float64: frozenset({"MPA301"}),
    dtypes.numpy_leak: frozenset({"MPA303"}),
    migration.deprecated: frozenset({"MPA701"}),
}

SYNTAX_ERROR = "MPA001"
"""Found by the parser, not by a check."""

CODES: frozenset[str] = frozenset({SYNTAX_ERROR}).union(*CHECKS.values())


SILENT: frozenset[str] = frozenset(
    f"MPA{n}" for n in (103, 104, 201, 203, 205, 209, 211, 212, 213, 214, 215, 216, 224, 228)
)
"""Codes of what does harm to a training only by how it goes on, and raises nothing."""


def check(seen: Seen, codes: frozenset[str]) -> list[Draft]:
    """All findings of the wanted codes."""
    found = (d for run, gives in CHECKS.items() if gives & codes for d in run(seen) if d.code in codes)
    return [replace(d, confidence=Confidence.POSSIBLE) if d.code in SILENT and in_tests(d.site) else d for d in found]


__all__ = ["CHECKS", "CODES", "Check", "Draft", "Seen", "Target", "check"]
