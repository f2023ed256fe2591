"""Follows a whole project: its scripts first, then what no script reaches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress

from ..facts import ir
from . import classes, enclosed, events, functions, generators, typestate
from .definitions import ClassInfo, FunctionInfo, ModuleInfo
from .flow import execute
from .frame import MAX_ALL_STEPS, MAX_STEPS, MAX_TEST_STEPS, Frame, OutOfBudget, Run, text_of
from .linker import Project
from .merging import merge
from .nodes import names_among, walk_nodes
from .objects import find_method
from .reach import is_live
from .shapes import Args, Keywords
from .state import PathState
from .trace import Trace
from .values import NONE, Choice, Cls, Const, Func, Ref, Sym, Tensor, Value, options

MAX_AGAIN = 4
"""States of a function's end that are followed into its next call."""
HOPELESS = 0.9
"""A call that took that much of the budget and did not end would not end with all of it either."""
FOREIGN = frozenset(["paddle", "mindspore", "oneflow", "tensorflow", "jax"])


def follow(project: Project) -> Trace:
    """The trace of everything in `project` that can matter. Roots are taken in order of path and line."""
    trace = Trace()
    reached: set[FunctionInfo] = set()
    number = 0
    for module in project.modules.values():
        if not _is_foreign(module) and any(unit.kind == "code" and stmts for unit, stmts in module.chunks):
            number += 1
            reached |= _script(project, module, trace, number)
    idle: set[Hashable] = set()
    for info in _uncalled_first(project):
        if info not in reached and info.live and not _is_foreign(info.module):
            kind = _kind(info)
            if kind in idle:
                continue
            number += 1
            before = len(trace.leaks), len(trace.losses)
            found, happened = _function(project, info, trace, number)
            reached |= found
            if not happened and before == (len(trace.leaks), len(trace.losses)):
                idle.add(kind)
    return trace


def _kind(info: FunctionInfo) -> Hashable:
    """What functions of one file have in common that say the same words, as those have that each make one variant of a
    network: where nothing happens in the first, following the others shows nothing new. Itself where it holds protocol
    code of its own."""
    return info if is_live(info) else (info.module.path, info.cls, info.parent, info.names)


def _is_foreign(module: ModuleInfo) -> bool:
    """Code for another framework whose names look like torch's."""
    return bool(module.imported_roots & FOREIGN) and "torch" not in module.imported_roots


def _script(project: Project, module: ModuleInfo, trace: Trace, number: int) -> set[FunctionInfo]:
    trace.scripts[number] = module.path

    def follow(run: Run) -> None:
        states = [PathState()]
        for unit, stmts in module.chunks:
            if stmts is None:
                continue
            frame = Frame(module, None, ("module", module.path), unit.first_line)
            states = execute(run, frame, stmts, states)
            if not states:
                break

    return _followed(Run(project, trace, number, limit=_limit(project, module)), follow)


def _function(project: Project, info: FunctionInfo, trace: Trace, number: int) -> tuple[set[FunctionInfo], bool]:
    """What need not be followed after a function, and whether anything of note happened on the way."""
    trace.scripts[number] = trace.entries[number] = info.module.path
    node = info.node
    assert node is not None

    def follow(run: Run) -> None:
        state = PathState(outer_unknown=True)
        me: Value | None = None
        module_frame = Frame(info.module, None, ("module", info.module.path), info.first_line)
        if info.cls is not None and node.params:
            me, state = _instance(run, module_frame, info.cls, info, state)
            _never_scaled(run, me, state)
        func = Func(info, me)
        parent = info.parent
        if parent is not None:
            func = Func(info, me, ("frame", repr(parent), 0, None))
        results = functions.call_function(run, module_frame, func, *_unknown(info), state, None)
        for after, made in results:
            if isinstance(made, Ref) and made.kind in ("generator", "generator_context"):
                generators.follow(run, module_frame, made, after, generators.resumed_by_anyone)
        if project.trains(info) and not node.is_generator:
            _once_more(run, module_frame, func, [after for after, _ in results])

    run = Run(project, trace, number, limit=_limit(project, info.module))
    found = _followed(run, follow) | {info}
    return found, bool(run.events or run.notable or number in trace.unfinished)


def _followed(run: Run, follow: Callable[[Run], None]) -> set[FunctionInfo]:
    """What need not be followed on its own after `run`."""
    try:
        follow(run)
    except OutOfBudget:
        run.trace.unfinished.add(run.root)
        _coarsely(run, follow)
        _finish(run)
        return _done_with(run)
    _finish(run)
    if _is_test(run.trace.scripts[run.root]):  # which may leave mixed precision off where others turn it on
        return run.reached - (run.may_scale - run.scaling)
    return run.reached


def _is_test(path: str) -> bool:
    parts = path.removesuffix(".py").split("/")
    return any(part in ("tests", "test", "testing") or part.startswith("test_") for part in parts)


def _coarsely(run: Run, follow: Callable[[Run], None]) -> None:
    """A second run where the budget ran out in what leads to an event, and before any loop that trains had been
    followed to its end; see `coarse`."""
    if run.limit < MAX_STEPS or (run.exhausted and run.project.acting.isdisjoint(info for info, _ in run.exhausted)):
        return
    if any(_trains_in_a_loop(run.project, info) for info in run.completed):
        return
    again = Run(run.project, run.trace, run.root, limit=run.limit, coarse=True)
    with suppress(OutOfBudget):
        follow(again)
    run.steps += again.steps
    run.cuda, run.maybe_cuda = run.cuda or again.cuda, run.maybe_cuda or again.maybe_cuda


def _trains_in_a_loop(project: Project, info: FunctionInfo) -> bool:
    """Whether a function has a loop in which gradients are computed, by name, there or in what it calls."""
    acting = project.acting_names | {"backward"}
    return info in project.acting and any(
        isinstance(loop, ir.For | ir.While) and not names_among(walk_nodes(loop.body)).isdisjoint(acting)
        for loop in info.nodes
    )


def _never_scaled(run: Run, me: Value | None, state: PathState) -> None:
    """A scaler that an object keeps to itself, and that none of its methods ever gives a loss, has no scale yet."""
    for _, value in state.heap.held(me) if isinstance(me, Ref) else ():
        kept = enclosed.keeper(run.project, value) if isinstance(value, Ref) else None
        if kept is not None and not enclosed.calls(run.project, *kept, frozenset(("scale",))):
            typestate.new_scaler(state.protocol, value)


def _once_more(run: Run, frame: Frame, func: Func, ends: list[PathState]) -> None:
    """A function that trains and that nothing in sight calls is one iteration of a loop elsewhere: what it leaves
    undone shows when it is called again. See `again.counts`."""
    run.again = True
    for state in merge(ends, ("again", repr(func.info)))[:MAX_AGAIN]:
        state.cross_back_edge()
        functions.call_function(run, frame, func, *_unknown(func.info), state, None)


def _unknown(info: FunctionInfo) -> tuple[Args, Keywords]:
    """Arguments of which nothing is known, defaults included: there is a caller somewhere, and it may pass them. What
    the function scales itself is a loss that nothing has scaled before."""
    assert info.node is not None
    params = [p.name for p in info.node.params if p.kind in ("pos", "kw")]
    static = any(isinstance(d, ir.Name) and d.id == "staticmethod" for d, _ in info.node.decorators)
    own = 1 if info.cls is not None and not static else 0
    losses = _scaled_names(info)
    unscaled = Tensor(uses=None)
    given = {name: unscaled if name in losses else Sym(("param", repr(info), name)) for name in params[own:]}
    more = {p.kind: Sym(("param", repr(info), p.name)) for p in info.node.params if p.kind in ("*", "**")}
    rest = (Sym(("star", more["*"].key)),) if "*" in more else ()
    return rest, (*given.items(), *((("", more["**"]),) if "**" in more else ()))


def _scaled_names(info: FunctionInfo) -> set[str]:
    """Names in `scaler.scale(loss)` that the function does not bind anew."""
    inside = list(walk_nodes(info.node.body if info.node is not None else ()))
    calls = (node for node in inside if isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.args)
    scaled = {
        call.args[0].id for call in calls
        if text_of(call.func).lower().endswith("scaler.scale") and isinstance(call.args[0], ir.Name)
    }  # fmt: skip
    bound = (target for node in inside if isinstance(node, ir.Assign) for target in node.targets)
    return scaled - {node.id for target in bound for node in walk_nodes(target) if isinstance(node, ir.Name)}


def _instance(run: Run, frame: Frame, cls: ClassInfo, info: FunctionInfo, state: PathState) -> tuple[Value, PathState]:
    """An object of the class as its methods find it: attributes from __init__, typestate unknown."""
    node = info.node
    assert node is not None
    names = {expr.id for expr, _ in node.decorators if isinstance(expr, ir.Name)}
    if "staticmethod" in names:
        return None, state  # type: ignore[return-value]
    if "classmethod" in names:
        return Cls(cls), state
    kind = "module" if classes.is_module_class(run, cls, state) else "instance"
    me = Ref(kind, ("self", repr(cls)))
    run.classes[me] = cls
    init = find_method(run, cls, "__init__", state)
    if init is not None and init is not info and init.node is not None:
        if cls not in run.project.instances:
            run.project.instances[cls] = _initialised(run, frame, cls, init, me, state)
        made, known = run.project.instances[cls]
        run.adopt(made)
        state = known.clone()
    return me, state


def _initialised(
    run: Run, frame: Frame, cls: ClassInfo, init: FunctionInfo, me: Ref, state: PathState
) -> tuple[Run, PathState]:
    """What `__init__` leaves behind, and the run that knows the objects it made."""
    init.live = True  # what it sets is what the methods work on
    run.lazy += 1
    reached = set(run.reached)
    try:
        results = functions.call_function(run, frame, Func(init, me), *_unknown(init), state.clone(), None)
    finally:
        run.lazy -= 1
    run.reached = reached
    if results:
        state = results[0][0]
        state.guards.clear()
        state.outer_unknown = True
        _settle_choices(run, me, state)
        for name, assigns in cls.attribute_assigns.items():
            if any(method is not init for method, _ in assigns):
                state.heap.pop((me, name))
        for name in _told_by_heirs(run.project, cls):
            if isinstance(state.heap.get((me, name)), Const):
                state.heap[me, name] = Sym(("attr", ("obj", me), name))
    made = Run(run.project, run.trace, run.root)
    made.adopt(run)
    return made, state


def _told_by_heirs(project: Project, cls: ClassInfo) -> Iterator[str]:
    """Attributes that subclasses set: of a flag or a None nothing is known in a method that they inherit."""
    for module in project.modules.values():
        for other in module.classes.values():
            if other is not cls and project.derives(other, cls):
                yield from other.attribute_assigns


def _settle_choices(run: Run, me: Ref, state: PathState) -> None:
    """An optimizer that is made in the branches of one choice of the user's, by methods that find the object: each
    stands for whichever it is, and where there is none nothing is trained."""
    for name, value in list(state.heap.held(me)):
        made = sorted({v for v in options(value) if isinstance(v, Ref) and v.kind == "optimizer"}, key=repr)
        if not isinstance(value, Choice) or not made or not all(v in made or v == NONE for v in value.options):
            continue
        events.discard(run, made[1:], state)
        state.heap[me, name] = made[0]


def _is_big(shape: object) -> bool:
    """A driver of a script, not a helper that makes something."""
    info = shape[0] if isinstance(shape, tuple) else None
    return isinstance(info, FunctionInfo) and info.node is not None and len(info.node.body) > 12


def _done_with(run: Run) -> set[FunctionInfo]:
    """What need not be followed on its own after a run whose budget ran out: what was followed to its end, and of the
    calls in which the budget ran out the drivers round the innermost one that trains. On its own that one may still be
    followed, and so may a function whose scaler was None, or off, on every path that the budget sufficed for; unless
    it took nearly all of the budget already. For the others nothing is gained by coming back."""
    exhausted = {info for info, _ in run.exhausted}
    short = {info for info, steps in run.exhausted if steps < run.limit * HOPELESS}
    training = [info for info, _ in run.exhausted if info.node is not None and run.project.trains(info)]
    run.project.exhausting |= exhausted
    unscaled = ((run.completed - exhausted) | short) & run.may_scale - run.scaling
    innermost = set(training[-1:]) - run.completed  # an earlier call of it was followed to its end
    return (run.completed | exhausted) - (short & innermost) - unscaled


def _limit(project: Project, module: ModuleInfo) -> int:
    return MAX_TEST_STEPS if _is_test(module.path) or project.steps > MAX_ALL_STEPS else MAX_STEPS


def _finish(run: Run) -> None:
    run.project.steps += run.steps
    run.project.followed |= {shape for shape in run.shapes if _is_big(shape)}
    if run.cuda or (run.maybe_cuda and run.project.mentions_cuda):
        run.trace.cuda_roots.add(run.root)


def _uncalled_first(project: Project) -> Iterator[FunctionInfo]:
    """Functions that nothing in the project names come first: the others may be reached from them."""
    named: dict[str, int] = {}
    everything = [info for module in project.modules.values() for info in module.nested if info.live]
    for info in everything:
        for name in info.names - {info.name}:
            named[name] = named.get(name, 0) + 1
    yield from sorted(
        everything,
        key=lambda i: (i.parent is not None, _called(i, named), i.name == "__init__", i.module.path, i.first_line),
    )


def _called(info: FunctionInfo, named: dict[str, int]) -> bool:
    if info.name in ("__init__", "__call__", "forward"):
        return info.cls is not None and info.cls.name in named
    return info.name in named
