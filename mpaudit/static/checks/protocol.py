"""Violations of the two automata of `program.typestate`, one finding for each cause."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from mpaudit.model import Confidence

from ..program.definitions import Site
from ..program.trace import Basis, Hit, Trace, is_feasible, is_sure
from . import words
from .draft import Draft, Seen, name_of

TYPESTATE = frozenset(f"MPA{n}" for n in (202, 203, 204, 205, 206, 207, 208, 209, 210, 211, 212, 224, 228))


def violations(seen: Seen) -> Iterator[Draft]:
    """The violations of the automata, one per cause."""
    best: dict[tuple[str, Site], Draft] = {}
    for hit in seen.trace.hits.values():
        draft = _violation(seen.trace, hit)
        if draft.code == "MPA228" and (not _uses_scaler(seen.trace, hit) or _in_rehearsal(seen, hit)):
            continue
        if draft.code == "MPA208" and hit.violation.variant != "unscale" and _steps_later(seen.trace, hit):
            continue
        key = (draft.code, draft.site)
        if key not in best or draft.confidence.rank > best[key].confidence.rank:
            best[key] = draft
    yield from _last_steps(seen.trace, _first_clips(_by_their_cause(one_per_exit(list(best.values())))))


def one_per_exit(drafts: list[Draft]) -> list[Draft]:
    """An unscale_ that is reached again by itself, where it is said which exit leaves its iteration too early."""
    left = {
        site for draft in drafts if draft.code == "MPA207" and draft.confidence is not Confidence.POSSIBLE
        for site, _ in draft.related
    }  # fmt: skip
    return [draft for draft in drafts if draft.code != "MPA206" or draft.related or draft.site not in left]


def _by_their_cause(drafts: list[Draft]) -> list[Draft]:
    """Gradients that are never emptied are added to after they were unscaled, and over an update of the scale: one
    missing zero_grad, by the step that applies them."""
    summed = {
        site for draft in drafts if draft.code == "MPA228" and draft.confidence is not Confidence.POSSIBLE
        for site, _ in draft.related
    }  # fmt: skip
    return [d for d in drafts if d.code not in ("MPA210", "MPA212") or not any(s in summed for s, _ in d.related)]


def _first_clips(drafts: list[Draft]) -> list[Draft]:
    """One missing unscale_ per step: before the first of the clips, by norm or by value, it serves all of them."""
    first: dict[object, Site] = {}
    clips = [draft for draft in drafts if draft.code == "MPA205" and draft.confidence is not Confidence.POSSIBLE]
    for draft in sorted(clips, key=lambda draft: draft.site):
        first.setdefault((draft.site.path, draft.related), draft.site)
    return [d for d in drafts if d not in clips or first[d.site.path, d.related] == d.site]


def _last_steps(trace: Trace, drafts: list[Draft]) -> Iterator[Draft]:
    """One missing update per loop: it belongs after the last of the steps that lack it."""
    loops = {step.site: (step.scaler, step.loops) for step in trace.steps}
    last: dict[object, Draft] = {}
    for draft in drafts:
        if draft.code != "MPA204" or draft.site not in loops:
            yield draft
            continue
        key = (draft.confidence is Confidence.POSSIBLE, draft.site.path, loops[draft.site])
        if key not in last or draft.site.line > last[key].site.line:
            last[key] = draft
    yield from last.values()


def _in_rehearsal(seen: Seen, hit: Hit) -> bool:
    """What is trained in a measurement of speed does not matter."""
    return hit.violation.site in seen.rehearsals or hit.event in seen.rehearsals


def _steps_later(trace: Trace, hit: Hit) -> bool:
    """Whether another step of the same iteration comes after gradients were clipped too late for the first, not in the
    other branch of a decision: it takes them as they are now."""
    late = hit.violation.site
    around = {step.loops for step in trace.steps if step.site == hit.violation.other}
    return any(
        step.optimizer == hit.violation.optimizer and step.loops in around
        and step.site.path == late.path and step.site.line > late.line
        and any(_agree(step.basis, basis) for basis in hit.bases)
        for step in trace.steps
    )  # fmt: skip


def _agree(a: Basis, b: Basis) -> bool:
    """Whether one path may have both behind it."""
    decided = dict(a.guards)
    return a.root == b.root and all(decided.get(key, taken) == taken for key, taken in b.guards)


def _uses_scaler(trace: Trace, hit: Hit) -> bool:
    return hit.violation.scaler is not None or any(
        step.scaler is not None and step.optimizer == hit.violation.optimizer for step in trace.steps
    )


def _on_every_path(trace: Trace, hit: Hit) -> bool:
    """Whether every path to the event was followed and has the violation."""
    followed = not any(basis.root in trace.unfinished for basis in hit.bases)
    return followed and hit.event is not None and len(hit.bases) >= trace.visits.get(hit.event, 0)


def _violation(trace: Trace, hit: Hit) -> Draft:
    violation = hit.violation
    sound = [
        b for b in hit.bases
        if not b.exceptional and not b.inexact and is_feasible(b, trace) and is_sure(violation, b, trace)
        and not _asks_the_scaler(b)
    ]  # fmt: skip
    share = len(hit.bases) / max(1, trace.visits.get(hit.event, 1)) if hit.event else 1.0
    if (violation.code == "MPA202" or violation.variant == "mixed") and share < 0.1:
        sound = []  # a raw backward on one path in ten: most likely two decisions that belong together
    if violation.code == "MPA211" and share < 0.6:
        sound = []  # emptied on some paths only: a step that is skipped on purpose
    if violation.code == "MPA203" and _is_constant_factor(trace, violation.scaler):
        sound = []
    if violation.variant == "silent" and _applied_elsewhere(trace, hit):
        sound = []  # a branch that throws the gradients away, as one does whose norm is too large
    if violation.variant == "raw" and not _uses_scaler(trace, hit) and (violation.code == "MPA209" or share < 0.99):
        sound = []  # a loop without a scaler: only what is wrong on every path
    if not sound:
        confidence = Confidence.POSSIBLE
    elif _on_every_path(trace, hit):
        confidence = Confidence.DEFINITE
    else:
        confidence = Confidence.LIKELY
    s = name_of(trace, violation.scaler, "the scaler")
    o = name_of(trace, violation.optimizer, "the optimizer")
    message, remedy = words.words(violation.code, violation.variant, s, o)
    related: tuple[tuple[Site, str], ...] = ()
    if violation.other is not None and violation.other != violation.site:
        related = ((violation.other, words.related(violation.code, violation.variant)),)
    site = _on_its_path(trace, hit) if violation.code == "MPA202" else violation.site
    return Draft(violation.code, site, message, remedy, confidence, related)


def _on_its_path(trace: Trace, hit: Hit) -> Site:
    """The raw backward on the path of the step: where paths through two of them have met, either may stand for both."""
    possible = {
        event.site for event in trace.backwards for basis in hit.bases
        if event.basis.root == basis.root and event.scaled is None and _agree(event.basis, basis)
    }  # fmt: skip
    own = hit.violation.site
    return own if own in possible or not possible else min(possible)


def _asks_the_scaler(basis: Basis) -> bool:
    """Whether a path has looked up in the scaler's own records what has been done for an optimizer: it knows."""
    return any("OptState" in repr(key) or "_per_optimizer_states" in repr(key) for key, _ in basis.guards)


def _is_constant_factor(trace: Trace, scaler: Hashable) -> bool:
    """Whether a scaler that was given its scale does nothing but multiply by it: Adam divides a constant factor out."""
    made = trace.made.get(scaler)
    if made is None or scaler in trace.unscaled | trace.updated or any(step.scaler == scaler for step in trace.steps):
        return False
    return any(
        call.site == made.site
        and (len(call.args) > (call.name == "torch.amp.GradScaler") or "init_scale" in dict(call.keywords))
        for call in trace.calls
    )


def _applied_elsewhere(trace: Trace, hit: Hit) -> bool:
    """Whether another step of the same iteration applies the gradients that were emptied before this one."""
    optimizer = hit.violation.optimizer
    own = [step for step in trace.steps if step.site == hit.event and step.optimizer == optimizer]
    lost = {(step.backward, step.loops) for step in own if step.backward is not None}
    emptied = {other.event for other in trace.hits.values() if other.violation.code == "MPA211"}
    return any(
        step.optimizer == optimizer and (step.backward, step.loops) in lost and step.site not in emptied
        for step in trace.steps
    )
