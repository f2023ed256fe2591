"""What is said of a violation of the loss-scaling protocol."""

from __future__ import annotations


def related(code: str, variant: str) -> str:
    """What the other event of a violation is called."""
    return _RELATED.get((code, variant), _RELATED_OF_CODE[code])


_RELATED_OF_CODE = {
    "MPA202": "the scaler's step or unscale_",
    "MPA203": "the scaled backward",
    "MPA204": "reached again here",
    "MPA205": "this step then unscales the clipped gradients",
    "MPA206": "unscaled here first",
    "MPA207": "unscaled here",
    "MPA208": "the step",
    "MPA209": "the first step",
    "MPA210": "this step divides by another scale",
    "MPA211": "the step that finds nothing",
    "MPA212": "the step that applies the mixture",
    "MPA224": "the step that applies the mixture",
    "MPA228": "the step that applies the sum",
}
_RELATED = {
    ("MPA203", "unskipped"): "unscaled here",
    ("MPA228", "divided-twice"): "divided here already",
    ("MPA212", "scaled"): "the step that applies them",
}


def words(code: str, variant: str, s: str, o: str) -> tuple[str, str]:
    """(what is wrong and what it does to the training, what to do)."""
    match code, variant:
        case "MPA202", "divided":
            return (
                f"backward of a loss that was never scaled, but {s}.step({o}) divides its gradients by the loss scale: "
                "with scale 65536 they come out 65,536 times too small",
                f"call {s}.scale(loss).backward()",
            )
        case "MPA202", "mixed":
            return (
                f"backward of a loss that was never scaled, but {s}.unscale_({o}) divides its gradients by the loss "
                "scale: with scale 65536 they come out 65,536 times too small",
                f"call {s}.scale(loss).backward()",
            )
        case "MPA202", _:
            event = {"unset-unscale": f"{s}.unscale_({o})", "unset-update": f"{s}.update()"}.get(
                variant, f"{s}.step({o})"
            )
            return (
                f"{event} is reached although {s}.scale() was never called: it raises AssertionError "
                "(«… _scale is None …»)",
                f"call {s}.scale(loss).backward()",
            )
        case "MPA203", "unskipped":
            return (
                f"{o}.step() after {s}.unscale_({o}) applies the gradients whatever they are: a step whose "
                "gradients overflowed, as is usual at the start, is not skipped and makes the weights inf or NaN",
                f"call {s}.step({o}), which skips such steps, then {s}.update()",
            )
        case "MPA203", _:
            return (
                f"{o}.step() applies gradients that are still multiplied by the loss scale: with scale 65536 they are "
                "65,536 times too large, and overflowed steps are not skipped",
                f"call {s}.step({o}), then {s}.update()",
            )
        case "MPA204", "next-step":
            return (
                f"{s}.step({o}) is not followed by {s}.update() before the next backward and step of {o}, which raises "
                "RuntimeError («step() has already been called since the last update()»)",
                f"call {s}.update() after each {s}.step({o})",
            )
        case "MPA204", _:
            return (
                f"{s}.step({o}) is not followed by {s}.update() before the next iteration, which raises RuntimeError "
                "(«step() has already been called since the last update()»)",
                f"call {s}.update() once per iteration, after the last step",
            )
        case "MPA205", _:
            return (
                f"clips gradients that are still multiplied by the loss scale of {s}: with scale 65536 the limit is "
                "65,536 times too low, every step is cut down to it, and with SGD the update shrinks as much",
                f"call {s}.unscale_({o}) before the clip",
            )
        case "MPA206", _:
            return (
                f"{s}.unscale_({o}) is reached a second time without {s}.update() in between and raises RuntimeError "
                "(«unscale_() has already been called on this optimizer since the last update()»)",
                f"unscale once per step: where {s}.step({o}) and {s}.update() are",
            )
        case "MPA207", _:
            return (
                f"leaves the iteration after {s}.unscale_({o}) without {s}.update(): the next unscale_ raises "
                "RuntimeError («unscale_() has already been called on this optimizer since the last update()»)",
                f"call {s}.update() before leaving, or let {s}.step({o}) skip the step",
            )
        case "MPA208", "clip":
            return (
                f"clips the gradients of {o} after the step has applied them: the clip has no effect",
                "clip before the step",
            )
        case "MPA208", _:
            return (
                f"{s}.unscale_({o}) comes after the step and raises RuntimeError («unscale_() is being called after "
                "step()»)",
                "unscale before the step",
            )
        case "MPA209", "raw":
            return (
                f"{o}.step() applies gradients that a step has applied already, and does so too in iterations that the "
                "scaler skips because of overflow",
                "step once per backward",
            )
        case "MPA209", _:
            return (
                f"{s}.step({o}) is called twice for the same gradients" + (
                    " and raises RuntimeError («step() has already been called since the last update()»)"
                    if variant == "scaler" else ": they are applied a second time"
                ),
                "step once per backward",
            )  # fmt: skip
        case "MPA210", "nothing-recorded":
            return (
                f"{s}.update() comes before any {s}.step() or {s}.unscale_() and raises AssertionError («No inf checks "
                "were recorded prior to update.»)",
                f"call {s}.update() once per iteration, after the last step",
            )
        case "MPA210", _:
            return (
                f"{s}.update() changes the loss scale while the gradients of {o} still carry the old one: their step "
                "divides by the wrong scale",
                f"call {s}.update() after the last step of the iteration",
            )
        case "MPA211", "scaler":
            return (
                f"empties the gradients of {o} between backward and step: {s}.step({o}) raises AssertionError («No inf "
                "checks were recorded for this optimizer.»)",
                "zero the gradients after the step, or before the forward",
            )
        case "MPA211", _:
            return (
                f"empties the gradients of {o} between backward and step: nothing is learned, silently",
                "zero the gradients after the step, or before the forward",
            )
        case "MPA212", _:
            return (
                f"adds scaled gradients to {o} after {s}.unscale_({o}): the step applies them undivided, 65,536 times "
                "too large with scale 65536",
                f"run every backward before {s}.unscale_({o})",
            )
        case "MPA224", _:
            return (
                f"gradients of a scaled and of an unscaled loss are added for {o}: one of them is off by the loss "
                "scale, 65,536-fold at the start",
                f"scale every loss that reaches {o}: {s}.scale(loss).backward()",
            )
        case "MPA228", "divided-twice":
            return (
                f"{s}.step({o}) divides gradients by the loss scale that were divided already",
                f"call {s}.update() only after the step, and zero the gradients of {o} after it",
            )
        case _:
            return (
                f"backward adds to gradients of {o} that a step has applied already: no zero_grad in between, so every "
                "step repeats the ones before it",
                f"call {o}.zero_grad() after the step",
            )


# -------------------------------------------------------------- creation
