"""Protocol events: the calls that change what the automata hold, and what is recorded of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable

from msgspec.structs import replace

from . import again, generators, halving, typestate, usages
from .definitions import ClassInfo, Site
from .feeding import all_params, covers, fed_by, may_own, module_ids, parameter_modules, related, trains
from .frame import Frame, Run
from .heap import ENABLED
from .losses import scaled_of_unknown
from .state import PathState, is_counter, varies
from .trace import Backward, Basis, Frozen, Made, Scaled, Step, is_mode
from .typestate import Sure
from .values import (
    MAX_USES,
    NONE,
    Cast,
    Gradient,
    Key,
    Params,
    Phi,
    Ref,
    Sym,
    Tensor,
    Tup,
    Use,
    Value,
    mentions,
    one_tensor,
    options,
    phi,
    roots,
)

Id = Hashable
_UNSEEN = "unseen"
"""Stands for an optimizer that is met only after the backward."""


def identity(value: Value) -> Id | None:
    """Identity of an object that events may act on."""
    if isinstance(value, Ref):
        return value
    if isinstance(value, Sym):
        made = value.key[0] == "obj" and isinstance(value.key[1], Ref)
        return value.key[1] if made else value.key
    return None


def _report(run: Run, st: PathState, event: Site):  # type: ignore[no-untyped-def]
    def report(violation: typestate.Violation) -> None:
        if run.again:
            if not again.counts(run, violation, st):
                return
            run.trace.visit(event)  # with those of the first call: not every visit is a violation
        run.trace.hit(violation, event, st, run.root)

    return report


def _visit(run: Run, event: Site) -> None:
    if not run.again:
        run.trace.visit(event)


def note(run: Run, st: PathState) -> None:
    """An event of the protocol happens under the decisions that hold now."""
    run.events += 1
    run.trace.relevant.update(st.guards)


def mark_arm(run: Run, st: PathState) -> None:
    """The scaler's protocol runs under the decisions that hold now."""
    note(run, st)
    run.scaling.update(run.stack)
    for key, taken in st.guards.items():
        run.trace.arms.setdefault(key, {})[taken] = True


def split_enabled(run: Run, scaler: Id, st: PathState) -> list[tuple[PathState, bool]]:
    """`GradScaler(enabled=flag)`: its events exist where the flag holds."""
    enabled = run.enabled.get(scaler, True)
    known = enabled if isinstance(enabled, bool) else st.decided(enabled)
    if known is not None:
        run.withheld += not known
        return [(st, known)]
    assert not isinstance(enabled, bool)
    other = st.clone()
    st.assume(enabled, True)
    other.assume(enabled, False)
    sides = [(st, True), (other, False)]
    return [side for side in sides if not side[0].contradicts_itself()] or sides


# ----------------------------------------------------------------- making


def make_scaler(run: Run, ref: Ref, site: Site, enabled: bool | Key, text: str, st: PathState) -> None:
    run.notable += 1
    if not isinstance(enabled, bool) and varies(enabled):
        enabled = ("truth", ("enabled", ref))  # decided once, when the scaler was made, however it was
    run.enabled[ref] = enabled
    made = run.trace.made.setdefault(ref, Made("scaler", ref, site, _loops(run), text, enabled, run.root))
    if _says_more(enabled, made.enabled):
        run.trace.made[ref] = replace(made, enabled=enabled)
    if run.lazy:
        return
    run.trace.made_in.setdefault(ref, set()).add(_loops(run))
    if ref in st.protocol.scalers and not run.again:
        run.trace.remade.add(ref)
    if not isinstance(enabled, bool):
        st.heap[ref, ENABLED] = Sym(enabled)
    typestate.new_scaler(st.protocol, ref)


def _says_more(enabled: bool | Key, known: bool | Key) -> bool:
    """Whether a call that was followed knows better than one whose caller is not in sight, or turns on what another
    one has turned off."""
    if known is False:
        return enabled is not False
    asked = roots(known) if not isinstance(known, bool) else ()
    return any(root[0] == "param" for root in asked) and (
        isinstance(enabled, bool) or not any(root[0] == "param" for root in roots(enabled))
    )


def make_optimizer(run: Run, ref: Ref, site: Site, params: list[Value], text: str, st: PathState) -> None:
    run.notable += 1
    halving.is_made(run, ref)
    modules = parameter_modules(params)
    if modules is not None:
        run.choices.setdefault(ref, set()).add(modules)
        modules = frozenset().union(*run.choices[ref])
    run.parameters[ref] = modules
    if any(p.filtered for value in params for p in all_params(value)):
        run.filtered.add(ref)
    if modules is None and any(_holds_tensor(run, value) for value in params):
        run.trace.loose.add(ref)
    run.trace.made.setdefault(ref, Made("optimizer", ref, site, _loops(run), text, True, run.root))
    run.trace.made_in.setdefault(ref, set()).add(_loops(run))
    if run.lazy:
        return
    run.trace.optimizers.setdefault(run.root, set()).add(ref)
    typestate.new_optimizer(st.protocol, ref)


def _holds_tensor(run: Run, value: Value) -> bool:
    if isinstance(value, Tup):
        found = [v for item in value.items for v in options(item)]
        return any(isinstance(v, Tensor) or (isinstance(v, Sym) and v.key in run.tensors) for v in found)
    return isinstance(value, Sym) and mentions(value.key, "Tensor")


def _loops(run: Run) -> tuple[Hashable, ...]:
    return tuple(loop for loop in run.loops if not (isinstance(loop, tuple) and loop and loop[0] == "comp"))


def meet(run: Run, optimizer: Id, st: PathState) -> None:
    if not run.lazy:
        run.trace.optimizers.setdefault(run.root, set()).add(optimizer)
        typestate.meet_optimizer(st.protocol, optimizer)


def discard(run: Run, optimizers: Collection[Id], st: PathState) -> None:
    """Optimizers that were made and that nothing holds any more."""
    typestate.drop(st.protocol, lambda ident: ident in optimizers)
    run.trace.optimizers.get(run.root, set()).difference_update(optimizers)


def copied(run: Run, copy: Value, st: PathState) -> None:
    """The parameters of a deep copy are new ones: no optimizer that is there already has them."""
    module = identity(copy)
    if module is not None and not run.lazy:
        older = frozenset(st.protocol.optimizers)
        run.older[module] = run.older.get(module, older) & older


def backward(run: Run, fr: Frame, loss: Value, site: Site, text: str, st: PathState, owned: bool = False) -> None:
    if run.lazy:
        return
    tensor = loss if isinstance(loss, Tensor) else None
    scaled = tensor.scaled if tensor is not None else scaled_of_unknown(loss)
    owned = owned or fr.owned
    run.trace.backward(
        Backward(site, text, tensor, st.casts, scaled, _loops(run), owned, Basis.of(st, run.root),
                 fr.info.qualname if fr.info else "")
    )  # fmt: skip
    if owned:
        run.trace.owned_roots.add(run.root)
        for o in list(st.protocol.optimizers):
            typestate.forget_optimizer(st.protocol, o)
        return
    p = st.protocol
    fed = list(fed_by(run, tensor, st))
    typestate.doubt_zeroed(p, [o for o, _ in fed])
    for o, sure in fed:
        if scaled == "?":
            typestate.backward_unknown(p, o, site)
        elif scaled == "mixed":
            scaler = next(iter(p.scalers), None)
            typestate.backward_mixed(p, o, scaler, site, sure)
        else:
            typestate.backward(p, o, scaled, site, sure)
    if scaled in ("?", "mixed"):
        if not p.optimizers:
            p.unseen = typestate.OptimizerState(fed=True, backward=site)
    else:
        named = usages.optimizers(run, fr)
        if len(named) > 1:
            run.trace.several_optimizers.add(run.root)
        sure = Sure.GUESS if len(named) > 1 or _of_other_networks(run, tensor, st) else Sure.ONLY_ONE
        typestate.backward_unseen(p, scaled, site, sure)
    note(run, st)
    if scaled is not None:
        mark_arm(run, st)
    for o in (*p.optimizers, _UNSEEN):
        st.heap[("loss", o), "of"] = loss


def _of_other_networks(run: Run, loss: Tensor | None, st: PathState) -> bool:
    """Whether a loss is of networks that the one before it has nothing to do with: an optimizer that is not known may
    have the parameters of either."""
    before = st.heap.get((("loss", _UNSEEN), "of"))
    others = module_ids(before if isinstance(before, Tensor) else None)
    own = module_ids(loss)
    return bool(own and others) and not any(related(run, one, other) for one in own for other in others)


def _is_checked(run: Run, optimizer: Id, st: PathState) -> bool:
    """Whether something on this iteration was asked since the unscale_: it may be whether the gradients are finite."""
    switches = {made.enabled for made in run.trace.made.values()}
    scaler = st.protocol.optimizers[optimizer].grad.scaler
    before = run.unscaled_under.get(st.protocol.pair(scaler, optimizer).site, ())
    return any(
        not is_mode(key) and not is_counter(key) and key not in switches and key not in before for key in st.guards
    )


def zero(run: Run, optimizer: Id, site: Site, st: PathState) -> None:
    if run.lazy:
        return
    meet(run, optimizer, st)
    note(run, st)
    _discard(run, st.protocol.optimizers.get(optimizer))
    typestate.zero(st.protocol, optimizer, site)


def _discard(run: Run, state: typestate.OptimizerState | None) -> None:
    if state is not None and state.fed and state.backward is not None and state.used is typestate.Used.NO:
        run.trace.discarded.add(state.backward)


def zero_modules(run: Run, modules: frozenset[Id] | None, site: Site | None, st: PathState) -> None:
    """`model.zero_grad()`: emptied where the optimizer's parameters are proven to be these; else unknown."""
    if run.lazy:
        return
    note(run, st)
    p = st.protocol
    known = list(p.optimizers)
    for state in (*p.optimizers.values(), p.unseen):
        _discard(run, state)
    whose = None if modules is None else [o for o in known if may_own(run, o, modules)]
    for o in known:
        mods = trains(run, o)
        if modules is not None and mods is not None:
            if any(
                all(any(covers(run, m, owned) for m in modules) for owned in choice)
                for choice in run.choices.get(o, (mods,))
            ):
                typestate.zero(p, o, site)
            elif o in (whose or ()) or (not whose and any(type(m) is tuple for m in modules)):
                typestate.forget_gradients(p, o)  # in part; or the model that some function gave back, whichever
        elif len(known) == 1:
            typestate.zero(p, o, site)
        else:
            typestate.forget_gradients(p, o)
    typestate.zero_unseen(p, site)


def zero_params(run: Run, params: Params, st: PathState, site: Site | None) -> None:
    """`p.grad = None`; under a condition on the parameter's name it empties some of them only."""
    if any(mentions(key, "name of") for key in st.guards):
        return
    if params.optimizer is not None:
        if not run.lazy:
            typestate.zero(st.protocol, params.optimizer, site)
    else:
        zero_modules(run, params.modules, site, st)


def fill(run: Run, st: PathState) -> None:
    """`p.grad = summed[p]`: where there were no gradients there are some now, of which nothing is known. What was
    computed of those that were there is taken to be still as they were."""
    for optimizer, state in [] if run.lazy else list(st.protocol.optimizers.items()):
        if state.grad.kind is typestate.Kind.EMPTY:
            typestate.forget_optimizer(st.protocol, optimizer)


# ------------------------------------------------------------------ scaler


def scale(run: Run, scaler: Id, loss: Value, site: Site, st: PathState) -> list[tuple[PathState, Value]]:
    out: list[tuple[PathState, Value]] = []
    for s, on in split_enabled(run, scaler, st):
        if not on:
            out.append((s, loss))
            continue
        if not run.lazy:
            mark_arm(run, s)
            typestate.scale(s.protocol, scaler)
            run.trace.scaled.append(
                Scaled(site, scaler, one_tensor(loss), s.casts, Basis.of(s, run.root), s.outer_unknown)
            )
        base = one_tensor(loss) or Tensor(frozenset())
        result: Value = Tensor(base.uses, scaler, base.dtype, partly=base.partly)
        if isinstance(loss, Tup):
            result = Tup(tuple(Tensor(t.uses if isinstance(t, Tensor) else frozenset(), scaler) for t in loss.items))
        out.append((s, result))
    return out


def unscale(run: Run, scaler: Id, optimizer: Id | None, site: Site, st: PathState) -> list[PathState]:
    out = []
    for s, on in split_enabled(run, scaler, st):
        if on and optimizer is not None and not run.lazy:
            meet(run, optimizer, s)
            _visit(run, site)
            typestate.unscale(s.protocol, scaler, optimizer, site, _report(run, s, site))
            if s.protocol.optimizers[optimizer].grad == typestate.EMPTY:
                typestate.doubt_record(s.protocol, scaler)  # a path without a backward: in the run there is one
            note(run, s)
            run.trace.unscaled.add(scaler)
            run.unscaled_under.setdefault(site, set()).update(s.guards)
            for key, taken in s.guards.items():
                run.trace.unscale_arms.setdefault(key, {})[taken] = True
        out.append(s)
    return out


def step(
    run: Run, fr: Frame, scaler: Id, optimizer: Id | None, site: Site, text: str, st: PathState
) -> list[PathState]:
    out = []
    for s, on in split_enabled(run, scaler, st):
        if optimizer is None or run.lazy:
            pass
        elif on:
            meet(run, optimizer, s)
            mark_arm(run, s)
            _visit(run, site)
            _record_step(run, site, scaler, optimizer, text, s)
            typestate.step(s.protocol, scaler, optimizer, site, _report(run, s, site))
        else:
            raw_step(run, fr, optimizer, site, text, s, by_flag=run.enabled.get(scaler) is not False, off=scaler)
        out.append(s)
    return out


def raw_step(
    run: Run, fr: Frame, optimizer: Id, site: Site, text: str, st: PathState, by_flag: bool = False, off: Id = None
) -> None:
    """`optimizer.step()`; `off`: the step of that scaler, which is turned off, `by_flag` where a flag does it."""
    if run.lazy or fr.owned:
        return
    meet(run, optimizer, st)
    note(run, st)
    _visit(run, site)
    if by_flag:
        st.heap[("loss", optimizer), "of"] = NONE  # nothing is said of how the loss was computed when AMP is off
    _record_step(run, site, None, optimizer, text, st, run.trace.off_for_good.get(off))
    typestate.raw_step(st.protocol, optimizer, site, _report(run, st, site), checked=_is_checked(run, optimizer, st))


def native_step(run: Run, fr: Frame, scaler: Id, optimizer: Id, site: Site, text: str, st: PathState) -> None:
    """A scaler of timm is called: it runs the whole protocol for an optimizer."""
    if not run.lazy:
        run.trace.names.setdefault(scaler, text)
        run.trace.backward(
            Backward(site, text, None, st.casts, scaler, _loops(run), False, Basis.of(st, run.root),
                     fr.info.qualname if fr.info else "")
        )  # fmt: skip
        _record_step(run, site, scaler, optimizer, text, st)


def _record_step(
    run: Run, site: Site, scaler: Id | None, optimizer: Id, text: str, st: PathState, off: Site | None = None
) -> None:
    state = st.protocol.optimizer(optimizer)
    modules = trains(run, optimizer)
    loss = st.heap.get((("loss", optimizer), "of")) or st.heap.get((("loss", _UNSEEN), "of"))
    loss_seen = one_tensor(_settled(loss, st))
    half = halving.half_weights(run, optimizer, loss_seen, st)
    run.trace.steps.append(
        Step(site, scaler, optimizer, st.casts, _loops(run), half, loss_seen, state.backward,
             Basis.of(st, run.root), text, st.outer_unknown, _trained(run, loss_seen, modules), off)
    )  # fmt: skip


def _trained(run: Run, loss: Tensor | None, modules: frozenset[Id] | None) -> frozenset[Id]:
    return frozenset(m for m in module_ids(loss) if any(related(run, m, owned) for owned in modules or ()))


def enter(run: Run, cast: Cast, st: PathState) -> None:
    """An autocast is entered."""
    run.notable += 1
    st.casts = (*st.casts, cast)
    run.trace.casts_entered.add(cast.site)
    decided = set(st.guards.items())
    run.trace.entered_under[run.root, cast.site] = run.trace.entered_under.get((run.root, cast.site), decided) & decided
    run.trace.entered_in[cast.site] = max(run.trace.entered_in.get(cast.site, ()), tuple(run.loops), key=len)


def _settled(value: Value | None, st: PathState) -> Value | None:
    """What is left of a value that depends on decisions, inner ones too."""
    settled = st.settle(value) if value is not None else None
    if not isinstance(settled, Phi):
        return settled
    yes, no = _settled(settled.yes, st), _settled(settled.no, st)
    return phi(settled.key, yes, no) if yes is not None and no is not None else settled


def update(run: Run, scaler: Id, site: Site, st: PathState, new_scale: bool) -> list[PathState]:
    out = []
    for s, on in split_enabled(run, scaler, st):
        if on and not run.lazy:
            mark_arm(run, s)
            _visit(run, site)
            run.trace.updated.add(scaler)
            if any(mentions(key, "Gradient") for key in s.guards):
                typestate.doubt_record(s.protocol, scaler)  # no gradient, no step: after a backward there is one
            typestate.update(s.protocol, scaler, site, _report(run, s, site), new_scale=new_scale)
        out.append(s)
    return out


def clip(run: Run, params: Value, site: Site, st: PathState) -> None:
    if run.lazy:
        return
    _visit(run, site)
    note(run, st)
    for key, taken in st.guards.items():
        run.trace.clip_arms.setdefault(key, {})[taken] = True
    p = st.protocol
    found = all_params(params)
    if isinstance(params, Gradient):
        found = [params.params]
    targets: list[tuple[Id, Sure]] = []
    known = list(p.optimizers)
    modules = frozenset(m for q in found for m in (q.modules or ()))
    chosen = {q.optimizer for q in found if q.optimizer is not None}
    if chosen:
        targets = [(o, Sure.PROVEN) for o in known if o in chosen]
    elif modules:
        owners = {o: trains(run, o) for o in known}
        matched = [
            o
            for o, mods in owners.items()
            if mods is not None and any(related(run, m, q) for m in modules for q in mods)
        ]
        targets = [(o, Sure.PROVEN) for o in matched]
        if not matched:
            targets = [(o, Sure.ONLY_ONE if len(known) == 1 else Sure.GUESS) for o in known]
    else:
        targets = [(o, Sure.ONLY_ONE if len(known) == 1 else Sure.GUESS) for o in known]
    for o, sure in targets:
        typestate.clip(p, o, site, _report(run, st, site), sure)
    typestate.clip_unseen(p, site)


# ----------------------------------------------------------------- unknown


def havoc(run: Run, values: Iterable[Value], st: PathState, depth: int = 0) -> None:
    """An unresolved call got these: what it may have done to scalers and optimizers among them is unknown."""
    if run.lazy or depth > 3:
        return
    for value in values:
        for option in options(value):
            if isinstance(option, Tup):
                havoc(run, option.items, st, depth + 1)
            elif isinstance(option, Ref):
                _havoc_object(run, option, option.kind, st)
                if option.kind == "generator":
                    havoc(run, generators.held(option), st, depth + 1)
                if option.kind in ("instance", "list", "dict"):
                    havoc(run, [v for _, v in st.heap.held(option) if v != option], st, depth + 1)
            elif isinstance(option, Sym):
                _havoc_object(run, option.key, run.roles.get(option.key, ""), st)


def _havoc_object(run: Run, ident: Id, role: str, st: PathState) -> None:
    if role == "scaler" and ident in st.protocol.scalers:
        typestate.forget_scaler(st.protocol, ident)
    elif role == "optimizer" and ident in st.protocol.optimizers:
        typestate.forget_optimizer(st.protocol, ident)


def uses_of(run: Run, module: Id | None, site: Site, st: PathState, inputs: list[Tensor]) -> Tensor:
    """The output of a forward."""
    own = Use(module, _in_sight(st.casts), site)
    if st.no_grad:
        if not run.lazy:
            run.trace.frozen[Frozen(own, _loops(run), run.root)] = None
        return Tensor(frozenset(), grad=False)
    uses: frozenset[Use] | None = frozenset([own])
    for tensor in inputs:
        uses = None if uses is None or tensor.uses is None else uses | tensor.uses
    if uses is not None and len(uses) > MAX_USES:
        uses = frozenset(sorted(uses, key=repr)[:MAX_USES])
    cls = run.classes.get(module)
    if cls is not None and (cls.node is None or any(keeps_loss(cls, name) for name in cls.attribute_assigns)):
        st.heap[module, OUTPUT] = Tensor(uses)
    return Tensor(uses)


def _in_sight(casts: tuple[Cast | None, ...]) -> tuple[Cast, ...] | None:
    """The autocasts on the stack: None where what was entered last is unknown, else those inside of all that is, of
    which the innermost one decides."""
    inner: list[Cast] = []
    for cast in reversed(casts):
        if cast is None:
            return tuple(reversed(inner)) or None
        inner.append(cast)
    return casts  # type: ignore[return-value]


_LOSS = re.compile(r"(?i)loss$")
OUTPUT = "<output>"
"""Where a module that keeps its loss has what came out of its last forward."""


def keeps_loss(cls: ClassInfo, name: str) -> bool:
    """Whether an attribute is one in which the forward keeps its loss, `self.last_loss = ...`; of a class that was not
    read, by its name."""
    setters = (
        {method.name for method, _ in cls.attribute_assigns.get(name, ())} if cls.node is not None else {"forward"}
    )
    return _LOSS.search(name) is not None and "forward" in setters
