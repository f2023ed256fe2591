"""The facts of one module: its code, reduced to what a precision audit can use.

A chunk of source (one top-level `def` or `class`, or a run of other top-level statements) becomes a list of
statements. Everything here is plain data: it is cached as msgpack and read back without LibCST.

Spans are `(line, column, end_line, end_column)`, 1-based, columns in code points, the end exclusive. Lines are
relative to the chunk (its first line is 1), so that an edit elsewhere in the file leaves a cached chunk valid.
"""

from __future__ import annotations

from typing import Union

import msgspec

SCHEMA = 8
"""Raised with every change of shape or of meaning: cached facts of another schema are not read."""

Span = tuple[int, int, int, int]


class _Node(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    pass


# ---------------------------------------------------------------- expressions


class Const(_Node, frozen=True, tag=0):
    """None, a bool, an int (fitting 64 bits), a float or a str (cut at 200 characters). Other literals are Opaque."""

    value: Union[bool, int, float, str, None]


class Name(_Node, frozen=True, tag=1):
    id: str


class Attr(_Node, frozen=True, tag=2):
    base: Expr
    name: str


class Call(_Node, frozen=True, tag=3):
    func: Expr
    args: tuple[Expr, ...]
    """Positional arguments; `*x` is a Star."""
    keywords: tuple[tuple[str, Expr], ...]
    """`**x` has the name ''."""
    span: Span


class Sub(_Node, frozen=True, tag=4):
    """`base[index]`; a slice index is a Slice."""

    base: Expr
    index: Expr


class Seq(_Node, frozen=True, tag=5):
    """A tuple, list or set display: kind 'tuple' | 'list' | 'set'. More than 64 items: the first 64 and Opaque."""

    kind: str
    items: tuple[Expr, ...]


class Dict(_Node, frozen=True, tag=6):
    """A dict display; a `**x` item has the key None."""

    items: tuple[tuple[Union[Expr, None], Expr], ...]
    span: Span


class BinOp(_Node, frozen=True, tag=7):
    op: str
    """The source token: '+', '%', '@', '//' …"""
    left: Expr
    right: Expr


class UnaryOp(_Node, frozen=True, tag=8):
    """op: '-', '+', '~' or 'not'."""

    op: str
    operand: Expr


class BoolOp(_Node, frozen=True, tag=9):
    """op: 'and' or 'or'; a chain of one operator is one node."""

    op: str
    values: tuple[Expr, ...]


class Compare(_Node, frozen=True, tag=10):
    """`left op right`; a chained comparison is a BoolOp 'and' of these. op: '==', 'is not', 'not in' …"""

    op: str
    left: Expr
    right: Expr


class IfExp(_Node, frozen=True, tag=11):
    test: Expr
    body: Expr
    orelse: Expr


class Lambda(_Node, frozen=True, tag=12):
    params: tuple[Param, ...]
    body: Expr


class Comp(_Node, frozen=True, tag=13):
    """A comprehension. kind: 'list' | 'set' | 'dict' | 'generator'; a dict has its key in `key`."""

    kind: str
    key: Union[Expr, None]
    element: Expr
    clauses: tuple[tuple[Expr, Expr, tuple[Expr, ...]], ...]
    """(target, iterable, conditions) per `for`."""


class Star(_Node, frozen=True, tag=14):
    value: Expr


class Await(_Node, frozen=True, tag=15):
    value: Expr


class Yield(_Node, frozen=True, tag=16):
    """`yield` and `yield from`."""

    value: Union[Expr, None]


class Walrus(_Node, frozen=True, tag=17):
    name: str
    value: Expr


class FString(_Node, frozen=True, tag=18):
    """Texts as Const, those of literals side by side as one, the rest as their expressions, in order."""

    parts: tuple[Expr, ...]


class Slice(_Node, frozen=True, tag=19):
    parts: tuple[Union[Expr, None], ...]


class Opaque(_Node, frozen=True, tag=20):
    """An expression that carries nothing for an audit, or that is nested too deeply to be followed."""


Expr = Union[
    Const, Name, Attr, Call, Sub, Seq, Dict, BinOp, UnaryOp, BoolOp, Compare, IfExp, Lambda, Comp, Star, Await,
    Yield, Walrus, FString, Slice, Opaque,
]  # fmt: skip


class Param(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """kind: 'pos' (positional, with or without keyword), 'kw' (keyword only), '*' or '**'."""

    name: str
    kind: str
    default: Union[Expr, None]
    annotation: Union[Expr, None]


# ----------------------------------------------------------------- statements


class ExprStmt(_Node, frozen=True, tag=30):
    value: Expr
    span: Span


class Assign(_Node, frozen=True, tag=31):
    """`t1 = t2 = value`; an annotated assignment with a value is one too."""

    targets: tuple[Expr, ...]
    value: Expr
    span: Span


class AugAssign(_Node, frozen=True, tag=32):
    target: Expr
    op: str
    """Without the '=': '+', '//' …"""
    value: Expr
    span: Span


class If(_Node, frozen=True, tag=33):
    """`elif` is an If in `orelse`. The span is that of the test."""

    test: Expr
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...]
    span: Span


class For(_Node, frozen=True, tag=34):
    """The span is that of the header, from `for` to the end of the iterable."""

    target: Expr
    iterable: Expr
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...]
    span: Span


class While(_Node, frozen=True, tag=35):
    test: Expr
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...]
    span: Span


class With(_Node, frozen=True, tag=36):
    """items: (context expression, target or None, span of the expression)."""

    items: tuple[tuple[Expr, Union[Expr, None], Span], ...]
    body: tuple[Stmt, ...]


class Try(_Node, frozen=True, tag=37):
    """handlers: (exception type or None, name or '', body)."""

    body: tuple[Stmt, ...]
    handlers: tuple[tuple[Union[Expr, None], str, tuple[Stmt, ...]], ...]
    orelse: tuple[Stmt, ...]
    finalbody: tuple[Stmt, ...]


class Return(_Node, frozen=True, tag=38):
    value: Union[Expr, None]
    span: Span


class Raise(_Node, frozen=True, tag=39):
    value: Union[Expr, None]
    span: Span


class Break(_Node, frozen=True, tag=40):
    span: Span


class Continue(_Node, frozen=True, tag=41):
    span: Span


class Assert(_Node, frozen=True, tag=42):
    test: Expr


class Delete(_Node, frozen=True, tag=43):
    targets: tuple[Expr, ...]


class Global(_Node, frozen=True, tag=44):
    names: tuple[str, ...]


class Nonlocal(_Node, frozen=True, tag=49):
    names: tuple[str, ...]


class Import(_Node, frozen=True, tag=45):
    """Each binding is (local name, module, attribute): `import a.b` binds ('a', 'a', '') and loads ('', 'a.b', ''),
    `import a.b as c` binds ('c', 'a.b', ''), `from a import b as c` binds ('c', 'a', 'b'), `from a import *` binds
    ('*', 'a', '*'). Relative modules keep their dots: '..pkg.mod'."""

    bindings: tuple[tuple[str, str, str], ...]
    span: Span


class Match(_Node, frozen=True, tag=46):
    """cases: (names the pattern binds, constant or dotted values it compares with, guard, body)."""

    subject: Expr
    cases: tuple[tuple[tuple[str, ...], tuple[Expr, ...], Union[Expr, None], tuple[Stmt, ...]], ...]


class FunctionDef(_Node, frozen=True, tag=47):
    """The span is that of the name in `def name`."""

    name: str
    params: tuple[Param, ...]
    decorators: tuple[tuple[Expr, Span], ...]
    body: tuple[Stmt, ...]
    is_async: bool
    is_generator: bool
    returns: Union[Expr, None]
    span: Span


class ClassDef(_Node, frozen=True, tag=48):
    """The span is that of the name in `class name`. keywords: `metaclass=` and the like. fields: the annotated names
    of the body in order, with a value or without, ClassVar left out: the parameters of a dataclass."""

    name: str
    bases: tuple[Expr, ...]
    keywords: tuple[tuple[str, Expr], ...]
    decorators: tuple[tuple[Expr, Span], ...]
    body: tuple[Stmt, ...]
    span: Span
    fields: tuple[str, ...] = ()


Stmt = Union[
    ExprStmt, Assign, AugAssign, If, For, While, With, Try, Return, Raise, Break, Continue, Assert, Delete, Global,
    Nonlocal, Import, Match, FunctionDef, ClassDef,
]  # fmt: skip
"""Docstrings, `pass` and bare annotations are dropped."""


# ------------------------------------------------------------------- the file


MANY = 64
"""More layers than anybody writes out one by one."""


class Unit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the triage knows of one chunk without having parsed it with LibCST.

    kind: 'def', 'class', 'data' (a large table, never parsed) or 'code' (a run of other top-level statements). Lines
    are 1-based in the file and inclusive; a decorated definition starts at its first decorator. `hot` says that a
    trigger occurs in the chunk. `calls` are the last components of every called name and every attribute or name passed
    as an argument, sorted: what could reach a hot definition elsewhere. `defines` are the functions, classes and
    methods in it, sorted; `hot_defines` those whose own text holds a trigger (a class itself, if any part of it does).
    """

    kind: str
    name: str
    first_line: int
    last_line: int
    hot: bool
    calls: tuple[str, ...]
    defines: tuple[str, ...]
    hot_defines: tuple[str, ...]
    digest: bytes
    """blake2b-128 of the chunk's text with newlines normalised to \\n."""
    width: int = 0
    """The largest whole number in it that by its name or place may be the width of a layer; 0: there is none."""
    looks_up: bool = False
    """It calls what it has looked up: `kinds[name](...)`, `getattr(a, b)(...)`."""
    steps: bool = False
    """It calls a part of itself in a loop on what that part gave before, as a recurrent decoder does."""
    small_data: bool = False
    """An option of the command line chooses MNIST or one of its variants unless it is told otherwise, or a constant
    does."""
    channels: int = 0
    """As `width`, of what may be a number of channels of a convolution."""
    on_cpu: bool = False
    """An option of the command line chooses the CPU unless it is told otherwise."""
    small_net: bool = False
    """An option of the command line chooses a narrow network for images of 32 by 32 pixels unless it is told
    otherwise."""
    stated: int = 0
    """As `width`, without what is only said to grow."""
    kept: tuple[str, ...] = ()
    """Those of `calls` that are only what it calls something that it has made itself: `self.resnet = Stack(3)`. What
    they are is said by what made them. Sorted."""
    small_images: bool = False
    """An option of the command line chooses images of 32 by 32 pixels unless it is told otherwise."""
    layers: int = 0
    """How many calls in it make a layer that multiplies matrices, or a block of such; MANY where one does so in a
    loop."""
    defaults: tuple[tuple[str, str], ...] = ()
    """Options of the command line that speak of a precision, and what they are unless they are told otherwise."""
    resting: tuple[str, ...] = ()
    """Functions and classes in it that stay on the CPU unless they are told another device, sorted."""
    told: tuple[str, ...] = ()
    """What it calls with a device that may be another than the CPU, sorted; see `facts.devices`."""
    first_channels: tuple[int, ...] = ()
    """The channels that options of the command line start a network with unless they are told otherwise, sorted."""
    pixels: int = 0
    """The largest number of pixels that it crops or resizes the side of an image to; 0: none is said."""
    stated_channels: int = 0
    """As `channels`, without what is only said to grow."""
    reads_features: bool = False
    """An option of the command line says where features lie that were computed before."""
    aged: bool = False
    """It holds what only a torch from before autocast runs."""
    recurrent_net: bool = False
    """An option of the command line chooses a recurrent network unless it is told otherwise."""
    small_batch: bool = False
    """A batch holds a handful of examples unless an option says otherwise."""


class Outline(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The triage of one file: its imports (anywhere in the file) and its units in source order."""

    imports: tuple[tuple[str, str, str], ...]
    """As in Import.bindings."""
    units: tuple[Unit, ...]
    exact: bool
    """False where stdlib `ast` rejected the file: then it is one unit of kind 'code' holding everything, hot."""
    usual_size: bool = False
    """Its text names data or weights of usual size; see `facts.sizes`."""
    takes_options: bool = False
    """Its text names what reads a command line or settings."""


class SyntaxProblem(msgspec.Struct, frozen=True, array_like=True):
    """Why a file or a chunk could not be parsed; the place is in the file."""

    line: int
    column: int
    message: str
