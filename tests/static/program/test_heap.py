"""The heap of a path against a plain dictionary, over whatever paths do to their heaps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpaudit.static.program.heap import Heap, Place
from mpaudit.static.program.merging import _changed, merge
from mpaudit.static.program.state import PathState
from mpaudit.static.program.values import Const, Phi, Value

VALUES: list[Value] = [Const(1), Const(2), Phi(("truth", ("param", "f", "x")), Const(1), Const(2))]
_owners = st.sampled_from(["f", "g", "h"])
_names = st.sampled_from(["x", "y"])
_steps = st.one_of(
    st.tuples(st.just("set"), _owners, _names, st.sampled_from(VALUES)),
    st.tuples(st.just("pop"), _owners, _names, st.none()),
    st.tuples(st.just("drop"), _owners, st.none(), st.none()),
    st.tuples(st.just("keep"), _owners, _names, st.none()),
)
_Step = tuple[str, str, str | None, Value | None]


def _run(heap: Heap, model: dict[Place, Value], steps: list[_Step]) -> None:
    for kind, owner, name, value in steps:
        if kind == "set" and name is not None and value is not None:
            heap[owner, name] = value
            model[owner, name] = value
        elif kind == "pop" and name is not None:
            assert heap.pop((owner, name)) == model.pop((owner, name), None)
        else:
            kept = frozenset([name]) if kind == "keep" and name is not None else frozenset[str]()
            heap.keep(owner, kept) if kind == "keep" else heap.drop(owner)
            for place in [place for place in model if place[0] == owner and place[1] not in kept]:
                del model[place]


@given(st.lists(_steps, max_size=12), st.lists(_steps, max_size=8), st.lists(_steps, max_size=8))
def test_a_heap_and_its_clone_hold_what_was_put_there(
    before: list[_Step], here: list[_Step], there: list[_Step]
) -> None:
    heap, model = Heap(), dict[Place, Value]()
    _run(heap, model, before)
    clone, copied = heap.clone(), dict(model)
    _run(heap, model, here)
    _run(clone, copied, there)
    for found, expected in ((heap, model), (clone, copied)):
        assert dict(found.items()) == expected
        decided = {place: value for place, value in expected.items() if isinstance(value, Phi)}
        assert dict(found.decided()) == decided
    ours, theirs = heap.owners(), clone.owners()
    changed = [owner for owner, names in theirs.items() if ours.get(owner) is not names]
    assert [owner for owner, _ in _changed(ours, theirs)] == changed


@given(st.lists(_steps, max_size=12), st.lists(_steps, max_size=8), st.lists(_steps, max_size=8))
def test_paths_that_meet_hold_what_either_held(before: list[_Step], here: list[_Step], there: list[_Step]) -> None:
    one = PathState()
    model = dict[Place, Value]()
    _run(one.heap, model, before)
    other, others = one.clone(), dict(model)
    _run(one.heap, model, here)
    _run(other.heap, others, there)
    (met,) = merge([one, other], "here")
    assert {place for place, _ in met.heap.items()} == model.keys() | others.keys()
    for place, value in met.heap.items():
        mine, theirs = model.get(place), others.get(place)
        if mine is None or theirs is None or mine == theirs:
            assert value == (mine or theirs)
        else:
            assert value not in (mine, theirs)


def test_an_owner_that_holds_nothing_is_none() -> None:
    heap = Heap()
    heap["result", "value"] = Const(1)
    heap.clone().pop(("result", "value"))
    assert heap.pop(("result", "value")) == Const(1)
    assert heap.owners() == {}
