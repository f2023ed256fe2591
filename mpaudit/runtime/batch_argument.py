"""The argument of a script that sets its batch size: among those that the user gave, else among those it defines.

The script is read, not run: `add_argument`, click and typer options, absl flags, functions given to Fire, and the
main configuration file of Hydra.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from mpaudit.runtime.protocol import Target

_NAMES = (
    "per_device_train_batch_size",
    "per_gpu_train_batch_size",
    "train_batch_size",
    "train_batchsize",
    "train_bs",
    "batch_size_train",
    "batch_size",
    "batchsize",
    "micro_batch_size",
    "minibatch_size",
    "mini_batch_size",
    "batch_sz",
    "bsz",
    "bs",
    "batch",
)
"""As they are normalised; where a script has several, the first of these sets what a step trains on."""

_FILES = 100
"""Of a project that are read for definitions: the script and what it imports."""

Form = Literal["=", " ", ""]
"""Between the flag and its number: `--batch-size=8`, `--batch-size 8`, `-b8`."""


class BatchArgument(msgspec.Struct, frozen=True):
    """The argument, and the batch size that the script runs with."""

    flag: str
    """As it is written on the command line: `--batch-size`, `-b`, `train.batch_size`."""
    form: Form
    value: int
    given: int | None
    """Where it is among the script's arguments; None where it is not and `value` is the script's default."""

    def arguments(self, before: Sequence[str], size: int) -> tuple[str, ...]:
        """The script's arguments with another batch size."""
        words = (self.flag, str(size)) if self.form == " " else (f"{self.flag}{self.form}{size}",)
        if self.given is None:
            return (*before, *words)
        return (*before[: self.given], *words, *before[self.given + (2 if self.form == " " else 1) :])


class Option(msgspec.Struct, frozen=True):
    """An argument that a script defines."""

    flags: tuple[str, ...]
    form: Form
    default: int | None
    """None where it has none or is not written as a number."""


def find(target: Target, cwd: Path) -> BatchArgument | str:
    """The argument, or a sentence that says why there is none."""
    name = os.path.basename(target.name)
    if target.kind == "notebook":
        return f"{name} is a notebook, which takes no arguments"
    everything = list(defined(sources(target, cwd)))
    options = [option for option in everything if _rank(option.flags) is not None]
    found = _given(target.arguments, options, unknown=not everything)
    if found is not None:
        return found
    options.sort(key=lambda option: _rank(option.flags) or 0)
    for option in options:
        if option.default is not None:
            return BatchArgument(_longest(option.flags), option.form, option.default, None)
    if options:
        flag = _longest(options[0].flags)
        return f"the default of {flag} is not written as a number in {name}: give {flag} on its command line"
    return (
        f"{name} has no argument for its batch size that could be found (--batch-size, -b, batch_size=… and the like); "
        "where it has one, give it on its command line"
    )


def _given(arguments: Sequence[str], options: Sequence[Option], unknown: bool) -> BatchArgument | None:
    """The last of those that the user wrote and that mean a batch size: a parser takes that one too. `unknown` where
    no definition of any argument was found."""
    known = {flag for option in options for flag in option.flags}
    found: list[tuple[int, BatchArgument]] = []
    for place, word in enumerate(arguments):
        for argument in _read(word, arguments[place + 1] if place + 1 < len(arguments) else "", place):
            rank = 0 if argument.flag in known else _rank((argument.flag,))
            # a short flag may be anything, unless the script's own definition says what it is
            short = len(argument.flag.lstrip("-")) == 1
            if rank is not None and (not short or argument.flag in known or unknown):
                found.append((rank, argument))
                break
    best = min((rank for rank, _ in found), default=0)
    return next((argument for rank, argument in reversed(found) if rank == best), None)


def _read(word: str, after: str, place: int) -> Iterator[BatchArgument]:
    flag, sign, value = word.partition("=")
    if sign and value.isdecimal() and int(value):
        yield BatchArgument(flag, "=", int(value), place)
    elif word.startswith("-") and after.isdecimal() and int(after):
        yield BatchArgument(word, " ", int(after), place)
    elif (joined := re.fullmatch(r"(-[a-zA-Z])([1-9]\d*)", word)) is not None:
        yield BatchArgument(joined[1], "", int(joined[2]), place)


def _rank(flags: Iterable[str]) -> int | None:
    """How well one of these names a batch size; None where none does."""
    ranks = [_NAMES.index(name) for flag in flags if (name := _normal(flag)) in _NAMES]
    if not ranks and "-b" in flags and len(tuple(flags)) == 1:
        return len(_NAMES)
    return min(ranks, default=None)


def _normal(flag: str) -> str:
    """`--Train.Batch-Size` → `batch_size`: the last name of a path, as a configuration groups them."""
    path = flag.lstrip("-+").lower().replace("-", "_").split(".")
    return "" if set(path[:-1]) & {"val", "valid", "validation", "eval", "evaluation", "test"} else path[-1]


def _longest(flags: Iterable[str]) -> str:
    """Of the spellings of one option."""
    return max(flags, key=lambda flag: (_rank((flag,)) is not None, len(flag)))


def sources(target: Target, cwd: Path) -> Iterator[Path]:
    """The file that is run and the project's own files that it imports, at any distance."""
    if target.kind == "module":
        path = cwd.joinpath(*target.name.split("."))
        first, roots = next(filter(Path.is_file, (path.with_suffix(".py"), path / "__main__.py")), path), [cwd]
    else:
        first = cwd / target.name
        roots = [first.parent, cwd]
    queue, seen = [first], {first}
    while queue and len(seen) <= _FILES:
        path = queue.pop(0)
        if not path.is_file():
            continue
        yield path
        for name in _imports(path):
            for root in (*roots, path.parent):
                module = root.joinpath(*name.split("."))
                for file in (module.with_suffix(".py"), module / "__init__.py"):
                    if file not in seen and file.is_file():
                        seen.add(file)
                        queue.append(file)


def _imports(path: Path) -> Iterator[str]:
    tree = _parsed(path)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.module
            yield from (f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names)


def defined(files: Iterable[Path]) -> Iterator[Option]:
    """All options that these files define."""
    for path in files:
        tree = _parsed(path)
        if tree is None:
            continue
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from _call(node, functions)
            elif isinstance(node, ast.FunctionDef):
                yield from _typer(node)
                for decorator in node.decorator_list:
                    yield from _hydra(decorator, path)


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None  # Python will say so when it runs it


def _call(call: ast.Call, functions: dict[str, ast.FunctionDef]) -> Iterator[Option]:
    name = _last(call.func)
    words = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if name in ("add_argument", "option"):
        flags = tuple(word for word in words if word.startswith("-"))
        if flags:
            yield Option(flags, " ", _integer(given.get("default")))
    elif name in ("DEFINE_integer", "DEFINE_int") and words:
        default = given.get("default", call.args[1] if len(call.args) > 1 else None)
        yield Option((f"--{words[0]}",), "=", _integer(default))
    elif name == "Fire" and call.args and (function := functions.get(_last(call.args[0]))):
        yield from (Option((f"--{name}",), "=", _integer(value)) for name, value in _defaults(function))


def _typer(function: ast.FunctionDef) -> Iterator[Option]:
    for name, value in _defaults(function):
        if isinstance(value, ast.Call) and _last(value.func) == "Option" and value.args:
            words = [arg.value for arg in value.args[1:] if isinstance(arg, ast.Constant)]
            flags = tuple(word for word in words if isinstance(word, str) and word.startswith("-"))
            yield Option(flags or (f"--{name.replace('_', '-')}",), " ", _integer(value.args[0]))


def _hydra(decorator: ast.expr, path: Path) -> Iterator[Option]:
    """The numbers of the configuration file that `@hydra.main` names, each by its path."""
    if not isinstance(decorator, ast.Call) or ast.unparse(decorator.func) != "hydra.main":
        return
    given = {keyword.arg: keyword.value for keyword in decorator.keywords if keyword.arg}
    folder, name = (_text(given.get(key)) for key in ("config_path", "config_name"))
    if not name:
        return
    for ending in ("", ".yaml", ".yml"):
        file = path.parent / (folder or "") / f"{name}{ending}"
        if file.is_file():
            yield from (Option((key,), "=", value) for key, value in _yaml(file.read_text(errors="replace")))
            return


_KEY = re.compile(r"( *)([\w-]+)\s*:\s*(\d+)?\s*(?:#.*)?$")


def _yaml(text: str) -> Iterator[tuple[str, int]]:
    """Of a block mapping: the keys with a whole number, each with the keys that it lies under."""
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = _KEY.match(line)
        if found is None:
            continue
        depth, key, number = len(found[1]), found[2], found[3]
        while path and path[-1][0] >= depth:
            path.pop()
        path.append((depth, key))
        if number is not None:
            yield ".".join(name for _, name in path), int(number)


def _defaults(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    arguments = function.args
    places = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(places[len(places) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    yield from ((argument.arg, value) for argument, value in pairs if value is not None)


def _last(expression: ast.expr) -> str:
    """`parser.add_argument` → `add_argument`."""
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")


def _integer(value: ast.expr | None) -> int | None:
    number = value.value if isinstance(value, ast.Constant) else None
    if isinstance(number, str) and number.isdecimal():  # argparse converts it
        number = int(number)
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None


def _text(value: ast.expr | None) -> str:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
