"""Expressions: what they may stand for on one path. An expression may split the path (a call that branches does)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..facts import ir
from . import calls, conditions, containers, events, functions, generators, objects, operators, plain, scopes
from .frame import Frame, Run
from .shapes import Results
from .state import PathState, truth_of
from .values import NONE, Const, Params, Ref, Sym, Tensor, Value, choice


def evaluate(run: Run, fr: Frame, expr: ir.Expr, st: PathState) -> Results:
    """The values of `expr` on the path `st`, which may be changed; one entry per path that comes out."""
    return _EVALUATE[type(expr)](run, fr, expr, st)


def _const(run: Run, fr: Frame, expr: ir.Const, st: PathState) -> Results:
    return [(st, Const(expr.value))]


def _name(run: Run, fr: Frame, expr: ir.Name, st: PathState) -> Results:
    return [(st, st.settle(scopes.load_name(run, fr, expr.id, st)))]


def _attribute(run: Run, fr: Frame, expr: ir.Attr, st: PathState) -> Results:
    out: Results = []
    for s, base in evaluate(run, fr, expr.base, st):
        if plain.lacks(run, base, expr.name):
            fr.raises.append(s)
        else:
            out.append((s, s.settle(objects.attribute(run, fr, base, expr.name, s, expr))))
    return out


def _subscript(run: Run, fr: Frame, expr: ir.Sub, st: PathState) -> Results:
    out: Results = []
    for s, (base, index) in evaluate_all(run, fr, (expr.base, expr.index), st):
        value = s.settle(containers.subscript(run, base, index, s))
        if isinstance(expr.base, ir.Dict) and isinstance(base, Ref):
            value = _picked(run, base, value, s)
        out.append((s, value))
    return out


def _sequence(run: Run, fr: Frame, expr: ir.Seq, st: PathState) -> Results:
    alone = len(expr.items) == 1 and isinstance(expr.items[0], ir.Name)
    return [
        # `parameters = [parameters]` where there may be one tensor only: to go through it is the same either way
        (s, items[0] if alone and isinstance(items[0], Params) else containers.new_sequence(expr.kind, items))
        for s, items in evaluate_all(run, fr, expr.items, st)
    ]


def _binary(run: Run, fr: Frame, expr: ir.BinOp, st: PathState) -> Results:
    both = evaluate_all(run, fr, (expr.left, expr.right), st)
    return [(s, operators.binary(expr.op, a, b)) for s, (a, b) in both]


def _unary(run: Run, fr: Frame, expr: ir.UnaryOp, st: PathState) -> Results:
    out: Results = []
    for s, value in evaluate(run, fr, expr.operand, st):
        if expr.op == "not":
            truth = truth_of(value)
            out.append((s, Const(not truth) if truth is not None else Sym(("not", operators.key_of(value)))))
        elif isinstance(value, Const) and isinstance(value.value, int | float) and expr.op == "-":
            out.append((s, Const(-value.value)))
        else:
            out.append((s, value if isinstance(value, Tensor) else Sym(("op", expr.op, operators.key_of(value)))))
    return out


def _comparison(run: Run, fr: Frame, expr: ir.Compare, st: PathState) -> Results:
    both = evaluate_all(run, fr, (expr.left, expr.right), st)
    return [(s, operators.compare(expr.op, a, b, s)) for s, (a, b) in both]


def _inner(run: Run, fr: Frame, expr: ir.Await | ir.Star, st: PathState) -> Results:
    return evaluate(run, fr, expr.value, st)


def _walrus(run: Run, fr: Frame, expr: ir.Walrus, st: PathState) -> Results:
    out = evaluate(run, fr, expr.value, st)
    for s, value in out:
        scopes.store_name(fr, expr.name, value, s)
    return out


def _fstring(run: Run, fr: Frame, expr: ir.FString, st: PathState) -> Results:
    return [(s, operators.format_string(parts)) for s, parts in evaluate_all(run, fr, expr.parts, st)]


def _yield(run: Run, fr: Frame, expr: ir.Yield, st: PathState) -> Results:
    given = evaluate(run, fr, expr.value, st) if expr.value is not None else [(st, NONE)]
    return [(after, Sym(("call", fr.id, "yield"))) for s, v in given for after in generators.give(run, fr, v, s)]


def _slice(run: Run, fr: Frame, expr: ir.Slice, st: PathState) -> Results:
    return [(st, Sym(("slice",)))]


def _lambda(run: Run, fr: Frame, expr: ir.Lambda, st: PathState) -> Results:
    return [(st, functions.lambda_value(run, fr, expr))]


def _opaque(run: Run, fr: Frame, expr: ir.Opaque, st: PathState) -> Results:
    return [(st, Sym(("opaque",)))]


_EVALUATE: dict[type, Callable[[Run, Frame, Any, PathState], Results]] = {
    ir.Const: _const,
    ir.Name: _name,
    ir.Attr: _attribute,
    ir.Call: lambda run, fr, expr, st: calls.call(run, fr, expr, st),
    ir.Sub: _subscript,
    ir.Seq: _sequence,
    ir.Dict: lambda run, fr, expr, st: containers.new_dict(run, fr, expr, st),
    ir.BinOp: _binary,
    ir.UnaryOp: _unary,
    ir.BoolOp: lambda run, fr, expr, st: conditions.bool_op(run, fr, expr, st),
    ir.Compare: _comparison,
    ir.IfExp: lambda run, fr, expr, st: conditions.if_expression(run, fr, expr, st),
    ir.Await: _inner,
    ir.Star: _inner,
    ir.Walrus: _walrus,
    ir.FString: _fstring,
    ir.Yield: _yield,
    ir.Comp: lambda run, fr, expr, st: containers.comprehension(run, fr, expr, st),
    ir.Slice: _slice,
    ir.Lambda: _lambda,
    ir.Opaque: _opaque,
}
"""How each kind of expression is evaluated; those of other modules by name, since they import this one."""


def value_of(run: Run, fr: Frame, expr: ir.Expr, st: PathState) -> Value:
    """The value of an expression that is not expected to split the path."""
    results = evaluate(run, fr, expr, st)
    return results[0][1] if results else Sym(("opaque",))


def _picked(run: Run, choices: Ref, value: Value, st: PathState) -> Value:
    """`{"adam": Adam(…), "sgd": SGD(…)}[name]`: nothing holds the optimizers that are not chosen, and where the name is
    not known, one of them stands for whichever it is. Of autocasts it may be each."""
    all_ = [v for _, v in containers.held(choices, st)]
    if isinstance(value, Sym) and any(isinstance(v, Ref) and v.kind == "autocast" for v in all_):
        return choice(all_, value.key)
    made = [v for v in all_ if isinstance(v, Ref) and v.kind == "optimizer"]
    if value not in made and made and not isinstance(value, Ref):
        value = made[0]
    events.discard(run, {optimizer for optimizer in made if optimizer != value}, st)
    return value


def evaluate_all(
    run: Run, fr: Frame, exprs: Sequence[ir.Expr], st: PathState
) -> list[tuple[PathState, tuple[Value, ...]]]:
    """The values of several expressions, left to right."""
    first: list[Value] = []
    for expr in exprs:
        results = evaluate(run, fr, expr, st)
        if len(results) != 1:
            break
        st, value = results[0]
        first.append(value)
    else:  # nearly always
        return [(st, tuple(first))]
    paths = [(after, (*first, value)) for after, value in results]
    for expr in exprs[len(first) + 1 :]:
        paths = [
            (after, (*values, value)) for before, values in paths for after, value in evaluate(run, fr, expr, before)
        ]
    return paths
