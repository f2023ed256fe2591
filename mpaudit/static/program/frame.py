"""What an analysis carries along: the run over one entry point, and the frame of one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from ..facts import ir
from .definitions import ClassInfo, FunctionInfo, ModuleInfo, Site
from .linker import Project
from .state import PathState
from .trace import Halved, Trace
from .values import Key, Value

MAX_DEPTH = 12
MAX_STEPS = 6_000
"""Statement executions per entry point; typical training code takes a few hundred, and the longest that was seen to
end 5,100."""

MAX_ALL_STEPS = 150_000
"""The same for all entry points of a component together; beyond, each gets no more than a test does."""

MAX_TEST_STEPS = 1_000
"""The same for a test, which runs the project over and over in small."""


class OutOfBudget(Exception):
    """The analysis of one entry point was stopped; its functions are then analysed on their own."""


@dataclass(slots=True)
class Run:
    project: Project
    trace: Trace
    root: int
    roles: dict[Hashable, str] = field(default_factory=dict)
    """Unknown values that are used as a 'scaler' or an 'optimizer'."""
    loops: list[Hashable] = field(default_factory=list)
    stack: list[FunctionInfo] = field(default_factory=list)
    callers: list[Site | None] = field(default_factory=list)
    """Where each call on the stack was made; None where nothing in the source makes it."""
    begun: list[int] = field(default_factory=list)
    """The step at which each call on the stack was entered."""
    reached: set[FunctionInfo] = field(default_factory=set)
    steps: int = 0
    limit: int = MAX_STEPS
    coarse: bool = False
    """Only what acts on gradients, a scaler or an optimizer is followed; see `coarse`."""
    testing: bool = False
    """A condition is being evaluated: calls in it are named by what they call, not by where they stand."""
    renewing: ir.Call | None = None
    """`net = net(width=64)`: what is called is a class or a factory, whatever its name."""
    lazy: int = 0
    """An object is being reconstructed out of order: its typestate is unknown."""
    tensors: set[Key] = field(default_factory=set)
    """Unknown values that a factory of torch made."""
    plain: set[Key] = field(default_factory=set)
    """Unknown values that a parser of YAML or JSON gave."""
    classes: dict[Hashable, ClassInfo] = field(default_factory=dict)
    enabled: dict[Hashable, bool | Key] = field(default_factory=dict)
    """Scaler → whether it is enabled."""
    parameters: dict[Hashable, frozenset[Hashable] | None] = field(default_factory=dict)
    """Optimizer → modules whose parameters it has; None: unknown."""
    choices: dict[Hashable, set[frozenset[Hashable]]] = field(default_factory=dict)
    """Optimizer → the modules it was made for, on one path or another; `parameters` has them all."""
    filtered: set[Hashable] = field(default_factory=set)
    """Optimizers that got a selection of the parameters only."""
    older: dict[Hashable, frozenset[Hashable]] = field(default_factory=dict)
    """Deep copy of a module → the optimizers that there were before it was made."""
    contains: dict[Hashable, set[Hashable]] = field(default_factory=dict)
    """Module → modules it was built from."""
    exhausted: list[tuple[FunctionInfo, int]] = field(default_factory=list)
    """The calls that were open when the budget ran out, and the steps that each of them had taken by then."""
    completed: set[FunctionInfo] = field(default_factory=set)
    """Functions that were followed to their end."""
    scaling: set[FunctionInfo] = field(default_factory=set)
    """Functions in which, or below which, a scaler that is on was used."""
    may_scale: set[FunctionInfo] = field(default_factory=set)
    """Functions that speak of scaling themselves, or that called one which does."""
    shapes: set[Hashable] = field(default_factory=set)
    """Calls followed to their end that got no object: another root need not follow them again."""
    cold: set[Key] = field(default_factory=set)
    """What functions gave in which the triage found nothing: as contexts, these are no autocasts."""
    resolving: set[tuple[Hashable, str]] = field(default_factory=set)
    bases: dict[ClassInfo, list[Value]] = field(default_factory=dict)
    """Class → what its bases are."""
    half: dict[Hashable, Halved] = field(default_factory=dict)
    """Module → the call that made its weights fp16."""
    in_train_mode: set[Hashable] = field(default_factory=set)
    """Modules that were told to train: one that is frozen is told to evaluate."""
    unscaled_under: dict[Site | None, set[Key]] = field(default_factory=dict)
    """unscale_ → the decisions that were taken before it, on one path or another."""
    again: bool = False
    """The root is being followed for the second time, as the next iteration of a loop that is not in sight."""
    events: int = 0
    notable: int = 0
    """Saves, entries of autocast, makings of scalers and optimizers: a call with one in it is followed each time."""
    withheld: int = 0
    """How often this path did not do what another one may: a disabled scaler, an arm of a condition."""
    maybe_cuda: bool = False
    """Something was moved to a device that is not known."""
    cuda: bool = False
    """Something was moved to a GPU."""

    def adopt(self, other: Run) -> None:
        """Takes over what another run knows of the objects it has made."""
        for name in ("roles", "classes", "enabled", "parameters", "half", "bases", "older"):
            setattr(self, name, dict(getattr(other, name)))
        self.choices = {optimizer: set(modules) for optimizer, modules in other.choices.items()}
        self.contains = {module: set(parts) for module, parts in other.contains.items()}
        self.filtered = set(other.filtered)
        self.plain = set(other.plain)
        self.in_train_mode = set(other.in_train_mode)
        self.cuda, self.maybe_cuda = other.cuda, other.maybe_cuda

    def enter(self, info: FunctionInfo, caller: Site | None) -> None:
        self.stack.append(info)
        self.callers.append(caller)
        self.begun.append(self.steps)

    def leave(self) -> None:
        self.stack.pop()
        self.callers.pop()
        self.begun.pop()

    def tick(self) -> None:
        self.steps += 1
        if self.steps > self.limit:
            self.exhausted = [(info, self.limit - step) for info, step in zip(self.stack, self.begun, strict=True)]
            raise OutOfBudget


@dataclass(slots=True)
class Frame:
    module: ModuleInfo
    info: FunctionInfo | None
    id: Hashable
    first_line: int
    owned: bool = False
    """A framework's engine drives the code of this class."""
    returns: list[tuple[PathState, Value]] = field(default_factory=list)
    breaks: list[PathState] = field(default_factory=list)
    continues: list[PathState] = field(default_factory=list)
    raises: list[PathState] = field(default_factory=list)
    owners: dict[str, Hashable] = field(default_factory=dict)
    """Names that `global` or `nonlocal` says are not its own → what holds them: the module's path, or a frame."""
    parent: Hashable = None
    """Frame in which a nested function was defined."""
    on_yield: Callable[[PathState, Value], list[PathState]] | None = None
    """What runs at each yield: the block or the loop body that the generator is for."""

    def site(self, span: ir.Span) -> Site:
        known = self.module.sites.get((self.first_line, span))
        if known is None:
            shift = self.first_line - 1
            known = Site(self.module.path, span[0] + shift, span[1], span[2] + shift, span[3])
            self.module.sites[self.first_line, span] = known
        return known


def receiver_text(expr: ir.Call) -> str:
    """What stands before the dot of a method call; all of the callee where a bound method has a name of its own."""
    return text_of(expr.func.base if isinstance(expr.func, ir.Attr) else expr.func)


def text_of(expr: ir.Expr) -> str:
    """An expression as the user wrote it, short enough for a message."""
    if type(expr) is ir.Name:
        return expr.id
    if type(expr) is ir.Attr:
        return f"{text_of(expr.base)}.{expr.name}"
    match expr:
        case ir.Call():
            return f"{text_of(expr.func)}({'...' if expr.args or expr.keywords else ''})"
        case ir.Sub():
            return f"{text_of(expr.base)}[{text_of(expr.index)}]"
        case ir.Const():
            return repr(expr.value)
        case ir.BinOp():
            return f"{text_of(expr.left)} {expr.op} {text_of(expr.right)}"
        case ir.Star():
            return f"*{text_of(expr.value)}"
        case ir.Await():
            return text_of(expr.value)
        case _:
            return "..."
