"""One path through the program: what names and attributes hold, what was decided, what the automata say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from itertools import chain

from . import typestate
from .heap import Heap
from .values import (
    Cast,
    Cls,
    Const,
    Device,
    Dtype,
    Ext,
    Func,
    Key,
    Method,
    Mod,
    Phi,
    Ref,
    Value,
    choice,
    mentions,
    options,
    roots,
)  # fmt: skip

MAX_GUARDS = 24
_VARYING: Key = ("varying",)


@dataclass(frozen=True, slots=True)
class Decision:
    """A branch that was taken: `node` is the place of the `if`."""

    key: Key
    taken: bool
    node: Hashable


Place = tuple[Hashable, str]
_Owners = dict[Hashable, dict[str, Value]]


@dataclass(slots=True)
class PathState:
    heap: Heap = field(default_factory=Heap)
    protocol: typestate.Protocol = field(default_factory=typestate.Protocol)
    guards: dict[Key, bool] = field(default_factory=dict)
    trail: frozenset[Decision] = frozenset()
    """Decisions on counters that brought the path here; kept over back edges, where guards are not."""
    casts: tuple[Cast | None, ...] = ()
    """Autocast stack, outermost first; None stands for a context that may or may not be an autocast."""
    outer_unknown: bool = False
    """The root of this path is a function whose callers are not known: they may have entered an autocast."""
    no_grad: bool = False
    exceptional: bool = False
    """The path passed an exception edge that nothing in the source raises."""
    inexact: bool = False
    """A bound was hit on the way: what is found here is at most possible."""
    gates: frozenset[Key] = frozenset()
    """What the decisions of the Phi values on the heap depend on, and perhaps more."""
    asked: frozenset[Key] = frozenset()
    """What the decisions in `guards` depend on, and perhaps more."""
    either: bool = False
    """Whether one of the decisions in `guards` may be that one of several holds, or does not."""

    def clone(self) -> PathState:
        return PathState(
            self.heap.clone(), self.protocol.copy(), dict(self.guards), self.trail, self.casts,
            self.outer_unknown, self.no_grad, self.exceptional, self.inexact, self.gates, self.asked,
            self.either,
        )  # fmt: skip

    # -------------------------------------------------------------- decisions

    def assume(self, key: Key, truth: bool) -> None:
        """Takes a decision; what it implies is taken with it."""
        self._take(key, truth)
        for part in self._left_over() if self.either else ():
            self._take(*part)

    def _take(self, key: Key, truth: bool) -> None:
        head = key[0]
        if head == "not":
            self._take(key[1], not truth)
        elif (head == "and" and truth) or (head == "or" and not truth):
            for part in key[1:]:
                self._take(part, truth)
        else:
            self.record(key, truth)

    def _left_over(self) -> list[tuple[Key, bool]]:
        """What must be so because one of several things is, and all the others are not: of `if a and b: … elif b: …`
        the second branch is without `a`."""
        found = []
        for key, truth in self.guards.items():
            if key[0] != ("or" if truth else "and"):  # as `_is_of_several`, without the call
                continue
            known = [self.decided(part) for part in key[1:]]
            if truth not in known and known.count(None) == 1:
                found.append((key[1 + known.index(None)], truth))
        return found

    def record(self, key: Key, truth: bool) -> None:
        """Notes a decision by itself."""
        self.guards[key] = truth
        self.asked |= roots(key)
        if _is_of_several(key, truth):
            self.either = True
        if len(self.guards) > MAX_GUARDS:
            # which paths have met is of less use than what was decided for a whole run
            del self.guards[
                next(chain(*(filter(kind, self.guards) for kind in (_is_passing, _is_of_met)), self.guards))
            ]

    def ask(self, key: Key) -> bool | None:
        """What is known of a decision that is to be taken; what is asked again and again is forgotten last."""
        if key in self.guards:
            self.guards[key] = self.guards.pop(key)
        return self.decided(key)

    def demote(self, known: Collection[Key]) -> None:
        """Decisions beside the known ones were taken for an error that is not there: they are forgotten early."""
        late = {key: self.guards.pop(key) for key in list(self.guards) if key in known}
        self.guards |= late

    def decided(self, key: Key) -> bool | None:
        known = self.guards.get(key)
        if known is not None:
            return known
        head = key[0]
        if head == "not":
            inner = self.decided(key[1])
            return None if inner is None else not inner
        if head in ("and", "or"):
            parts = [self.decided(part) for part in key[1:]]
            if head == "and":
                return False if False in parts else True if all(part is True for part in parts) else None
            return True if True in parts else False if all(part is False for part in parts) else None
        if head == "eq":
            for other, truth in self.guards.items():
                if truth and other[0] == "eq" and other[1] == key[1] and other[2] != key[2]:
                    return False
            if self.guards.get(("truth", key[1])) is False and key[2]:
                return False
        if head == "truth":
            for other, truth in self.guards.items():
                if truth and other[0] == "eq" and other[1] == key[1]:
                    return bool(other[2])
        return None

    def contradicts_itself(self) -> bool:
        """Whether paths that have met had decided for one of several things, and this one is past all of them."""
        return self.either and any(
            key[0] == ("or" if truth else "and") and all(self.decided(part) is (not truth) for part in key[1:])
            for key, truth in self.guards.items()
        )

    def forget(self, root: Key) -> None:
        """A name was assigned anew: decisions on its old value are void."""
        if root in self.asked:
            for key in [key for key in self.guards if root in roots(key)]:
                del self.guards[key]
            self.asked -= {root}
        if any(_is_symbolic(ident) and root in roots(ident) for ident in typestate.objects(self.protocol)):
            typestate.drop(self.protocol, lambda ident: _is_symbolic(ident) and root in roots(ident))
        if root in self.gates:
            self._collapse(lambda key: root in roots(key), root)

    def cross_back_edge(self) -> None:
        """Counters move on, unknown calls may answer differently."""
        for key in [k for k in self.guards if varies(k)]:
            del self.guards[key]
        if _VARYING in self.gates:
            self._collapse(varies, _VARYING)
        typestate.cross_back_edge(self.protocol)

    def _collapse(self, void: Callable[[Key], bool], gate: Key) -> None:
        """Phi values of void decisions become a choice of which nothing more is known."""
        self.gates -= {gate}
        for place, value in self.heap.decided():
            if _depends_on(value, void):
                self.heap[place] = choice(list(options(value)), ("phi", "collapsed", *map(str, place)))

    # ----------------------------------------------------------------- values

    def settle(self, value: Value) -> Value:
        """A Phi whose decision is known becomes the value of that side."""
        while type(value) is Phi:
            known = self.decided(value.key)
            if known is None:
                return value
            value = value.yes if known else value.no
        return value


def _is_symbolic(ident: object) -> bool:
    """Whether an identity is a key: that of something unknown. A Site is none."""
    return type(ident) is tuple


def _is_of_several(key: Key, truth: bool) -> bool:
    """Whether a decision is that one of several things holds, or that one of them does not."""
    head: object = key[0]
    return head == ("or" if truth else "and")


def _is_of_met(key: Key) -> bool:
    """A decision that paths had made in different ways before they met; or one of the user's own of that form."""
    head: object = key[0]
    return head == "or"


def _is_passing(key: Key) -> bool:
    """A decision on what this iteration or this call brought: the first to be forgotten. Switches that hold for a run,
    attributes of what a function has read among them, are asked again and again, and so is whether it is time to
    step."""
    if mentions(key, "%"):
        return False
    brought = {root[0] for root in roots(key)}
    if not brought.isdisjoint(("iter", "aug", "phi", "except")) or varies(key):
        return True
    return "call" in brought and not mentions(key, "attr")


def varies(key: Key) -> bool:
    """Whether a decision may come out otherwise in the next iteration: it counts, or asks something unknown."""
    return mentions(key, "%") or mentions(key, "ucall")


def is_counter(key: Key) -> bool:
    """A condition on how far the loop has come: `(i + 1) % k == 0`, `step == last`; what sort of thing it brings, or
    something in a comprehension, is another matter."""
    if mentions(key, "%"):
        return not _is_of_a_length(key)
    if key[0] == "truth" and key[1][:2] == ("cmp", "in"):
        return False  # `if fold in folds`
    return mentions(key, "iter") and not any(mentions(key, word) for word in ("ucall", "call", "isinstance", "comp"))


def _is_of_a_length(key: Key) -> bool:
    """`len(loader) % k == 0`: the same in every iteration."""
    if key[:2] == ("op", "%"):
        return bool(key[2][:2] == ("pcall", "len"))
    parts = [part for part in key if isinstance(part, tuple) and part and mentions(part, "%")]
    return bool(parts) and all(map(_is_of_a_length, parts))


def _depends_on(value: Value, void: Callable[[Key], bool]) -> bool:
    return type(value) is Phi and (void(value.key) or _depends_on(value.yes, void) or _depends_on(value.no, void))


def gates_of(key: Key) -> frozenset[Key]:
    """What a decision depends on, for `PathState.gates`."""
    return roots(key) | {_VARYING} if varies(key) else roots(key)


def truth_of(value: Value) -> bool | None:
    """Truth of a value that has one whatever was decided."""
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, Ref):
        return None if value.kind in ("list", "dict") else True
    if isinstance(value, Method) and isinstance(value.base, Ref) and value.base.kind == "module":
        return None  # an attribute that nothing in sight has set: a part of the network, or a switch
    if isinstance(value, Ext):
        return None if _may_be_setting(value.name) else True
    return True if isinstance(value, Func | Cls | Mod | Device | Dtype | Method) else None


def _may_be_setting(name: str) -> bool:
    """`settings.cfg.use_amp`, of a module that is not in sight: what is no class, and of no package that is known."""
    top, *rest = name.split(".")
    if not rest or top in _PACKAGES:
        return False
    return rest[-1].isupper() or not rest[-1][:1].isupper()


_PACKAGES = frozenset(sys.stdlib_module_names) | frozenset(
    ("PIL", "accelerate", "apex", "colossalai", "cv2", "deepspeed", "diffusers", "fairscale", "flash_attn",
     "habana_frameworks", "horovod", "intel_extension_for_pytorch", "jax", "kornia", "lightning", "megatron", "monai",
     "numpy", "pandas", "peft", "pytorch_lightning", "ray", "scipy", "sklearn", "tensorboard", "tensorboardX", "timm",
     "torch", "torch_npu", "torch_xla", "torchaudio", "torchvision", "tqdm", "transformer_engine", "transformers",
     "wandb", "xformers")
)  # fmt: skip
"""Packages of which an imported name is a function, a class or a module."""


def decision(key: Key) -> Key:
    """The truth of a symbolic expression as a decision, in one form for all the ways to write it.

    `x is not None`, `x != 0`, `x > 0`, `bool(x)` and `x` are one decision: a GradScaler object is always truthy, and
    a threshold that is 0 and one that is None both mean «off».
    """
    head = key[0]
    if head == "not":
        return ("not", decision(key[1]))
    if head in ("and", "or"):
        return (head, *(decision(part) for part in key[1:]))
    if head == "cmp":
        op, left, right = key[1], key[2], key[3]
        off = right[0] == "const" and not right[1]
        if (op in ("is not", "!=", ">") and off) or (op in ("is", "==") and right[0] == "const" and right[1] is True):
            return decision(left)
        if op in ("is", "==", "<=") and off:
            return ("not", decision(left))
        if op in ("==", "is") and right[0] == "const":
            return ("eq", left, right[1])
        if op in ("!=", "is not"):
            return ("not", decision(("cmp", "==" if op == "!=" else "is", left, right)))
        if op == "not in":
            return ("not", ("truth", ("cmp", "in", left, right)))
        if op == ">":
            return ("truth", ("cmp", "<", right, left))
        if op == ">=":
            return ("not", ("truth", ("cmp", "<", left, right)))
        if op == "<=":
            return ("not", ("truth", ("cmp", "<", right, left)))
    if head in ("truth", "eq"):
        return key
    return ("truth", key)
