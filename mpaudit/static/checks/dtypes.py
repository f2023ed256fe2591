"""MPA3xx: float64 that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator

from mpaudit.model import Confidence, Severity

from ..program.definitions import Site
from ..program.values import Const, Dtype, Ext
from .draft import Draft, Seen, is_aside, is_test


def default_float64(seen: Seen) -> Iterator[Draft]:
    """MPA301: a default dtype or a model of float64."""
    done: set[Site] = set()
    trains = bool(seen.trace.backwards)
    fits = any(made.kind == "optimizer" and "LBFGS" in made.text for made in seen.trace.made.values())
    for call in seen.trace.calls:
        if call.site in done:
            continue
        first = call.args[0] if call.args else next((v for _, v in call.keywords), None)
        if call.name == "torch.set_default_dtype":
            hit = first == Dtype("float64")
        elif call.name == "torch.set_default_tensor_type":
            named = first.name if isinstance(first, Ext) else first.value if isinstance(first, Const) else ""
            hit = "DoubleTensor" in str(named)
        else:
            hit = call.name == "Module.double"
        if not hit or (call.name == "Module.double" and not (seen.trace.cuda_roots or seen.trace.casts_made)):
            continue  # a model on a CPU, no autocast in sight: float64 takes nothing away from it
        done.add(call.site)
        # L-BFGS fits equations, and its line search stalls on the rounding of float32
        advice = (
            seen.sciences or fits or not trains or is_test(call.site) or is_aside(call.site)
            or call.site in seen.for_a_while or call.site in seen.self_checks
        )  # fmt: skip
        yield Draft(
            "MPA301", call.site,
            f"{call.text} makes weights and activations float64: autocast leaves float64 alone, so nothing runs in low "
            "precision, and consumer GPUs compute float64 at 1/32 to 1/64 of the float32 rate",
            "train in float32, and convert only what needs float64", Confidence.LIKELY,
            severity=Severity.INFO if advice else None,
        )  # fmt: skip


def numpy_leak(seen: Seen) -> Iterator[Draft]:
    """MPA303: a float64 array that became a float64 tensor and reached the model or the loss."""
    done: set[Site] = set()
    training = {backward.basis.root for backward in seen.trace.backwards}
    files = {backward.site.path for backward in seen.trace.backwards}
    for leak in seen.trace.leaks.values():
        if leak.root not in training and leak.site.path not in files:
            continue  # inference: a slow input once, and models that convert it themselves
        if leak.site in done or seen.sciences or is_test(leak.site):
            continue
        done.add(leak.site)
        name = leak.text or "the tensor"
        yield Draft(
            "MPA303", leak.site,
            f"{name} is float64, as NumPy made it, and reaches {leak.what}: autocast does not touch float64, so the "
            "operation fails on mixed dtypes or everything after it is computed in float64",
            "pass dtype=torch.float32, or call .float() on it", Confidence.LIKELY, ((leak.sink, "used here"),),
            Severity.ERROR if leak.what == "a forward pass" else None,
        )  # fmt: skip
