"""Expressions: what they may stand for on one path. An expression may split the path (a call that branches does)."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts import ir
from . import calls, conditions, containers, functions, generators, objects, operators, scopes
from .frame import Frame, Run
from .shapes import Results
from .state import PathState, truth_of
from .values import NONE, Const, Sym, Tensor, Value


def evaluate(run: Run, fr: Frame, expr: ir.Expr, st: PathState) -> Results:
    """The values of `expr` on the path `st`, which may be changed; one entry per path that comes out."""
    match expr:
        case ir.Const():
            return [(st, Const(expr.value))]
        case ir.Name():
            return [(st, st.settle(scopes.load_name(run, fr, expr.id, st)))]
        case ir.Attr():
            return [
                (s, s.settle(objects.attribute(run, fr, base, expr.name, s, expr)))
                for s, base in evaluate(run, fr, expr.base, st)
            ]
        case ir.Call():
            return calls.call(run, fr, expr, st)
        case ir.Sub():
            out: Results = []
            for s, (base, index) in evaluate_all(run, fr, (expr.base, expr.index), st):
                out.append((s, s.settle(containers.subscript(run, base, index, s))))
            return out
        case ir.Seq():
            return [
                (s, containers.new_sequence(expr.kind, items)) for s, items in evaluate_all(run, fr, expr.items, st)
            ]
        case ir.Dict():
            return containers.new_dict(run, fr, expr, st)
        case ir.BinOp():
            return [
                (s, operators.binary(expr.op, a, b)) for s, (a, b) in evaluate_all(run, fr, (expr.left, expr.right), st)
            ]
        case ir.UnaryOp():
            out = []
            for s, value in evaluate(run, fr, expr.operand, st):
                if expr.op == "not":
                    truth = truth_of(value)
                    out.append((s, Const(not truth) if truth is not None else Sym(("not", operators.key_of(value)))))
                elif isinstance(value, Const) and isinstance(value.value, int | float) and expr.op == "-":
                    out.append((s, Const(-value.value)))
                else:
                    out.append(
                        (s, value if isinstance(value, Tensor) else Sym(("op", expr.op, operators.key_of(value))))
                    )
            return out
        case ir.BoolOp():
            return conditions.bool_op(run, fr, expr, st)
        case ir.Compare():
            return [
                (s, operators.compare(expr.op, a, b, s))
                for s, (a, b) in evaluate_all(run, fr, (expr.left, expr.right), st)
            ]
        case ir.IfExp():
            return conditions.if_expression(run, fr, expr, st)
        case ir.Await():
            return evaluate(run, fr, expr.value, st)
        case ir.Star():
            return evaluate(run, fr, expr.value, st)
        case ir.Walrus():
            out = evaluate(run, fr, expr.value, st)
            for s, value in out:
                scopes.store_name(fr, expr.name, value, s)
            return out
        case ir.FString():
            out = []
            for s, parts in evaluate_all(run, fr, expr.parts, st):
                out.append((s, operators.format_string(parts)))
            return out
        case ir.Yield():
            given = evaluate(run, fr, expr.value, st) if expr.value is not None else [(st, NONE)]
            return [
                (after, Sym(("call", fr.id, "yield"))) for s, v in given for after in generators.give(run, fr, v, s)
            ]
        case ir.Comp():
            return containers.comprehension(run, fr, expr, st)
        case ir.Slice():
            return [(st, Sym(("slice",)))]
        case ir.Lambda():
            return [(st, functions.lambda_value(run, fr, expr))]
        case _:
            return [(st, Sym(("opaque",)))]


def value_of(run: Run, fr: Frame, expr: ir.Expr, st: PathState) -> Value:
    """The value of an expression that is not expected to split the path."""
    results = evaluate(run, fr, expr, st)
    return results[0][1] if results else Sym(("opaque",))


def evaluate_all(
    run: Run, fr: Frame, exprs: Sequence[ir.Expr], st: PathState
) -> list[tuple[PathState, tuple[Value, ...]]]:
    """The values of several expressions, left to right."""
    paths: list[tuple[PathState, tuple[Value, ...]]] = [(st, ())]
    for expr in exprs:
        paths = [
            (after, (*values, value)) for before, values in paths for after, value in evaluate(run, fr, expr, before)
        ]
    return paths
