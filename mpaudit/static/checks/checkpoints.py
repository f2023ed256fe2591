"""MPA214: checkpoints without the state of the scaler, and scalers whose saved state is never loaded."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from mpaudit.model import Confidence

from ..program.definitions import Site
from ..program.dtype_choice import by_default
from ..program.keeping import Kept
from ..program.trace import Basis, Saved, Step, Trace, is_mode
from ..program.values import Ref
from .draft import Draft, Seen, name_of
from .scaler import forgets, remade, with_bf16, without_low_precision


def state_not_kept(seen: Seen) -> Iterator[Draft]:
    """One finding per checkpoint, by the surest of the reasons."""
    done: set[Site] = set()
    for drafts in (_never_saved(seen), _not_saved(seen), _of_accelerate(seen), _never_loaded(seen), _in_vain(seen)):
        for draft in drafts:
            if draft.site not in done:
                done.add(draft.site)
                yield draft


def _not_saved(seen: Seen) -> Iterator[Draft]:
    """Optimizer state saved, scaler in use, its state not."""
    trace = seen.trace
    stepped = {step.scaler for step in trace.steps}
    with_state = {saved.site for saved in trace.saved if saved.open or saved.scalers - stepped}
    # or its scale does not matter
    needless = {draft.site for draft in (*remade(seen), *without_low_precision(seen), *with_bf16(seen))}
    forgotten: set[Hashable] = {  # each epoch forgets it anyway; not seen where there was no end to a run
        scaler for scaler, made in trace.made.items()
        if made.site in needless or (made.root in trace.unfinished and forgets(trace, scaler))
    }  # fmt: skip
    anew = {step.site for step in trace.steps if step.scaler in forgotten}
    forgotten |= {step.scaler for step in trace.steps if step.site in anew}  # or what the other branch has made
    for saved in trace.saved:
        if saved.site in with_state or saved.basis.exceptional:
            continue
        kept = {
            scaler for other in trace.saved for scaler in other.scalers
            if not _is_sibling(other, saved) and not _is_of_another_script(other, saved, trace)
        }  # fmt: skip
        steps = [step for step in trace.steps if _holds(trace, saved, step)]
        # an optimizer that several scripts get from one function: what steps it where it is saved is what counts
        steps = [step for step in steps if step.basis.root == saved.basis.root] or steps
        scalers = {
            step.scaler for step in steps
            if step.scaler is not None and step.scaler not in kept | forgotten | seen.unset
            and not _is_new(step, saved, trace)
            and (not saved.scalers or isinstance(step.scaler, Ref))
            and (saved.site, step.scaler) not in seen.saved_otherwise
            and _really_enabled(trace, step.scaler) and _compatible(step.basis, saved.basis)
        }  # fmt: skip
        if not scalers:
            continue
        off = {scaler for scaler in scalers if _is_off_by_default(seen, scaler, saved)}
        missing = sorted(scalers - off or scalers, key=repr)[:1]
        related = tuple((trace.made[s].site, "the scaler") for s in missing if s in trace.made)
        yield _incomplete(seen, saved, name_of(trace, missing[0], "the scaler"), related, on=off != scalers)


def _is_new(step: Step, saved: Saved, trace: Trace) -> bool:
    """Whether the scaler of a run that trains has scaled nothing yet where the checkpoint is written."""
    written = [s for s in trace.saved if s.site == saved.site and s.basis.root == step.basis.root]
    return bool(written) and all(step.scaler in s.fresh_scalers for s in written)


def _incomplete(seen: Seen, saved: Saved, name: str, related: tuple[tuple[Site, str], ...], on: bool = True) -> Draft:
    """`on`: the scaler scales where the options are left alone."""
    return Draft(
        "MPA214", saved.site,
        f"the checkpoint holds the optimizer's state but not that of {name}: a resumed run starts at its first "
        "scale again, and skips steps or loses small gradients until it has found its scale",
        f"add {name}.state_dict() to the checkpoint and load it on resume",
        Confidence.LIKELY if on and saved.site in seen.resumable else Confidence.POSSIBLE, related,
    )  # fmt: skip


def _is_sibling(other: Saved, saved: Saved) -> bool:
    """Another checkpoint of the same optimizer, whole by itself: who resumes from this one does not read that."""
    return other.site != saved.site and bool(saved.optimizers) and saved.optimizers <= other.optimizers


def _is_of_another_script(other: Saved, saved: Saved, trace: Trace) -> bool:
    """What two scripts get from one function are two scalers."""
    roots = {other.basis.root, saved.basis.root}
    return len(roots) == 2 and not roots & trace.entries.keys()


def _never_saved(seen: Seen) -> Iterator[Draft]:
    """The resuming code asks for the scaler's state, and nothing saves it."""
    if not _has_scaler(seen.trace):
        return
    for kept in seen.never_saved:
        for saved in seen.trace.saved:
            if _is_checkpoint(saved) and not saved.basis.exceptional and _belongs(kept, saved, seen):
                yield Draft(
                    "MPA214", saved.site,
                    f"resuming loads the state of {kept.text}, which no checkpoint holds: a resumed run raises KeyError"
                    " or starts at its first scale again, and skips steps until it has found its scale",
                    f"add {kept.text}.state_dict() to the checkpoint", Confidence.LIKELY,
                    ((kept.site, "loaded here"),),
                )  # fmt: skip


def _has_scaler(trace: Trace) -> bool:
    """Whether what is called a scaler is one of gradients."""
    made = any(made.kind == "scaler" for made in trace.made.values())
    return made or any(step.scaler is not None for step in trace.steps) or bool(trace.owned_roots)


def _is_checkpoint(saved: Saved) -> bool:
    return bool(saved.optimizers or saved.scalers) or saved.owned


def _belongs(kept: Kept, saved: Saved, seen: Seen) -> bool:
    """Whether the file that loads and the one that saves are one; the class too, where both do it in a method."""
    home = Kept("", saved.site, seen.homes.get(saved.site))
    return kept.site.path == saved.site.path and _of_one_class(kept, home)


def _of_accelerate(seen: Seen) -> Iterator[Draft]:
    """A checkpoint of one's own beside Accelerate, whose scaler only `save_state` keeps."""
    for saved in seen.trace.saved:
        told = seen.trace.told_fp16
        if saved.owned and told is not None and not saved.scalers and not saved.open and saved.site in seen.resumable:
            yield _incomplete(seen, saved, "accelerator.scaler", ((told, "float16 is asked for here"),))


def _never_loaded(seen: Seen) -> Iterator[Draft]:
    """The checkpoint holds the scaler's state, and what resumes from it leaves that aside."""
    whole = {saved.site.path for saved in seen.trace.saved if saved.scalers}
    for kept in seen.never_loaded:
        loads = [load for load in seen.resuming_loads if load.site.path == kept.site.path and _of_one_class(load, kept)]
        if loads and kept.site.path in whole:
            yield Draft(
                "MPA214", loads[0].site,
                f"the state of {kept.text} is saved and never loaded: a resumed run starts at its first scale again, "
                "and skips steps or loses small gradients until it has found its scale",
                f"load it into {kept.text} beside the optimizer's", Confidence.LIKELY, ((kept.site, "saved here"),),
            )  # fmt: skip


def _in_vain(seen: Seen) -> Iterator[Draft]:
    """What resumes gets the scaler and loads only the optimizer's state, although the checkpoint has the scaler's."""
    for load, kept in seen.in_vain:
        if _has_scaler(seen.trace):
            yield Draft(
                "MPA214", load.site,
                f"loads the optimizer's state and leaves {load.text} as it is, whose state is saved: a resumed run "
                "starts at its first scale again, and skips steps or loses small gradients until it has found it",
                f"load it into {load.text} beside the optimizer's", Confidence.LIKELY, ((kept.site, "saved here"),),
            )  # fmt: skip


def _of_one_class(one: Kept, other: Kept) -> bool:
    """Whether two functions are methods of one class, or one of them is of none."""
    classes = {kept.function.cls for kept in (one, other) if kept.function is not None} - {None}
    return len(classes) < 2


def _holds(trace: Trace, saved: Saved, step: Step) -> bool:
    """The stepped optimizer, or what is called by the same attribute of `self` in the same file: methods that no path
    joins (the trainer is made elsewhere) know it by different origins."""
    if step.optimizer in saved.optimizers:
        return True
    name = trace.names.get(step.optimizer, "")
    same_file = name.startswith("self.") and step.site.path == saved.site.path
    return same_file and any(trace.names.get(o) == name for o in saved.optimizers)


def _compatible(a: Basis, b: Basis) -> bool:
    """Whether two paths may be of one run: no decision that holds for a run was taken both ways."""
    others = dict(b.guards)
    return all(others.get(key, taken) == taken for key, taken in a.guards if is_mode(key))


def _really_enabled(trace: Trace, scaler: Hashable) -> bool:
    made = trace.made.get(scaler)
    return made is None or made.enabled is not False


def _is_by_hardware(trace: Trace, scaler: Hashable) -> bool:
    """Whether it is always on, and all its losses are of autocasts to that of float16 and bfloat16 which the GPU is
    better at."""
    made = trace.made.get(scaler)
    if made is None or made.enabled is not True:
        return False
    losses = [scaled.loss for scaled in trace.scaled if scaled.scaler == scaler]
    casts = {use.casts[-1] for loss in losses if loss is not None for use in loss.uses or () if use.casts}
    return bool(casts) and all(cast is not None and "|" in cast.dtype for cast in casts)


def _is_off_by_default(seen: Seen, scaler: Hashable, saved: Saved) -> bool:
    """Whether the option that turns the scaler on names another precision by default, or the GPUs of these days do: no
    state has to be kept then."""
    if scaler in seen.trace.for_old_hardware or _is_by_hardware(seen.trace, scaler):
        return True
    made = seen.trace.made.get(scaler)
    defaults = seen.defaults.get(seen.trace.scripts.get(saved.basis.root, ""), {})
    return made is not None and not isinstance(made.enabled, bool) and by_default(made.enabled, defaults) is False
