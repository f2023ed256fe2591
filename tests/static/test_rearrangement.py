"""What a reader would call the same program gives the same findings: other names, a body wrapped in a function, a
helper in a module of its own. Lines are those of the change; columns are left out."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.model import Example
from mpaudit.settings import load
from mpaudit.static.run import lint

Files = dict[str, str]


def groups() -> list[object]:
    return [
        pytest.param(group, id=f"{rule.code}-{kind}-{number}")
        for rule in rulebook.rules().values()
        if rule.code != "MPA001"
        for kind, found in (("bad", rule.bad), ("good", rule.good))
        for number, group in enumerate(found)
    ]


def files_of(group: tuple[Example, ...]) -> Files:
    return {example.file or "example.py": example.source for example in group}


def found(folder: Path, files: Files) -> list[tuple[str, int, str]]:
    (folder / ".git").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    audit = lint([str(folder)], load([str(folder)], cwd=folder), cwd=folder, use_cache=False)
    assert audit.errors == ()
    return sorted((finding.path, finding.line, finding.code) for finding in audit.findings)


# ------------------------------------------------------------------ renaming


def locals_of(tree: ast.Module) -> set[str]:
    """Names of parameters and locals that nothing but their function can mean."""
    inside: set[str] = set()
    taken = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords}
    taken |= {"self", "cls"}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            taken.add(node.name)
            inside |= {x.id for x in ast.walk(node) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
            inside |= {arg.arg for arg in node.args.args}
        elif isinstance(node, ast.ClassDef):
            taken.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            taken |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            taken |= {x.id for x in ast.walk(statement) if isinstance(x, ast.Name)}
    return inside - taken


def keywords(texts: Iterable[str]) -> set[str | None]:
    """Names that calls anywhere in a project pass arguments by."""
    return {k.arg for text in texts for x in ast.walk(ast.parse(text)) if isinstance(x, ast.Call) for k in x.keywords}


def renamed(text: str, keep: Iterable[str | None] = ()) -> str:
    tree = ast.parse(text)
    names = locals_of(tree) - set(keep)
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


@pytest.mark.parametrize("group", groups())
def test_other_names_for_locals(tmp_path: Path, group: tuple[Example, ...]) -> None:
    files = files_of(group)
    again = {name: renamed(text, keywords(files.values())) for name, text in files.items()}
    assert found(tmp_path / "again", again) == found(tmp_path / "before", files)


# ------------------------------------------------------------------ wrapping


def wrapped(text: str) -> str:
    """Every plain top-level function with its body in a function inside of it."""
    lines = text.split("\n")
    for node in reversed(ast.parse(text).body):
        if not isinstance(node, ast.FunctionDef) or node.decorator_list or not _can_be_wrapped(node):
            continue
        first, last = node.body[0].lineno, node.end_lineno or node.lineno
        body = ["    " + line if line else line for line in lines[first - 1 : last]]
        lines[first - 1 : last] = ["    def block():", *body, "    return block()"]
    return "\n".join(lines)


def _can_be_wrapped(node: ast.FunctionDef) -> bool:
    """Nothing in the body changes meaning in a function: no yield, no assignment to a parameter, no long string."""
    params = {arg.arg for arg in node.args.args}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Yield | ast.YieldFrom | ast.Global | ast.Nonlocal):
            return False
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and inner.id in params:
            return False
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and "\n" in inner.value:
            return False
    return node.lineno != node.body[0].lineno


@pytest.mark.parametrize("group", groups())
def test_a_body_in_a_function_of_its_own(tmp_path: Path, group: tuple[Example, ...]) -> None:
    files = files_of(group)
    again = {name: wrapped(text) for name, text in files.items()}
    before = [(path, code) for path, _, code in found(tmp_path / "before", files)]
    assert sorted((path, code) for path, _, code in found(tmp_path / "again", again)) == sorted(before)


# -------------------------------------------------------------------- moving


def moved(text: str) -> Files | None:
    """The first function that another one calls, in a module of its own; None where there is none."""
    tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.decorator_list]
    others = {x.name for x in tree.body if isinstance(x, ast.FunctionDef | ast.ClassDef)} | {
        name.id for x in tree.body if isinstance(x, ast.Assign) for name in ast.walk(x) if isinstance(name, ast.Name)
    }
    lines = text.split("\n")
    for node in functions:
        used = {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}
        calls = any(
            isinstance(x, ast.Name) and x.id == node.name for f in tree.body if f is not node for x in ast.walk(f)
        )
        if calls and not used & (others - {node.name}):
            helper = [line for x in imports for line in lines[x.lineno - 1 : x.end_lineno]]
            helper += ["", "", *lines[node.lineno - 1 : node.end_lineno], ""]
            rest = [*lines[: node.lineno - 1], *lines[node.end_lineno or node.lineno :]]
            at = max((x.end_lineno or x.lineno for x in imports), default=0)
            return {
                "helper_2.py": "\n".join(helper),
                "example.py": "\n".join([*rest[:at], f"from helper_2 import {node.name}", *rest[at:]]),
            }
    return None


@pytest.mark.parametrize("group", groups())
def test_a_helper_in_another_module(tmp_path: Path, group: tuple[Example, ...]) -> None:
    files = files_of(group)
    again = moved(files["example.py"]) if list(files) == ["example.py"] else None
    if again is not None:
        before = sorted(code for _, _, code in found(tmp_path / "before", files))
        assert sorted(code for _, _, code in found(tmp_path / "again", again)) == before


SAMPLES = Path(rulebook.__file__).parent.parent / "sample_projects"


@pytest.mark.parametrize("name", ["char_gpt_wrapper", "digits_amp_clean", "digits_cnn_fp32"])
def test_sample_projects_rearranged(tmp_path: Path, name: str) -> None:
    files = {str(p.relative_to(SAMPLES / name)): p.read_text("utf-8") for p in (SAMPLES / name).rglob("*.py")}
    before = [(path, code) for path, _, code in found(tmp_path / "before", files)]
    keep = keywords(files.values())
    for folder, change in (("renamed", lambda text: renamed(text, keep)), ("wrapped", wrapped)):
        again = found(tmp_path / folder, {path: change(text) for path, text in files.items()})
        assert [(path, code) for path, _, code in again] == before


def test_the_changes_change_something() -> None:
    sources = [text for param in groups() for text in files_of(param.values[0]).values()]  # type: ignore[attr-defined]
    assert sum(renamed(text) != text for text in sources) > len(sources) / 2
    assert sum(wrapped(text) != text for text in sources) > len(sources) / 3
    assert sum(moved(text) is not None for text in sources) > 10
