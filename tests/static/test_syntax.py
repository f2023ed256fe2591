from __future__ import annotations

import codecs

import libcst as cst
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit.static.facts.ir import SyntaxProblem
from mpaudit.static.syntax import decode, normalise_newlines, parse_chunk, syntax_error


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("x = 'ä€🙂'\n".encode(), "x = 'ä€🙂'\n"),
        (codecs.BOM_UTF8 + "é = 1".encode(), "é = 1"),
        (codecs.BOM_UTF8 + "# coding: utf-8\né = 1".encode(), "# coding: utf-8\né = 1"),
        ("# -*- coding: latin-1 -*-\nx = 'é'".encode("latin-1"), "# -*- coding: latin-1 -*-\nx = 'é'"),
        (b"#!/bin/python\r\n# vim: set fileencoding=cp1252 :\r\n'\x80'", None),
        (b"#!/bin/python\r# coding=cp1252\r'\x80'", None),
        ("\n\n# coding: latin-1\n'é'".encode(), "\n\n# coding: latin-1\n'é'"),
        (b"a\r\nb\rc\n\x0cd", "a\r\nb\rc\n\x0cd"),
    ],
)
def test_decode(data: bytes, text: str | None) -> None:
    assert decode(data) == (data.decode("cp1252") if text is None else text)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"a\r\nb\r\xff", 3, 1),
        (b"a\n'\xc3\xa9\xff'", 2, 3),
        (codecs.BOM_UTF8 + b"'\xff'", 1, 2),
        (codecs.BOM_UTF8 + b"a\n\xff", 2, 1),
        (b"a\nbc\0d", 2, 3),
        (b"# coding: no-such-thing\n", 1, 1),
        (b"# coding: rot13\n", 1, 1),
        (codecs.BOM_UTF8 + b"# coding: latin-1\n", 1, 1),
        (b"# coding: ascii\n'\xe9'", 2, 2),
        (b"# coding: utf-7\n'+AAA-'", 1, 1),
        ("x = 1\n".encode("utf-16"), 1, 4),
    ],
)
def test_what_cannot_be_decoded_is_a_problem_with_a_place(data: bytes, line: int, column: int) -> None:
    problem = decode(data)
    assert isinstance(problem, SyntaxProblem)
    assert (problem.line, problem.column) == (line, column)


@given(st.binary(max_size=60), st.sampled_from([b"", codecs.BOM_UTF8, b"# coding: latin-1\n", b"# coding: \xff\n"]))
def test_decode_never_raises(data: bytes, head: bytes) -> None:
    result = decode(head + data)
    assert isinstance(result, SyntaxProblem) or b"\0" not in data


def test_normalise_newlines() -> None:
    assert normalise_newlines("a\r\nb\rc\nd\r\r\n\x0c\x0b\u2028") == "a\nb\nc\nd\n\n\x0c\x0b\u2028"


@given(st.text(max_size=40))
def test_parse_chunk_never_raises(text: str) -> None:
    assert isinstance(parse_chunk(text), (cst.Module, SyntaxProblem))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ny = (\n", 2, "never closed"),
        ("x = 1\r\ny = 'abc\r\n", 2, "unterminated string literal"),
        ("if a:\n    b\n  c\n", 3, "unindent"),
        ("a = 1\nprint 'b'\n", 2, "print"),
        ("a = 1\n%matplotlib inline\n", 2, "invalid syntax"),
    ],
)
def test_syntax_error_speaks_as_python_does(text: str, line: int, message: str) -> None:
    problem = syntax_error(text)
    assert problem is not None
    assert problem.line == line
    assert message in problem.message


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "type X = int\n", "x = t'{y}'\n", "try: a\nexcept A, B: b\n", "return\n"]
)
def test_syntax_of_every_python_3_is_no_error(text: str) -> None:
    assert syntax_error(text) is None


def test_a_too_complex_file_is_an_error_with_its_own_words() -> None:
    problem = syntax_error("x = " + "+".join("a" * 20_000))
    assert problem is not None
    assert "too complex" in problem.message


def test_nodes_are_checked_again_after_a_parse() -> None:
    for text in ("x = 1\n", "x = = 1\n"):
        parse_chunk(text)
        with pytest.raises(cst.CSTValidationError):
            cst.Name("")


def test_the_parser_leaves_libcst_as_it_was() -> None:
    checks, whitespace = cst.CSTNode.__post_init__, cst.SimpleWhitespace
    tree = parse_chunk("x = f(a,  b)\n")
    assert isinstance(tree, cst.Module)
    assert tree.code == "x = f(a,  b)\n"
    assert (cst.CSTNode.__post_init__, cst.SimpleWhitespace) == (checks, whitespace)
    with pytest.raises(cst.CSTValidationError):
        cst.SimpleWhitespace("x")
