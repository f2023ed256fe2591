"""Abstract values: what an expression may stand for while the program is followed.

Values are immutable and hashable. Objects with identity (a scaler, an optimizer, a module, an instance of a user's
class, a list) are `Ref`s; what changes about them lives in the state. What is not known is a `Sym`: a name for the
unknown, built from where it came from, so that the same unknown met twice is the same decision.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Union

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from .definitions import ClassInfo, FunctionInfo

Key = tuple[Any, ...]
"""A symbolic expression: nested tuples of strings, numbers and keys."""


class Const(Struct, frozen=True, gc=False):
    value: bool | int | float | str | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


NONE = Const(None)


class Sym(Struct, frozen=True, gc=False, cache_hash=True):
    key: Key


class Ext(Struct, frozen=True, gc=False, cache_hash=True):
    """Something of a package outside the project: `torch.amp.GradScaler`. Canonical names only."""

    name: str


class Ref(Struct, frozen=True, gc=False, cache_hash=True):
    """An object made in sight; `kind` says what it is, the identity is the place that made it."""

    kind: str
    id: Hashable


class Func(Struct, frozen=True, gc=False, cache_hash=True):
    info: "FunctionInfo"
    self_value: "Value | None" = None
    closure: Hashable = None
    """Frame in which a nested function was defined."""
    wraps: "FunctionInfo | None" = None
    """The function that a decorator of the project has put this one round; itself: without its decorators."""


class Cls(Struct, frozen=True, gc=False, cache_hash=True):
    info: "ClassInfo"


class Mod(Struct, frozen=True, gc=False, cache_hash=True):
    """A module of the project, by its path."""

    path: str


class Tup(Struct, frozen=True, gc=False, cache_hash=True):
    items: tuple["Value", ...]


class Method(Struct, frozen=True, gc=False, cache_hash=True):
    """An attribute of a value that has not been called yet and is not a function of the project."""

    base: "Value"
    name: str


class Phi(Struct, frozen=True, gc=False, cache_hash=True):
    """`yes` where the decision `key` is true, else `no`: two paths merged without forgetting which was which."""

    key: Key
    yes: "Value"
    no: "Value"


class Choice(Struct, frozen=True, gc=False, cache_hash=True):
    """One of a few values, it is not known which."""

    options: frozenset["Value"]


class Cast(Struct, frozen=True, gc=False, cache_hash=True):
    """An autocast that was on (or may have been) when a forward ran.

    `device` and `dtype` are names ('cuda', 'float16') or '' where unknown; 'bfloat16|float16' is one of the two, by
    what the GPU can do. `enabled` is True, False or the key of the decision that says so; `site` is the call that
    made the context.
    """

    device: str
    dtype: str
    enabled: bool | Key
    site: Any
    half: Key | None = None
    """Where an option chooses the dtype and may choose float16: the decision under which it does."""


class Use(Struct, frozen=True, gc=False, cache_hash=True):
    """A forward of a module that a tensor came from."""

    module: Hashable | None
    casts: tuple[Cast, ...] | None
    """Autocasts on the stack at the call, outermost first; None: unknown (a caller may have entered one)."""
    site: Any


class Tensor(Struct, frozen=True, gc=False, cache_hash=True):
    """A tensor that came out of tracked code.

    `scaled`: None (proven unscaled), the scaler's identity, '?' (unknown) or 'mixed'. `uses`: the forwards it came
    from, None where there were too many. `dtype`: '' or a name. `array` says that it is a NumPy array. `site`: the
    constructor call of a float64 one.
    """

    uses: frozenset[Use] | None = frozenset()
    scaled: Hashable | None = None
    dtype: str = ""
    array: bool = False
    site: Any = None
    grad: bool = True
    partly: frozenset[Use] = frozenset()
    """Some of the forwards it came from, where `uses` is None."""

    @property
    def some_uses(self) -> frozenset[Use]:
        """Forwards that it is known to come from; there may be others."""
        return self.partly if self.uses is None else self.uses


class Params(Struct, frozen=True, gc=False, cache_hash=True):
    """Parameters of modules (identities), of an optimizer, or of something unknown (both None)."""

    modules: frozenset[Hashable] | None
    optimizer: Hashable | None = None
    filtered: bool = False
    """A selection (`if p.requires_grad`): not known to be all of them."""


class Gradient(Struct, frozen=True, gc=False, cache_hash=True):
    """`p.grad` of parameters."""

    params: Params


class State(Struct, frozen=True, gc=False, cache_hash=True):
    """`x.state_dict()` of an object."""

    of: "Value"


class Dtype(Struct, frozen=True, gc=False, cache_hash=True):
    name: str


class Device(Struct, frozen=True, gc=False, cache_hash=True):
    """A `torch.device`; type '' where unknown, `maybe_cuda` for `'cuda' if … else 'cpu'`."""

    type: str
    index: bool = False


class Owned(Struct, frozen=True, gc=False, cache_hash=True):
    """Something that a framework drives (Accelerate, DeepSpeed, Fabric …): its protocol is not the user's. `what`:
    'optimizer' where it was one before the framework took it, or ''."""

    by: str
    what: str = ""


Value = Union[
    Const, Sym, Ext, Ref, Func, Cls, Mod, Tup, Method, Phi, Choice, Tensor, Params, Gradient, State, Dtype, Device,
    Owned,
]  # fmt: skip

MAX_OPTIONS = 6
MAX_ITEMS = 256
MAX_NESTED = 6
"""Of tuples in tuples, and of decisions in a value that was computed from others, which each have at most half as many
where paths meet."""
MAX_USES = 16
"""Of networks in one loss: the generators' of a cycle GAN has a dozen forwards."""


def depth(value: Value) -> int:
    """How many decisions hang on one another in a value."""
    return 1 + max(depth(value.yes), depth(value.no)) if isinstance(value, Phi) else 0


@lru_cache(maxsize=16384)
def nesting(value: Value) -> int:
    """How deep tuples stand in tuples."""
    return 1 + max(map(nesting, value.items), default=0) if isinstance(value, Tup) else 0


def phi(key: Key, yes: Value, no: Value) -> Value:
    """`yes` where the decision `key` is true, else `no`; merely one of them where decisions would nest without end, as
    they do where a loop stores what it made of a value back in its place."""
    if yes == no:
        return yes
    if max(depth(yes), depth(no)) >= MAX_NESTED:
        return choice([yes, no], ("phi", key))
    return Phi(key, yes, no)


def options(value: Value) -> tuple[Value, ...]:
    """The values that a Phi or Choice may be; any other value is itself."""
    if type(value) is Phi:
        return options(value.yes) + options(value.no)
    if type(value) is Choice:
        return tuple(inner for option in sorted(value.options, key=repr) for inner in options(option))
    return (value,)


def choice(values: list[Value], otherwise: Key) -> Value:
    """One of `values`; a Sym named `otherwise` where there are too many."""
    flat: set[Value] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, Phi):
            pending += (value.yes, value.no)
        elif isinstance(value, Choice):
            pending += value.options
        else:
            flat.add(value)
    if len(flat) == 1:
        return next(iter(flat))
    if len(flat) > MAX_OPTIONS:
        return Sym(otherwise)
    if all(isinstance(v, Const | Sym) for v in flat) and NONE not in flat and not _few_constants(flat):
        return Sym(otherwise)
    return Choice(frozenset(flat))


def _few_constants(values: set[Value]) -> bool:
    return len(values) <= 4 and all(isinstance(v, Const) and isinstance(v.value, str | bool) for v in values)


def one_tensor(value: Value | None) -> Tensor | None:
    """What was computed in one of several ways came from the forwards of all of them; None where it is no tensor."""
    if value is None or isinstance(value, Tensor):
        return value
    found = list(options(value))
    tensors = [option for option in found if isinstance(option, Tensor)]
    if not tensors:
        return None
    joined = join_tensors(tensors)
    known = all(isinstance(option, Tensor | Const) for option in found)
    return joined if known else replace(joined, uses=None, partly=joined.some_uses)


def join_tensors(values: list[Tensor]) -> Tensor:
    """What arithmetic over tensors, or a call that got them, may give."""
    uses: frozenset[Use] | None = frozenset()
    for value in values:
        uses = None if uses is None or value.uses is None else uses | value.uses
    if uses is not None and len(uses) > MAX_USES:
        uses = None
    partly = frozenset[Use]()
    if uses is None:
        every = frozenset(use for value in values for use in value.some_uses)
        partly = every if len(every) <= MAX_USES else frozenset(sorted(every, key=repr)[:MAX_USES])
    scales = {value.scaled for value in values}
    scaled: Hashable | None = None
    if len(scales) == 1:
        scaled = next(iter(scales))
    elif scales:
        scaled = "?" if "?" in scales else "mixed"
    return Tensor(uses, scaled, grad=any(v.grad for v in values), partly=partly)


@lru_cache(maxsize=65536)
def roots(key: Key) -> frozenset[Key]:
    """The leaves of a symbolic expression that can be assigned anew."""
    if not key:
        return frozenset()
    head = key[0]
    if head in ("param", "iter", "call", "aug", "phi", "global", "free", "except", "del"):
        return frozenset((key,))
    found: set[Key] = set()
    for part in key[1:]:
        if isinstance(part, tuple) and part and isinstance(part[0], str):
            found |= roots(part)
    return frozenset(found)


@lru_cache(maxsize=65536)
def mentions(key: Key, word: str) -> bool:
    """Whether `word` is the head or operator of any part of a symbolic expression."""
    return any(part == word or (isinstance(part, tuple) and mentions(part, word)) for part in key)


MAX_PARTS = 160
_KEPT = frozenset(("ucall", "%", "get_scale", "Tensor", "name of", "Gradient", "comp", "gradient norm"))
"""The words that something asks a symbolic expression for, beside its leaves."""


def folded(key: Key) -> Key:
    """A symbolic expression, or one that stands for it where it has more than `MAX_PARTS` parts: equal for equal ones,
    of the same leaves. `x = x + x` doubles an expression, line after line."""
    pending: list[object] = [key]
    for number, part in enumerate(pending):
        if number == MAX_PARTS:
            break
        if isinstance(part, tuple):
            pending += part
    else:
        return key
    words = ("const", *(word for word in sorted(_KEPT) if mentions(key, word)))
    return ("op", "…", blake2b(repr(key).encode(), digest_size=8).hexdigest(), words, *sorted(roots(key), key=repr))


GRADIENT_NORM: Key = ("ucall", "gradient norm")
"""A number that was computed from gradients: what they are multiplied by then bounds them."""


def from_gradients(values: Iterable[Value]) -> bool:
    """Whether any of the values is a gradient or was computed from gradients."""
    for value in values:
        if isinstance(value, Sym):
            found = mentions(value.key, "gradient norm")
        elif isinstance(value, Tup):
            found = from_gradients(value.items)
        elif isinstance(value, Phi | Choice):
            found = from_gradients(options(value))
        else:
            found = isinstance(value, Gradient)
        if found:
            return True
    return False
