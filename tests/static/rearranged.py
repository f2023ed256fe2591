"""Source text rearranged so that a reader would call it the same program: other names for locals, bodies in functions
of their own, helpers in modules of their own, code that does nothing. Formatting is kept; nothing is reprinted."""

from __future__ import annotations

import ast
import builtins
import io
import tokenize
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
Files = dict[str, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Choose = Callable[[Sequence[T]], Sequence[T]]
"""Of the places for a change, those where it is made."""


def all_of(places: Sequence[T]) -> Sequence[T]:
    return places


# ------------------------------------------------------------------ renaming


def keywords(texts: Iterable[str]) -> set[str | None]:
    """Names that calls anywhere in a project pass arguments by."""
    return {k.arg for text in texts for x in ast.walk(ast.parse(text)) if isinstance(x, ast.Call) for k in x.keywords}


def renamed(text: str, keep: Iterable[str | None] = (), chosen: Choose = all_of) -> str:
    """Locals and parameters under other names; not those in `keep`."""
    tree = ast.parse(text)
    names = set(chosen(sorted(_locals_of(tree) - set(keep))))
    places = {
        (node.lineno, node.col_offset, node.id if isinstance(node, ast.Name) else node.arg)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id in names) or (isinstance(node, ast.arg) and node.arg in names)
    }
    lines = [line.encode() for line in text.split("\n")]
    for line, column, name in sorted(places, reverse=True):
        before, after = lines[line - 1][:column], lines[line - 1][column + len(name.encode()) :]
        lines[line - 1] = before + f"{name}_2".encode() + after
    return "\n".join(line.decode() for line in lines)


def _locals_of(tree: ast.Module) -> set[str]:
    """Names of parameters and locals that nothing but functions of this file can mean."""
    inside: set[str] = set()
    taken = {"self", "cls", *dir(builtins), *_names_outside_functions(tree)}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                taken.add(node.name)
                inside |= {x.id for x in ast.walk(node) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
                inside |= {x.arg for x in ast.walk(node.args) if isinstance(x, ast.arg)}
            case ast.ClassDef():
                taken |= {node.name, *_stored(node.body)}
            case ast.Import() | ast.ImportFrom():
                taken |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            case ast.Global() | ast.Nonlocal():
                taken |= set(node.names)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                taken.add(node.name or "")
            case ast.Call():
                taken |= {keyword.arg or "" for keyword in node.keywords}
                if isinstance(node.func, ast.Name) and node.func.id in ("locals", "vars", "eval", "exec"):
                    return set()
            case ast.JoinedStr():  # its names have no exact places before Python 3.12
                taken |= {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}
            case _:
                pass
    return inside - taken


def _names_outside_functions(tree: ast.Module) -> set[str]:
    return {x.id for x in _walk_outside(tree.body) if isinstance(x, ast.Name)}


def _stored(body: list[ast.stmt]) -> set[str]:
    return {x.id for x in _walk_outside(body) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}


def _walk_outside(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Nodes that are in no function."""
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda):
            stack += ast.iter_child_nodes(node)


# ------------------------------------------------------------------ wrapping


def wrapped(text: str, chosen: Choose = all_of) -> str:
    """Every plain function or method with its body in a function inside of it."""
    lines = text.split("\n")
    tree = ast.parse(text)
    owners = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    functions = [
        (node, body)
        for owner in owners for node in owner.body if isinstance(node, ast.FunctionDef)
        for body in [node.body[1:] if ast.get_docstring(node) is not None else node.body]
        if body and _can_be_wrapped(node, body) and not lines[body[0].lineno - 1].startswith("\t")
    ]  # fmt: skip
    kept = _lines_inside_strings(text)
    for node, body in sorted(chosen(functions), key=lambda f: f[0].lineno, reverse=True):
        first, last = body[0].lineno, node.end_lineno or node.lineno
        if isinstance(body[0], ast.FunctionDef | ast.ClassDef) and body[0].decorator_list:
            first = body[0].decorator_list[0].lineno
        indent, name = " " * body[0].col_offset, f"body_of_{node.name.strip('_')}_{node.lineno}"
        inner = _indented(lines, first, last, kept)
        lines[first - 1 : last] = [f"{indent}def {name}():", *inner, f"{indent}return {name}()"]
    return "\n".join(lines)


def _indented(lines: list[str], first: int, last: int, kept: set[int]) -> list[str]:
    """Lines from `first` to `last`, four columns deeper, but for those in `kept`."""
    return [
        line if not line.strip() or number in kept else "    " + line
        for number, line in enumerate(lines[first - 1 : last], first)
    ]


def _can_be_wrapped(node: ast.FunctionDef, body: list[ast.stmt]) -> bool:
    """Nothing in the body changes meaning in a function: no yield, no super(), no assignment to a parameter."""
    params = {x.arg for x in ast.walk(node.args) if isinstance(x, ast.arg)}
    if node.decorator_list or body[0].lineno == node.lineno or "\t" in ast.unparse(node):
        return False
    for inner in ast.walk(node):
        if isinstance(inner, ast.Yield | ast.YieldFrom | ast.Global | ast.Nonlocal | ast.Await | ast.Delete):
            return False
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and inner.id in params:
            return False
        if isinstance(inner, ast.Name) and inner.id in ("super", "locals", "vars"):
            return False
    return not any(isinstance(x, ast.Import | ast.ImportFrom) and x.names[0].name == "*" for x in ast.walk(node))


def _lines_inside_strings(text: str) -> set[int]:
    """Lines that begin inside a string, and are no matter of indentation."""
    return {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.STRING or tokenize.tok_name[token.type].startswith("FSTRING")
        for line in range(token.start[0] + 1, token.end[0] + 1)
    }


# -------------------------------------------------------------------- blocks


def with_block_wrapped(text: str, chosen: Choose) -> str:
    """Of the blocks of statements that `chosen` gives one in a function of its own, called where it stood."""
    tree, lines = ast.parse(text), text.split("\n")
    blocks = [
        (owner, block) for owner in (tree, *_functions(tree)) for block in _blocks(owner) if _is_whole(block, lines)
    ]
    kept = _lines_inside_strings(text)
    for owner, block in chosen(blocks):
        shared = _shared_names(owner, block)
        if shared is None:
            continue
        declared, given = shared
        first, last = block[0].lineno, block[-1].end_lineno or block[-1].lineno
        indent, name = " " * block[0].col_offset, f"block_{first}"
        says = "global" if isinstance(owner, ast.Module) else "nonlocal"
        head = [f"{indent}def {name}():", *([f"{indent}    {says} {', '.join(declared)}"] if declared else [])]
        results = ", ".join(given)
        tail = [f"{indent}    return {results}", f"{indent}{results} = {name}()"] if given else [f"{indent}{name}()"]
        lines[first - 1 : last] = [*head, *_indented(lines, first, last, kept), *tail]
        return "\n".join(lines)
    return text


def _blocks(owner: ast.Module | Function) -> Iterator[list[ast.stmt]]:
    """Runs of one to four statements of each suite, not of those in functions and classes inside."""
    for node in (owner, *_walk_outside(owner.body)):
        for suite in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(suite, list) and not (isinstance(node, Function | ast.ClassDef) and node is not owner):
                for i in range(len(suite)):
                    yield from (suite[i:j] for j in range(i + 1, min(i + 5, len(suite) + 1)))


def _is_whole(block: list[ast.stmt], lines: list[str]) -> bool:
    """Whether it can stand in a function: it fills its lines, and no jump, definition or import leaves it."""
    before = lines[block[0].lineno - 1][: block[0].col_offset]
    after = lines[(block[-1].end_lineno or 0) - 1].encode()[block[-1].end_col_offset :].decode().strip()
    if before.strip(" ") or (after and not after.startswith("#")):
        return False
    if isinstance(block[0], ast.If) and lines[block[0].lineno - 1].lstrip().startswith("elif"):
        return False
    inside = list(_walk_outside(block))
    if any(
        isinstance(x, _BOUND_TO_ITS_PLACE)
        or (isinstance(x, ast.Name) and x.id in ("super", "locals", "vars", "globals", "exec", "eval"))
        for x in inside
    ):
        return False
    jumps = [x for x in inside if isinstance(x, ast.Break | ast.Continue)]
    own = [x for loop in inside if isinstance(loop, ast.For | ast.While) for x in _walk_outside(loop.body)]
    return all(jump in own for jump in jumps)


def _bound(body: list[ast.stmt], without: Container[int] = ()) -> set[str]:
    """Names that statements assign, not those of comprehensions, nor at the nodes of the ids `without`."""
    nodes = list(_walk_outside(body))
    own = {id(x) for node in nodes if isinstance(node, ast.comprehension) for x in ast.walk(node.target)}
    stored = [x for x in nodes if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)]
    return {x.id for x in stored if id(x) not in own and id(x) not in without}


_BOUND_TO_ITS_PLACE = (
    ast.Return, ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Global, ast.Nonlocal, ast.Delete,
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.NamedExpr, ast.ExceptHandler,
    ast.Match,
)  # fmt: skip


def _shared_names(owner: ast.Module | Function, block: list[ast.stmt]) -> tuple[list[str], list[str]] | None:
    """Names the block binds that are bound outside of it too, and those that it always binds and others read. None
    where it only may bind what others read."""
    bound = _bound(block)
    if isinstance(owner, ast.Module):
        return sorted(bound), []
    inside = {id(x) for stmt in block for x in ast.walk(stmt)}
    outside = [x for x in ast.walk(owner) if isinstance(x, ast.Name) and id(x) not in inside]
    local = _bound(owner.body, inside) | {x.arg for x in ast.walk(owner.args) if isinstance(x, ast.arg)}
    declared = {n for x in ast.walk(owner) if isinstance(x, ast.Global | ast.Nonlocal) for n in x.names}
    given = (bound - local) & {x.id for x in outside}
    always = {x.id for stmt in block if isinstance(stmt, ast.Assign) for t in stmt.targets for x in ast.walk(t)
              if isinstance(x, ast.Name)}  # fmt: skip
    return None if given - always or bound & declared else (sorted(bound & local), sorted(given))


# -------------------------------------------------------------------- moving


def moved(text: str, module: str, chosen: Choose = all_of) -> tuple[str, str] | None:
    """(the file, a module `module` that it imports its helpers from): helpers are plain functions that some other code
    of the file names and that need nothing of the file but its imports. None where there are none."""
    tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
    own = _names_outside_functions(tree) | {"__file__", "__name__"}
    own |= {x.name for x in ast.walk(tree) if isinstance(x, Function | ast.ClassDef)}
    own |= {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and node not in imports
        for alias in node.names
    } - imported  # fmt: skip
    helpers = chosen(
        [node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_helper(node, tree, own - imported)]
    )
    if not helpers or any(alias.name == "*" for node in imports for alias in node.names):
        return None
    lines = text.split("\n")
    taken = [line for node in imports for line in lines[node.lineno - 1 : node.end_lineno]]
    for node in helpers:
        taken += ["", "", *lines[node.lineno - 1 : node.end_lineno]]
    at = max((node.end_lineno or 0 for node in imports), default=0)
    gone = {line for node in helpers for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    names = ", ".join(node.name for node in helpers)
    dot = "." if any(isinstance(node, ast.ImportFrom) and node.level for node in imports) else ""
    rest = [line for number, line in enumerate(lines, 1) if number <= at and number not in gone]
    rest.append(f"from {dot}{module} import {names}")
    rest += [line for number, line in enumerate(lines, 1) if number > at and number not in gone]
    return "\n".join(rest), "\n".join([*taken, ""])


def _is_helper(node: ast.FunctionDef, tree: ast.Module, own: set[str]) -> bool:
    if node.decorator_list or sum(isinstance(x, ast.FunctionDef) and x.name == node.name for x in ast.walk(tree)) > 1:
        return False
    bound = {x.id for x in ast.walk(node) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
    bound |= {x.arg for x in ast.walk(node) if isinstance(x, ast.arg)} | {node.name}
    bound |= {x.name for x in ast.walk(node) if isinstance(x, Function | ast.ClassDef)}
    used = {x.id for x in ast.walk(node) if isinstance(x, ast.Name)} - bound
    if used & own or any(isinstance(x, ast.Global) for x in ast.walk(node)):
        return False
    return any(
        isinstance(x, ast.Name) and x.id == node.name
        for other in tree.body
        if other is not node
        for x in ast.walk(other)
    )


# ----------------------------------------------------------------- dead code

UNUSED = '''

def unused_2(rows):
    """Nobody calls this."""
    found = [row for row in rows if row]
    while found and not found[0]:
        found = found[1:]
    return found


class Unused2:
    def total(self, rows):
        return sum(row for row in rows)
'''


def with_dead_code(text: str, chosen: Choose = all_of) -> str:
    """A function and a class that nobody uses, and in every function a first statement that does nothing."""
    lines = text.split("\n")
    for node in sorted(chosen(_functions(ast.parse(text))), key=lambda f: f.lineno, reverse=True):
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if body and body[0].lineno > node.lineno and not lines[body[0].lineno - 1][: body[0].col_offset].strip():
            first = body[0]
            decorated = isinstance(first, Function | ast.ClassDef) and first.decorator_list
            at = first.decorator_list[0].lineno if decorated else first.lineno  # type: ignore[attr-defined]
            lines.insert(at - 1, lines[first.lineno - 1][: first.col_offset] + "unused_2 = 0")
    return "\n".join(lines) + UNUSED


def _functions(tree: ast.Module) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]
