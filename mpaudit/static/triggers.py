"""Byte scans that decide, before anything is parsed, which files can matter."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import AnyStr, Generic

_LONGEST_LEAD = 1_000
"""Bytes looked at before the word `import`."""

_IMPORT = re.compile(rb"import(?=[\s(*\\])")
_LEAD = re.compile(
    rb"(?: ^ | [;:] ) [ \t\f]* (?: lazy \s+ )? (?: from (?P<module> (?: [.\w\x80-\xff] | \s | \\\n )+ ) )? \Z",
    re.VERBOSE | re.MULTILINE,
)
_ENCLOSED = re.compile(rb"(?:\s|\\\n)* \( (?P<names> (?: [^)\#] | \#[^\n]* )* )", re.VERBOSE)
_OPEN = re.compile(rb"(?P<names> (?: \\\n | [^\\;\#\n] )* )", re.VERBOSE)
_NOISE = re.compile(rb"\#[^\n]* | \\\n", re.VERBOSE)


def compile_triggers(patterns: Iterable[str]) -> re.Pattern[bytes]:
    """One expression that finds whatever one of the patterns finds; no pattern finds nothing.

    In a pattern `^` and `$` are the borders of lines, `\\w` and `\\b` mean ASCII. Raises ValueError naming the pattern
    that is not a regular expression, that has a capturing group, or that matches the empty text.
    """
    checked = sorted(set(patterns))
    for pattern in checked:
        try:
            compiled = re.compile(f"(?:{pattern})".encode(), re.MULTILINE)
            re.compile(pattern.encode())
        except (re.error, UnicodeEncodeError) as error:
            raise ValueError(f"trigger {pattern!r} is not a regular expression: {error}") from None
        if compiled.groups:
            raise ValueError(f"trigger {pattern!r} has a capturing group: use (?:…)")
        if compiled.match(b""):
            raise ValueError(f"trigger {pattern!r} matches everywhere")
    joined = "|".join(f"(?:{pattern})" for pattern in checked) or r"(?!)"
    return re.compile(joined.encode(), re.MULTILINE)


def text_triggers(triggers: re.Pattern[bytes]) -> re.Pattern[str]:
    """The same expression for decoded text."""
    return re.compile(triggers.pattern.decode(), re.MULTILINE | re.ASCII)


class Scanner(Generic[AnyStr]):
    """The same patterns over long texts, an order of magnitude faster than one joined expression: it looks for the
    literal that each begins with, and tries the pattern there."""

    def __init__(self, patterns: Iterable[str], kind: type[AnyStr]) -> None:
        by_literal: dict[str, list[str]] = {}
        for pattern in sorted(set(patterns)):
            by_literal.setdefault(_literal(pattern), []).append(pattern)
        self._by_literal: list[tuple[AnyStr, re.Pattern[AnyStr]]] = []
        for literal, group in sorted(by_literal.items()):
            joined = compile_triggers(group)
            if kind is bytes:
                self._by_literal.append((literal.encode(), joined))  # type: ignore[arg-type]
            else:
                self._by_literal.append((literal, text_triggers(joined)))  # type: ignore[arg-type]

    def search(self, text: AnyStr) -> bool:
        """Whether any pattern occurs."""
        return any(True for literal, pattern in self._by_literal for _ in _matches(text, literal, pattern))

    def starts(self, text: AnyStr) -> list[int]:
        """Where matches start, ascending."""
        found: set[int] = set()
        for literal, pattern in self._by_literal:
            found.update(_matches(text, literal, pattern))
        return sorted(found)


def _matches(text: AnyStr, literal: AnyStr, pattern: re.Pattern[AnyStr]) -> Iterator[int]:
    if not literal:
        yield from (match.start() for match in pattern.finditer(text))
        return
    start = text.find(literal)
    while start >= 0:
        if pattern.match(text, start):
            yield start
        start = text.find(literal, start + 1)


_LITERAL = re.compile(r"(?:\\b)?(?P<text> (?: [\w ] | \\[^\w\s] )* ) (?P<next>.?)", re.VERBOSE | re.ASCII | re.DOTALL)


def _literal(pattern: str) -> str:
    """What every match of the pattern begins with; '' where that takes more than a look."""
    found = _LITERAL.match(pattern)
    if found is None or "|" in re.sub(r"\(\?:[^()]*\)", "", pattern):
        return ""
    text = re.sub(r"\\(.)", r"\1", found["text"])
    return text[:-1] if found["next"] and found["next"] in "?*{" else text


def import_lines(data: bytes) -> tuple[tuple[str, str, str], ...]:
    """What the import statements of a file bind, in source order, as `ir.Import.bindings`.

    No parser: an import in a docstring is taken for one, a normal import is never missed.
    """
    data = data.removeprefix(BOM_UTF8)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return tuple(binding for word in _IMPORT.finditer(data) for binding in _bindings(data, word.start(), word.end()))


_PATH_ENTRY = re.compile(rb"sys\.path\.(?:append|insert|extend)\s*\(([^\n]*)")
_CONSTANT = re.compile(rb"""(["'])([^"'\n]*)\1""")


def path_entries(data: bytes) -> tuple[tuple[str, str, str], ...]:
    """The folders that a file puts on `sys.path`, by their names as constants, as bindings of their own kind."""
    if b"sys.path." not in data:
        return ()
    texts = [text for entry in _PATH_ENTRY.findall(data) for _, text in _CONSTANT.findall(entry)]
    names = [_text(text).replace("\\", "/").rstrip("/").rpartition("/")[2] for text in texts]
    return tuple(("", "sys.path", name) for name in dict.fromkeys(names) if name.strip("."))


_MODULE_NAME = re.compile(rb"""(["'])([A-Za-z_][\w.]*)\1""")


def looked_up_entries(data: bytes) -> tuple[tuple[str, str, str], ...]:
    """The constants of a file that imports modules by name, any of which may be such a name, as bindings of their own
    kind."""
    if b"import_module" not in data:
        return ()
    names = {_text(text) for _, text in _MODULE_NAME.findall(data)}
    return tuple(("", "importlib", name) for name in sorted(names))


def _bindings(data: bytes, start: int, end: int) -> Iterator[tuple[str, str, str]]:
    lead = _LEAD.search(data[_line_start(data, start) : start])
    if lead is None:
        return
    if lead["module"] is None:
        names = _OPEN.match(data, end)
        for name, local in _aliases(names):
            yield from bindings_of(name, local)
    else:
        module = "".join(_text(_NOISE.sub(b"", lead["module"])).split())
        for name, local in _aliases(_ENCLOSED.match(data, end) or _OPEN.match(data, end)):
            yield local or name, module, name


def bindings_of(module: str, local: str) -> Iterator[tuple[str, str, str]]:
    """What `import module as local` binds and loads; `local` is '' where it has no `as`."""
    if local:
        yield local, module, ""
        return
    top = module.partition(".")[0]
    if top:  # what is no Python may begin with a dot
        yield top, top, ""
    if top != module:
        yield "", module, ""


def _line_start(data: bytes, position: int) -> int:
    """Where the logical line of `position` begins, as far as backslashes tell."""
    bound = max(0, position - _LONGEST_LEAD)
    start = data.rfind(b"\n", bound, position)
    while start > 0 and data[start - 1] == ord("\\"):
        start = data.rfind(b"\n", bound, start)
    return max(start + 1, bound)


def _aliases(names: re.Match[bytes] | None) -> Iterator[tuple[str, str]]:
    """(name, local name or '') of each part of `a.b as c, d`."""
    if names is None:
        return
    for part in _text(_NOISE.sub(b" ", names["names"])).split(","):
        words = part.split()
        joined = "".join(words[: words.index("as")] if "as" in words else words)
        if joined == "*" or joined.replace(".", "").isidentifier():
            yield joined, words[-1] if "as" in words else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
