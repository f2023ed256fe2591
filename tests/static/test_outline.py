from __future__ import annotations

import ast
import sysconfig
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import pytest

from mpaudit.static.facts import ir
from mpaudit.static.facts.lower import lower
from mpaudit.static.outline import ANY_TABLE, TABLE, outline, split_lines, unit_text
from mpaudit.static.syntax import decode, parse_ast
from mpaudit.static.triggers import Scanner

HOT = Scanner(["HOT"], str)


def triage(text: str) -> ir.Outline:
    result = outline(text, HOT)
    assert isinstance(result, ir.Outline), result
    return result


def test_units_in_source_order() -> None:
    text = """\
'''Documentation.'''
import a

# between
x = 1; y = 2

@first
@second(
    1)
def f():
    pass
class A: pass
async def g(): pass  # HOT
if x:
    def h(): pass
else:
    z = 1
# HOT, but nothing's

@(
    deco)
class B:
    def m(self): HOT
    def n(self): pass
"""
    units = triage(text).units
    assert [(unit.kind, unit.name, unit.first_line, unit.last_line, unit.hot) for unit in units] == [
        ("code", "", 1, 5, False),
        ("def", "f", 7, 11, False),
        ("class", "A", 12, 12, False),
        ("def", "g", 13, 13, True),
        ("code", "", 14, 17, False),
        ("class", "B", 20, 24, True),
    ]
    assert [unit.defines for unit in units] == [(), ("f",), ("A",), ("g",), ("h",), ("B", "m", "n")]
    assert [unit.hot_defines for unit in units] == [(), (), (), ("g",), (), ("B", "m")]
    assert [unit.calls for unit in units] == [(), ("first", "second"), (), (), (), ("deco",)]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("f(); a.g(); a.b().h(); x[0](); (lambda: i())()", ("b", "f", "g", "h", "i")),
        ("f(a, b.c, *d, e=g, **h.i)", ("a", "c", "d", "f", "g", "i")),
        ("f(a + b, [c])", ("f",)),
        ("@a\n@b.c(d)\n@e.f\ndef g(x=h()): pass", ("a", "c", "d", "f", "h")),
        ("class A(B, c.D, metaclass=E): pass", ("B", "D")),
        ("x = a.b", ()),
        ("f'{a(b)}'", ("a", "b")),
        ("match a:\n    case A(b) if c(): d(e)", ("c", "d", "e")),
    ],
)
def test_calls(text: str, calls: tuple[str, ...]) -> None:
    (unit,) = triage(text).units
    assert unit.calls == calls


def test_a_function_inside_is_hot_by_its_own_text() -> None:
    text = """\
class A:
    def cold(self): pass
    @HOT
    def decorated(self): pass
    def outer(self):
        def inner():
            return HOT
        def other(): pass
"""
    (unit,) = triage(text).units
    assert unit.defines == ("A", "cold", "decorated", "inner", "other", "outer")
    assert unit.hot_defines == ("A", "decorated", "inner", "outer")


def test_imports_anywhere_in_source_order() -> None:
    text = "def f():\n    import c; from . import d as e\nimport a.b, g as h\ntry: from i import *\n"
    text += "except: import j.k as l\n"
    assert triage(text).imports == (
        ("c", "c", ""),
        ("e", ".", "d"),
        ("a", "a", ""),
        ("", "a.b", ""),
        ("h", "g", ""),
        ("*", "i", "*"),
        ("l", "j.k", ""),
    )


def test_a_table_of_data_is_set_apart() -> None:
    table = "TABLE = [\n" + "    -0.123456789, 'HOT',\n" * (TABLE // 10) + "]\n"
    units = triage("import a\n" + table + "x = HOT\n").units
    assert [(unit.kind, unit.hot) for unit in units] == [("code", False), ("data", False), ("code", True)]
    assert units[1].last_line - units[1].first_line == TABLE // 10 + 1
    assert len(triage("import a\nif a:\n    " + table.replace("\n", "\n    ")).units) == 1


def test_a_table_that_names_anything_is_set_apart_where_it_is_larger_still() -> None:
    def kinds(size: int) -> list[str]:
        return [unit.kind for unit in triage("import a\nTABLE = HOT([\n" + "    1234,\n" * (size // 10) + "])\n").units]

    assert kinds(TABLE * 2) == ["code"]
    assert kinds(ANY_TABLE * 2) == ["code", "data"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_pythons(newline: str) -> None:
    text = "x = '\x0b\x1c\u2028'\n\x0cdef f():\n    '''\x85\n'''\nHOT\n".replace("\n", newline)
    result = triage(text)
    assert [(unit.first_line, unit.last_line, unit.hot) for unit in result.units] == [
        (1, 1, False),
        (2, 4, False),
        (5, 5, True),
    ]
    lines = split_lines(text)
    assert len(lines) == 5
    assert unit_text(lines, result.units[1]) == "\x0cdef f():\n    '''\x85\n'''\n"


def test_the_digest_is_that_of_the_unit_alone_and_not_of_its_newlines() -> None:
    definition = "def f():\n    return 1\n"
    first = triage(definition).units[0]
    second = triage(("x = 1\n\n" + definition).replace("\n", "\r\n").removesuffix("\r\n")).units[1]
    assert first.digest == second.digest == blake2b(definition.encode(), digest_size=16).digest()
    assert triage(definition.replace("1", "2")).units[0].digest != first.digest


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "\x0c"])
def test_a_file_without_code_has_no_units(text: str) -> None:
    assert triage(text) == ir.Outline((), (), exact=True)


def test_what_only_libcst_reads_is_one_hot_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    def old_python(text: str) -> ast.Module:
        raise SyntaxError("invalid syntax", ("<unknown>", 1, 1, text, 1, 2))

    monkeypatch.setattr("mpaudit.static.outline.parse_ast", old_python)
    text = "import a\nfrom b import (c,\n d)\ndef f(): g(1)\nclass A: pass\nx = t'{y}'\n"
    result = triage(text)
    assert not result.exact
    assert result.imports == (("a", "a", ""), ("c", "b", "c"), ("d", "b", "d"))
    (unit,) = result.units
    assert (unit.kind, unit.name, unit.first_line, unit.last_line, unit.hot) == ("code", "", 1, text.count("\n"), True)
    assert unit.defines == unit.hot_defines == ("A", "f")
    assert "g" in unit.calls
    assert isinstance(lower(unit_text(split_lines(text), unit)), tuple)


def test_a_statement_that_ends_in_a_backslash() -> None:
    text = "def f(x):\n    x.HOT()\\\n\ny = HOT \\\n\ndef g():\n    pass\n"
    for unit in triage(text).units:
        assert isinstance(lower(unit_text(split_lines(text), unit)), tuple), unit


@pytest.mark.parametrize("text", ["x = (\n", "print 'a'\n", "x = " + "(" * 5_000 + ")" * 5_000, "x = \0"])
def test_what_nobody_reads_is_a_problem(text: str) -> None:
    assert isinstance(outline(text, HOT), ir.SyntaxProblem)


def test_deep_expressions_do_not_end_the_triage() -> None:
    assert triage("x = " + " and ".join("a" * 20_000)).exact
    assert triage("x = " + "+".join("a" * 900)).exact
    assert isinstance(outline("x = " + "+".join("a" * 50_000), HOT), ir.SyntaxProblem)


def test_invalid_escapes_give_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    triage("x = '\\d'\n")
    assert not recwarn.list


@pytest.mark.parametrize(
    "module", ["argparse", "ast", "contextlib", "decimal", "inspect", "locale", "tarfile", "typing"]
)
def test_units_hold_every_statement_once(module: str) -> None:
    text = decode(Path(sysconfig.get_path("stdlib"), f"{module}.py").read_bytes())
    assert isinstance(text, str)
    lines = split_lines(text)
    units = triage(text).units
    for unit, following in pairwise(units):
        assert unit.last_line < following.first_line
    whole = parse_ast(text).body
    parts = [statement for unit in units for statement in parse_ast(unit_text(lines, unit)).body]
    assert [ast.dump(part) for part in parts] == [ast.dump(statement) for statement in whole]
