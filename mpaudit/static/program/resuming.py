"""Which checkpoints a training may be resumed from: those that some load of an optimizer's state can be about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..facts import ir
from .code import code_of
from .definitions import FunctionInfo, Site
from .frame import text_of
from .keeping import loop_names
from .linker import Project
from .nodes import walk_nodes
from .processes import together_with_each
from .trace import Saved, Trace


@dataclass(frozen=True, slots=True)
class Load:
    """`optimizer.load_state_dict(...)`, and how the code there holds that optimizer."""

    path: str
    function: FunctionInfo | None
    """None for top-level code."""
    held: str
    """'self': an attribute of its own object; 'local': a variable of the function; 'given': any other way."""


def resumable(project: Project, trace: Trace) -> frozenset[Site]:
    """Where the checkpoints are written that some load of an optimizer's state can be about.

    A class that loads into an attribute of its own resumes what its own object has saved, so what that class, a base or
    a subclass saves, or of what they have made. A function that loads into a variable of its own does not resume what
    another function saves of an optimizer that it has made itself.
    """
    if not trace.saved:
        return frozenset()
    loads = tuple(_loads(project))
    called = {load for load in loads if _is_named(load, project)}
    paths = sorted({load.path for load in loads})
    near = dict(zip(paths, together_with_each(project, [frozenset((path,)) for path in paths]), strict=True))
    return frozenset(
        saved.site
        for saved in trace.saved
        if any(
            saved.site.path in near[load.path]
            and (load in called or load.path == saved.site.path)
            and _is_about(load, saved, project, trace)
            for load in loads
        )
    )


def _loads(project: Project) -> Iterator[Load]:
    for code in code_of(project):
        if "load_state_dict" not in code.names:
            continue
        many = loop_names(code.nodes)
        for node in code.nodes:
            if _loads_optimizer(node, many) and not _hands_on(node, code.function):
                yield Load(code.path, code.function, "given" if code.function is None else _held(node, code.function))


def _loads_optimizer(node: object, many: set[str]) -> bool:
    """`optimizer.load_state_dict(...)`, `x.load_state_dict(state["optimizer"])`, or a load of one object of many."""
    if not (isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) and node.func.name == "load_state_dict"):
        return False
    if any(isinstance(given, ir.Call) and text_of(given.func).endswith(".state_dict") for given in node.args):
        return False  # from one object to another
    texts = [text_of(node.func.base), *map(text_of, node.args)]
    base = node.func.base
    one_of_many = isinstance(base, ir.Sub) or (isinstance(base, ir.Name) and base.id in many)
    return one_of_many or any(word in text.lower() for text in texts for word in ("opt", "scal"))


def _is_named(load: Load, project: Project) -> bool:
    """Whether anything calls the function that loads, by name, as far as there is a name to call it by."""
    info = load.function
    if info is None or info.name.startswith("__") or info.parent is not None:
        return True
    return any(info.name in code.names for code in code_of(project) if code.function is not info)


def _hands_on(node: object, info: FunctionInfo | None) -> bool:
    """`self.scaler.load_state_dict(state)` in the method of this name of a class round it: who calls that loads."""
    if info is None or info.name != "load_state_dict" or info.node is None or not isinstance(node, ir.Call):
        return False
    names = {param.name for param in info.node.params}
    return all(isinstance(given, ir.Name) and given.id in names for given in node.args)


def _held(node: object, info: FunctionInfo) -> str:
    base = node.func.base if isinstance(node, ir.Call) and isinstance(node.func, ir.Attr) else None
    if isinstance(base, ir.Attr) and isinstance(base.base, ir.Name) and info.cls is not None and info.node is not None:
        return "self" if [param.name for param in info.node.params[:1]] == [base.base.id] else "given"
    return "local" if isinstance(base, ir.Name) and base.id in _variables(info) else "given"


def _variables(info: FunctionInfo) -> set[str]:
    """Names that the function assigns, and the functions inside of it."""
    found: set[str] = set()
    for stmt in info.nodes:
        for target in stmt.targets if isinstance(stmt, ir.Assign) else ():
            found |= {part.id for part in walk_nodes(target) if isinstance(part, ir.Name)}
    return found


def _is_about(load: Load, saved: Saved, project: Project, trace: Trace) -> bool:
    home = project.function_at(saved.site)
    if load.held == "given" or load.function is None or home is None:
        return True
    if load.held == "self":
        mine = all(trace.names.get(optimizer, "").startswith("self.") for optimizer in saved.optimizers)
        if home.cls is None or load.function.cls is None:
            return True
        if mine:
            return project.related(home.cls, load.function.cls)
        makers = [project.function_at(trace.made[o].site) for o in saved.optimizers if o in trace.made]
        classes = [maker.cls for maker in makers if maker is not None and maker.cls is not None]
        if not classes or len(classes) < len(saved.optimizers):
            return True
        return any(project.related(cls, load.function.cls) for cls in classes)
    made = [trace.made[optimizer].site for optimizer in saved.optimizers if optimizer in trace.made]
    own = len(made) == len(saved.optimizers) and all(project.function_at(site) is home for site in made)
    return not own or home is load.function
