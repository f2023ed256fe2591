"""The lowering of LibCST trees must agree, spans included, with an independent one of the standard library's `ast`."""

from __future__ import annotations

import ast
import re
import sysconfig
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mpaudit.static.facts import ir
from mpaudit.static.facts.limits import MAX_ITEMS, MAX_TEXT
from mpaudit.static.facts.lower import lower, pack, unpack
from mpaudit.static.outline import split_lines
from mpaudit.static.syntax import decode, normalise_newlines, parse_ast

MODULES = [
    "abc", "argparse", "ast", "base64", "bdb", "bisect", "calendar", "cmd", "code", "codeop", "collections",
    "colorsys", "concurrent.futures.thread", "contextlib", "copy", "csv", "dataclasses", "difflib", "dis",
    "email.message", "enum", "fileinput", "fnmatch", "fractions", "functools", "gettext", "glob", "gzip", "hashlib",
    "heapq", "html.parser", "http.cookies", "importlib.util", "inspect", "ipaddress", "json.decoder", "keyword",
    "linecache", "locale", "logging", "mimetypes", "netrc", "operator", "pprint", "queue", "random", "reprlib",
    "sched", "selectors", "shlex", "shutil", "stat", "string", "tarfile", "tempfile", "textwrap", "timeit", "token",
    "tokenize", "traceback", "types", "typing", "unittest.mock", "uuid", "weakref", "zipapp",
]  # fmt: skip

SAMPLE = '''\
# -*- coding: utf-8 -*-
"""Whatever real modules rarely hold."""
import a.b, c as d, e.f as g; from . import h; from ..i.j import (k as l,  # )
    m,)
from n import *

@first
@second.third(1, *x, key=2, **y)
async def function(a, b: int = 1, /, c=2, *args: str, d, e: "text" = None, **kwargs) -> dict[str, int]:
    """Documentation."""
    global p, q
    über = naïve("äöü", ключ=f(1)); ключ = f("€")(2)[g(3)]
    async with a() as b, c, (d()) as (e, f): await g()
    async for (i, j) in (h()): yield i
    else: return
    try:
        raise A from b
    except (B, C) as error: pass
    except D: continue_()
    except: ...
    else: x
    finally: y; z()
    return lambda: (yield)

def star(*, a, b=1): nonlocal_ = 1; return *a, b
class Plain: pass
class Derived(Base, *bases, metaclass=Meta, **options):
    field: int
    other: int = call()
    self.x: int = 3
    def m(self): return [a for b in c if d if e for f in g], {a for b in c}, {a: b for c in d}, (a async for b in c)
while a < b <= c != d is not e not in f: break
else: x += 1; x //= y; x @= z; x **= 2; x >>= 1; x <<= 1; x &= 1; x |= 1; x ^= 1; x %= 2; x -= 1; x *= 2; x /= 2
for i in range(3):
    if a: continue
    elif b and c and d or e and not f: pass
    elif (walrus := g(1)): pass
    else: assert call(), message
del a, b[0]; del (c, d); del e
t = 1, *a; u = (); v = (1,); w = [1, *a]; x = {1, *b}; y = {1: 2, **c}; z = {}
a[1], a[1:2], a[::3], a[1:2, ...], a[()], a[b,], a[:, None], a[(1, 2)]
n = 0x1F + 0o17 + 0b11 + 1_000 + 1e3 + 1.5j + 9223372036854775807 + 9223372036854775808 + .5 + 1_0.5_0
s = "a" 'b' r"\\d" "\\x41\\u20ac\\N{BULLET}\\101\\n" """x
y""" if True else None
s = b"a" b"c"; s = "\\ud800"; s = u"x"; s = "a\\
b"; s = R'\\\\'; s = '\\q'
s = "{}{{".format(1); f"{a}{f(1)!r:>{width}}"; s = "x" f"{y}" "z"
o = ~a - -b ** +c @ d // e % f << g >> h & i | j ^ k * l / m + (not n)
(a or (b or c)) and ((d))
x = (
    # a comment )
    call(  # another (
        1,
    )  # ]
)
if (a): b
if ((a(  # )
  ))): b
with (open(x)) as y, z: pass
for x in (a, b): pass
for x in ((  # )
    a(1)) ): pass
for x, y in z, w: pass
print(*a, b, *c, d=1, **e, **f)
(yield_)(1)(2).three(4)
match subject(1):
    case 1 | "two" | None | -3 | 1+2j | a.b: pass
    case [a, *rest] | (a, rest) if guard(): pass
    case {"key": value, **others}: pass
    case Point(x, y=0, z=w): pass
    case str() as name: pass
    case [_, *_]: pass
    case (1 | 2) as number: pass
    case whole: pass
def f():
\tif tab:
\t\treturn  call(1)
\x0c
class AfterFormFeed:
    x = call()
if x: a(); b = c()
'''


def _source(module: str) -> str:
    path = Path(sysconfig.get_path("stdlib"), *module.split("."))
    text = decode((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_bytes())
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("module", MODULES)
def test_the_standard_library_lowers_as_its_ast_does(module: str) -> None:
    assert_same(_source(module))


def test_every_kind_of_statement_and_expression_lowers_as_its_ast_does() -> None:
    assert_same(SAMPLE)


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_newlines_do_not_matter(newline: str) -> None:
    assert lower(SAMPLE.replace("\n", newline)) == lower(SAMPLE)


def test_no_final_newline() -> None:
    assert lower(SAMPLE.rstrip("\n")) == lower(SAMPLE)


def assert_same(text: str) -> None:
    lowered = lower(text)
    assert isinstance(lowered, tuple), lowered
    assert unpack(pack(lowered)) == lowered
    expected = Reference(text).block(parse_ast(text).body)
    found = without_fstrings(lowered)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == other


def without_fstrings(value: Any) -> Any:
    """Python 3.11 does not know the places inside an f-string, and splits its text otherwise."""
    if isinstance(value, ir.FString):
        return ir.Opaque()
    if isinstance(value, tuple):
        return tuple(without_fstrings(item) for item in value)
    if isinstance(value, msgspec.Struct):
        return type(value)(*[without_fstrings(getattr(value, name)) for name in value.__struct_fields__])
    return value


_OPERATORS = {
    "Add": "+", "Sub": "-", "Mult": "*", "Div": "/", "FloorDiv": "//", "Mod": "%", "Pow": "**", "MatMult": "@",
    "LShift": "<<", "RShift": ">>", "BitAnd": "&", "BitOr": "|", "BitXor": "^", "USub": "-", "UAdd": "+",
    "Invert": "~", "Not": "not", "And": "and", "Or": "or", "Eq": "==", "NotEq": "!=", "Lt": "<", "LtE": "<=",
    "Gt": ">", "GtE": ">=", "Is": "is", "IsNot": "is not", "In": "in", "NotIn": "not in",
}  # fmt: skip


class Reference:
    """`ast` to facts, written from the descriptions in `ir`."""

    def __init__(self, text: str) -> None:
        self.text = normalise_newlines(text)
        self.lines = split_lines(self.text)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def place(self, line: int, column: int) -> tuple[int, int]:
        return line, len(self.lines[line - 1].encode()[:column].decode()) + 1

    def span(self, node: Any) -> ir.Span:
        return (*self.place(node.lineno, node.col_offset), *self.place(node.end_lineno, node.end_col_offset))

    def bare(self, node: Any) -> ir.Span:
        """Tuples and generators have their parentheses in `ast`, but not in facts."""
        line, column, end_line, end_column = self.span(node)
        bracketed = self.lines[line - 1][column - 1] == "(" and self.lines[end_line - 1][end_column - 2] == ")"
        if isinstance(node, (ast.Tuple, ast.GeneratorExp)) and bracketed:
            return line, column + 1, end_line, end_column - 1
        return line, column, end_line, end_column

    def header(self, node: Any) -> ir.Span:
        line, column, _, _ = self.span(node)
        _, _, end_line, end_column = self.span(node.iter)
        offset = self.starts[end_line - 1] + end_column - 1
        rest = re.compile(r"(?:\s|\\\n|#[^\n]*)*\)")
        while (match := rest.match(self.text, offset)) is not None:
            offset = match.end()
        end_line = self.text.count("\n", 0, offset) + 1
        return line, column, end_line, offset - self.starts[end_line - 1] + 1

    def named(self, node: Any, keyword: str) -> ir.Span:
        line, column = self.place(node.lineno, node.col_offset)
        start = self.starts[line - 1] + column - 1
        match = re.compile(rf"(?:async\s+)?{keyword}(?:\s|\\\n)+({re.escape(node.name)})").match(self.text, start)
        assert match is not None
        line = self.text.count("\n", 0, match.start(1)) + 1
        column = match.start(1) - self.starts[line - 1] + 1
        return line, column, line, column + len(node.name)

    def expr(self, node: Any) -> Any:
        return getattr(self, type(node).__name__)(node)

    def maybe(self, node: Any) -> Any:
        return None if node is None else self.expr(node)

    def all(self, nodes: Any) -> Any:
        return tuple(self.expr(node) for node in nodes)

    def Constant(self, node: Any) -> Any:
        value = node.value
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                return ir.Opaque()
            return ir.Const(value[:MAX_TEXT])
        if (isinstance(value, int) and value >= 2**63) or isinstance(value, (bytes, complex, type(...))):
            return ir.Opaque()
        return ir.Const(value)

    def Name(self, node: Any) -> Any:
        return ir.Name(node.id)

    def Attribute(self, node: Any) -> Any:
        return ir.Attr(self.expr(node.value), node.attr)

    def Call(self, node: Any) -> Any:
        keywords = tuple((keyword.arg or "", self.expr(keyword.value)) for keyword in node.keywords)
        return ir.Call(self.expr(node.func), self.all(node.args), keywords, self.span(node))

    def Subscript(self, node: Any) -> Any:
        return ir.Sub(self.expr(node.value), self.expr(node.slice))

    def Slice(self, node: Any) -> Any:
        return ir.Slice((self.maybe(node.lower), self.maybe(node.upper), self.maybe(node.step)))

    def sequence(self, kind: str, items: Any) -> Any:
        more = (ir.Opaque(),) if len(items) > MAX_ITEMS else ()
        return ir.Seq(kind, self.all(items[:MAX_ITEMS]) + more)

    def Tuple(self, node: Any) -> Any:
        return self.sequence("tuple", node.elts)

    def List(self, node: Any) -> Any:
        return self.sequence("list", node.elts)

    def Set(self, node: Any) -> Any:
        return self.sequence("set", node.elts)

    def Dict(self, node: Any) -> Any:
        items = tuple((self.maybe(key), self.expr(value)) for key, value in zip(node.keys, node.values, strict=True))
        return ir.Dict(items, self.span(node))

    def token(self, operator: Any) -> str:
        return _OPERATORS[type(operator).__name__]

    def BinOp(self, node: Any) -> Any:
        return ir.BinOp(self.token(node.op), self.expr(node.left), self.expr(node.right))

    def UnaryOp(self, node: Any) -> Any:
        return ir.UnaryOp(self.token(node.op), self.expr(node.operand))

    def BoolOp(self, node: Any) -> Any:
        return ir.BoolOp(self.token(node.op), tuple(self.chain(node, type(node.op))))

    def chain(self, node: Any, operator: Any) -> Any:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, operator):
            return [value for part in node.values for value in self.chain(part, operator)]
        return [self.expr(node)]

    def Compare(self, node: Any) -> Any:
        operands = [node.left, *node.comparators]
        links = tuple(
            ir.Compare(self.token(operator), self.expr(left), self.expr(right))
            for operator, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True)
        )
        return links[0] if len(links) == 1 else ir.BoolOp("and", links)

    def IfExp(self, node: Any) -> Any:
        return ir.IfExp(self.expr(node.test), self.expr(node.body), self.expr(node.orelse))

    def Lambda(self, node: Any) -> Any:
        return ir.Lambda(self.params(node.args), self.expr(node.body))

    def clauses(self, node: Any) -> Any:
        return tuple((self.expr(g.target), self.expr(g.iter), self.all(g.ifs)) for g in node.generators)

    def ListComp(self, node: Any) -> Any:
        return ir.Comp("list", None, self.expr(node.elt), self.clauses(node))

    def SetComp(self, node: Any) -> Any:
        return ir.Comp("set", None, self.expr(node.elt), self.clauses(node))

    def GeneratorExp(self, node: Any) -> Any:
        return ir.Comp("generator", None, self.expr(node.elt), self.clauses(node))

    def DictComp(self, node: Any) -> Any:
        return ir.Comp("dict", self.expr(node.key), self.expr(node.value), self.clauses(node))

    def Starred(self, node: Any) -> Any:
        return ir.Star(self.expr(node.value))

    def Await(self, node: Any) -> Any:
        return ir.Await(self.expr(node.value))

    def Yield(self, node: Any) -> Any:
        return ir.Yield(self.maybe(node.value))

    YieldFrom = Yield

    def NamedExpr(self, node: Any) -> Any:
        return ir.Walrus(node.target.id, self.expr(node.value))

    def JoinedStr(self, node: Any) -> Any:
        return ir.Opaque()

    def params(self, node: Any) -> Any:
        def param(arg: Any, kind: str, default: Any) -> ir.Param:
            return ir.Param(arg.arg, kind, self.maybe(default), self.maybe(arg.annotation))

        positional = [*node.posonlyargs, *node.args]
        defaults = [None] * (len(positional) - len(node.defaults)) + node.defaults
        found = [param(arg, "pos", default) for arg, default in zip(positional, defaults, strict=True)]
        found += [param(arg, "*", None) for arg in [node.vararg] if arg]
        found += [param(arg, "kw", default) for arg, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
        found += [param(arg, "**", None) for arg in [node.kwarg] if arg]
        return tuple(found)

    # statements

    def block(self, nodes: Any) -> Any:
        lowered = (getattr(self, type(node).__name__ + "_", self.nothing)(node) for node in nodes)
        return tuple(statement for statement in lowered if statement is not None)

    def nothing(self, node: Any) -> None:
        assert isinstance(node, ast.Pass)

    def Expr_(self, node: Any) -> Any:
        return None if isinstance(node.value, ast.Constant) else self.expression(node)

    def expression(self, node: Any) -> Any:
        value = self.expr(node.value)
        if isinstance(node.value, ast.JoinedStr):
            return ir.ExprStmt(value, self.span(node))
        return None if isinstance(value, ir.Opaque) else ir.ExprStmt(value, self.span(node))

    def Assign_(self, node: Any) -> Any:
        return ir.Assign(self.all(node.targets), self.expr(node.value), self.span(node))

    def AnnAssign_(self, node: Any) -> Any:
        if node.value is None:
            return None
        return ir.Assign((self.expr(node.target),), self.expr(node.value), self.span(node))

    def AugAssign_(self, node: Any) -> Any:
        return ir.AugAssign(self.expr(node.target), self.token(node.op), self.expr(node.value), self.span(node))

    def If_(self, node: Any) -> Any:
        return ir.If(self.expr(node.test), self.block(node.body), self.block(node.orelse), self.bare(node.test))

    def For_(self, node: Any) -> Any:
        body, orelse = self.block(node.body), self.block(node.orelse)
        return ir.For(self.expr(node.target), self.expr(node.iter), body, orelse, self.header(node))

    AsyncFor_ = For_

    def While_(self, node: Any) -> Any:
        return ir.While(self.expr(node.test), self.block(node.body), self.block(node.orelse), self.bare(node.test))

    def With_(self, node: Any) -> Any:
        items = tuple(
            (self.expr(item.context_expr), self.maybe(item.optional_vars), self.bare(item.context_expr))
            for item in node.items
        )
        return ir.With(items, self.block(node.body))

    AsyncWith_ = With_

    def Try_(self, node: Any) -> Any:
        handlers = tuple((self.maybe(h.type), h.name or "", self.block(h.body)) for h in node.handlers)
        return ir.Try(self.block(node.body), handlers, self.block(node.orelse), self.block(node.finalbody))

    TryStar_ = Try_

    def Return_(self, node: Any) -> Any:
        return ir.Return(self.maybe(node.value), self.span(node))

    def Raise_(self, node: Any) -> Any:
        return ir.Raise(self.maybe(node.exc), self.span(node))

    def Break_(self, node: Any) -> Any:
        return ir.Break(self.span(node))

    def Continue_(self, node: Any) -> Any:
        return ir.Continue(self.span(node))

    def Assert_(self, node: Any) -> Any:
        return ir.Assert(self.expr(node.test))

    def Delete_(self, node: Any) -> Any:
        targets = self.all(node.targets)
        return ir.Delete(targets[0].items if len(targets) == 1 and isinstance(targets[0], ir.Seq) else targets)

    def Global_(self, node: Any) -> Any:
        return ir.Global(tuple(node.names))

    def Nonlocal_(self, node: Any) -> Any:
        return ir.Nonlocal(tuple(node.names))

    def Import_(self, node: Any) -> Any:
        bindings: list[tuple[str, str, str]] = []
        for alias in node.names:
            top = alias.name.split(".")[0]
            bindings.append((alias.asname, alias.name, "") if alias.asname else (top, top, ""))
            if "." in alias.name and not alias.asname:
                bindings.append(("", alias.name, ""))
        return ir.Import(tuple(bindings), self.span(node))

    def ImportFrom_(self, node: Any) -> Any:
        module = "." * node.level + (node.module or "")
        bindings = tuple((alias.asname or alias.name, module, alias.name) for alias in node.names)
        return ir.Import(bindings, self.span(node))

    def Match_(self, node: Any) -> Any:
        cases = tuple(
            (*self.pattern(case.pattern), self.maybe(case.guard), self.block(case.body)) for case in node.cases
        )
        return ir.Match(self.expr(node.subject), cases)

    def pattern(self, node: Any) -> tuple[Any, Any]:
        if isinstance(node, ast.MatchValue):
            return (), (self.expr(node.value),)
        if isinstance(node, ast.MatchSingleton):
            return (), (ir.Const(node.value),)
        if isinstance(node, ast.MatchOr):
            values = [self.pattern(alternative)[1] for alternative in node.patterns]
            return self.names(node.patterns[0]), () if () in values else sum(values, ())
        if isinstance(node, ast.MatchAs):
            return self.names(node), () if node.pattern is None else self.pattern(node.pattern)[1]
        return self.names(node), (ir.Opaque(),)

    def names(self, node: Any) -> tuple[str, ...]:
        """Captures come in source order: those of the parts before the name of the whole."""
        found: tuple[str, ...] = ()
        if isinstance(node, ast.MatchOr):
            return self.names(node.patterns[0])
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.pattern):
                found += self.names(child)
        own = getattr(node, "name", None) or getattr(node, "rest", None)
        return found + ((own,) if own else ())

    def FunctionDef_(self, node: Any) -> Any:
        decorators = tuple((self.expr(d), self.bare(d)) for d in node.decorator_list)
        params, returns, body = self.params(node.args), self.maybe(node.returns), self.block(node.body)
        is_async = isinstance(node, ast.AsyncFunctionDef)
        span = self.named(node, "def")
        return ir.FunctionDef(node.name, params, decorators, body, is_async, _yields(node.body), returns, span)

    AsyncFunctionDef_ = FunctionDef_

    def ClassDef_(self, node: Any) -> Any:
        decorators = tuple((self.expr(d), self.bare(d)) for d in node.decorator_list)
        keywords = tuple((keyword.arg or "", self.expr(keyword.value)) for keyword in node.keywords)
        bases, body = self.all(node.bases), self.block(node.body)
        fields = tuple(
            stmt.target.id
            for stmt in node.body
            if isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name)
            if "ClassVar" not in ast.unparse(stmt.annotation).partition("[")[0]
        )
        return ir.ClassDef(node.name, bases, keywords, decorators, body, self.named(node, "class"), fields)


def _yields(nodes: Any) -> bool:
    for node in nodes:
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            outside = [*node.decorator_list, node.args]
        elif isinstance(node, ast.Lambda):
            outside = [node.args]
        else:
            outside = list(ast.iter_child_nodes(node))
        if _yields(outside):
            return True
    return False


_atoms = st.sampled_from(["a", "näme", "1", "2.5", '"text"', "'''two\nlines'''", "None", "...", "f()", "x.y"])
_gaps = st.sampled_from(["", " ", "  ", "\n", " # ) comment\n ", "\\\n", "\t"])


def _forms(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Every kind of expression around others; all is in brackets, so that gaps may hold newlines."""
    templates = [
        "({0})", "{0}({1},{2})", "{0}({1},*{2},key={3},**{0})", "{0}[{1}:{2}]", "{0}[{1},{2}]", "{0}.name", "[{0},{1}]",
        "({0},)", "({0},*{1})", "{{{0}:{1},**{2}}}", "{{{0},{1}}}", "({0} if {1} else {2})", "(lambda x={0},*y:{1})",
        "[{0} for z in {1} if {2} for w in {3}]", "({0} and {1} and {2})", "({0} or ({1} or {2}))", "(not {0})",
        "({0}<{1} is not {2})", "(-{0})", "({0}**-{1})", "({0}+{1}*{2})", "(z := {0})", "{{{0}:{1} for z in {2}}}",
        "(yield {0})", "(await {0})", "{0}({1} for z in {2})",
    ]  # fmt: skip
    return st.builds(
        lambda template, parts, gaps: template.format(
            *(f"({gap}{part}{gap})" for part, gap in zip(parts, gaps, strict=True))
        ),
        st.sampled_from(templates),
        st.lists(inner, min_size=4, max_size=4),
        st.lists(_gaps, min_size=4, max_size=4),
    )


_expressions = st.recursive(_atoms, _forms, max_leaves=12)
_statements = st.sampled_from(
    [
        "{0}", "x = {0}", "x[{0}] = y = {1}", "x += {0}", "return {0}", "raise X({0}) from {1}", "del x[{0}]",
        "assert {0}, {1}", "if {0}: pass\n    elif {1}: pass", "for x in {0}: pass", "while {0}: pass",
        "with {0} as x, {1}: pass", "try: pass\n    except {0}: pass", "@d({0})\n    def g(x={1}): pass",
        "@ d\n    class C({0}, k={1}): pass",
    ]
)  # fmt: skip


@given(st.lists(st.tuples(_statements, _expressions, _expressions), min_size=1, max_size=4))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
def test_nested_expressions_lower_as_their_ast_does(statements: list[tuple[str, str, str]]) -> None:
    lines = [form.format(f"({one})", f"({other})") for form, one, other in statements]
    text = "async def f():\n" + "".join(f"    {line}\n" for line in lines)
    try:
        parse_ast(text)
    except SyntaxError:  # a yield or a binding where none may stand
        assume(False)
    assert_same(text)
