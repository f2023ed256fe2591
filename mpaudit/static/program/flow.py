"""Statements: how paths go through them. Loops run to a fixed point; everything is bounded."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts import ir
from . import events, torch_api, typestate
from .expressions import (
    Results,
    assign,
    attribute,
    binary,
    branch,
    decide,
    evaluate,
    evaluate_all,
    iterate,
    key_of,
    store_name,
    subscript,
    value_of,
)  # fmt: skip
from .frame import Frame, Run, text_of
from .linker import walk_nodes, walk_statements
from .state import Decision, PathState, is_counter, merge, same
from .trace import ApiCall
from .values import (
    NONE,
    Cast,
    Choice,
    Cls,
    Const,
    Ext,
    Func,
    Owned,
    Params,
    Phi,
    Ref,
    Sym,
    Tensor,
    Tup,
    Value,
    mentions,
    options,
)  # fmt: skip

MAX_PASSES = 8
"""Passes over a loop body before what is still moving is given up as unknown; three are usual."""


def execute(run: Run, fr: Frame, stmts: Sequence[ir.Stmt], states: list[PathState]) -> list[PathState]:
    """Paths after the statements; those that jump are left with the frame."""
    for stmt in stmts:
        after: list[PathState] = []
        for st in states:
            run.tick()
            after += execute_one(run, fr, stmt, st)
        states = merge(after, _node(fr, stmt)) if len(after) > 1 else after
        if not states:
            break
    return states


def _node(fr: Frame, stmt: ir.Stmt) -> tuple[object, ...]:
    span = getattr(stmt, "span", None)
    return (fr.id, type(stmt).__name__, span) if span else (fr.id, type(stmt).__name__)


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
            return _for(run, fr, stmt, st)
        case ir.While():
            return _while(run, fr, stmt, st)
        case ir.With():
            return _with(run, fr, stmt, st)
        case ir.Try():
            return _try(run, fr, stmt, st)
        case ir.Return():
            if stmt.value is None:
                _leave(run, fr, stmt, st)
                fr.returns.append((st, NONE))
            else:
                for s, value in evaluate(run, fr, stmt.value, st):
                    _leave(run, fr, stmt, s)
                    fr.returns.append((s, value))
            return []
        case ir.Raise():
            fr.raises += [s for s, _ in evaluate(run, fr, stmt.value, st)] if stmt.value is not None else [st]
            return []
        case ir.Break():
            typestate.leave_iteration(st.protocol, fr.site(stmt.span))
            fr.breaks.append(st)
            return []
        case ir.Continue():
            typestate.leave_iteration(st.protocol, fr.site(stmt.span))
            fr.continues.append(st)
            return []
        case ir.Assert():
            yes, _, _ = branch(run, fr, stmt.test, st)
            return yes
        case ir.Delete():
            for target in stmt.targets:
                if isinstance(target, ir.Name):
                    st.heap.pop((fr.id, target.id), None)
            return [st]
        case ir.Global():
            fr.globals.update(stmt.names)
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
                    store_name(fr, stmt.name, Cls(found), st)
                for inner in walk_statements(stmt.body):
                    if isinstance(inner, ir.FunctionDef):
                        _see_decorators(run, fr, inner, st)
            return [st]
    raise AssertionError(stmt)


# --------------------------------------------------------------------- plain


def _expression_statement(run: Run, fr: Frame, stmt: ir.ExprStmt, st: PathState) -> list[PathState]:
    out = []
    for s, value in evaluate(run, fr, stmt.value, st):
        if isinstance(value, Ref) and value.kind == "autocast" and isinstance(stmt.value, ir.Call):
            cast = value.id
            if isinstance(cast, Cast) and cast.site in run.trace.casts_made and cast.site == fr.site(stmt.value.span):
                run.trace.casts_dropped.add(cast.site)
        out.append(s)
    return out


def _assign(run: Run, fr: Frame, stmt: ir.Assign, st: PathState) -> list[PathState]:
    out = []
    for s, value in evaluate(run, fr, stmt.value, st):
        if isinstance(stmt.value, ir.Seq) and stmt.value.kind == "list" and isinstance(value, Tup):
            made = Ref("list", fr.site(stmt.span))
            s.heap[made, "[]"] = value
            value = made
        if isinstance(value, Ref) and isinstance(value.id, Cast) and isinstance(stmt.value, ir.Call):
            if all(isinstance(t, ir.Name) and _never_read(fr, t.id) for t in stmt.targets):
                run.trace.casts_dropped.add(value.id.site)
        if isinstance(value, Tensor) and value.dtype == "float64" and not value.array:
            run.trace.names.setdefault(("tensor", value.site), text_of(stmt.targets[0]))
        for target in stmt.targets:
            if isinstance(target, ir.Name | ir.Attr) and isinstance(value, Ref | Sym):
                run.trace.names.setdefault(value if isinstance(value, Ref) else value.key, text_of(target))
            assign(run, fr, target, value, s)
        out.append(s)
    return out


def _never_read(fr: Frame, name: str) -> bool:
    """A local of a function that occurs where it is assigned and nowhere else."""
    if fr.info is None or fr.info.node is None or name in fr.globals:
        return False
    return sum(isinstance(node, ir.Name) and node.id == name for node in walk_nodes(fr.info.node)) == 1


def _augmented(run: Run, fr: Frame, stmt: ir.AugAssign, st: PathState) -> list[PathState]:
    out = []
    for s, (old, value) in evaluate_all(run, fr, (stmt.target, stmt.value), st):
        node = ("aug", fr.id, stmt.span)
        s.forget(node)
        new = binary(stmt.op, old, value)
        if isinstance(old, Ref) and old.kind == "list":
            items = s.heap.get((old, "[]"))
            if isinstance(items, Tup) and isinstance(value, Tup):
                s.heap[old, "[]"] = Tup((items.items + value.items)[:6])
            new = old
        elif not isinstance(new, Tensor | Tup | Params | Ref):
            new = Sym(node)
        assign(run, fr, stmt.target, new, s)
        out.append(s)
    return out


def _import(run: Run, fr: Frame, stmt: ir.Import, st: PathState) -> None:
    from .expressions import global_value, imported

    for name, module, attr in stmt.bindings:
        if name == "*":
            continue
        if fr.info is None:
            value = global_value(run, fr.module, name, st)
        else:
            value = imported(run, fr.module, module, attr, st)
        store_name(fr, name, value, st)


def _define(run: Run, fr: Frame, stmt: ir.FunctionDef, st: PathState) -> list[PathState]:
    """A nested function; a top-level one is found by the linker, its decorators count here."""
    if fr.info is None:
        info = fr.module.functions.get(stmt.name)
    else:
        info = next(
            (f for f in fr.module.nested if f.parent is fr.info and f.node is stmt), None
        )
    _see_decorators(run, fr, stmt, st)
    if info is not None:
        store_name(fr, stmt.name, Func(info, None, None if fr.info is None else fr.id), st)
    return [st]


def _see_decorators(run: Run, fr: Frame, stmt: ir.FunctionDef, st: PathState) -> None:
    from .calls import decorator_seen

    for decorator, span in stmt.decorators:
        decorator_seen(run, fr, decorator, span, st)


def _leave(run: Run, fr: Frame, stmt: ir.Return, st: PathState) -> None:
    """An early return between unscale_ and update leaves the iteration."""
    if fr.info is not None and fr.info.node is not None:
        last = fr.info.node.body[-1] if fr.info.node.body else None
        if last is not stmt and _updates(fr.info.node):
            typestate.leave_iteration(st.protocol, fr.site(stmt.span))


def _updates(node: ir.FunctionDef) -> bool:
    return any(isinstance(n, ir.Attr) and n.name in ("update", "step") for n in walk_nodes(node.body))


# ---------------------------------------------------------------- conditions


def _if(run: Run, fr: Frame, stmt: ir.If, st: PathState) -> list[PathState]:
    if _is_main_guard(stmt.test):
        return execute(run, fr, stmt.body, [st])
    if _is_type_checking(stmt.test):
        return execute(run, fr, stmt.orelse, [st])
    yes, no, key = branch(run, fr, stmt.test, st)
    before = run.events
    after_yes = execute(run, fr, stmt.body, yes) if yes else []
    after_no = execute(run, fr, stmt.orelse, no) if no else []
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
    for s, subject in evaluate(run, fr, stmt.subject, st):
        going = [s]
        for names, constants, guard, body in stmt.cases:
            taken: list[PathState] = []
            rest: list[PathState] = []
            for path in going:
                for name in names:
                    store_name(fr, name, Sym(("sub", key_of(subject), ("const", name))), path)
                if constants:
                    from .expressions import compare

                    matched = [path]
                    for constant in constants:
                        still: list[PathState] = []
                        for p in matched:
                            value = value_of(run, fr, constant, p)
                            for p2, truth, _ in decide(p, compare("==", subject, value, p)):
                                (taken if truth else still).append(p2)
                        matched = still
                    rest += matched
                elif guard is not None:
                    yes, no, _ = branch(run, fr, guard, path)
                    taken += yes
                    rest += no
                else:
                    taken.append(path)
            out += execute(run, fr, body, taken) if taken else []
            going = rest
        out += going
    return out


# --------------------------------------------------------------------- loops


def _for(run: Run, fr: Frame, stmt: ir.For, st: PathState) -> list[PathState]:
    out: list[PathState] = []
    for s, source in evaluate(run, fr, stmt.iterable, st):
        elements = iterate(run, source, s)
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
        out += _loop(run, fr, stmt, s, source)
    return out


def _parameter(target: ir.Expr, params: Params) -> Value:
    """`for p in ...parameters()` or `for name, p in ...named_parameters()`."""
    if isinstance(target, ir.Seq) and len(target.items) == 2:
        return Tup((Sym(("param", "name of", "parameter")), params))
    return params


def _interesting(value: Value) -> bool:
    return any(isinstance(v, Ref | Params | Func | Cls | Tup) for v in options(value)) or (
        isinstance(value, Sym) and mentions(value.key, "comp")
    )


def _unrolled(
    run: Run, fr: Frame, stmt: ir.For, st: PathState, elements: tuple[Value, ...]
) -> list[PathState]:
    breaks, fr.breaks = fr.breaks, []
    states = [st]
    for element in elements:
        continues, fr.continues = fr.continues, []
        for s in states:
            assign(run, fr, stmt.target, element, s)
        states = merge(execute(run, fr, stmt.body, states) + fr.continues, _node(fr, stmt))
        fr.continues = continues
        if not states:
            break
    states = execute(run, fr, stmt.orelse, states) + fr.breaks
    fr.breaks = breaks
    return states


def _loop(run: Run, fr: Frame, stmt: ir.For, st: PathState, source: Value) -> list[PathState]:
    root = ("iter", fr.id, stmt.span)
    if not run.project.is_active(stmt):
        return [_passed_over(run, fr, stmt, st, root)]

    def enter(head: PathState) -> tuple[list[PathState], list[PathState]]:
        body = head.clone()
        body.forget(root)
        _bind_target(run, fr, stmt.target, source, root, body)
        return [body], [head]

    return _fixed_point(run, fr, stmt, st, enter, root)


def _bind_target(run: Run, fr: Frame, target: ir.Expr, source: Value, root: tuple[object, ...], st: PathState) -> None:
    element: Value = Sym(root)
    if isinstance(source, Tensor | Owned | Params):
        element = source
    elif isinstance(source, Ref) and source.kind == "loader":
        element = _batch(run, fr, source, root, st)
    elif isinstance(source, Ref) and source.kind == "enumerated" and isinstance(source.id, Ref):
        element = Tup((Sym(("sub", root, ("const", 0))), _batch(run, fr, source.id, root, st)))
    assign(run, fr, target, element, st)


def _batch(run: Run, fr: Frame, loader: Ref, root: tuple[object, ...], st: PathState) -> Value:
    """What a DataLoader over a dataset of the project gives: what the dataset's __getitem__ does, collated."""
    from .calls import call_function

    dataset = loader.id
    getitem = attribute(run, fr, dataset, "__getitem__", st) if isinstance(dataset, Ref) else None
    if not isinstance(getitem, Func) or run.lazy > 2:
        return Sym(root)
    run.lazy += 1
    try:
        results = call_function(run, fr, getitem, (Sym(("sub", root, ("const", "index"))),), (), st.clone(), None)
    finally:
        run.lazy -= 1
    value = results[0][1] if results else Sym(root)
    parts = value.items if isinstance(value, Tup) else (value,)
    known = tuple(
        part if isinstance(part, Tensor) and not part.array else Sym(("sub", root, ("const", i)))
        for i, part in enumerate(parts)
    )
    return Tup(known) if isinstance(value, Tup) else known[0]


def _passed_over(
    run: Run, fr: Frame, stmt: ir.For | ir.While, st: PathState, root: tuple[object, ...]
) -> PathState:
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
        store_name(fr, name, Sym(key), st)
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


def _while(run: Run, fr: Frame, stmt: ir.While, st: PathState) -> list[PathState]:
    root = ("iter", fr.id, stmt.span)
    if not run.project.is_active(stmt):
        return [_passed_over(run, fr, stmt, st, root)]

    def enter(head: PathState) -> tuple[list[PathState], list[PathState]]:
        yes, no, _ = branch(run, fr, stmt.test, head.clone())
        return yes, no

    return _fixed_point(run, fr, stmt, st, enter, root)


def _fixed_point(run, fr, stmt, st, enter, root) -> list[PathState]:  # type: ignore[no-untyped-def]
    """Paths after a loop. It is taken to run at least once where its body can end: that no batch comes is no case
    that training code is written for, and a step after it would seem to lack its backward."""
    node = _node(fr, stmt)
    breaks, fr.breaks = fr.breaks, []
    heads: list[PathState] = []
    frontier = [st]
    leaving: list[PathState] = []
    unentered: list[PathState] = []
    ends: list[PathState] = []
    run.loops.append(root)
    try:
        for number in range(MAX_PASSES + 1):
            new: list[PathState] = []
            for state in frontier:
                _add_head(heads, state, new, node)
            if not new:
                break
            if number == MAX_PASSES:
                for state in (*heads, *ends, *leaving):
                    state.inexact = True
                break
            after: list[PathState] = []
            for head in new:
                body, out = enter(head)
                if number:
                    leaving += out
                else:
                    unentered += out
                continues, fr.continues = fr.continues, []
                done = execute(run, fr, stmt.body, body) if body else []
                after += done + fr.continues
                fr.continues = continues
            for state in after:
                state.forget(root)
                state.cross_back_edge()
            frontier = merge(after, (*node, "back"))
            ends = merge([*ends, *(state.clone() for state in frontier)], (*node, "end"))
    finally:
        run.loops.pop()
    exits = ends if isinstance(stmt, ir.For) else leaving
    if not exits:
        exits = unentered
    out = execute(run, fr, stmt.orelse, merge(exits, (*node, "exit"))) + fr.breaks
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


# ------------------------------------------------------------- with and try


def _with(run: Run, fr: Frame, stmt: ir.With, st: PathState) -> list[PathState]:
    states = [st]
    outer = (st.casts, st.no_grad)
    for expr, target, span in stmt.items:
        after: list[PathState] = []
        for s in states:
            for s2, context in evaluate(run, fr, expr, s):
                for s3, settled in _settled(s2, context):
                    if isinstance(settled, Ext) and settled.name in torch_api.AUTOCAST:
                        call = ApiCall(settled.name, fr.site(span), (), (), "bare", text_of(expr), run.root)
                        run.trace.calls[call] = None
                    entered = enter_context(run, fr, settled, expr, s3)
                    if target is not None:
                        assign(run, fr, target, entered, s3)
                    after.append(s3)
        states = after
    jumps = [len(fr.returns), len(fr.breaks), len(fr.continues), len(fr.raises)]
    states = execute(run, fr, stmt.body, states)
    for s in states:
        s.casts, s.no_grad = outer
    for s, _ in fr.returns[jumps[0] :]:
        s.casts, s.no_grad = outer
    for jumped, start in ((fr.breaks, jumps[1]), (fr.continues, jumps[2]), (fr.raises, jumps[3])):
        for s in jumped[start:]:
            s.casts, s.no_grad = outer
    return states


def _settled(st: PathState, value: Value) -> Results:
    """A context chosen by a decision splits the path only where the choice is between autocast and not."""
    value = st.settle(value)
    if isinstance(value, Phi):
        other = st.clone()
        st.assume(value.key, True)
        other.assume(value.key, False)
        return _settled(st, value.yes) + _settled(other, value.no)
    return [(st, value)]


def enter_context(run: Run, fr: Frame, context: Value, expr: ir.Expr, st: PathState) -> Value:
    """`with context`: pushes an autocast; gives what `as` binds."""
    from .calls import generator_context

    if isinstance(context, Ref):
        if context.kind == "autocast":
            if isinstance(context.id, Cast):
                run.trace.casts_entered.add(context.id.site)
                st.casts = (*st.casts, context.id)
            return context
        if context.kind == "no_grad":
            st.no_grad = True
            return context
        if context.kind == "generator_context":
            return generator_context(run, fr, context, st)
        if context.kind == "instance":
            enter = attribute(run, fr, context, "__enter__", st)
            if isinstance(enter, Func):
                st.casts = (*st.casts, None) if _mentions_autocast(enter) else st.casts
            return context
        return context
    if isinstance(context, Choice):
        casts = [o for o in context.options if isinstance(o, Ref) and o.kind == "autocast"]
        for cast in casts:
            if isinstance(cast.id, Cast):
                run.trace.casts_entered.add(cast.id.site)
        if casts or any(isinstance(o, Sym) for o in context.options):
            st.casts = (*st.casts, None)
        return context
    if isinstance(context, Owned):
        st.casts = (*st.casts, None)
        return context
    if isinstance(context, Sym) and _maybe_autocast(text_of(expr)):
        st.casts = (*st.casts, None)
    return Sym(("call", fr.id, "as", text_of(expr))) if not isinstance(context, Sym) else context


def _mentions_autocast(func: Func) -> bool:
    return any(isinstance(n, ir.Attr | ir.Name) and "cast" in (n.name if isinstance(n, ir.Attr) else n.id).lower()
               for n in walk_nodes(func.info.node))  # fmt: skip


def _maybe_autocast(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in ("cast", "amp", "ctx", "context", "precision", "fp16", "half", "mixed"))


def _try(run: Run, fr: Frame, stmt: ir.Try, st: PathState) -> list[PathState]:
    raises, fr.raises = fr.raises, []
    jumps = (len(fr.returns), len(fr.breaks), len(fr.continues))
    imports_only = all(isinstance(s, ir.Import) for s in stmt.body)
    entries = [st.clone()]
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
                store_name(fr, name, Sym(("except", fr.id, name)), s)
        handled += execute(run, fr, body, merge(starts, (*_node(fr, stmt), "handler")))
    if not stmt.handlers:
        raises += raised
    fr.raises = raises + fr.raises
    out = merge(states + handled, _node(fr, stmt))
    if stmt.finalbody:
        out = execute(run, fr, stmt.finalbody, out)
        _finally_on_jumps(run, fr, stmt, jumps)
    return out


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


__all__ = ["execute"]

_ = (events, subscript, walk_statements, Const)
