"""Bytes to text, and text to a LibCST tree: every way in which that can fail is a `SyntaxProblem`."""

from __future__ import annotations

import ast
import io
import re
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from mpaudit.static.complexity import too_complex
from mpaudit.static.facts.ir import SyntaxProblem

if TYPE_CHECKING:
    import libcst as cst

_HEAD = re.compile(rb"\A[^\r\n]*(?:\r\n?|\n)?[^\r\n]*")
_NEWLINE = re.compile(r"\r\n?")


def decode(data: bytes) -> str | SyntaxProblem:
    """The text of a source file, by its byte order mark or PEP 263 cookie, else as UTF-8; newlines are kept."""
    null = data.find(b"\0")
    if null >= 0:
        return _problem_at(data, null, "source contains a null byte")
    try:
        encoding = _encoding(data)
        text = data.removeprefix(BOM_UTF8).decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start + (len(BOM_UTF8) if data.startswith(BOM_UTF8) else 0)
        return _problem_at(data, start, f"bytes that are not valid {error.encoding}")
    except (SyntaxError, LookupError, ValueError) as error:
        return SyntaxProblem(1, 1, f"cannot decode the file: {error}")
    if "\0" in text:
        return SyntaxProblem(1, 1, "source contains a null byte")
    return text


def normalise_newlines(text: str) -> str:
    """The text with each \\r\\n and each lone \\r as \\n: the lines stay those of Python's tokenizer."""
    return _NEWLINE.sub("\n", text) if "\r" in text else text


def parse_chunk(text: str) -> cst.Module | SyntaxProblem:
    """The LibCST tree of whole top-level statements; line 1 is the first line of `text`.

    LibCST overflows the C stack on very long or very deep expressions: those are refused unparsed.
    """
    problem = too_complex(text)
    if problem is not None:
        return problem
    import libcst as cst

    try:
        with _unchecked():
            return cst.parse_module(text)
    except cst.ParserSyntaxError as error:
        return SyntaxProblem(max(error.raw_line, 1), error.raw_column + 1, error.message.partition(": expected")[0])
    except Exception as error:  # LibCST also raises TypeError, RecursionError and others, on valid code too
        return SyntaxProblem(1, 1, f"LibCST cannot parse this: {type(error).__name__}: {error}")


@contextmanager
def _unchecked() -> Iterator[None]:
    """LibCST checks each node when it is made. Those that its parser makes are right, and to check them takes more
    than a quarter of its time. Two nodes in five are whitespace within a line, nearly all of it alike: one node stands
    for all with the same text."""
    import libcst as cst

    checks, whitespace = cst.CSTNode.__post_init__, cst.SimpleWhitespace
    setattr(cst.CSTNode, "__post_init__", _no_check)  # noqa: B010 – a method, to mypy
    setattr(cst, "SimpleWhitespace", lru_cache(maxsize=256)(whitespace))  # noqa: B010 – the parser asks for it by name
    try:
        yield
    finally:
        setattr(cst.CSTNode, "__post_init__", checks)  # noqa: B010
        setattr(cst, "SimpleWhitespace", whitespace)  # noqa: B010


def _no_check(node: cst.CSTNode) -> None:
    pass


def syntax_error(text: str) -> SyntaxProblem | None:
    """Why LibCST, which reads the syntax of every Python 3, rejects a whole file; None where it does not.

    Where the running Python rejects it too, the place and the words are Python's: they are the better ones.
    """
    text = normalise_newlines(text)
    result = parse_chunk(text)
    if not isinstance(result, SyntaxProblem):
        return None
    try:
        parse_ast(text)
    except SyntaxError as error:
        return SyntaxProblem(error.lineno or 1, max(error.offset or 1, 1), error.msg)
    except (ValueError, RecursionError, MemoryError):
        pass
    return result


def parse_ast(text: str) -> ast.Module:
    """The standard library's tree; raises SyntaxError, ValueError, RecursionError or MemoryError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes are somebody else's finding
        return ast.parse(text)


def _encoding(data: bytes) -> str:
    """Raises SyntaxError for an unknown encoding, or one that contradicts the byte order mark."""
    head = _HEAD.match(data)
    if head is None or b"coding" not in head.group():
        return "utf-8"
    import tokenize

    lines = head.group().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    encoding, _ = tokenize.detect_encoding(io.BytesIO(lines).readline)
    return "utf-8" if encoding == "utf-8-sig" else encoding


def _problem_at(data: bytes, offset: int, message: str) -> SyntaxProblem:
    before = data[:offset].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    last_line = before[before.rfind(b"\n") + 1 :].removeprefix(BOM_UTF8)
    return SyntaxProblem(before.count(b"\n") + 1, len(last_line.decode("utf-8", "replace")) + 1, message)
