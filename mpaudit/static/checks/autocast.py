"""MPA1xx: where autocast is and how it is called; see `missing` for where it is not."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from itertools import takewhile

from mpaudit.model import Confidence, Severity

from ..program import torch_api
from ..program.definitions import Site
from ..program.trace import ApiCall, Backward, Step, Trace, is_feasible
from ..program.values import NONE, Cast, Const, Device, Dtype, Key, Owned, Sym, Value, options
from .draft import Draft, Seen, name_of
from .scaler import flag_like


def backward_under_autocast(seen: Seen) -> Iterator[Draft]:
    """MPA103 and MPA104: the backward or the step with an autocast on the stack."""
    trace = seen.trace
    done: set[tuple[str, Site]] = set()
    applied = {step.backward for step in trace.steps}
    stale = {step.backward: cast for step in trace.steps if (cast := _stale(step, trace)) is not None}
    for event in trace.backwards:
        cast = _enabled(event.casts, dict(event.basis.guards))
        if cast is None or ("MPA103", event.site) in done:
            continue
        if event.owned and cast.site not in trace.casts_owned:
            continue
        if event.site in seen.rehearsals | seen.trials:
            continue  # a measurement of speed: nobody uses what it trains
        if event.site in trace.discarded - applied:
            continue  # its gradients are looked at and thrown away: no step applies them
        if not event.owned and not trace.optimizers.get(event.basis.root):
            continue  # a probe or a benchmark of the backward: nothing is trained
        if event.basis.exceptional or event.basis.inexact:
            continue
        done.add(("MPA103", event.site))
        told = cast.site not in trace.casts_owned or trace.told_precision
        if event.site in stale:
            yield _never_learns("MPA103", event.site, stale[event.site], _surely(event, trace))
            continue
        yield Draft(
            "MPA103", event.site,
            "backward runs under autocast, which PyTorch advises against: plain operations go back in the types of "
            "their forward, but float32 regions and custom functions are cast again, on CUDA perhaps to float16 "
            "whatever dtype was asked for",
            "end the autocast block before the backward",
            _surely(event, trace) if told else Confidence.POSSIBLE,
            ((cast.site, "autocast entered here"),),
        )  # fmt: skip
    for step in trace.steps:
        cast = stale.get(step.backward) or _enabled(step.casts, dict(step.basis.guards))
        if cast is None or ("MPA104", step.site) in done or step.basis.root in trace.owned_roots:
            continue
        if step.basis.exceptional or step.basis.inexact or (step.backward and ("MPA103", step.backward) in done):
            continue
        if step.backward in seen.rehearsals | seen.trials:
            continue
        done.add(("MPA104", step.site))
        if step.backward in stale:
            yield _never_learns("MPA104", step.site, cast, _surely(step, trace))
            continue
        yield Draft(
            "MPA104", step.site,
            f"the step of {name_of(trace, step.optimizer, 'the optimizer')} runs under autocast, which is meant for "
            "the forward and the loss only",
            "end the autocast block before the step", _surely(step, trace), ((cast.site, "autocast entered here"),),
        )  # fmt: skip


def _stale(step: Step, trace: Trace) -> Cast | None:
    """The region in which a loop with both the forward and the step goes round: autocast keeps its 16-bit copies of the
    weights until the outermost region is left, so that every forward but the first has those of before the step."""
    outermost = step.casts[0] if step.casts else None
    around = trace.entered_in.get(outermost.site) if outermost is not None else None
    if outermost is None or around is None or step.basis.exceptional or step.basis.inexact:
        return None
    goes_round = any(
        event.site == step.backward and _within(_common(event.loops, step.loops), around) for event in trace.backwards
    )
    uncached = any(
        call.site == outermost.site and dict(call.keywords).get("cache_enabled", NONE) != NONE for call in trace.calls
    )
    cast = any(
        use.casts and use.casts[0] == outermost and use.casts[-1].enabled is not False
        and use.module not in trace.lowered
        for use in (step.loss.uses if step.loss is not None else None) or ()
    )  # fmt: skip
    return outermost if goes_round and cast and not uncached and step.basis.root not in trace.owned_roots else None


def _common(a: tuple[Hashable, ...], b: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    return tuple(x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _within(loops: tuple[Hashable, ...], around: tuple[Hashable, ...]) -> bool:
    """Whether `loops` are those of `around` and some more."""
    return len(loops) > len(around) and loops[: len(around)] == around


def _never_learns(code: str, site: Site, cast: Cast, confidence: Confidence) -> Draft:
    return Draft(
        code, site,
        "the loop goes round inside one autocast region: autocast keeps its 16-bit copies of the weights until the "
        "outermost region is left, so every forward after the first computes with the weights from before any step, "
        "and nothing is learned",
        "enter autocast anew in each iteration, round the forward and the loss only", confidence,
        ((cast.site, "autocast entered here, outside of the loop"),), Severity.ERROR,
    )  # fmt: skip


def _surely(event: Backward | Step, trace: Trace) -> Confidence:
    return Confidence.DEFINITE if is_feasible(event.basis, trace) else Confidence.LIKELY


def _enabled(casts: tuple[Cast | None, ...], guards: dict[Key, bool]) -> Cast | None:
    """The innermost autocast of the stack if it is (or may by a flag be) on."""
    if not casts or casts[-1] is None:
        return None
    cast = casts[-1]
    if cast.enabled is False or (not isinstance(cast.enabled, bool) and guards.get(cast.enabled) is False):
        return None
    return cast


def not_entered(seen: Seen) -> Iterator[Draft]:
    """MPA105: an autocast that nothing enters, or that is named and not called."""
    trace = seen.trace
    for site in sorted(trace.casts_dropped - trace.casts_entered, key=lambda s: (s.path, s.line, s.column)):
        text = trace.casts_made[site].text
        around = trace.told_precision and site in trace.dropped_in_owned
        yield Draft(
            "MPA105", site, f"{text}(...) is created and never entered: the code after it runs in full precision",
            f"write `with {text}(...):` round the forward and the loss",
            Confidence.POSSIBLE if around else Confidence.DEFINITE,
        )  # fmt: skip
    for site, (text, made) in trace.contexts_dropped.items():
        if site not in trace.casts_made and not made & trace.casts_held:
            yield Draft(
                "MPA105", site, f"the autocast that {text}() gives is never entered: the code after it runs in full "
                "precision", f"write `with {text}(...):` round the forward and the loss", Confidence.LIKELY,
            )  # fmt: skip
    for call in trace.calls:
        if call.how == "bare" and call.name in torch_api.AUTOCAST:
            yield Draft(
                "MPA105", call.site,
                f"{call.text} is named and not called: it raises before anything runs in low precision",
                f"write {call.text}(...)", Confidence.DEFINITE,
            )  # fmt: skip


def _devices(seen: Seen) -> Iterator[tuple[ApiCall, Value]]:
    for call in seen.trace.calls:
        if call.name in torch_api.AUTOCAST and not torch_api.AUTOCAST[call.name] and call.how == "call":
            given = next((v for k, v in call.keywords if k == "device_type"), call.args[0] if call.args else None)
            if given is not None:
                yield call, given
            elif not call.spread:
                yield call, NONE


def invalid_device(seen: Seen) -> Iterator[Draft]:
    """MPA106: a device_type that autocast rejects."""
    done: set[Site] = set()
    rejects_index = seen.target.torch is not None and seen.target.torch < (2, 10)
    for call, given in _devices(seen):
        if isinstance(given, Owned) and call.arg_texts[:1] and call.arg_texts[0].endswith(".device"):
            given = Device("")  # that of accelerate
        problems = [p for p in (_device_problem(v, rejects_index) for v in options(given)) if p]
        if not problems or call.site in done:
            continue
        done.add(call.site)
        sure = len(problems) == len(list(options(given)))
        yield Draft(
            "MPA106", call.site, problems[0][0], problems[0][1], Confidence.DEFINITE if sure else Confidence.LIKELY
        )


_HOLDER = re.compile(
    r"(?i)(^|_)(accel(erator)?|fabric|model|net(work)?|unet|vae|(text_|image_)?encoder|decoder|pipe(line)?|module|images?"
    r"|inputs?|latents|tensor|x)$"
)
"""What has a torch.device for its device, by name; options have a text."""


def _is_of_object(key: Key) -> bool:
    """`accelerator.device`, `self.pipe.device`"""
    match key:
        case ("attr", (*_, str(name)), "device"):
            return _HOLDER.search(name) is not None
        case _:
            return False


def _device_problem(value: Value, rejects_index: bool) -> tuple[str, str] | None:
    if isinstance(value, Device):
        if value.type.endswith(":str"):
            if not value.index or not rejects_index:
                return None
            return (
                "device_type is a string with an index, which this torch rejects with RuntimeError («User specified an "
                "unsupported autocast device_type»)", "pass the type alone: device.type",
            )  # fmt: skip
        return (
            "device_type is a torch.device and raises ValueError («Expected device_type of type str, got: <class "
            "'torch.device'>»)", "pass its type: device.type",
        )  # fmt: skip
    if isinstance(value, Sym) and _is_of_object(value.key):  # that of a tensor or a device is known to be one
        return (
            "device_type is the device of something, a torch.device, and raises ValueError («Expected device_type of "
            "type str, got: <class 'torch.device'>»)", "pass its type: .device.type",
        )  # fmt: skip
    if isinstance(value, Const):
        if value.value is None:
            return (
                "device_type is not given and raises TypeError",
                'pass the device type first: torch.autocast("cuda", ...)',
            )
        if isinstance(value.value, str):
            kind, _, index = value.value.partition(":")
            if kind not in torch_api.AUTOCAST_DEVICES:
                return (
                    f"device_type {value.value!r} is unknown to autocast and raises RuntimeError",
                    "use 'cuda' or 'cpu'",
                )
            if index and rejects_index:
                return (
                    f"device_type {value.value!r} has an index, which this torch rejects with RuntimeError («User "
                    "specified an unsupported autocast device_type»)", f"pass {kind!r}",
                )  # fmt: skip
            return None
        if isinstance(value.value, bool | int | float):
            return (
                f"device_type is {value.value!r} and raises ValueError («Expected device_type of type str»)",
                'pass the device type first: torch.autocast("cuda", enabled=...)',
            )
    if isinstance(value, Dtype):
        return (
            f"device_type is torch.{value.name} and raises ValueError («Expected device_type of type str»)",
            'pass the device type first: torch.autocast("cuda", dtype=...)',
        )
    return None


def argument_order(seen: Seen) -> Iterator[Draft]:
    """MPA108: positional arguments of autocast that mean something else."""
    done: set[Site] = set()
    for call in seen.trace.calls:
        if call.name not in torch_api.AUTOCAST or call.how != "call" or call.shim or call.site in done:
            continue
        problem = _old_arguments(call) if torch_api.AUTOCAST[call.name] else _new_arguments(call)
        if problem:
            done.add(call.site)
            yield Draft("MPA108", call.site, problem[0], problem[1], Confidence.DEFINITE)


def _new_arguments(call: ApiCall) -> tuple[str, str] | None:
    if len(call.args) < 2:
        return None
    second, text = call.args[1], call.arg_texts[1] if len(call.arg_texts) > 1 else ""
    flag = isinstance(second, Const) and isinstance(second.value, bool)
    named = isinstance(second, Sym) and flag_like(text)
    if flag or named:
        shown = text or "it"
        return (
            f"the second parameter of {call.text} is dtype, not enabled: entering it raises TypeError («argument "
            "'dtype' must be torch.dtype, not bool»)", f"pass it as enabled={shown}",
        )  # fmt: skip
    if isinstance(second, Const) and isinstance(second.value, str):
        return (
            f"the dtype is the string {second.value!r}: entering it raises TypeError («argument 'dtype' must be "
            "torch.dtype, not str»)", f"pass torch.{second.value}",
        )  # fmt: skip
    return None


def _old_arguments(call: ApiCall) -> tuple[str, str] | None:
    if any(key == "device_type" for key, _ in call.keywords):
        return (f"{call.name} takes no device_type and raises TypeError", "use torch.amp.autocast(device_type, ...)")
    first = call.args[0] if call.args else None
    if isinstance(first, Dtype):
        return (
            f"the first parameter of {call.name} is enabled, not dtype: it runs in the default dtype, float16 on CUDA",
            f"pass it as dtype=torch.{first.name}",
        )
    if isinstance(first, Const) and isinstance(first.value, str):
        return (
            f"the first parameter of {call.name} is enabled, not a device: {first.value!r} only turns it on",
            f"use torch.amp.autocast({first.value!r}, ...)",
        )
    if isinstance(first, Device):
        return (
            f"the first parameter of {call.name} is enabled, not a device",
            "use torch.amp.autocast(device.type, ...)",
        )
    return None


def bce(seen: Seen) -> Iterator[Draft]:
    """MPA112: binary cross entropy under CUDA autocast."""
    done: set[Site] = set()
    for loss in seen.trace.losses:
        guards = dict(loss.basis.guards)
        cast = _enabled(loss.casts, guards)
        if cast is None or loss.site in done or loss.basis.exceptional:
            continue
        on_cuda = cast.device in ("cuda", "xpu") or (
            not cast.device and (seen.target.device == "cuda" or loss.basis.root in seen.trace.cuda_roots)
        )
        if not on_cuda or seen.target.device == "cpu":
            continue
        done.add(loss.site)
        yield Draft(
            "MPA112", loss.site,
            f"{loss.text} runs under CUDA autocast and raises RuntimeError («torch.nn.functional.binary_cross_entropy "
            "and torch.nn.BCELoss are unsafe to autocast»); a CPU run does not show it",
            "use binary_cross_entropy_with_logits on the logits, or leave autocast for the loss: "
            "torch.autocast(\"cuda\", enabled=False) and .float() inputs",
            Confidence.LIKELY, ((cast.site, "autocast entered here"),),
        )  # fmt: skip
