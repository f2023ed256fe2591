"""Scalers whose state is loaded and never saved, or saved and never loaded, as far as names tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from ..facts import ir
from .code import Code, code_of
from .definitions import FunctionInfo, Site
from .frame import text_of
from .linker import Project
from .nodes import walk_nodes
from .trace import Trace

_SCALER = re.compile(r"(?i)scaler")
_GRAD_SCALER = re.compile(r"(?i)^_?((grad|loss|amp|native|fp16|[a-z]{1,3})_?)?scaler$")
_OPTIMIZER = re.compile(r"(?i)opt")
_OTHER_SCALER = re.compile(r"(?i)(?<!grad)(?<!loss)(?<!amp)(?<!native)(?<!state)scaler$")
"""`StandardScaler`, `MinMaxScaler`: those of data."""
_KEEPS = re.compile(r"(?i)save|checkpoint|ckpt|snapshot|dump|resum|restor|load|regist")
"""A callee with such a name may keep the state of what it gets, under any other name."""
_LOADS = re.compile(r"(?i)load|resum|restor|regist")
_STATE = ("state_dict", "load_state_dict")


@dataclass(frozen=True, slots=True)
class Kept:
    """A scaler as it is called, and where its state is loaded (or saved) although the other is missing."""

    text: str
    site: Site
    function: FunctionInfo | None


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    name: str
    """The last part of what it is called on; '' where that may be any of many objects."""
    kept: Kept
    of_training: bool
    """It speaks of an optimizer or a scaler."""


def resuming_loads(project: Project) -> tuple[Kept, ...]:
    """Where the state of an optimizer or a scaler is loaded."""
    return tuple(c.kept for c in _calls(project) if c.method == "load_state_dict" and c.of_training)


def never_saved(project: Project) -> tuple[Kept, ...]:
    """Where states of scalers are loaded that nothing in the project saves."""
    calls = list(_calls(project))
    if any(call.method == "state_dict" and not call.name for call in calls):
        return ()
    return _without(project, calls, "load_state_dict", "state_dict")


def never_loaded(project: Project) -> tuple[Kept, ...]:
    """Where states of scalers are saved that nothing in the project loads; none where some file was not read that
    loads the state of anything."""
    if any(
        stmts is None and "load_state_dict" in unit.calls
        for module in project.modules.values()
        for unit, stmts in module.chunks
    ):
        return ()
    calls = list(_calls(project))
    if any(call.method == "load_state_dict" and not call.name for call in calls):
        return ()
    return _without(project, calls, "state_dict", "load_state_dict")


def given_in_vain(project: Project) -> tuple[tuple[Kept, Kept], ...]:
    """Where the state of an optimizer is loaded by a function that gets the scaler and does nothing with it but ask
    whether there is one; and where the state of such a scaler is saved."""
    calls = list(_calls(project))
    saved = [call.kept for call in calls if call.method == "state_dict" and _is_grad_scaler(call.name)]
    found = []
    for call in calls:
        function = call.kept.function
        if saved and call.method == "load_state_dict" and call.of_training and function is not None:
            for name in _unused_scalers(function):
                found.append((Kept(name, call.kept.site, function), saved[0]))
    return (*found, *_left_aside(project, calls), *_in_one_arm(project, saved))


def _left_aside(project: Project, calls: list[_Call]) -> Iterator[tuple[Kept, Kept]]:
    """Where a file that makes a scaler loads the state of the optimizer and never that of the scaler, although it gives
    the scaler to what saves."""
    by_path: dict[str, list[Code]] = {}
    for code in code_of(project):
        by_path.setdefault(code.path, []).append(code)
    for path, pieces in by_path.items():
        here = [call for call in calls if call.kept.site.path == path and call.method == "load_state_dict"]
        loads = [call.kept for call in here if call.of_training and not _SCALER.search(call.name)]
        for name in sorted(_made_scalers(pieces)) if loads else ():
            given = list(_given(pieces, name))
            if any(call.name in (name, "") for call in here) or any(_may_load(kept.text) for kept in given):
                continue
            yield from ((Kept(name, loads[0].site, loads[0].function), saved) for saved in given[:1])


_AMP = re.compile(r"(?i)scaler|amp|fp16|half|mixed|precision|bf16|xla|tpu|mps|[nhx]pu|cuda|device")
"""What asks whether there is a scaler: for a precision, or for a device that has none."""


def _in_one_arm(project: Project, saved: list[Kept]) -> Iterator[tuple[Kept, Kept]]:
    """Where a function resumes in two ways, each from a checkpoint that it reads itself, and loads the state of the
    scaler in one of them only; unless the two are with and without mixed precision, or on two kinds of device."""
    for code in code_of(project) if saved else ():
        if "load_state_dict" not in code.names:
            continue
        for node in code.nodes:
            if not isinstance(node, ir.If) or not node.orelse or _AMP.search(" ".join(_words(node.test))):
                continue
            arms = [_Resumed.of(node.body, code), _Resumed.of(node.orelse, code)]
            for arm, other in (arms, reversed(arms)):
                scalers = set(other.scalers) - set(arm.scalers)
                loads = [arm.others[name] for name in arm.others if name in other.others and _OPTIMIZER.search(name)]
                if scalers and loads and arm.reads and other.reads and _loads_once(code, scalers, other):
                    yield Kept(min(scalers), loads[0].site, loads[0].function), saved[0]


@dataclass(frozen=True, slots=True)
class _Resumed:
    """What a part of a function does to resume: the first load of each state by the name of its object."""

    scalers: dict[str, Kept]
    others: dict[str, Kept]
    reads: bool
    """It reads a checkpoint."""

    @classmethod
    def of(cls, part: object, code: Code) -> _Resumed:
        found: tuple[dict[str, Kept], dict[str, Kept]] = ({}, {})
        reads = False
        for node in walk_nodes(part):
            if isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.func.name == "load_state_dict":
                name = _name(node.func.base)
                kept = Kept(text_of(node.func.base), code.site(node.span), code.function)
                found[not _is_grad_scaler(name)].setdefault(name, kept)
            elif isinstance(node, ir.Call):
                reads = reads or "load" in text_of(node.func).rsplit(".", 1)[-1].lower()
        return cls(*found, reads)


def _loads_once(code: Code, names: set[str], arm: _Resumed) -> bool:
    """Whether the state of a scaler is loaded in one arm and nowhere else in the function."""
    loads = (n for n in code.nodes if isinstance(n, ir.Attr) and n.name == "load_state_dict" and _name(n.base) in names)
    return sum(1 for _ in loads) == sum(name in arm.scalers for name in names)


def _words(expr: ir.Expr) -> Iterator[str]:
    for node in walk_nodes(expr):
        if isinstance(node, ir.Name):
            yield node.id
        elif isinstance(node, ir.Attr):
            yield node.name
        elif isinstance(node, ir.Const) and isinstance(node.value, str):
            yield node.value


def _made_scalers(pieces: list[Code]) -> set[str]:
    """Names that are given a GradScaler."""
    assigned = [node for code in pieces for node in code.nodes if isinstance(node, ir.Assign)]
    makes = [stmt for stmt in assigned if isinstance(stmt.value, ir.Call) and _name(stmt.value.func) == "GradScaler"]
    return {_name(target) for stmt in makes for target in stmt.targets} - {""}


def _given(pieces: list[Code], name: str) -> Iterator[Kept]:
    """Calls that get the scaler and may keep it, by the name of what is called."""
    for code in pieces:
        for node in code.nodes:
            if isinstance(node, ir.Call) and _KEEPS.search(text_of(node.func)):
                if any(_name(value) == name for value in (*node.args, *(value for _, value in node.keywords))):
                    yield Kept(text_of(node.func), code.site(node.span), None)


def _may_load(callee: str) -> bool:
    """By its name; what makes an object may do anything with it."""
    return _LOADS.search(callee) is not None or callee.rsplit(".", 1)[-1][:1].isupper()


def _unused_scalers(function: FunctionInfo) -> list[str]:
    assert function.node is not None
    tests = [node.test for node in walk_nodes(function.node.body) if isinstance(node, ir.If | ir.IfExp)]
    asked = Counter(node.id for test in tests for node in walk_nodes(test) if isinstance(node, ir.Name))
    names = [param.name for param in function.node.params if _is_grad_scaler(param.name)]
    return [name for name in names if function.occurrences[name] == asked[name]]


def _is_grad_scaler(name: str) -> bool:
    return _GRAD_SCALER.search(name) is not None


def _without(project: Project, calls: list[_Call], method: str, other: str) -> tuple[Kept, ...]:
    """Scalers that one method is called on and the other is not. Where this is so of both, one scaler may have two
    names."""
    if all(call.method != method for call in calls):
        return ()
    made = list(_made(project))
    scalers = {name for name, cls in made if _SCALER.search(cls)}
    named = {
        m: {c.name for c in calls if c.method == m and (_SCALER.search(c.name) or c.name in scalers)} for m in _STATE
    }
    if (named[method] - named[other] and named[other] - named[method]) or any(
        _OTHER_SCALER.search(cls) for _, cls in made
    ):
        return ()
    wanted = named[method]
    if wanted:
        wanted = wanted - _handed_over(project)
    others = [call for call in calls if call.method == other]
    return tuple(
        call.kept
        for call in calls
        if call.method == method and call.name in wanted and not any(_may_be_one(project, call, o) for o in others)
    )


def _may_be_one(project: Project, call: _Call, other: _Call) -> bool:
    """Whether two calls may be on one scaler: by its name, and where both are of an object's own by its class."""
    if call.name != other.name:
        return False
    mine = [
        c.kept.function.cls for c in (call, other) if c.kept.function is not None and c.kept.text.startswith("self.")
    ]
    return len(mine) < 2 or mine[0] is None or mine[1] is None or project.related(mine[0], mine[1])


def _calls(project: Project) -> Iterator[_Call]:
    """`x.state_dict()` and `x.load_state_dict(...)`, but for those by which an object hands on its own."""
    for code in code_of(project):
        if code.names.isdisjoint(_STATE) or (code.function is not None and code.function.name in _STATE):
            continue
        loose = loop_names(code.nodes)
        for node in code.nodes:
            if isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.func.name in _STATE:
                name = _name(node.func.base)
                kept = Kept(text_of(node.func.base), code.site(node.span), code.function)
                texts = (text_of(node.func.base), *map(text_of, node.args))
                of_training = any(_OPTIMIZER.search(text) or _SCALER.search(text) for text in texts)
                yield _Call(node.func.name, "" if name in loose else name, kept, of_training)


def loop_names(nodes: Iterable[object]) -> set[str]:
    """What goes through many objects, and so has the state of any."""
    targets: list[ir.Expr] = []
    for node in nodes:
        if type(node) is ir.For:
            targets.append(node.target)
        elif type(node) is ir.Comp:
            targets += [target for target, _, _ in node.clauses]
    return {part.id for target in targets for part in walk_nodes(target) if isinstance(part, ir.Name)}


def _name(expr: ir.Expr) -> str:
    """The last part of a name; '' for what was looked up."""
    found = expr.name if isinstance(expr, ir.Attr) else expr.id if isinstance(expr, ir.Name) else ""
    return found.strip("_")


def _made(project: Project) -> Iterator[tuple[str, str]]:
    """What is assigned to something called a scaler, or is an object of a class that is: its name and the class."""
    for code in code_of(project):
        if not any(map(_SCALER.search, code.names)):
            continue
        for node in code.nodes:
            if isinstance(node, ir.Assign):
                names = [_name(target) for target in node.targets]
                called = [_name(part.func) for part in walk_nodes(node.value) if isinstance(part, ir.Call)]
                classes = [name for name in called if name[:1].isupper()]
                yield from (
                    (name, cls)
                    for name in names
                    for cls in classes
                    if name and (_SCALER.search(name) or _SCALER.search(cls))
                )


def _handed_over(project: Project) -> set[str]:
    """Scalers that are put into a dict, or given to what may keep their state and is not the project's own function
    for a scaler."""
    own = {
        info.name
        for module in project.modules.values()
        for info in module.nested
        if info.node is not None and any(_SCALER.search(param.name) for param in info.node.params)
    } - {"__init__"}
    found: set[str] = set()
    for code in code_of(project):
        for node in code.nodes:
            if isinstance(node, ir.Dict):
                found |= {_name(value) for _, value in node.items}
            elif isinstance(node, ir.Call) and _name(node.func) not in own and _KEEPS.search(text_of(node.func)):
                found |= {_name(value) for value in (*node.args, *(value for _, value in node.keywords))}
    return found - {""}


def saved_otherwise(project: Project, trace: Trace) -> frozenset[tuple[Site, Hashable]]:
    """Checkpoints that a class makes, with each scaler of a class derived from it that has a method of its own in the
    place of the one that saves."""
    makers = {scaler: project.function_at(made.site) for scaler, made in trace.made.items() if made.kind == "scaler"}
    homes = {saved.site: project.function_at(saved.site) for saved in trace.saved}
    return frozenset(
        (site, scaler)
        for site, home in homes.items() if home is not None and home.cls is not None
        for scaler, maker in makers.items()
        if maker is not None and maker.cls is not None and home.name in maker.cls.methods
        and project.derives(maker.cls, home.cls)
    )  # fmt: skip
