"""MPA2xx: what is wrong with a GradScaler beside the order of its calls, for which see `protocol`."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping

from mpaudit.model import Confidence, Severity

from ..program.definitions import Site
from ..program.dtype_choice import by_default
from ..program.state import PathState
from ..program.trace import Scaled, Step, Trace, is_feasible, is_mode
from ..program.values import Cast, Const, Key, Ref, Sym, Tensor, roots
from .draft import Draft, Seen, is_test_file, name_of


def created_in_loop(seen: Seen) -> Iterator[Draft]:
    """MPA213: a scaler that starts again at scale 65536 every iteration or epoch; not in a file with one that bfloat16
    has no need of, nor one of losses in float32: their scale overflows nothing."""
    needless = {draft.site.path for draft in with_bf16(seen)}
    in_float32 = {draft.site for draft in without_low_precision(seen)}
    return (draft for draft in remade(seen) if draft.site.path not in needless and draft.site not in in_float32)


def remade(seen: Seen) -> Iterator[Draft]:
    """Scalers that are created in a loop round their steps."""
    trace = seen.trace
    for scaler, steps in _steps_by_scaler(trace).items():
        made = trace.made.get(scaler)
        if made is None or scaler not in trace.remade:
            continue
        around = trace.made_in[scaler]
        loops = max((_common(outer, step.loops) for step in steps for outer in around), key=len)
        loops = loops or (_fed_in(trace, scaler, made.loops) if made.loops else ())
        if not loops or any(_fresh_run(trace, step.optimizer, loops) for step in steps):
            continue
        name = name_of(trace, scaler, "the scaler")
        every_step = any(step.loops == loops or len(step.loops) < len(loops) for step in steps)
        if every_step:
            message = (
                f"{name} is created anew for every step: its scale starts anew each time and never adapts, so "
                "gradients that overflow there are skipped for ever"
            )
        else:
            message = (
                f"{name} is created anew in a loop round the training loop: its scale starts anew each time, and "
                "steps are skipped, or small gradients lost, until it has found its scale again"
            )
        yield Draft(
            "MPA213", made.site, message, "create the scaler once, before the loops", Confidence.LIKELY,
            ((steps[0].site, "stepped here"),), Severity.ERROR if every_step else Severity.WARNING,
        )  # fmt: skip


def forgets(trace: Trace, scaler: Hashable) -> bool:
    """Whether a scaler is created in a loop, and what it steps is not."""
    optimizers = {step.optimizer for step in trace.steps if step.scaler == scaler}
    around = [loops for loops in trace.made_in.get(scaler, ()) if loops]
    return any(not any(_fresh_run(trace, optimizer, loops) for optimizer in optimizers) for loops in around)


def _fed_in(trace: Trace, scaler: Hashable, loops: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """The loops round the construction, where the losses of micro-batches are scaled in them and the step follows."""
    scaled = any(event.scaled == scaler and event.loops[: len(loops)] == loops for event in trace.backwards)
    return loops if scaled else ()


def _steps_by_scaler(trace: Trace) -> dict[Hashable, list[Step]]:
    found: dict[Hashable, list[Step]] = {}
    for step in trace.steps:
        if step.scaler is not None:
            found.setdefault(step.scaler, []).append(step)
    return found


def _common(made: tuple[Hashable, ...], step: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """Loops round both the construction and the step, outermost first."""
    return tuple(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(made, step, strict=False)))


def _fresh_run(trace: Trace, optimizer: Hashable, loops: tuple[Hashable, ...]) -> bool:
    """Cross-validation folds and trials: with the optimizer the run itself is new."""
    made_in = trace.made_in.get(optimizer) or trace.born.get(optimizer, set())
    return any(made[: len(loops)] == loops for made in made_in)


# -------------------------------------------------------------- precision


def with_bf16(seen: Seen) -> Iterator[Draft]:
    """MPA215: loss scaling of losses that come from bf16 autocast on every path."""
    trace = seen.trace
    by_scaler: dict[Hashable, list[tuple[Site, str]]] = {}
    alone = trace.cast_dtypes == {"bfloat16"} and not trace.lowered
    for scaled in trace.scaled:
        made = trace.made.get(scaled.scaler)
        on: set[bool | Key] = {key for key, taken in scaled.basis.guards if taken}
        if made is not None:
            by_default = not isinstance(made.enabled, bool) and made.enabled[1] in trace.on_by_default
            on.add(by_default or made.enabled)
        by_scaler.setdefault(scaled.scaler, []).append((scaled.site, _dtype_of_loss(scaled.loss, on, alone)))
    for scaler, dtypes in by_scaler.items():
        found = {dtype for _, dtype in dtypes} - {"none"}
        # "none": a path without autocast, on a CPU or with AMP off, where nothing is float16 either; "unseen": a loss
        # of forwards that are not in sight, where bfloat16 is the only dtype that is ever asked for
        if found == {"unseen"}:
            files = {cast.path for cast in trace.casts_entered}
            if (
                trace.cast_dtypes != {"bfloat16"}
                or any(s.path in seen.lowering for s, _ in dtypes)
                or not any(s.path in files for s, _ in dtypes)
            ):
                continue
        elif found - ({"unseen"} if trace.cast_dtypes == {"bfloat16"} else set()) != {"bfloat16"}:
            continue
        made = trace.made.get(scaler)
        if made is not None and made.enabled is False:
            continue
        name = name_of(trace, scaler, "the scaler")
        site = made.site if made is not None else dtypes[0][0]
        related = ((dtypes[0][0], "scaled here"),) if made is not None else ()
        yield Draft(
            "MPA215", site,
            f"{name} scales losses of bfloat16 autocast, which has the range of float32 and needs no loss scaling: "
            "it costs a check of all gradients and a synchronisation per step, and may skip steps",
            "drop the scaler, or create it with enabled=(dtype is torch.float16)", Confidence.LIKELY, related,
        )  # fmt: skip


def without_low_precision(seen: Seen) -> Iterator[Draft]:
    """MPA216: loss scaling of losses that no autocast and no fp16 weights have part in."""
    trace = seen.trace
    if trace.casts_dropped - trace.casts_entered:
        return
    by_scaler: dict[Hashable, list[Scaled]] = {}
    for scaled in trace.scaled:
        by_scaler.setdefault(scaled.scaler, []).append(scaled)
    for scaler, events in by_scaler.items():
        made = trace.made.get(scaler)
        events = [event for event in events if not seen.lowering & _files(event, trace)]
        if not events:
            continue
        events = [event for event in events if not event.basis.exceptional] or events
        if all(_never_casts(event, seen) for event in events):  # a loss that one path loses is what it is on others
            events = [event for event in events if event.loss is not None and event.loss.some_uses] or events
        if (made is not None and made.enabled is False) or not all(_in_float32(event, seen) for event in events):
            continue
        name = name_of(trace, scaler, "the scaler")
        in_sight = made is not None or seen.names_grad_scaler
        yield Draft(
            "MPA216", made.site if made is not None else events[0].site,
            f"{name} scales losses that are computed in float32: no autocast is on round the forward, so the "
            "scaler costs a check of all gradients per step and nothing runs in low precision",
            "run the forward and the loss under torch.autocast, or drop the scaler",
            Confidence.LIKELY if in_sight else Confidence.POSSIBLE,
            ((events[0].site, "scaled here"),) if made is not None else (),
        )  # fmt: skip


def _files(scaled: Scaled, trace: Trace) -> frozenset[str]:
    """Files whose processes a loss may be of: the script's, or that of the function that was followed by itself."""
    root = scaled.basis.root
    script = trace.scripts.get(root, scaled.site.path)
    return frozenset((script, scaled.site.path) if root in trace.entries else (script,))


def _never_casts(scaled: Scaled, seen: Seen) -> bool:
    """Whether no autocast is ever entered in its process, so that nothing is lowered wherever a loss came from."""
    return not seen.modules_cast and not (_files(scaled, seen.trace) & seen.casting)


def _in_float32(scaled: Scaled, seen: Seen) -> bool:
    """Whether all forwards that a scaled loss came from are proven to run without autocast."""
    trace = seen.trace
    if scaled.basis.inexact or scaled.basis.exceptional:
        return False
    if scaled.basis.root in trace.owned_roots or None in scaled.casts:
        return False
    if any(roots(key) & seen.compute_dtypes for key, taken in scaled.basis.guards if taken):
        return False
    never = _never_casts(scaled, seen)
    if scaled.loss is None:
        seen_whole = scaled.basis.root not in trace.entries and not trace.casts_on
        return never and seen_whole and not _trains_lowered(scaled.basis.root, trace)
    uses = scaled.loss.some_uses if never and not _networks_lowered(trace) else scaled.loss.uses
    if not uses:
        return False
    known = not scaled.outer_unknown
    for use in uses:
        # an autocast that is off inside of one that is on is that of a part of a network: the others are lowered
        if use.casts is None or any(cast.enabled is not False for cast in use.casts) or use.module in trace.lowered:
            return False
        in_sight = trace.followed.get(use.module, False) or use.module not in trace.sources or not seen.modules_cast
        known = known and isinstance(use.module, Ref) and in_sight
    return known or never  # the caller or a forward that is not in sight may enter the autocast that there is


def _networks_lowered(trace: Trace) -> bool:
    """Whether anything that may be a network is made something else than float32."""
    return any(isinstance(module, Ref) or module in trace.sources for module in trace.lowered)


def _trains_lowered(root: int, trace: Trace) -> bool:
    """Whether weights are stepped there that are not float32."""
    trained = (module for step in trace.steps if step.basis.root == root for module in step.trained)
    return any(module in trace.lowered for module in trained)


def _dtype_of_loss(loss: Tensor | None, on: set[bool | Key], alone: bool) -> str:
    """The one low precision that a loss came from: 'bfloat16', 'float16', 'none', 'unseen' where no forward or none of
    its contexts is in sight, or '?'. `on`: decisions that hold; `alone`: no autocast asks for anything but bfloat16."""
    if loss is None or not loss.uses:
        return "unseen"
    found = set()
    for use in loss.uses:
        if use.casts is None:
            return "unseen"
        inner = use.casts[-1] if use.casts else None
        if inner is None or inner.enabled is False:
            continue
        known = inner.dtype and "|" not in inner.dtype
        if not known or not (_is_on(inner.enabled, on) or (alone and _may_be_on(inner.enabled, on))):
            return "?"
        found.add(inner.dtype)
    return found.pop() if len(found) == 1 else "none" if not found else "?"


def _is_on(enabled: bool | Key, on: set[bool | Key]) -> bool:
    return enabled is True or enabled in on


def _may_be_on(enabled: bool | Key, on: set[bool | Key]) -> bool:
    """Under a scaler that is always on, or that a flag of the same name turns on (`args.amp`, `self.amp`)."""
    return True in on or any(_last_name(key) == _last_name(enabled) != "" for key in on)


def _last_name(key: bool | Key) -> str:
    """`amp` of the decision on `self.amp`."""
    while isinstance(key, tuple) and key[0] == "truth":
        key = key[1]
    return str(key[2]) if isinstance(key, tuple) and key[0] == "attr" else ""


def fp16_without_scaler(seen: Seen) -> Iterator[Draft]:
    """MPA201: a raw backward of a loss from fp16 autocast, and a raw step."""
    trace = seen.trace
    done: dict[Site, Draft] = {}
    stepped = {step.optimizer for step in trace.steps if step.scaler is not None}
    with_scaler = {made.root for made in trace.made.values() if made.kind == "scaler" and made.enabled is not False}
    scaled_too = {(scaled.basis.root, _forwards(scaled.loss)) for scaled in trace.scaled}
    # a script with a scaler that its budget did not suffice to see used: what steps without it may be the other arm
    cut_short = (with_scaler & trace.unfinished) - {root for root, _ in scaled_too}
    for step in trace.steps:
        if step.scaler is not None or step.backward is None or step.loss is None or step.loss.scaled is not None:
            continue
        if step.basis.root in trace.owned_roots or step.basis.exceptional:
            continue
        if is_test_file(trace.scripts.get(step.basis.root, "")):
            continue  # a test trains with what it hands over, not as its users do
        other_arm = step.optimizer in stepped or (step.basis.root, _forwards(step.loss)) in scaled_too
        scaled_elsewhere = other_arm or step.basis.root in with_scaler
        defaults = seen.defaults.get(trace.scripts.get(step.basis.root, ""), {})
        cast = _fp16_cast(step, trace, undecided=not scaled_elsewhere)
        backward = _backward_of(step, trace)
        if cast is None or backward in done or backward in seen.rehearsals:
            continue
        if scaled_elsewhere and _in_two_ways(step.loss) and not _is_of_this_arm(cast, step, trace):
            continue  # with a flag that the scaler hangs on, and without: which of them is scaled is not known here
        name = name_of(trace, step.optimizer, "the optimizer")
        # where a scaler scales the loss or steps the optimizer too, the raw arm is most likely the one without autocast
        sure = not other_arm and step.basis.root not in cut_short and is_feasible(step.basis, trace)
        confidence = Confidence.LIKELY if sure else Confidence.POSSIBLE
        done[backward] = Draft(
            "MPA201", backward,
            f"backward of a loss from {_unscaled(cast, step)}: gradients below 6e-8 become zero, and {name} never sees "
            "them",
            "turn the scaler on where the dtype is float16" if step.off is not None
            else "scale the loss with torch.amp.GradScaler, or use dtype=torch.bfloat16", confidence,
            ((cast.site, "float16 autocast"), (step.site, "the step"))
            + (((step.off, "the scaler is turned off here"),) if step.off is not None else ()),
            Severity.WARNING if _is_left_out(cast, step, defaults) else None,
        )  # fmt: skip
    yield from done.values()


def _is_of_this_arm(cast: Cast, step: Step, trace: Trace) -> bool:
    """Whether a switch is on where the autocast is entered, and on the path of the step."""
    under = trace.entered_under.get((step.basis.root, cast.site), set())
    return any(is_mode(key) for key, _ in under & set(step.basis.guards))


def _backward_of(step: Step, trace: Trace) -> Site:
    """The backward on the step's own path: where paths through two of them have met, either may stand for both."""
    assert step.backward is not None
    guards = dict(step.basis.guards)
    of_this_loss = [
        event for event in trace.backwards
        if event.basis.root == step.basis.root and _forwards(event.loss) == _forwards(step.loss)
        and all(guards.get(key, taken) == taken for key, taken in event.basis.guards)
    ]  # fmt: skip
    sites = sorted({event.site for event in of_this_loss})
    return sites[0] if sites and step.backward not in sites else step.backward


def _unscaled(cast: Cast, step: Step) -> str:
    if step.off is not None:
        return f"{_named(cast)}, whose scaler is turned off for good"
    return f"{_named(cast)} without loss scaling"


def _named(cast: Cast) -> str:
    if cast.half is not None:
        return "autocast that is float16 where an option says so"
    return "float16 autocast" if cast.dtype == "float16" else "autocast that is float16 where the GPU has no bfloat16"


def _forwards(loss: Tensor | None) -> frozenset[Site]:
    """Where the forwards stand that a loss came from."""
    return frozenset(use.site for use in (loss.uses if loss is not None else None) or ())


def _in_two_ways(loss: Tensor) -> bool:
    """Whether paths have met on which a module ran in an autocast and on which it did not."""
    uses = loss.some_uses
    return any(use.casts and any(u.module == use.module and not u.casts for u in uses) for use in uses)


def _fp16_cast(step: Step, trace: Trace, undecided: bool) -> Cast | None:
    """A float16 autocast that the loss came from; `undecided`: one that a flag may turn on counts, or whose dtype is
    chosen."""
    guards = dict(step.basis.guards)
    for use in sorted(step.loss.some_uses if step.loss is not None else (), key=repr):
        if not use.casts:
            continue
        cast = use.casts[-1]
        if any(
            guards.get(key, taken) != taken for key, taken in trace.entered_under.get((step.basis.root, cast.site), ())
        ):
            continue  # on the other side of a decision, where paths have met since
        on = cast.enabled if isinstance(cast.enabled, bool) else guards.get(cast.enabled)
        if (
            ((cast.dtype == "float16" and cast.half is None) or (undecided and _may_be_float16(cast, step)))
            and cast.device in ("cuda", "xpu", "mps", "")  # unknown: float16 was asked for by name
            and (on is True or (on is None and undecided))
        ):
            return cast
    return None


def _may_be_float16(cast: Cast, step: Step) -> bool:
    """Whether the GPU decides, or an option that has not been decided otherwise on this path."""
    if "float16" in cast.dtype.split("|"):
        return True
    return cast.half is not None and PathState(guards=dict(step.basis.guards)).decided(cast.half) is not False


def _is_left_out(cast: Cast, step: Step, defaults: Mapping[str, str]) -> bool:
    """Whether an option makes it float16, which by its default does not."""
    if cast.half is None or step.off is not None:
        return False
    known = PathState(guards=dict(step.basis.guards)).decided(cast.half)
    return known is None and by_default(cast.half, defaults) is not True


def half_weights(seen: Seen) -> Iterator[Draft]:
    """MPA221: the weights that a scaler steps are fp16."""
    trace = seen.trace
    done: set[Site] = set()
    for step in trace.steps:
        if step.scaler is None or step.half is None or step.half in done or step.basis.exceptional:
            continue
        made = trace.made.get(step.scaler)
        if made is not None and made.text.endswith("ShardedGradScaler"):
            continue
        done.add(step.half)
        name = name_of(trace, step.scaler, "the scaler")
        o = name_of(trace, step.optimizer, "the optimizer")
        yield Draft(
            "MPA221", step.half,
            f"makes the weights float16 that {name}.step({o}) trains: it raises ValueError («Attempting to unscale "
            "FP16 gradients.»)",
            "keep the weights in float32 and let autocast run the operations in float16", Confidence.LIKELY,
            ((step.site, "stepped here"),),
        )  # fmt: skip


def argument_order(seen: Seen) -> Iterator[Draft]:
    """MPA222: positional arguments of GradScaler that mean something else."""
    for call in seen.trace.calls:
        if call.shim:
            continue
        if call.name == "GradScaler.update":
            yield Draft(
                "MPA222", call.site,
                f"{call.text}() gets an int and raises AttributeError («'int' object has no attribute 'device'»)",
                "pass a float or a tensor", Confidence.DEFINITE,
            )  # fmt: skip
            continue
        problem = _scaler_argument(call.name, call.args[0] if call.args else None, call.arg_texts[:1])
        if problem:
            yield Draft("MPA222", call.site, problem[0], problem[1], Confidence.DEFINITE)


def _scaler_argument(name: str, first: object, texts: tuple[str, ...]) -> tuple[str, str] | None:
    from ..program import torch_api

    if name not in torch_api.GRAD_SCALER or first is None:
        return None
    old = torch_api.GRAD_SCALER[name] in ("cuda", "cpu")
    text = texts[0] if texts else ""
    value = first.value if isinstance(first, Const) else None
    if old:
        if isinstance(value, bool) or (value is None and (flag_like(text) or _is_comparison(first))):
            shown = text or repr(value)
            return (
                f"the first parameter of {name} is init_scale, not enabled: {shown} sets the loss scale to 1.0 "
                "(or 0.0)",
                f"pass it as enabled={shown}",
            )
        if isinstance(value, str):
            return (f"the first parameter of {name} is init_scale, not a device: {value!r} is no number",
                    f"use torch.amp.GradScaler({value!r})")  # fmt: skip
        return None
    if isinstance(value, bool) or (value is None and (flag_like(text) or _is_comparison(first))):
        shown = text or repr(value)
        return (
            f"the first parameter of {name} is device, not enabled: the scaler is enabled whatever {shown} is",
            f"pass it as enabled={shown}",
        )
    if isinstance(value, int | float):
        return (
            f"the first parameter of {name} is device, not init_scale: the scale stays 65536",
            f"pass it as init_scale={value}",
        )
    return None


_SWITCH_WORDS = frozenset(("amp", "fp16", "half", "mixed", "autocast", "enabled"))
_OTHER_WORDS = frozenset(("device", "dtype", "scale", "scaler", "type", "level", "opt", "backend", "ctx", "context"))


def flag_like(text: str) -> bool:
    """`use_amp`, `args.fp16`, `grad_scaler_enabled`, `enable_grad_scaler`: a name that says it is a switch."""
    words = text.rsplit(".", 1)[-1].lower().strip("_").split("_")
    if {words[0], words[-1]} & {"enabled", "enable"}:
        return True
    return bool(_SWITCH_WORDS.intersection(words)) and not _OTHER_WORDS.intersection(words)


def _is_comparison(value: object) -> bool:
    """`dtype == "float16"`: a bool, whatever it says."""
    return isinstance(value, Sym) and value.key[0] in ("cmp", "eq", "not")
