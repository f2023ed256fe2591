"""Loops, run to a fixed point."""

from __future__ import annotations

from ..facts import ir
from . import (
    coarse,
    conditions,
    containers,
    events,
    expressions,
    flow,
    functions,
    generators,
    objects,
    scopes,
    sums,
    typestate,
    unknown,
)
from .frame import Frame, Run, text_of
from .merging import merge
from .nodes import walk_nodes, walk_statements
from .sameness import same
from .state import PathState
from .values import Choice, Cls, Func, Key, Owned, Params, Ref, Sym, Tensor, Tup, Value, mentions, options

MAX_PASSES = 8
"""Passes over a loop body before what is still moving is given up as unknown; three are usual."""


def node_of(fr: Frame, stmt: ir.Stmt) -> tuple[object, ...]:
    span = getattr(stmt, "span", None)
    return (fr.id, type(stmt).__name__, span) if span else (fr.id, type(stmt).__name__)


def execute_for(run: Run, fr: Frame, stmt: ir.For, st: PathState) -> list[PathState]:
    out: list[PathState] = []
    for s, found in expressions.evaluate(run, fr, stmt.iterable, st):
        source = containers.gone_through(found, s)
        elements = containers.iterate(run, source, s)
        if elements is not None and 0 < len(elements) <= 6:
            out += _unrolled(run, fr, stmt, s, elements)
            continue
        if isinstance(source, Params):
            out += _unrolled(run, fr, stmt, s, (_parameter(stmt.target, source),))
            continue
        if isinstance(source, Choice) and all(isinstance(o, Tup | Params) for o in source.options):
            first = next(iter(sorted(source.options, key=repr)))
            if isinstance(first, Tup) and any(_interesting(e) for e in first.items):
                out += _unrolled(run, fr, stmt, s, first.items)
                continue
        generator = source.id if isinstance(source, Ref) and source.kind == "enumerated" else source
        if isinstance(generator, Ref) and generator.kind == "generator" and generators.can_follow(run, generator):
            out += _over_generator(run, fr, stmt, s, generator, numbered=generator is not source)
            continue
        if (optimizers := _optimizers_of(run, fr, stmt, source, s)) is not None:
            out += _unrolled(run, fr, stmt, s, optimizers)
            continue
        out += _loop(run, fr, stmt, s, source)
    return out


def _optimizers_of(run: Run, fr: Frame, stmt: ir.For, source: Value, st: PathState) -> tuple[Value, ...] | None:
    """The elements of a list of optimizers that is not known: one stands for all, and keeps its state from one loop
    over the list to the next; those that have been asked for by their index are there too."""
    target = stmt.target
    if not isinstance(target, ir.Name) or not any(map(_is_optimizers, (target, stmt.iterable))):
        return None
    if isinstance(source, Ref) and source.kind == "list":
        key: Key = ("obj", source)
    elif isinstance(source, Sym):
        key = source.key
    else:
        return None
    first = Sym(("sub", key, ("const", 0)))
    if unknown.role_of(run, fr, first.key, target.id) != "optimizer":
        return None
    if isinstance(source, Ref):
        held = options(st.heap.get((source, "[]")) or source)
        items = (v for one in held if isinstance(one, Tup) for item in one.items for v in options(item))
        events.discard(run, {v for v in items if isinstance(v, Ref) and v.kind == "optimizer"}, st)
    known = (ident for ident in st.protocol.optimizers if isinstance(ident, tuple) and ident[:2] == ("sub", key))
    return (first, *(Sym(ident) for ident in known if ident != first.key))


def _is_optimizers(expr: ir.Expr) -> bool:
    """By its name: `for batch in loader: trainer.step(batch)` is no loop over optimizers."""
    return isinstance(expr, ir.Name | ir.Attr) and unknown.OPTIMIZER_NAME.search(text_of(expr)) is not None


def _over_generator(
    run: Run, fr: Frame, stmt: ir.For, st: PathState, generator: Ref, numbered: bool
) -> list[PathState]:
    """The body runs where the generator yields: the loops are the generator's own."""
    root = ("iter", fr.id, stmt.span)
    node = node_of(fr, stmt)
    outer = (st.casts, st.no_grad)
    returns = len(fr.returns)
    breaks, fr.breaks = fr.breaks, []

    def body(s: PathState, value: Value) -> list[PathState]:
        s.forget(root)
        element = Tup((Sym(("sub", root, ("const", 0))), value)) if numbered else value
        containers.assign(run, fr, stmt.target, element, s)
        continues, fr.continues = fr.continues, []
        after = flow.execute(run, fr, stmt.body, [s]) + fr.continues
        fr.continues = continues
        for state in after:
            state.forget(root)
            state.cross_back_edge()
        return merge(after, (*node, "back"))

    run.loops.append(root)
    try:
        ends = generators.follow(run, fr, generator, st, body)
    finally:
        run.loops.pop()
    for s in (*fr.breaks, *(s for s, _ in fr.returns[returns:])):
        s.casts, s.no_grad = outer
    out = flow.execute(run, fr, stmt.orelse, ends) + fr.breaks
    fr.breaks = breaks
    return merge(out, (*node, "exit"))


def _parameter(target: ir.Expr, params: Params) -> Value:
    """`for p in ...parameters()` or `for name, p in ...named_parameters()`."""
    if isinstance(target, ir.Seq) and len(target.items) == 2:
        return Tup((Sym(("param", "name of", "parameter")), params))
    return params


def _interesting(value: Value) -> bool:
    return any(isinstance(v, Ref | Params | Func | Cls | Tup) for v in options(value)) or (
        isinstance(value, Sym) and mentions(value.key, "comp")
    )


def _unrolled(run: Run, fr: Frame, stmt: ir.For, st: PathState, elements: tuple[Value, ...]) -> list[PathState]:
    breaks, fr.breaks = fr.breaks, []
    states = [st]
    for number, element in enumerate(elements):
        continues, fr.continues = fr.continues, []
        for s in states:
            if number:
                typestate.next_turn(s.protocol)
            containers.assign(run, fr, stmt.target, element, s)
        states = merge(flow.execute(run, fr, stmt.body, states) + fr.continues, node_of(fr, stmt))
        fr.continues = continues
        if not states:
            break
    states = flow.execute(run, fr, stmt.orelse, states) + fr.breaks
    fr.breaks = breaks
    return states


def _loop(run: Run, fr: Frame, stmt: ir.For, st: PathState, source: Value) -> list[PathState]:
    root = ("iter", fr.id, stmt.span)
    if not coarse.is_active(run, stmt):
        names = sums.added_up(stmt) if not run.lazy and not run.coarse else frozenset()
        losses: dict[str, Tensor] = {}
        if names:
            body = st.clone()
            _bind_target(run, fr, stmt.target, source, root, body)
            losses = sums.followed_once(run, fr, stmt, names, body)
        after = _passed_over(run, fr, stmt, st, root)
        for name, loss in losses.items():
            scopes.store_name(fr, name, loss, after)
        return [after]
    if _is_short(stmt.iterable):
        run.trace.short.add(root)

    def enter(head: PathState) -> tuple[list[PathState], list[PathState]]:
        body = head.clone()
        body.forget(root)
        _bind_target(run, fr, stmt.target, source, root, body)
        return [body], [head]

    return _fixed_point(run, fr, stmt, st, enter, root)


_FEW_ROUNDS = 100


def _is_short(iterable: ir.Expr) -> bool:
    """`range(20)`"""
    match iterable:
        case ir.Call(ir.Name("range"), (ir.Const(int(rounds)),)):
            return rounds <= _FEW_ROUNDS
        case _:
            return False


def _bind_target(run: Run, fr: Frame, target: ir.Expr, source: Value, root: tuple[object, ...], st: PathState) -> None:
    element: Value = Sym(root)
    if isinstance(source, Tensor | Owned | Params):
        element = source
    elif isinstance(source, Ref) and source.kind == "loader":
        element = _batch(run, fr, source, root, st)
    elif isinstance(source, Ref) and source.kind == "enumerated" and isinstance(source.id, Ref):
        element = Tup((Sym(("sub", root, ("const", 0))), _batch(run, fr, source.id, root, st)))
    containers.assign(run, fr, target, element, st)


def _batch(run: Run, fr: Frame, loader: Ref, root: tuple[object, ...], st: PathState) -> Value:
    """What a DataLoader over a dataset of the project gives: what the dataset's __getitem__ does, collated."""
    dataset = loader.id
    getitem = objects.attribute(run, fr, dataset, "__getitem__", st) if isinstance(dataset, Ref) else None
    if not isinstance(getitem, Func) or run.lazy > 2:
        return Sym(root)
    run.lazy += 1
    try:
        results = functions.call_function(
            run, fr, getitem, (Sym(("sub", root, ("const", "index"))),), (), st.clone(), None
        )
    finally:
        run.lazy -= 1
    value = results[0][1] if results else Sym(root)
    parts = value.items if isinstance(value, Tup) else (value,)
    known = tuple(
        part if isinstance(part, Tensor) and not part.array else Sym(("sub", root, ("const", i)))
        for i, part in enumerate(parts)
    )
    return Tup(known) if isinstance(value, Tup) else known[0]


def _passed_over(run: Run, fr: Frame, stmt: ir.For | ir.While, st: PathState, root: tuple[object, ...]) -> PathState:
    """A loop without protocol code: what it assigns is unknown afterwards."""
    names: dict[str, None] = {}
    for inner in walk_statements([stmt]):
        for target in _targets(inner):
            for node in walk_nodes(target):
                if isinstance(node, ir.Name):
                    names[node.id] = None
    for name in names:
        key = (*root, name)
        st.forget(key)
        scopes.store_name(fr, name, Sym(key), st)
    return st


def _targets(stmt: ir.Stmt) -> tuple[ir.Expr, ...]:
    match stmt:
        case ir.Assign():
            return tuple(t for t in stmt.targets if isinstance(t, ir.Name | ir.Seq))
        case ir.AugAssign():
            return (stmt.target,) if isinstance(stmt.target, ir.Name) else ()
        case ir.For():
            return (stmt.target,)
        case ir.With():
            return tuple(target for _, target, _ in stmt.items if target is not None)
        case _:
            return ()


def execute_while(run: Run, fr: Frame, stmt: ir.While, st: PathState) -> list[PathState]:
    root = ("iter", fr.id, stmt.span)
    if not coarse.is_active(run, stmt):
        return [_passed_over(run, fr, stmt, st, root)]

    def enter(head: PathState) -> tuple[list[PathState], list[PathState]]:
        yes, no, _ = conditions.branch(run, fr, stmt.test, head.clone())
        return yes, no

    return _fixed_point(run, fr, stmt, st, enter, root)


def _fixed_point(run, fr, stmt, st, enter, root) -> list[PathState]:  # type: ignore[no-untyped-def]
    """Paths after a loop. It is taken to run at least once where its body can end: that no batch comes is no case
    that training code is written for, and a step after it would seem to lack its backward."""
    node = node_of(fr, stmt)
    breaks, fr.breaks = fr.breaks, []
    heads: list[PathState] = []
    frontier = [st]
    leaving: list[PathState] = []
    unentered: list[PathState] = []
    ends: list[PathState] = []
    known = flow.lives_of(run, fr)
    run.loops.append(root)
    try:
        for number in range(MAX_PASSES + 1):
            new: list[PathState] = []
            for state in frontier:
                if known is not None:
                    state.heap.keep(fr.id, known.head[id(stmt)])
                _add_head(heads, state, new, node)
            if not new:
                break
            if number == MAX_PASSES:
                for state in (*heads, *ends, *leaving):
                    state.inexact = True
                break
            inside: list[PathState] = []
            for head in new:
                body, out = enter(head)
                inside += body
                if number:
                    leaving += out
                else:
                    unentered += out
            continues, fr.continues = fr.continues, []
            done = flow.execute(run, fr, stmt.body, inside) if inside else []
            after = done + fr.continues
            fr.continues = continues
            for state in after:
                state.forget(root)
                state.heap.leave_behind(root)
                state.cross_back_edge()
            frontier = merge(after, (*node, "back"))
            ends = merge([*ends, *(state.clone() for state in frontier)], (*node, "end"))
    finally:
        run.loops.pop()
    exits = ends if isinstance(stmt, ir.For) else leaving
    if not exits:
        exits = unentered
    out = flow.execute(run, fr, stmt.orelse, merge(exits, (*node, "exit"))) + fr.breaks
    fr.breaks = breaks
    return merge(out, (*node, "exit"))


def _add_head(heads: list[PathState], state: PathState, new: list[PathState], node: object) -> None:
    """Adds a state to the loop head; `new` gets what has to be followed again."""
    for i, head in enumerate(heads):
        if same(head, state):
            return
        merged = merge([head, state], (node, "head"))
        if len(merged) == 1:
            if same(merged[0], head):
                return
            heads[i] = merged[0]
            if head in new:
                new.remove(head)
            new.append(merged[0])
            return
    heads.append(state)
    new.append(state)
