"""The triage: what the standard library's `ast` can say, ten times faster than LibCST, about where to look.

It decides what is parsed with LibCST and nothing else. Where it fails, the whole file is one unit to be parsed.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeGuard

from mpaudit.static.facts.ages import calls_python_2, indexes_loss
from mpaudit.static.facts.devices import rests_on_cpu, told_device
from mpaudit.static.facts.images import first_channels, is_small_batch, pixels
from mpaudit.static.facts.ir import MANY, Outline, SyntaxProblem, Unit
from mpaudit.static.facts.options import precision_default, reads_features
from mpaudit.static.facts.sizes import is_of_usual_size, takes_options
from mpaudit.static.facts.widths import (
    GROWN,
    Loop,
    Width,
    data_of_table,
    factors_of,
    is_on_cpu,
    is_recurrent_net,
    is_small_data,
    is_small_images,
    is_small_net,
    makes_layer,
    makes_many,
    may_repeat_layers,
    names_small_data,
    steps_through_time,
    widths_of_assignment,
    widths_of_call,
    widths_of_defaults,
    widths_of_growth,
)
from mpaudit.static.syntax import normalise_newlines, parse_ast, syntax_error
from mpaudit.static.triggers import bindings_of, import_lines, looked_up_entries, path_entries

TABLE = 20_000
"""Characters from which an assignment of nothing but literals is set apart as data that is never parsed: a LibCST tree
takes a hundred times and more the memory of its text."""
ANY_TABLE = 200_000
"""The same for an assignment that calls or names something, `x = torch.tensor([...])`."""

_CALLED = re.compile(r"\b([^\W\d]\w*)\s*\(")
_DEFINED = re.compile(r"\b(?:def|class)[ \t]+([^\W\d]\w*)")

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_LITERAL = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.expr_context, ast.unaryop)


class Triggers(Protocol):
    """What `triggers.Scanner` is."""

    def starts(self, text: str, /) -> list[int]: ...


class _Range(NamedTuple):
    """A unit to be: consecutive top-level statements on the lines first to last."""

    kind: str
    name: str
    first: int
    last: int
    statements: list[ast.stmt]


def outline(text: str, trigger: Triggers) -> Outline | SyntaxProblem:
    """The units of a file and its imports. A SyntaxProblem only where LibCST rejects what `ast` rejects."""
    text = normalise_newlines(text)
    lines = split_lines(text)
    try:
        tree = parse_ast(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return syntax_error(text) or _inexact(text, lines)
    hot_lines = _matching_lines(text, trigger)
    imports: list[tuple[int, int, ast.Import | ast.ImportFrom]] = []
    units = [_unit(unit, lines, hot_lines, imports) for unit in _ranges(tree.body, lines)]
    imports.sort(key=lambda found: found[:2])
    bound = (binding for _, _, node in imports for binding in _bindings(node))
    data = text.encode("utf-8", "replace")
    found = (*bound, *path_entries(data), *looked_up_entries(data))
    return Outline(found, tuple(units), True, is_of_usual_size(data), takes_options(data))


def split_lines(text: str) -> list[str]:
    """The lines as Python's tokenizer counts them, without their ends: form feeds and \\u2028 end none."""
    lines = normalise_newlines(text).split("\n")
    if not lines[-1]:
        del lines[-1]
    return lines


def unit_text(lines: Sequence[str], unit: Unit) -> str:
    """The text of a unit, newlines normalised, from the lines of `split_lines`. The empty line that a backslash at its
    end goes on to is part of it."""
    text = _join(lines, unit.first_line, unit.last_line)
    return text + "\n" if text.endswith("\\\n") else text


def _join(lines: Sequence[str], first: int, last: int) -> str:
    return "\n".join(lines[first - 1 : last]) + "\n"


def _matching_lines(text: str, trigger: Triggers) -> list[int]:
    """Lines in which a match starts, ascending."""
    found: list[int] = []
    line, counted = 1, 0
    for start in trigger.starts(text):
        line += text.count("\n", counted, start)
        counted = start
        if not found or found[-1] != line:
            found.append(line)
    return found


def _holds(hot_lines: Sequence[int], first: int, last: int) -> bool:
    index = bisect_left(hot_lines, first)
    return index < len(hot_lines) and hot_lines[index] <= last


def _ranges(body: Iterable[ast.stmt], lines: Sequence[str]) -> Iterator[_Range]:
    run: list[ast.stmt] = []
    for node in body:
        definition = isinstance(node, _Definition)
        if definition or _is_table(node, lines):
            if run:
                yield _code("code", run)
                run = []
            yield _definition(node, lines) if definition else _code("data", [node])
        else:
            run.append(node)
    if run:
        yield _code("code", run)


def _code(kind: str, run: list[ast.stmt]) -> _Range:
    return _Range(kind, "", run[0].lineno, _last_line(run[-1]), run)


def _definition(node: ast.stmt, lines: Sequence[str]) -> _Range:
    assert isinstance(node, _Definition)
    kind = "class" if isinstance(node, ast.ClassDef) else "def"
    return _Range(kind, node.name, _first_line(node, lines), _last_line(node), [node])


def _first_line(node: _Definition, lines: Sequence[str]) -> int:
    """That of the first `@`, which `ast` does not tell from a decorator in parentheses."""
    if not node.decorator_list:
        return node.lineno
    first = node.decorator_list[0].lineno
    while not lines[first - 1].lstrip().startswith("@"):
        first -= 1
    return first


def _last_line(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno


def _is_table(node: ast.stmt, lines: Sequence[str]) -> bool:
    if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)):
        return False
    size = sum(map(len, lines[node.lineno - 1 : _last_line(node)]))
    return size > ANY_TABLE or (size > TABLE and node.value is not None and _is_literal(node.value))


def _is_literal(node: ast.expr) -> bool:
    pending: list[ast.AST] = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Constant):
            continue
        if not isinstance(part, _LITERAL):
            return False
        pending += ast.iter_child_nodes(part)
    return True


def _unit(
    unit: _Range,
    lines: Sequence[str],
    hot_lines: Sequence[int],
    imports: list[tuple[int, int, ast.Import | ast.ImportFrom]],
) -> Unit:
    """The unit, from one walk over its nodes; the imports met on the way are added to `imports`."""
    calls: set[str] = set()
    defines: set[str] = set()
    hot_defines: set[str] = set()
    pending: list[object] = list(unit.statements)
    widths: list[Width] = []
    factors: dict[str, int] = {}
    looks_up, steps, small_data, on_cpu, small_net, small_images = False, False, False, False, False, False
    features, aged, recurrent, small_batch = False, False, False, False
    tables: list[bool] = []
    defaults: set[tuple[str, str]] = set()
    taken: set[str] = set()
    given: set[str] = set()
    made: set[str] = set()
    called: set[str] = set()
    indexed: set[str] = set()
    layers = 0
    loops: list[Loop] = []
    resting: set[str] = set()
    told: set[str] = set()
    starts: set[int] = set()
    size = 0
    while pending:
        node = pending.pop()
        kind: type = type(node)
        if isinstance(node, ast.Attribute):
            if node.attr in _LAYERS_BY_NAME:
                calls.add(node.attr)
            pending.append(node.value)
            continue
        if kind not in _TELLING:
            pass
        elif isinstance(node, ast.Call):
            if not (isinstance(node.func, ast.Name) and node.func.id in _ASKING):
                _add_names(calls, (node.func, *node.args, *[keyword.value for keyword in node.keywords]))
            if isinstance(node.func, ast.Subscript) and _is_own(node.func.value):
                indexed.add(node.func.value.attr)
            else:
                looks_up = looks_up or isinstance(node.func, (ast.Subscript, ast.Call))
            if not _is_own(node.func):
                _add_names(called, (node.func,))
            if isinstance(node.func, ast.Attribute) and node.func.attr in _PARTS:
                taken.add(node.func.attr)
            widths += widths_of_call(node, factors)
            if makes_layer(node):
                layers += MANY if makes_many(node) else 1
            small_data = small_data or is_small_data(node)
            small_images = small_images or is_small_images(node)
            on_cpu = on_cpu or is_on_cpu(node)
            small_net = small_net or is_small_net(node)
            features = features or reads_features(node)
            aged = aged or calls_python_2(node)
            small_batch = small_batch or is_small_batch(node)
            recurrent = recurrent or is_recurrent_net(node)
            told.add(told_device(node))
            starts.add(first_channels(node))
            size = max(size, pixels(node))
            default = precision_default(node)
            if default is not None:
                defaults.add(default)
        elif isinstance(node, _Definition):
            _add_names(calls, node.decorator_list)
            if isinstance(node, ast.ClassDef):
                _add_names(calls, node.bases)
            defines.add(node.name)
            if _holds(hot_lines, _first_line(node, lines), _last_line(node)):
                hot_defines.add(node.name)
            if not isinstance(node, ast.ClassDef):
                widths += widths_of_defaults(node.args)
                if rests_on_cpu(node.args):
                    resting.add(unit.name if node.name == "__init__" else node.name)
                given.update(a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg in _HANDED)
                factors.update(factors_of(node.args))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            widths += widths_of_assignment(node, factors)
            small_data = small_data or names_small_data(node)
            made.update(_made(node))
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp)):
            loops.append(node)
        elif isinstance(node, (ast.For, ast.While)):
            loops.append(node)
            steps = steps or steps_through_time(node)
            if isinstance(node, ast.For):
                targets = node.target.elts if isinstance(node.target, ast.Tuple) else (node.target,)
                taken.update(part.id for part in targets if isinstance(part, ast.Name) and part.id in _PARTS)
        elif isinstance(node, ast.Subscript):
            aged = aged or indexes_loss(node)
        elif isinstance(node, ast.Dict):
            tables += data_of_table(node)
        elif isinstance(node, ast.AugAssign):
            widths += widths_of_growth(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append((node.lineno, node.col_offset, node))
            continue
        for name in _parts(kind):
            child = getattr(node, name, None)
            if type(child) is list:
                pending += child
            elif child is not None:
                pending.append(child)
    if (layers or not _STACKS.isdisjoint(calls | defines)) and any(map(may_repeat_layers, loops)):
        layers = MANY
    if "linalg" in calls and not any(map(_solves_when_run, unit.statements)):
        calls.discard("linalg")
    calls -= taken - given
    looks_up = looks_up or not indexed <= made
    looks_up = looks_up or (unit.kind == "class" and not _NETWORKS.isdisjoint(given & calls))
    return Unit(
        unit.kind,
        unit.name,
        unit.first,
        unit.last,
        unit.kind != "data" and _holds(hot_lines, unit.first, unit.last),
        tuple(sorted(calls)),
        tuple(sorted(defines)),
        tuple(sorted(hot_defines)),
        _digest(_join(lines, unit.first, unit.last)),
        max((width.number for width in widths), default=0),
        looks_up,
        steps,
        small_data or (bool(tables) and all(tables)),
        max((width.number for width in widths if width.of_channels), default=0),
        on_cpu,
        small_net,
        max((width.number for width in widths if width.number != GROWN), default=0),
        tuple(sorted(calls & made - called)),
        small_images,
        min(layers, MANY),
        tuple(sorted(defaults)),
        tuple(sorted(resting)),
        tuple(sorted(told - {""})),
        tuple(sorted(starts - {0})),
        size,
        max((width.number for width in widths if width.of_channels and width.number != GROWN), default=0),
        features,
        aged,
        recurrent,
        small_batch,
    )


def _is_own(node: ast.expr) -> TypeGuard[ast.Attribute]:
    """`self.net`"""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _made(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    """`net` of `self.net = Net()`, `blocks` of `blocks = []`."""
    if isinstance(node.value, (ast.Call, ast.List, ast.ListComp)):
        for target in node.targets if isinstance(node, ast.Assign) else (node.target,):
            if isinstance(target, ast.Name):
                yield target.id
            elif _is_own(target):
                yield target.attr


_STACKS = frozenset(("forward", "Module", "ModuleDict", "ModuleList", "Sequential"))
"""Names in what makes networks of layers."""
_LAYERS_BY_NAME = frozenset(("LSTM", "GRU", "RNN"))
"""Classes that are kept and called by another name: `self.cell = nn.LSTM`."""
_PARTS = frozenset(("block", "layer"))
"""What a maker of networks is handed to make more of, and what a network goes through: `for layer in self.layers`,
`self.layer(x)`."""
_NETWORKS = frozenset(
    ("backbone", "base", "base_model", "body", "decoder", "encoder", "extractor", "feature_extractor", "model", "net",
     "network", "trunk")
)  # fmt: skip
"""What a network may be handed to stand on, of any kind."""
_HANDED = _PARTS | _NETWORKS
_ASKING = frozenset(("isinstance", "issubclass"))
"""What is handed to these is neither called nor kept: `isinstance(layer, nn.Conv2d)` in the start of the weights."""
_TELLING = frozenset(
    (
        ast.Call, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.For, ast.While,
        ast.AugAssign, ast.Import, ast.ImportFrom, ast.ListComp, ast.GeneratorExp, ast.Dict,
        ast.DictComp, ast.Subscript,
    )
)  # fmt: skip
"""Nodes that say something by themselves."""
_SCALAR = frozenset(
    ("ctx", "op", "ops", "id", "arg", "attr", "name", "names", "asname", "rest", "kind", "kwd_attrs", "type_comment",
     "conversion", "simple", "is_async", "cls_name")
)  # fmt: skip


@cache
def _parts(kind: type) -> tuple[str, ...]:
    """The fields of a node that can hold nodes; none of a constant, and of what is no node."""
    fields: tuple[str, ...] = () if kind is ast.Constant else getattr(kind, "_fields", ())
    return tuple(name for name in fields if name not in _SCALAR)


def _add_names(names: set[str], nodes: Iterable[ast.expr]) -> None:
    """The last component of each node that is a name or an attribute, starred or not."""
    for node in nodes:
        if isinstance(node, ast.Starred):
            node = node.value
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add("Embedding" if _is_table_of_vectors(node) else "linalg" if _solves(node) else node.attr)


def _is_table_of_vectors(node: ast.Attribute) -> bool:
    """`nn.Embedding.from_pretrained` and `nn.Embedding(...).from_pretrained`, which make no network."""
    base = node.value.func if isinstance(node.value, ast.Call) else node.value
    made = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
    return node.attr == "from_pretrained" and made == "Embedding"


_SOLVERS = frozenset(("inverse", "pinverse", "svd", "symeig", "cholesky", "qr", "lstsq", "solve", "lobpcg"))


def _solves(node: ast.Attribute) -> bool:
    """`torch.inverse`, `torch.linalg.svd`"""
    base = node.value
    if isinstance(base, ast.Attribute):
        return base.attr == "linalg" and getattr(base.value, "id", "") == "torch" and node.attr != "norm"
    return node.attr in _SOLVERS and getattr(base, "id", "") == "torch"


def _solves_when_run(node: ast.AST) -> bool:
    """Whether a matrix is inverted or decomposed elsewhere than where an object is made."""
    if isinstance(node, ast.FunctionDef) and node.name == "__init__":
        return False
    if isinstance(node, ast.Attribute) and _solves(node):
        return True
    return any(map(_solves_when_run, ast.iter_child_nodes(node)))


def _bindings(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from bindings_of(alias.name, alias.asname or "")
    else:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            yield alias.asname or alias.name, module, alias.name


def _inexact(text: str, lines: Sequence[str]) -> Outline:
    calls = tuple(sorted(set(_CALLED.findall(text))))
    defines = tuple(sorted(set(_DEFINED.findall(text))))
    unit = Unit("code", "", 1, len(lines), True, calls, defines, defines, _digest(_join(lines, 1, len(lines))))
    data = text.encode("utf-8", "replace")
    found = (*import_lines(data), *path_entries(data), *looked_up_entries(data))
    return Outline(found, (unit,), False, is_of_usual_size(data), takes_options(data))


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
