from __future__ import annotations

import pytest

from mpaudit.static.complexity import MAX_BRACKETS, MAX_BRANCHES, MAX_CHAIN, too_complex


@pytest.mark.parametrize(
    "text",
    [
        "+".join("a" * MAX_CHAIN),
        "-" * MAX_CHAIN + "a",
        "(" * MAX_BRACKETS + ")" * MAX_BRACKETS,
        "a = 1 + 2\n" * 2_000,
        "a = 1 + 2; " * 2_000,
        "x = [" + "-1, " * 5_000 + "]",
        "x = {" + "'a': -1.5,\n" * 5_000 + "}",
        "x = '" + "((((++++" * 500 + "'",
        "x = '''" + "((((++++\n" * 500 + "'''",
        '"""' + 'it\'s ((((++++ \\""" \n' * 500 + '"""',
        "# " + "((((++++" * 500,
        "if a: b\n" + "elif a: b\n" * MAX_BRANCHES,
        "elif_ = notation = order = 1\n" * 2_000,
        "f(" + "a and b or c,\n" * 1_000 + ")",
    ],
)
def test_ordinary_code_however_long_is_let_through(text: str) -> None:
    assert too_complex(text) is None


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("\n x = " + "+".join("a" * (MAX_CHAIN + 2)), 2, 2 * MAX_CHAIN + 7),
        ("-" * (MAX_CHAIN + 1) + "a", 1, MAX_CHAIN + 1),
        ("\n\n" + "(" * (MAX_BRACKETS + 1), 3, MAX_BRACKETS + 1),
        ("x = '\n" + "{[(" * MAX_BRACKETS, 2, MAX_BRACKETS + 1),
        ("f(a, b) + " * (MAX_CHAIN + 1), 1, 5_007),
        ("a" + "[0]" * (MAX_CHAIN + 1), 1, 3 * MAX_CHAIN + 4),
        ("(" + "a +\n" * (MAX_CHAIN + 1) + "a)", MAX_CHAIN + 1, 3),
        ("(a + " * 190 + "-" * MAX_CHAIN, 1, 5 * 190 + MAX_CHAIN - 189),
        ("'a' " * (MAX_CHAIN + 1), 1, 4 * MAX_CHAIN + 1),
        ('\nx = f"' + "{(" * MAX_BRACKETS + '"', 2, 5),
        ('\nx = Rf"""\n' + "{(" * MAX_BRACKETS + '"""', 2, 5),
        ("if a: b\n" + "elif a: b\n" * (MAX_BRANCHES + 1), 2, 1),
    ],
)
def test_what_would_overflow_the_parser_is_refused_where_it_does(text: str, line: int, column: int) -> None:
    problem = too_complex(text)
    assert problem is not None
    assert (problem.line, problem.column) == (line, column)
