"""Weights that are made float16, and whether an optimizer steps them."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import replace

from ..facts import ir
from .definitions import Site
from .feeding import covers, is_criterion, module_ids, trains
from .frame import Frame, Run, text_of
from .state import PathState
from .trace import Halved, is_mode
from .values import Key, Tensor, roots
from .vocabulary import AFTER_TRAINING, is_after_training

Id = Hashable


def halve(run: Run, module: Id, site: Site, st: PathState) -> None:
    older = None if run.lazy else frozenset(st.protocol.optimizers)
    run.half[module] = Halved(site, older, tuple(item for item in st.guards.items() if is_mode(item[0])))


def lower(run: Run, fr: Frame, expr: ir.Call, module: Id) -> None:
    """A network is made something else than float32; what an evaluation makes of it, or of a copy that is kept in a
    checkpoint, training does not see."""
    base = expr.func.base if isinstance(expr.func, ir.Attr) else None
    if isinstance(base, ir.Call) and text_of(base.func).rsplit(".", 1)[-1] in ("copy", "deepcopy"):
        return
    name = fr.info.qualname if fr.info is not None else ""
    if not AFTER_TRAINING.search(name) and not is_after_training(fr.module.path):
        run.trace.lowered.add(module)


def raise_again(run: Run, expr: ir.Call, module: Id) -> None:
    """`model.half().float()` rounds the weights once."""
    base = expr.func.base if isinstance(expr.func, ir.Attr) else None
    if isinstance(base, ir.Call) and isinstance(base.func, ir.Attr) and base.func.name == "half":
        run.trace.lowered.discard(module)


def is_made(run: Run, optimizer: Id) -> None:
    """An optimizer is made, perhaps anew: it is younger than what was made float16 before."""
    for module, half in run.half.items():
        if half.older:
            run.half[module] = replace(half, older=half.older - {optimizer})


def half_weights(run: Run, optimizer: Id, loss: Tensor | None, st: PathState) -> Site | None:
    """Where the weights were made float16 that the optimizer steps."""
    if not run.half:
        return None
    halves = sorted(run.half.items(), key=lambda item: repr(item[0]))
    halves = [(module, half) for module, half in halves if not _on_another_path(half, st)]
    owned = trains(run, optimizer)
    if owned:
        # of a selection nothing is known, unless the weights turned to float16 when it had been made
        whole = optimizer not in run.filtered
        found = (
            half.site for module, half in halves
            if (whole or _is_older(optimizer, half)) and any(covers(run, module, own) for own in owned)
        )  # fmt: skip
        return next(found, None)
    return _by_the_loss(run, optimizer, [item for item in halves if _is_older(optimizer, item[1])], loss, st)


def _by_the_loss(
    run: Run, optimizer: Id, halves: list[tuple[Id, Halved]], loss: Tensor | None, st: PathState
) -> Site | None:
    """Of an optimizer whose parameters are not in sight: every network that the loss is known to come from was told
    to train, and turned to float16 when the optimizer, the only one, had been made, so that whatever it has of them is
    float16."""
    if optimizer in run.trace.loose or len(st.protocol.optimizers) != 1:
        return None
    networks = sorted((m for m in module_ids(loss) if not _is_loss(run, m)), key=repr)
    halves = [(m, half) for m, half in halves if m in run.in_train_mode]
    sites = [next((half.site for m, half in halves if covers(run, m, network)), None) for network in networks]
    return sites[0] if sites and None not in sites else None


def _is_loss(run: Run, module: Id) -> bool:
    """What has no parameters, or is called a criterion or a loss where it was given: an optimizer that trains none of
    the networks in train mode, and the parameters of their loss alone, is not meant."""
    return is_criterion(run, module) or (isinstance(module, tuple) and bool(_LOSS.search(str(module[-1]))))


_LOSS = re.compile(r"(?i)criteri|loss")


def _on_another_path(half: Halved, st: PathState) -> bool:
    return any(st.decided(key) is (not taken) for key, taken in half.guards)


def _is_older(optimizer: Id, half: Halved) -> bool:
    """Whether the optimizer was there before; one that an entry point was given was, whatever happens in it."""
    if half.older is None:
        return False
    return optimizer in half.older or (isinstance(optimizer, tuple) and _was_given(optimizer))


def _was_given(key: Key) -> bool:
    found = roots(key)
    return bool(found) and all(root[0] == "param" for root in found)
