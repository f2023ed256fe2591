"""Checkpoints: what they hold."""

from __future__ import annotations

import re
from collections.abc import Hashable

from . import events, typestate
from .definitions import Site
from .frame import Run
from .state import PathState
from .trace import Basis, Saved
from .values import (
    Choice,
    Owned,
    Phi,
    Ref,
    State,
    Sym,
    Tup,
    Value,
    options,
)

Id = Hashable


def save(run: Run, value: Value, site: Site, st: PathState) -> None:
    """`torch.save(value, ...)`."""
    run.notable += 1
    if run.lazy:
        return
    optimizers: set[Id] = set()
    scalers: set[Id] = set()
    is_open = owned = False
    stack = [value]
    seen: set[Value] = set()
    place: Site | None = None
    while stack:
        item = stack.pop()
        if item in seen:
            continue
        seen.add(item)
        if isinstance(item, Phi | Choice):
            stack.extend(options(item))
        elif isinstance(item, State):
            ident = events.identity(item.of)
            role = item.of.kind if isinstance(item.of, Ref) else run.roles.get(ident, "")
            if role == "optimizer" and ident is not None:
                optimizers.add(ident)
            elif role in ("scaler", "native_scaler", "instance") and ident is not None:
                scalers.add(ident)
            elif isinstance(item.of, Owned):
                owned = True
            elif role == "" and isinstance(item.of, Sym) and "scal" in repr(item.of.key[-1]).lower():
                is_open = True
        elif isinstance(item, Ref) and item.kind in ("dict", "list", "instance"):
            if item.kind == "dict" and isinstance(item.id, Site) and place is None:
                place = item.id
            if item.kind == "instance":
                is_open = True
            for slot, held in st.heap.held(item):
                if "[**" in slot or (_SCALER_KEY.search(slot) and not _is_scaler_state(held)):
                    is_open = True
                stack.append(held)
        elif isinstance(item, Tup):
            stack.extend(item.items)
    if optimizers or scalers or owned:
        run.trace.saved.append(
            Saved(place or site, frozenset(optimizers), frozenset(scalers), is_open, Basis.of(st, run.root),
                  typestate.fresh_scalers(st.protocol), owned)
        )  # fmt: skip


_SCALER_KEY = re.compile(r"(?i)scale|amp")


def _is_scaler_state(value: Value) -> bool:
    """`scaler.state_dict()` of a scaler that is known."""
    return isinstance(value, State) and isinstance(value.of, Ref) and value.of.kind == "scaler"
