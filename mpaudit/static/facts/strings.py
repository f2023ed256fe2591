"""The values of string literals, from their source text."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(r"\\(\n|[\\'\"abfnrtv]|[0-7]{1,3}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|N\{[^}]*\})")
_SIMPLE = {
    "\n": "", "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
    "v": "\v",
}  # fmt: skip


def literal(source: str) -> str | None:
    """The value of a plain string literal; None for bytes and for text that UTF-8 cannot hold."""
    quote = source[-1]
    start = source.index(quote)
    prefix = source[:start].lower()
    if "b" in prefix:
        return None
    width = 3 if source.startswith(quote * 3, start) and len(source) >= start + 6 else 1
    return unescape(source[start + width : -width], raw="r" in prefix)


def unescape(body: str, *, raw: bool) -> str | None:
    """The text between the quotes with its escapes resolved; None where it holds lone surrogates."""
    if raw or "\\" not in body:
        return body
    try:
        text = _ESCAPE.sub(_character, body)
        text.encode()
    except (KeyError, ValueError, OverflowError):
        return None
    return text


def _character(match: re.Match[str]) -> str:
    code = match.group(1)
    simple = _SIMPLE.get(code)
    if simple is not None:
        return simple
    if code[0] == "N":
        return unicodedata.lookup(code[2:-1])
    if code[0] in "xuU":
        return chr(int(code[1:], 16))
    return chr(int(code, 8))
