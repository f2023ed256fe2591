"""Statements: how paths go through them. Loops run to a fixed point; everything is bounded."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ..facts import ir
from . import (
    conditions,
    containers,
    contexts,
    expressions,
    functions,
    handlers,
    loops,
    losses,
    operators,
    replacing,
    scopes,
    typestate,
    unknown,
)
from .definitions import Site
from .frame import Frame, Run, text_of
from .liveness import Lives, lives
from .merging import merge
from .nodes import walk_statements
from .state import Decision, PathState, is_counter
from .trace import CastMade
from .values import (
    GRADIENT_NORM,
    NONE,
    Cast,
    Choice,
    Cls,
    Const,
    Ext,
    Func,
    Key,
    Params,
    Phi,
    Ref,
    Sym,
    Tensor,
    Tup,
    Value,
    choice,
    from_gradients,
    options,
    phi,
)


def execute(run: Run, fr: Frame, stmts: Sequence[ir.Stmt], states: list[PathState]) -> list[PathState]:
    """Paths after the statements; those that jump are left with the frame."""
    known = lives_of(run, fr)
    for stmt in stmts:
        if known is not None and id(stmt) in known.dead:
            continue
        after: list[PathState] = []
        for st in states:
            run.tick()
            after += execute_one(run, fr, stmt, st)
        if len(after) > 1:
            if known is not None:
                for st in after:
                    st.heap.keep(fr.id, known.after[id(stmt)])
            after = merge(after, loops.node_of(fr, stmt))
        states = after
        if not states:
            break
    return states


def lives_of(run: Run, fr: Frame) -> Lives | None:
    """What is known of the locals of the frame; None for a module, whose names are seen from elsewhere."""
    if fr.info is None or fr.info.node is None:
        return None
    key = (fr.info, run.coarse)
    known = run.project.lives.get(key)
    if known is None:
        known = run.project.lives[key] = lives(run.project, fr.info, run.coarse)
    return known


def execute_one(run: Run, fr: Frame, stmt: ir.Stmt, st: PathState) -> list[PathState]:
    match stmt:
        case ir.ExprStmt():
            return _expression_statement(run, fr, stmt, st)
        case ir.Assign():
            return _assign(run, fr, stmt, st)
        case ir.AugAssign():
            return _augmented(run, fr, stmt, st)
        case ir.If():
            return _if(run, fr, stmt, st)
        case ir.For():
            return loops.execute_for(run, fr, stmt, st)
        case ir.While():
            return loops.execute_while(run, fr, stmt, st)
        case ir.With():
            return contexts.execute_with(run, fr, stmt, st)
        case ir.Try():
            return _try(run, fr, stmt, st)
        case ir.Return():
            if stmt.value is None:
                _leave(run, fr, stmt, st)
                fr.returns.append((st, NONE))
            else:
                for s, value in expressions.evaluate(run, fr, stmt.value, st):
                    _leave(run, fr, stmt, s)
                    fr.returns.append((s, value))
            return []
        case ir.Raise():
            fr.raises += (
                [s for s, _ in expressions.evaluate(run, fr, stmt.value, st)] if stmt.value is not None else [st]
            )
            return []
        case ir.Break():
            typestate.leave_iteration(st.protocol, fr.site(stmt.span))
            if _zeroes_later(fr, stmt):
                typestate.leave_loop(st.protocol)
            fr.breaks.append(st)
            return []
        case ir.Continue():
            typestate.leave_iteration(st.protocol, fr.site(stmt.span))
            fr.continues.append(st)
            return []
        case ir.Assert():
            known = frozenset(st.guards)
            yes, _, key = conditions.branch(run, fr, stmt.test, st)
            for s in yes:
                s.demote(known - {key})
            return yes
        case ir.Delete():
            for target in stmt.targets:
                if isinstance(target, ir.Name):
                    st.heap.pop((fr.id, target.id), None)
            return [st]
        case ir.Global():
            fr.owners.update(dict.fromkeys(stmt.names, fr.module.path))
            return [st]
        case ir.Nonlocal():
            fr.owners.update((name, scopes.owner_around(fr, name, st)) for name in stmt.names)
            return [st]
        case ir.Import():
            _import(run, fr, stmt, st)
            return [st]
        case ir.Match():
            return _match(run, fr, stmt, st)
        case ir.FunctionDef():
            return _define(run, fr, stmt, st)
        case ir.ClassDef():
            if fr.info is None:
                found = fr.module.classes.get(stmt.name)
                if found is not None:
                    scopes.store_name(fr, stmt.name, Cls(found), st)
                for inner in walk_statements(stmt.body):
                    if isinstance(inner, ir.FunctionDef):
                        _see_decorators(run, fr, inner, st)
            return [st]
    raise AssertionError(stmt)


def _expression_statement(run: Run, fr: Frame, stmt: ir.ExprStmt, st: PathState) -> list[PathState]:
    out = []
    for s, value in expressions.evaluate(run, fr, stmt.value, st):
        if isinstance(stmt.value, ir.Call):
            _lets_go_of_framework_cast(run, value, fr.site(stmt.value.span), text_of(stmt.value.func))
        made = _made(run, value)
        if isinstance(stmt.value, ir.Call):
            for dropped in made & {fr.site(stmt.value.span)}:
                contexts.let_go(run, fr, dropped)
        if made and isinstance(stmt.value, ir.Call):
            run.trace.contexts_dropped.setdefault(fr.site(stmt.value.span), (text_of(stmt.value.func), made))
        out.append(s)
    return out


def _lets_go_of_framework_cast(run: Run, value: Value, site: Site, text: str) -> None:
    """`accelerator.autocast()` as a statement of its own."""
    own = isinstance(value, Ref) and isinstance(value.id, Cast) and value.id.site == site
    if own and site in run.trace.casts_owned:
        run.trace.casts_made.setdefault(site, CastMade(site, text, False))


def _made(run: Run, value: Value) -> frozenset[Site]:
    """Where an autocast is made that a call gives, or nothing in its place; empty for any other value."""
    contexts = list(options(value))
    if not all(isinstance(c, Ref) and c.kind in ("autocast", "null") for c in contexts):
        return frozenset()
    sites = {c.id.site for c in contexts if isinstance(c, Ref) and isinstance(c.id, Cast)}
    return frozenset(sites) if sites <= run.trace.casts_made.keys() else frozenset()


def _zeroes_later(fr: Frame, stmt: ir.Break) -> bool:
    """Whether a function empties gradients further down than it breaks off."""
    return fr.info is not None and any(
        isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.func.name == "zero_grad"
        and node.span[0] > stmt.span[0]
        for node in fr.info.nodes
    )  # fmt: skip


def _assign(run: Run, fr: Frame, stmt: ir.Assign, st: PathState) -> list[PathState]:
    out = []
    if isinstance(stmt.value, ir.Call) and any(_is_of_one_name(target, stmt.value.func) for target in stmt.targets):
        run.renewing = stmt.value
    elif (made := _first_call(stmt.value)) is not None and unknown.keeps_network(run, fr, stmt.targets):
        run.renewing = made
    results = expressions.evaluate(run, fr, stmt.value, st)
    for s, value in [(s, value) for s, value in results if _can_be_unpacked(value, stmt.targets)] or results:
        value = _with_lists(stmt.value, _of_that_form(value, stmt.targets), fr.site(stmt.span), s)
        if isinstance(value, Ref) and isinstance(value.id, Cast) and isinstance(stmt.value, ir.Call):
            if all(isinstance(t, ir.Name) and _never_read(fr, t.id) for t in stmt.targets):
                contexts.let_go(run, fr, value.id.site)
        if isinstance(value, Tensor) and value.dtype == "float64" and not value.array:
            run.trace.names.setdefault(("tensor", value.site), text_of(stmt.targets[0]))
        if fr.info is None and _is_plain(fr, value) and _is_switch(run, fr, stmt):
            value = scopes.switch(fr.module, stmt.targets[0])
        for target in stmt.targets:
            if isinstance(target, ir.Name | ir.Attr) and isinstance(value, Ref | Sym):
                run.trace.names.setdefault(value if isinstance(value, Ref) else value.key, text_of(target))
            replacing.assign(run, fr, target, value, s)
        out.append(s)
    return out


def _can_be_unpacked(value: Value, targets: tuple[ir.Expr, ...]) -> bool:
    """Not `a, b = f()` on the path on which f gives three: it raises."""
    return not isinstance(value, Tup) or not any(
        isinstance(target, ir.Seq)
        and len(target.items) != len(value.items)
        and not any(isinstance(item, ir.Star) for item in target.items)
        for target in targets
    )


def _of_that_form(value: Value, targets: tuple[ir.Expr, ...]) -> Value:
    """What `model = load(model, path)` gets of a function that gives a model, or a model and more."""
    if not isinstance(value, Choice):
        return value
    wanted = [len(target.items) for target in targets if isinstance(target, ir.Seq)]
    alone = [option for option in value.options if isinstance(option, Ref | Sym)]
    fitting = [
        option for option in value.options
        if not isinstance(option, Tup)
        or (len(option.items) == wanted[0] if wanted else not any(one in option.items for one in alone))
    ]  # fmt: skip
    return choice(fitting, ("phi", "of that form")) if fitting else value


def _first_call(expr: ir.Expr) -> ir.Call | None:
    """`make(name)` of `make(name).to(device).eval()`."""
    found = None
    while isinstance(expr, ir.Call):
        found = expr
        expr = expr.func.base if isinstance(expr.func, ir.Attr) else expr.func
    return found


def _is_of_one_name(a: ir.Expr, b: ir.Expr) -> bool:
    return isinstance(a, ir.Name | ir.Attr) and type(a) is type(b) and text_of(a) == text_of(b)


def _with_lists(expr: ir.Expr, value: Value, identity: Hashable, st: PathState) -> Value:
    """What list displays give, `[]` and each of `[], []`: lists that can grow."""
    if not isinstance(expr, ir.Seq) or not isinstance(value, Tup):
        return value
    if expr.kind == "list":
        made = Ref("list", identity)
        st.heap[made, "[]"] = value
        return made
    if expr.kind != "tuple" or len(expr.items) != len(value.items):
        return value
    pairs = zip(expr.items, value.items, strict=True)
    return Tup(tuple(_with_lists(item, own, (identity, number), st) for number, (item, own) in enumerate(pairs)))


def _is_plain(fr: Frame, value: Value) -> bool:
    """A bool; of a script that runs a configuration file over its own names, any constant."""
    if not isinstance(value, Const) or value.value is None:
        return False
    return isinstance(value.value, bool) or fr.module.is_configured


def _is_switch(run: Run, fr: Frame, stmt: ir.Assign) -> bool:
    """Set once, outside of loops: a flag that the script itself turns is followed as it is."""
    target = stmt.targets[0]
    once = isinstance(target, ir.Name) and len(fr.module.assigns.get(target.id, ())) == 1
    return once and len(stmt.targets) == 1 and not run.loops


def _never_read(fr: Frame, name: str) -> bool:
    """A local of a function that occurs where it is assigned and nowhere else."""
    if fr.info is None or fr.info.node is None or name in fr.owners:
        return False
    return fr.info.occurrences[name] == 1


def _augmented(run: Run, fr: Frame, stmt: ir.AugAssign, st: PathState) -> list[PathState]:
    out = []
    for s, (old, value) in expressions.evaluate_all(run, fr, (stmt.target, stmt.value), st):
        node = ("aug", fr.id, stmt.span, losses.stays_unscaled(stmt.op, old, value))
        for known in (True, False):
            s.forget((*node[:-1], known))
        new = operators.binary(stmt.op, old, value)
        if isinstance(old, Ref) and old.kind == "list":
            items = s.heap.get((old, "[]"))
            if isinstance(items, Tup) and isinstance(value, Tup):
                s.heap[old, "[]"] = Tup((items.items + value.items)[:6])
            new = old
        else:
            new = _summed(new, GRADIENT_NORM if from_gradients([value]) else node)
        containers.assign(run, fr, stmt.target, new, s)
        out.append(s)
    return out


def _summed(value: Value, node: Key) -> Value:
    """What `+=` gives: a sum of numbers is named by its place, or it would be another one on every turn of a loop."""
    match value:
        case Tensor() | Tup() | Params() | Ref():
            return value
        case Phi() | Choice() if any(isinstance(option, Tensor) for option in options(value)):
            if isinstance(value, Choice):
                return choice([_summed(option, node) for option in options(value)], node)
            return phi(value.key, _summed(value.yes, node), _summed(value.no, node))
    return Sym(node)


def _import(run: Run, fr: Frame, stmt: ir.Import, st: PathState) -> None:
    for name, module, attr in stmt.bindings:
        if name in ("*", ""):
            continue
        if fr.info is None:
            value = scopes.global_value(run, fr.module, name, st)
        else:
            value = scopes.imported(run, fr.module, module, attr, st)
        scopes.store_name(fr, name, value, st)


def _define(run: Run, fr: Frame, stmt: ir.FunctionDef, st: PathState) -> list[PathState]:
    """A nested function; a top-level one is found by the linker, its decorators count here."""
    if fr.info is None:
        info = fr.module.functions.get(stmt.name)
    else:
        info = next((f for f in fr.module.nested if f.parent is fr.info and f.node is stmt), None)
    _see_decorators(run, fr, stmt, st)
    if info is not None:
        scopes.store_name(fr, stmt.name, Func(info, None, None if fr.info is None else fr.id), st)
    return [st]


def _see_decorators(run: Run, fr: Frame, stmt: ir.FunctionDef, st: PathState) -> None:
    for decorator, span in stmt.decorators:
        functions.decorator_seen(run, fr, decorator, span, st)


def _leave(run: Run, fr: Frame, stmt: ir.Return, st: PathState) -> None:
    """An early return between unscale_ and update leaves the iteration."""
    if fr.info is not None and fr.info.node is not None:
        last = fr.info.node.body[-1] if fr.info.node.body else None
        if last is not stmt and fr.info.updates:
            typestate.leave_iteration(st.protocol, fr.site(stmt.span))


def _if(run: Run, fr: Frame, stmt: ir.If, st: PathState) -> list[PathState]:
    if _is_main_guard(stmt.test):
        return execute(run, fr, stmt.body, [st])
    if _is_type_checking(stmt.test):
        return execute(run, fr, stmt.orelse, [st])
    known = frozenset(st.guards)
    yes, no, key = conditions.branch(run, fr, stmt.test, st)
    before, jumps = run.events, len(fr.continues)
    after_yes = execute(run, fr, stmt.body, yes) if yes else []
    after_no = execute(run, fr, stmt.orelse, no) if no else []
    if stmt.body and isinstance(stmt.body[-1], ir.Raise):
        for s in after_no:
            s.demote(known - {key})
    if key is not None and not (yes and no):
        run.withheld += _withholds(run, fr, stmt.body if not yes else stmt.orelse, leaves=not (after_yes or after_no))
    if key is not None and is_counter(key) and any(isinstance(s, ir.Continue) for s in (*stmt.body, *stmt.orelse)):
        for s in fr.continues[jumps:]:
            typestate.stay_in_iteration(s.protocol)  # between two steps of an accumulation: no early exit
    if key is not None and run.events != before:
        node = fr.site(stmt.span)
        for paths, taken in ((after_yes, True), (after_no, False)):
            for s in paths:
                if is_counter(key):
                    s.trail = s.trail | {Decision(key, taken, node)}
        if _about_finite(key) and not stmt.orelse:
            for s in after_no:
                typestate.leave_iteration(s.protocol, node)
    return after_yes + after_no


def _withholds(run: Run, fr: Frame, skipped: Sequence[ir.Stmt], leaves: bool) -> bool:
    """Whether something may act in the arm that is not taken, or after the one taken that leaves the function."""
    if leaves and fr.info is not None and fr.info.node is not None:
        skipped = fr.info.node.body
    return any(map(run.project.may_act, skipped))


def _about_finite(key: object) -> bool:
    text = repr(key)
    return any(word in text for word in ("isfinite", "isnan", "isinf", "finite", "clip_grad", "norm"))


def _is_main_guard(test: ir.Expr) -> bool:
    return isinstance(test, ir.Compare) and isinstance(test.left, ir.Name) and test.left.id == "__name__"


def _is_type_checking(test: ir.Expr) -> bool:
    return (isinstance(test, ir.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ir.Attr) and test.name == "TYPE_CHECKING"
    )


def _match(run: Run, fr: Frame, stmt: ir.Match, st: PathState) -> list[PathState]:
    out: list[PathState] = []
    for s, subject in expressions.evaluate(run, fr, stmt.subject, st):
        going = [s]
        for names, constants, guard, body in stmt.cases:
            taken: list[PathState] = []
            rest: list[PathState] = []
            for path in going:
                for name in names:
                    scopes.store_name(fr, name, Sym(("sub", operators.key_of(subject), ("const", name))), path)
                if constants:
                    matched = [path]
                    for constant in constants:
                        still: list[PathState] = []
                        for p in matched:
                            value = expressions.value_of(run, fr, constant, p)
                            for p2, truth, _ in conditions.decide(p, operators.compare("==", subject, value, p)):
                                (taken if truth else still).append(p2)
                        matched = still
                    rest += matched
                elif guard is not None:
                    yes, no, _ = conditions.branch(run, fr, guard, path)
                    taken += yes
                    rest += no
                else:
                    taken.append(path)
            out += execute(run, fr, body, taken) if taken else []
            going = rest
        out += going
    return out


def _try(run: Run, fr: Frame, stmt: ir.Try, st: PathState) -> list[PathState]:
    raises, fr.raises = fr.raises, []
    jumps = (len(fr.returns), len(fr.breaks), len(fr.continues))
    imports_only = all(isinstance(s, ir.Import) for s in stmt.body)
    before = st.clone()
    entries = [before]
    states = [st]
    for inner in stmt.body:
        states = execute(run, fr, [inner], states)
        if not imports_only:
            entries += [s.clone() for s in states]
        if not states:
            break
    raised, fr.raises = fr.raises, []
    states = execute(run, fr, stmt.orelse, states) if stmt.orelse else states
    handled: list[PathState] = []
    for kind, name, body in stmt.handlers:
        starts = []
        for entry in entries:
            s = entry.clone()
            s.exceptional = s.exceptional or not imports_only
            starts.append(s)
        if kind is None or "Stop" not in text_of(kind):
            starts += [s.clone() for s in raised]
        for s in starts:
            if name:
                scopes.store_name(fr, name, Sym(("except", fr.id, name)), s)
        after = execute(run, fr, body, merge(starts, (*loops.node_of(fr, stmt), "handler")))
        if states:
            _prefer_torch(fr, states[0], after)
            for s in after:
                handlers.take_for_one(before, states[0], s)
        handled += after
    if not stmt.handlers:
        raises += raised
    fr.raises = raises + fr.raises
    out = merge(states + handled, loops.node_of(fr, stmt))
    if stmt.finalbody:
        out = execute(run, fr, stmt.finalbody, out)
        _finally_on_jumps(run, fr, stmt, jumps)
    return out


def _prefer_torch(fr: Frame, regular: PathState, others: list[PathState]) -> None:
    """What stands in for a name of torch that may be missing is no subject of an audit: torch is taken to have it."""
    owner = fr.module.path if fr.info is None else fr.id
    for name, value in regular.heap.held(owner):
        if isinstance(value, Ext) and value.name.startswith("torch."):
            for s in others:
                if s.heap.get((owner, name)) != value:
                    s.heap[owner, name] = value


def _finally_on_jumps(run: Run, fr: Frame, stmt: ir.Try, jumps: tuple[int, int, int]) -> None:
    """`finally` runs on the way out too."""
    returned, fr.returns = fr.returns[jumps[0] :], fr.returns[: jumps[0]]
    broken, fr.breaks = fr.breaks[jumps[1] :], fr.breaks[: jumps[1]]
    continued, fr.continues = fr.continues[jumps[2] :], fr.continues[: jumps[2]]
    for s, value in returned:
        fr.returns += [(after, value) for after in execute(run, fr, stmt.finalbody, [s])]
    for s in broken:
        fr.breaks += execute(run, fr, stmt.finalbody, [s])
    for s in continued:
        fr.continues += execute(run, fr, stmt.finalbody, [s])
