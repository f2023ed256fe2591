from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpaudit.static.facts import ir
from mpaudit.static.outline import outline
from mpaudit.static.syntax import decode
from mpaudit.static.triggers import (
    Scanner,
    compile_triggers,
    import_lines,
    looked_up_entries,
    path_entries,
    text_triggers,
)

NOTHING = Scanner([], str)


def test_a_file_is_admitted_by_any_pattern() -> None:
    triggers = compile_triggers([r"\bautocast\b", "clip_grad", r"^amp$", "clip_grad"])
    for text in (b"torch.autocast(", b"x\nclip_grad_norm_", b"a\namp\nb"):
        assert triggers.search(text)
        assert text_triggers(triggers).search(text.decode())
    for text in (b"autocasts", b"a amp", b""):
        assert not triggers.search(text)
        assert not text_triggers(triggers).search(text.decode())


def test_words_end_alike_in_bytes_and_in_text() -> None:
    triggers = compile_triggers([r"\bamp\b"])
    assert triggers.search("éampé".encode())
    assert text_triggers(triggers).search("éampé")


def test_no_pattern_finds_nothing() -> None:
    assert not compile_triggers([]).search(b"anything")


def test_alternatives_stay_inside_their_pattern() -> None:
    triggers = compile_triggers(["x(?:a|b)|c", "d"])
    assert [match.group() for match in triggers.finditer(b"xa a xb c d")] == [b"xa", b"xb", b"c", b"d"]


def test_the_order_of_the_patterns_does_not_matter() -> None:
    assert compile_triggers(["b", "a"]) == compile_triggers(["a", "b"])


@pytest.mark.parametrize("pattern", ["a(", "(?P<n>a)", "(a)", "a*", "", "(?i)a|", "a|", r"\1", "a)|(?:b", "\ud800"])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        compile_triggers(["good", pattern])


@pytest.mark.parametrize(
    "text",
    [
        "import a",
        "import a.b.c\n",
        "import a as b, c.d as e,f , g . h",
        "import\ta",
        "import\\\n a",
        "import a, \\\n  b as \\\n c\nd",
        "from a import b",
        "from a.b import c as d, e",
        "from . import a",
        "from .a import b; from ... import c; import d",
        "from .import a",
        "from ..a.b import(c)",
        "from . . a import b",
        "from a import *",
        "from a import*",
        "from a import (b as c, # ) d\n  # e, f\n  g,\n)\nh, i",
        "from a import ( # b\n c, d)",
        "from \\\n a \\\n import \\\n (b,\n c)",
        "from a import \\\n b, \\\n c",
        "try: import a\nexcept ImportError: a = None; import b\nelse: from c import d",
        "if x:\n    import a # b, c\n\x0c    from d import (e)",
        "def f():\n\timport a; import b",
        "import über.ö as ä\nfrom é import ñ",
        "x = 1;import a",
        "from a import b # import c",
        "# a comment is not continued \\\nimport a",
        "with a: import b",
        "class A: from a import b",
        "import a" + "".join(f", b{i}" for i in range(500)),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_import_lines_are_those_of_the_outline(text: str, newline: str) -> None:
    triaged = outline(text, NOTHING)
    assert isinstance(triaged, ir.Outline)
    assert triaged.exact
    assert triaged.imports
    assert import_lines(text.replace("\n", newline).encode()) == triaged.imports


@pytest.mark.parametrize(
    "text",
    [
        "important = 1",
        "reimport a",
        "x = 'import'",
        "x = 'import a'",
        "# import a",
        "importlib.import_module('a')",
        "a.import b",
        "import 1",
        "# from a import b",
    ],
)
def test_what_is_no_import(text: str) -> None:
    assert import_lines(text.encode()) == ()


def test_an_import_in_a_docstring_is_taken_for_one() -> None:
    assert import_lines(b'"""\nimport a\n"""') == (("a", "a", ""),)


def test_the_byte_order_mark_is_no_part_of_the_first_import() -> None:
    assert import_lines(b"\xef\xbb\xbfimport a") == (("a", "a", ""),)


def test_lazy_imports() -> None:
    assert import_lines(b"lazy import a\nlazy from b import c") == (("a", "a", ""), ("c", "b", "c"))


@given(
    st.binary(max_size=80), st.lists(st.sampled_from([b"import ", b"from ", b"\\\n", b"(", b",", b" as "]), max_size=9)
)
@example(b".", [b"import ", b"import "])
def test_import_lines_never_raises(data: bytes, words: list[bytes]) -> None:
    for name, module, attribute in import_lines(data.join(words)):
        assert module is not None and attribute is not None
        assert name or "." in module


def test_no_import_of_the_standard_library_is_missed() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        path = root / f"{name}.py"
        if path.is_file():
            data = path.read_bytes()
            text = decode(data)
            assert isinstance(text, str)
            triaged = outline(text, NOTHING)
            assert isinstance(triaged, ir.Outline)
            assert set(triaged.imports) <= {*import_lines(data), *path_entries(data), *looked_up_entries(data)}, name


PATTERNS = (
    "GradScaler",
    r"\bautocast\b",
    r"\.step\(\s*[\w.]",
    r"\.step\(\)",
    r"torch\.(?:as_)?tensor\(",
    r"ab?c",
    r"x|y",
    r"^amp",
    r"a{2}",
)
PIECES = (
    "GradScaler",
    "autocast",
    " ",
    ".step(",
    ")",
    "torch.",
    "as_",
    "tensor(",
    "abc",
    "ac",
    "x",
    "y",
    "\namp",
    "aa",
    "a",
    "é",
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_scanner_finds_what_each_expression_finds(text: str) -> None:
    # Matches of one expression that lie in each other count: the scanner looks at every place.
    starts = {
        start for pattern in PATTERNS for start in range(len(text))
        if re.compile(pattern, re.MULTILINE | re.ASCII).match(text, start)
    }  # fmt: skip
    assert Scanner(PATTERNS, bytes).search(text.encode()) == bool(starts)
    found = set(Scanner(PATTERNS, str).starts(text))
    assert found <= starts
    assert {text.count("\n", 0, start) for start in found} == {text.count("\n", 0, start) for start in starts}


def test_folders_that_are_put_on_the_path() -> None:
    text = b"""import sys
sys.path.append('core')
sys.path.insert(0, os.path.join(ROOT, "third_party", 'raft/'))
sys.path.append("..")
sys.path.append(os.getcwd())
"""
    assert [name for _, _, name in path_entries(text)] == ["core", "third_party", "raft"]
    assert path_entries(b"import sys; path = 'core'") == ()


def test_modules_that_a_file_may_import_by_name() -> None:
    text = b"""model = importlib.import_module(args.model)
parser.add_argument("--model", default='nets.points')
print("two words")
"""
    assert [name for _, _, name in looked_up_entries(text)] == ["nets.points"]
    assert looked_up_entries(b"model = load('nets.points')") == ()
