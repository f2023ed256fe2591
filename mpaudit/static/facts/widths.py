"""Numbers that may be the width of a layer, by the name or the place at which they stand."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

_WIDTH = re.compile(
    r"(?i)hid|width|d_?model|embd|emb(ed(ding)?)?_?(dim|size)|emsize|n?units$|channels?|filters?|features?$|planes?$"
    r"|(^|_)dims?($|_)|(^|_)nf$|^n[gd]f$|^nf$|factor_?num|num_?factors?|rnn_?size|cell_?size"
)
_CHANNELS = re.compile(
    r"(?i)channels?|filters?|features?$|planes?$|(^|_)nf$|^n[gd]f$|^dims?$|(^|_)(conv|base)_(dim|width)$"
)
"""Those of convolutions."""
_GIVEN = re.compile(r"(?i)(^|[-_])(in(put)?|feats?|features?|fea)_?(dims?|size)$")
"""Of what a network is given, whatever it makes of that."""
_FEEDS_FORWARD = re.compile(r"(?i)(^|[-_])(d?ff|ffn|d_?ff|feed_?forward|intermediate)([-_]|$)|feedforward")
"""Of the inner layer of a transformer's block: two to four times what the block is wide."""
_PLACED = frozenset(("Linear", "LazyLinear", "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "LayerNorm"))
_MULTIPLIES = _PLACED - {"LayerNorm"} | {"MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"}
_CONVOLVES = re.compile(
    r"(?i)conv|^BatchNorm[123]d$|block|bottleneck|make_?\w*layer|stage|^(down|up|enc|dec)(sample)?_?\d?$"
)
"""Calls that take numbers of channels by their place."""
_OF_TORCH = re.compile(r"Conv(Transpose)?[123]d$")
"""Of these the third is the size of the kernel."""
_MOST = 1 << 16
_MOST_CHANNELS = 1 << 13
GROWN = 511
"""Stands for `width * 2`, which is more than any number in sight."""
_SMALL_DATA = re.compile(r"(?i)^(fashion|k|e|q|split|perm(uted)?|rot(ated)?|colou?r(ed)?)?[-_]?mnist$")
_SMALL_IMAGES = re.compile(r"(?i)^(cifar[-_]?(10|100)?|svhn)$")
_CPU = re.compile(r"(?i)^cpu$")
_SMALL_NET = re.compile(
    r"(?i)^(preact_?|pre_?)?resnet_?-?(8|14|20|32|44|56|110)(x4|s)?(_?cifar\d*)?$|^(wrn|wide_?resnet)[-_]?(16|28|40)[-_][1-4]$"
    r"|^(le_?net_?5?|mlp|simple_?(cnn|net)|conv_?net|all_?(conv|cnn)(_?net)?)$"
)
"""Networks that were made for images of 32 by 32 pixels or less, of at most 256 channels."""
_RECURRENT_NET = re.compile(r"(?i)^(\w+[-_])?(a|bi|as)?(lstm|gru|rnn)([-_]?\w*)$")
_SMALL_RESNET = re.compile(r"(?i)^(preact_?)?resnet_?(20|32|44|56|110)(_?cifar\d*)?$")


class Width(NamedTuple):
    number: int
    of_channels: bool
    """It may be a number of channels of a convolution."""


_REPEATS = re.compile(r"(?i)^_?make_?\w*layers?$|^(Transformer(En|De)coder|ModuleRepeat)$")


_IDLE = re.compile(
    r"(Norm|Norm[123]d|Pool[123]d|Dropout|Dropout[123]d|Pad[123]d|Shuffle|Loss|Tensor|Error|Exception|LU|ELU|Sigmoid"
    r"|Softmax|Softmax[12]d|Softplus|Tanh|Upsample|Sequential|List|Dict|Embedding|Module|Parameter|Identity|Flatten"
    r"|Unflatten|Variable|Rearrange|Reduce)$"
)
"""Ends of the names of what multiplies no matrices."""


def makes_layer(node: ast.Call) -> bool:
    """Whether a call makes a layer that multiplies matrices, or a block of such, by its name: `nn.Conv2d(3, 64, 3)`,
    `Down(64, 128)`."""
    func = node.func
    own = isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "self"
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    if own:
        return _REPEATS.search(name) is not None
    if _IDLE.search(name):
        return False
    return name in _MULTIPLIES or name[:1].isupper() or _CONVOLVES.search(name) is not None


def makes_many(node: ast.Call) -> bool:
    """`self._make_layer(block, 64, 3)`"""
    func = node.func
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    return _REPEATS.search(name) is not None


Loop = ast.For | ast.While | ast.ListComp | ast.GeneratorExp | ast.DictComp


def may_repeat_layers(loop: Loop) -> bool:
    """`for _ in range(depth): layers.append(unit(width))`; not a loop over layers that are there already."""
    iterables = [loop.iter] if isinstance(loop, ast.For) else [g.iter for g in getattr(loop, "generators", ())]
    if any(isinstance(part, ast.Attribute) and part.attr in _THERE for it in iterables for part in ast.walk(it)):
        return False
    return any(isinstance(node, ast.Call) and (makes_layer(node) or _is_helper(node.func)) for node in ast.walk(loop))


def _is_helper(func: ast.expr) -> bool:
    return isinstance(func, ast.Name) and func.id not in _BUILTIN


_THERE = frozenset(
    ("_modules", "children", "modules", "named_children", "named_modules", "named_parameters", "parameters")
)
_BUILTIN = frozenset(dir(builtins))


Factors = Mapping[str, int]
"""Parameters of functions → their defaults, where those are whole numbers of 2 and more."""
_NO_FACTORS: Factors = MappingProxyType({})


def widths_of_call(node: ast.Call, factors: Factors = _NO_FACTORS) -> Iterator[Width]:
    """Of `nn.Linear(300, 512)`, of `hidden=512`, of `parser.add_argument("--hidden", default=512)`."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for keyword in node.keywords:
        yield from _named(keyword.arg or "", keyword.value, factors)
    if name in _PLACED:
        yield Width(max((_number(arg, factors) for arg in node.args[:2]), default=0), of_channels=False)
    elif name == "add_argument":
        option = next((arg.value for arg in node.args if _is_width(arg)), "")  # type: ignore[attr-defined]
        yield from (w for k in node.keywords if k.arg == "default" for w in _named(option, k.value, factors))
    elif _CONVOLVES.search(name):
        numbers = (_number(arg, factors) for arg in node.args[: 2 if _OF_TORCH.match(name) else 3])
        yield Width(max((n for n in numbers if n <= _MOST_CHANNELS), default=0), of_channels=True)


def factors_of(args: ast.arguments) -> Iterator[tuple[str, int]]:
    """Of `def __init__(self, widen=2)`."""
    for arg, value in defaults_of(args):
        number = _number(value, _NO_FACTORS)
        if number and number != GROWN:
            yield arg.arg, number


def widths_of_defaults(args: ast.arguments) -> Iterator[Width]:
    """Of `def __init__(self, hidden=512)`."""
    for arg, value in defaults_of(args):
        yield from _named(arg.arg, value, _NO_FACTORS)


def defaults_of(args: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """The parameters with a default, and the defaults."""
    plain = [*args.posonlyargs, *args.args]
    yield from zip(plain[len(plain) - len(args.defaults) :], args.defaults, strict=True)
    yield from zip(args.kwonlyargs, args.kw_defaults, strict=True)


def widths_of_assignment(node: ast.Assign | ast.AnnAssign, factors: Factors = _NO_FACTORS) -> Iterator[Width]:
    """Of `hidden = 512`, of `self.hidden = 512`."""
    targets: Iterable[ast.expr] = node.targets if isinstance(node, ast.Assign) else (node.target,)
    for target in targets:
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        yield from _named(name, node.value, factors)


def widths_of_growth(node: ast.AugAssign) -> Iterator[Width]:
    """Of `width *= 2`."""
    name = node.target.attr if isinstance(node.target, ast.Attribute) else getattr(node.target, "id", "")
    if isinstance(node.op, ast.Mult) and _WIDTH.search(name):
        yield Width(GROWN, bool(_CHANNELS.search(name)))


def _named(name: str, value: ast.expr | None, factors: Factors) -> Iterator[Width]:
    number = _number(value, factors)
    if number and name and _WIDTH.search(name) and not _GIVEN.search(name):
        number //= 2 if _FEEDS_FORWARD.search(name) else 1
        yield Width(number, bool(_CHANNELS.search(name)))


def steps_through_time(loop: ast.For | ast.While) -> bool:
    """`for t in range(n): out, state = self.cell(out, state)`: what the network gives is what it takes next."""
    pending: list[ast.stmt] = list(loop.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.If, ast.With)):
            pending += node.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _is_own(node.value.func):
            given = {name for target in node.targets for name in _names(target)}
            if len(given) > 1 and given & {name for arg in node.value.args for name in _names(arg)}:
                return True
    return False


def _is_own(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "self"


def _names(node: ast.expr) -> list[str]:
    if isinstance(node, (ast.Tuple, ast.List)):
        return [name for part in node.elts for name in _names(part)]
    return [node.id] if isinstance(node, ast.Name) else []


_TASK_OPTION = re.compile("data|experiment|task|scenario|problem|benchmark")
_DATA_OPTION = re.compile("data")
_DEVICE_OPTION = re.compile(r"(?i)^-*(\w+[-_])?(device|dev|backend|accelerator)$")
_WIDENS_OPTION = re.compile(r"(?i)^-*widen[-_]?factor$")
_NARROW_FACTOR = re.compile(r"^[12]$")
_NET_OPTION = re.compile(r"(?i)^-*(\w+[-_])?(model|arch|architecture|net|network|backbone)([-_](\w|name|type|arch))?$")


def is_small_data(node: ast.Call) -> bool:
    """`parser.add_argument("--experiment", default="mnist")`, or one channel of 28 by 28 pixels."""
    return _chooses(node, _TASK_OPTION, _SMALL_DATA) or _is_of_28_pixels(node)


def is_small_images(node: ast.Call) -> bool:
    """`parser.add_argument("--dataset", default="cifar10")`"""
    return _chooses(node, _DATA_OPTION, _SMALL_IMAGES)


def _is_of_28_pixels(node: ast.Call) -> bool:
    """`x.reshape(-1, 1, 28, 28)`, `x.view((1, 28, 28))`: what comes before is one channel, or whatever is left."""
    if not (isinstance(node.func, ast.Attribute) and node.func.attr in ("reshape", "view") and node.args):
        return False
    sizes = node.args[0].elts if isinstance(node.args[0], (ast.Tuple, ast.List)) else node.args
    last = sizes[-3:]
    return len(last) == 3 and all(map(_is_28, last[1:])) and ast.unparse(last[0]) in ("1", "-1")


def _is_28(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 28


def data_of_table(node: ast.Dict) -> Iterator[bool]:
    """Of `{"dataset": "MNIST"}`, whether the data is small; nothing of a table that names none."""
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant) and key.value in ("dataset", "data"):
            yield _SMALL_DATA.match(str(value.value)) is not None


def names_small_data(node: ast.Assign | ast.AnnAssign) -> bool:
    """`DATASET = "FashionMNIST"`"""
    targets: Iterable[ast.expr] = node.targets if isinstance(node, ast.Assign) else (node.target,)
    return (
        isinstance(node.value, ast.Constant)
        and _SMALL_DATA.match(str(node.value.value)) is not None
        and any(isinstance(target, ast.Name) and target.id.isupper() and "DATA" in target.id for target in targets)
    )


def is_on_cpu(node: ast.Call) -> bool:
    """`parser.add_argument("--device", default="cpu")`; not one that is the CPU where there is no GPU."""
    return _chooses(node, _DEVICE_OPTION, _CPU) and not any(
        keyword.arg == "default" and isinstance(keyword.value, ast.IfExp) for keyword in node.keywords
    )


def is_small_net(node: ast.Call) -> bool:
    """`parser.add_argument("--arch", default="resnet20")`, `parser.add_argument("--widen-factor", default=2)`, and
    `resnet20_cifar()`."""
    return (
        _chooses(node, _NET_OPTION, _SMALL_NET)
        or _chooses(node, _WIDENS_OPTION, _NARROW_FACTOR)
        or (isinstance(node.func, ast.Name) and _SMALL_RESNET.match(node.func.id) is not None)
    )


def is_recurrent_net(node: ast.Call) -> bool:
    """`parser.add_argument("--model", default="LSTM_End")`"""
    return _chooses(node, _NET_OPTION, _RECURRENT_NET)


def _chooses(node: ast.Call, option: re.Pattern[str], default: re.Pattern[str]) -> bool:
    """Whether an option of the command line whose name is like `option` has a default like `default`, or one of two
    such."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return (
        name == "add_argument"
        and any(isinstance(arg, ast.Constant) and option.search(str(arg.value)) is not None for arg in node.args)
        and any(
            keyword.arg == "default" and isinstance(value, ast.Constant) and default.match(str(value.value)) is not None
            for keyword in node.keywords
            for value in _arms(keyword.value)
        )
    )  # fmt: skip


def _arms(node: ast.expr) -> tuple[ast.expr, ...]:
    return (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,)


def _is_width(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_WIDTH.search(node.value))


def _number(node: ast.expr | None, factors: Factors) -> int:
    """A whole number, or the largest of a list of such."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return max((_number(part, factors) for part in node.elts), default=0)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Pow)):
        lists = [part for part in (node.left, node.right) if isinstance(part, (ast.List, ast.Tuple))]
        return _number(lists[0], factors) if lists else _product(node, factors)
    value = node.value if isinstance(node, ast.Constant) else None
    return value if type(value) is int and 1 < value <= _MOST else 0


def _product(node: ast.BinOp, factors: Factors) -> int:
    """Of a number and a parameter whose default is known: `64 * widen`."""
    if isinstance(node.op, ast.Pow):
        return GROWN
    known = [factors.get(part.id, 0) if isinstance(part, ast.Name) else _number(part, factors)
             for part in (node.left, node.right)]  # fmt: skip
    found = known[0] * known[1] if GROWN not in known else 0
    return found if 0 < found <= _MOST else GROWN
