"""Conditions: how they split a path, and what is known on either side."""

from __future__ import annotations

from ..facts import ir
from . import expressions, operators
from .frame import Frame, Run, text_of
from .merging import merge
from .nodes import walk_nodes
from .shapes import Results
from .state import PathState, decision, gates_of, truth_of
from .values import NONE, Choice, Key, Phi, Ref, Sym, Value, choice


def branch(run: Run, fr: Frame, test: ir.Expr, st: PathState) -> tuple[list[PathState], list[PathState], Key | None]:
    """Paths on which the condition holds, paths on which it does not, and the decision if there was one."""
    match test:
        case ir.UnaryOp(op="not"):
            yes, no, decided = branch(run, fr, test.operand, st)
            return no, yes, decided
        case ir.BoolOp() if not _plain(test):
            return _branch_whole(run, fr, test, st)
        case _:
            pass
    run.testing, before = True, run.testing
    try:
        results = expressions.evaluate(run, fr, test, st)
    finally:
        run.testing = before
    yes, no = [], []
    key: Key | None = None
    for s, value in results:
        for s2, truth, taken in decide(s, value):
            refine(run, fr, test, truth, s2)
            (yes if truth else no).append(s2)
            key = taken or key
    return yes, no, key


def _plain(test: ir.BoolOp) -> bool:
    """An `or`/`and` of conditions without calls is one decision (`(i + 1) % k == 0 or i + 1 == n`)."""
    return test.op == "or" and all(
        isinstance(value, ir.Compare | ir.UnaryOp | ir.Name | ir.Attr) for value in test.values
    )


def _branch_whole(
    run: Run, fr: Frame, test: ir.BoolOp, st: PathState
) -> tuple[list[PathState], list[PathState], Key | None]:
    """The truth of `a and b` is a decision of its own: it still holds where the path on which `a` fails has met the
    one on which `b` does."""
    whole = _key_of_whole(run, fr, test, st)
    known = None if whole is None else st.ask(whole)
    yes, no, key = _branch_sequence(run, fr, test, st)
    if whole is not None:
        for paths, truth in ((yes, True), (no, False)):
            for s in paths:
                s.record(whole, truth)
    if known is not None and (yes if known else no):
        yes, no = (yes, []) if known else ([], no)
    return yes, no, key


def _key_of_whole(run: Run, fr: Frame, test: ir.BoolOp, st: PathState) -> Key | None:
    """What `a and b` asks, where asking does nothing else and neither of its parts is known."""
    if run.project.may_act(test) or any(isinstance(node, ir.Walrus) for node in walk_nodes(test)):
        return None
    run.testing, before = True, run.testing
    try:
        values = [st.settle(expressions.value_of(run, fr, value, st)) for value in test.values]
    finally:
        run.testing = before
    if any(truth_of(value) is not None for value in values):
        return None
    return (test.op, *(decision(operators.key_of(value)) for value in values))


def _branch_sequence(
    run: Run, fr: Frame, test: ir.BoolOp, st: PathState
) -> tuple[list[PathState], list[PathState], Key | None]:
    going = [st]
    done: list[PathState] = []
    key: Key | None = None
    for value in test.values:
        after: list[PathState] = []
        for s in going:
            yes, no, taken = branch(run, fr, value, s)
            after += yes if test.op == "and" else no
            done += no if test.op == "and" else yes
            key = key or taken
        going = after
    return (going, done, key) if test.op == "and" else (done, going, key)


def decide(st: PathState, value: Value) -> list[tuple[PathState, bool, Key | None]]:
    """Splits a path at a condition's value: (path, truth, decision taken)."""
    value = st.settle(value)
    truth = truth_of(value)
    if truth is not None:
        return [(st, truth, None)]
    if isinstance(value, Phi):
        return _decide_sides(st, value)
    if isinstance(value, Choice):
        truths = {truth_of(option) for option in value.options}
        if truths == {True} or truths == {False}:
            return [(st, truths.pop() or False, None)]
        other = st.clone()
        return [(st, True, None), (other, False, None)]
    key = decision(value.key if isinstance(value, Sym) else operators.key_of(value))
    known = st.ask(key)
    if known is not None:
        return [(st, known, key)]
    other = st.clone()
    st.assume(key, True)
    other.assume(key, False)
    if other.contradicts_itself():
        return [(st, True, key)]
    return [(other, False, key)] if st.contradicts_itself() else [(st, True, key), (other, False, key)]


def _decide_sides(st: PathState, value: Phi) -> list[tuple[PathState, bool, Key | None]]:
    """The sides of a Phi that agree with what is known of the whole. Where the truth of a side is open too, that of the
    whole is a decision of its own: it still holds where paths through different sides have met."""
    settled = truth_of(value.yes) is not None and truth_of(value.no) is not None
    whole: Key | None = None if settled else ("truth", operators.key_of(value))
    known = None if whole is None else st.ask(whole)
    other = st.clone()
    st.assume(value.key, True)
    other.assume(value.key, False)
    taken = [(s, truth) for side, s in ((value.yes, st), (value.no, other)) for s, truth, _ in decide(s, side)]
    if known is not None:
        taken = [(s, truth) for s, truth in taken if truth is known] or taken
    elif whole is not None:
        for s, truth in taken:
            s.assume(whole, truth)
    return [(s, truth, value.key) for s, truth in taken]


def refine(run: Run, fr: Frame, test: ir.Expr, truth: bool, st: PathState) -> None:
    """`if scaler is not None:` leaves of a Choice what passes the test."""
    none_if = False
    if isinstance(test, ir.Compare) and isinstance(test.right, ir.Const) and test.right.value is None:
        none_if = truth == (test.op in ("is", "=="))
        test = test.left
    elif not isinstance(test, ir.Name | ir.Attr):
        return
    else:
        none_if = not truth
    if not isinstance(test, ir.Name | ir.Attr):
        return
    place = _place(run, fr, test, st)
    if place is None:
        return
    value = st.heap.get(place)
    if not isinstance(value, Choice):
        return
    left = [v for v in value.options if (truth_of(v) is False) == none_if or truth_of(v) is None]
    if any(map(_is_scaler, value.options)) and all(v == NONE or _is_scaler(v) for v in value.options):
        there: Key = ("truth", ("global", repr(place), "a scaler"))  # or none: it stays so, and is asked again
        scalers = [v for v in value.options if v != NONE]
        st.heap[place] = Phi(there, choice(scalers, ("phi", "scalers", repr(place))), NONE)
        st.assume(there, not none_if)
    elif left:
        st.heap[place] = choice(left, ("phi", "refined", str(place)))


def _is_scaler(value: Value) -> bool:
    return isinstance(value, Ref) and value.kind == "scaler"


def _place(run: Run, fr: Frame, expr: ir.Expr, st: PathState):  # type: ignore[no-untyped-def]
    if isinstance(expr, ir.Name):
        return (fr.id if (fr.id, expr.id) in st.heap else fr.module.path), expr.id
    if isinstance(expr, ir.Attr):
        base = expressions.value_of(run, fr, expr.base, st)
        if isinstance(base, Ref):
            return base, expr.name
        if isinstance(base, Sym):
            return base.key, expr.name
    return None


def if_expression(run: Run, fr: Frame, expr: ir.IfExp, st: PathState) -> Results:
    plain = _of_two_names(run, fr, expr, st)
    if plain is not None:
        return [(st, plain)]
    yes, no, key = branch(run, fr, expr.test, st)
    if key is not None and not (yes and no):
        run.withheld += run.project.may_act(expr.orelse if yes else expr.body)
    out = [r for s in yes for r in expressions.evaluate(run, fr, expr.body, s)]
    out += [r for s in no for r in expressions.evaluate(run, fr, expr.orelse, s)]
    return join_results(out, ("ifexp", fr.id, text_of(expr.test), text_of(expr.body)))


_Plain = ir.Const | ir.Name | ir.Attr


def _of_two_names(run: Run, fr: Frame, expr: ir.IfExp, st: PathState) -> Phi | None:
    """`a if c else b` where nothing is called and c is not known: no path need be split to find that it is one of
    two things."""
    test = expr.test
    if not isinstance(expr.body, _Plain) or not isinstance(expr.orelse, _Plain) or not isinstance(test, ir.Name):
        return None
    asked = st.settle(expressions.value_of(run, fr, test, st))
    if type(asked) is not Sym:
        return None
    key = decision(asked.key)
    if key[0] not in ("truth", "eq") or st.decided(key) is not None:
        return None
    yes, no = (expressions.value_of(run, fr, arm, st) for arm in (expr.body, expr.orelse))
    if isinstance(yes, Phi | Choice) or isinstance(no, Phi | Choice) or yes == no:
        return None
    st.gates |= gates_of(key)
    return Phi(key, yes, no)


def join_results(results: Results, node: object) -> Results:
    """Paths that agree on the automata go on as one, with the value that tells them apart."""
    if len(results) < 2:
        return results
    slot = (("result", str(node)), "value")
    for s, value in results:
        s.heap[slot] = value
    merged = merge([s for s, _ in results], ("result", str(node)))
    return [(s, s.heap.pop(slot) or NONE) for s in merged]


def bool_op(run: Run, fr: Frame, expr: ir.BoolOp, st: PathState) -> Results:
    """`a or b` as a value: symbolic where nothing in it is an object."""
    out: Results = []
    for s, values in expressions.evaluate_all(run, fr, expr.values, st):
        decided: list[Value] = []
        result: Value | None = None
        for value in values:
            truth = truth_of(s.settle(value))
            if truth is None:
                decided.append(value)
            elif truth is (expr.op == "or"):
                result = value
                break
        last = values[-1]
        if not decided:
            out.append((s, result if result is not None else last))
        elif result is None and truth_of(last) is not None and expr.op == "and" and len(decided) == 1:
            out.append((s, Phi(decision(operators.key_of(decided[0])), last, NONE)))
        elif result is not None and expr.op == "or" and len(decided) == 1 and isinstance(decided[0], Sym):
            out.append((s, Choice(frozenset([decided[0], result]))))
        else:
            parts = tuple(decision(operators.key_of(value)) for value in decided)
            if result is None:
                out.append((s, Sym((expr.op, *parts)) if len(parts) > 1 else decided[0]))
            else:
                out.append((s, Sym((expr.op, *parts, decision(operators.key_of(result))))))
    return out
