"""The standard library's `ast` to facts: the same as LibCST's tree gives, ten times as fast, or nothing.

What is followed is read with `ast`; what a finding stands in is read again with LibCST (see `judging`). So nothing here
may guess: where the two may differ (names that Python normalises, `{x=}`, deep nesting), the chunk is left to LibCST.
"""

from __future__ import annotations

import ast
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mpaudit.static.complexity import is_surely_simple, too_complex
from mpaudit.static.facts import ir
from mpaudit.static.facts.limits import MAX_DEPTH, MAX_ITEMS, MAX_TEXT, deep_recursion
from mpaudit.static.syntax import normalise_newlines, parse_ast
from mpaudit.static.triggers import bindings_of

_DEEP = MAX_DEPTH - 10
"""Near LibCST's bound its way to count decides."""
_KNOWS_FSTRINGS = sys.version_info >= (3, 12)
"""Before, what stands in an f-string of several lines has wrong places."""
_SELF_DOCUMENTING = re.compile(r"=\s*[}!:]")
_WORD = re.compile(r"[^\W\d]\w*")
_BRACKETS = re.compile(r"(?:[ \t]*\))*")
_INDENTED_ODDLY = re.compile(r"\f[ \t\f]*\S|^[ \t\f]*\\$", re.MULTILINE)
"""A form feed before code or a line that only goes on: columns are counted otherwise after them. A form feed alone on
its line, as a break between pages, does no harm."""
_OPAQUE = ir.Opaque()


class _Unfit(Exception):
    """The chunk holds something that only LibCST reads rightly."""


def quickly(text: str) -> tuple[ir.Stmt, ...] | None:
    """The statements of a chunk, as `lower.lower` gives them; None where that has to be asked."""
    text = normalise_newlines(text)
    if ("\f" in text or "\\\n" in text) and _INDENTED_ODDLY.search(text):
        return None
    if not text.isascii() and any(map(_looks_ascii, _WORD.findall(text))):
        return None
    try:
        tree = parse_ast(text)
        if not is_surely_simple(text, tree) and too_complex(text) is not None:
            return None
        with deep_recursion():
            return _Reading(text).block(tree.body)
    except (_Unfit, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _looks_ascii(word: str) -> bool:
    """Whether Python would take a name for one that it is not written as."""
    return not word.isascii() and unicodedata.normalize("NFKC", word).isascii()


class _Reading:
    """One pass over one module. Handlers are found by the exact type of a node."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.ascii = text.isascii()
        self.depth = 0
        self.yields = False
        """Whether a `yield` was seen since the start of the innermost function."""

    # ------------------------------------------------------------------ places

    def column(self, line: int, offset: int) -> int:
        """From an offset in UTF-8 bytes to a column in code points."""
        if self.ascii:
            return offset + 1
        text = self.lines[line - 1]
        return (offset if text.isascii() else len(text.encode()[:offset].decode())) + 1

    def span(self, node: Any) -> ir.Span:
        line, end = node.lineno, node.end_lineno
        if self.ascii:
            return line, node.col_offset + 1, end, node.end_col_offset + 1
        return line, self.column(line, node.col_offset), end, self.column(end, node.end_col_offset)

    def bare(self, node: ast.expr) -> ir.Span:
        """Without the parentheses that belong to a tuple and a generator in `ast`."""
        if isinstance(node, ast.Tuple | ast.GeneratorExp):
            raise _Unfit
        return self.span(node)

    def header(self, node: ast.For | ast.AsyncFor) -> ir.Span:
        """From the `for` past the iterable and the parentheses around it."""
        line, column, _, _ = self.span(node)
        _, _, end, end_column = self.span(node.iter)
        rest = self.lines[end - 1]
        match = _BRACKETS.match(rest, end_column - 1)
        assert match is not None
        if not rest[match.end() :].lstrip(" \t").startswith(":"):
            raise _Unfit
        return line, column, end, match.end() + 1

    def name_of(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, keyword: str) -> ir.Span:
        """The place of the name that is defined."""
        line = self.lines[node.lineno - 1]
        start = self.column(node.lineno, node.col_offset) - 1
        match = re.compile(rf"(?:async[ \t]+)?{keyword}[ \t]+{self.ident(node.name)}\b").match(line, start)
        if match is None:
            raise _Unfit
        return node.lineno, match.end() - len(node.name) + 1, node.lineno, match.end() + 1

    def ident(self, name: str) -> str:
        if not name.isascii():  # Python has perhaps normalised it
            raise _Unfit
        return name

    # ------------------------------------------------------------- expressions

    def expr(self, node: ast.AST) -> ir.Expr:
        if self.depth >= _DEEP:
            raise _Unfit
        handler = _EXPRESSIONS.get(type(node))
        if handler is None:
            raise _Unfit
        self.depth += 1
        result = handler(self, node)
        self.depth -= 1
        return result

    def maybe(self, node: ast.AST | None) -> ir.Expr | None:
        return None if node is None else self.expr(node)

    def exprs(self, nodes: Iterable[ast.AST]) -> tuple[ir.Expr, ...]:
        return tuple([self.expr(node) for node in nodes])

    def constant(self, node: ast.Constant) -> ir.Expr:
        value = node.value
        if isinstance(value, str):
            return _text(value)
        if value is None or isinstance(value, bool | float):
            return ir.Const(value)
        return ir.Const(value) if isinstance(value, int) and value < 2**63 else _OPAQUE

    def name(self, node: ast.Name) -> ir.Expr:
        return ir.Name(self.ident(node.id))

    def attribute(self, node: ast.Attribute) -> ir.Expr:
        return ir.Attr(self.expr(node.value), self.ident(node.attr))

    def call(self, node: ast.Call) -> ir.Expr:
        func, args = self.expr(node.func), self.exprs(node.args)
        return ir.Call(func, args, self.keywords(node.keywords), self.span(node))

    def keywords(self, nodes: Iterable[ast.keyword]) -> tuple[tuple[str, ir.Expr], ...]:
        return tuple([(self.ident(keyword.arg or ""), self.expr(keyword.value)) for keyword in nodes])

    def subscript(self, node: ast.Subscript) -> ir.Expr:
        if isinstance(node.slice, ast.Tuple) and len(node.slice.elts) > MAX_ITEMS:
            raise _Unfit
        return ir.Sub(self.expr(node.value), self.expr(node.slice))

    def slice(self, node: ast.Slice) -> ir.Expr:
        return ir.Slice((self.maybe(node.lower), self.maybe(node.upper), self.maybe(node.step)))

    def tuple_(self, node: ast.Tuple) -> ir.Expr:
        return ir.Seq("tuple", self.items(node.elts))

    def list_(self, node: ast.List) -> ir.Expr:
        return ir.Seq("list", self.items(node.elts))

    def set_(self, node: ast.Set) -> ir.Expr:
        return ir.Seq("set", self.items(node.elts))

    def items(self, nodes: Sequence[ast.expr]) -> tuple[ir.Expr, ...]:
        kept = self.exprs(nodes[:MAX_ITEMS])
        return kept if len(nodes) <= MAX_ITEMS else (*kept, _OPAQUE)

    def starred(self, node: ast.Starred) -> ir.Expr:
        return ir.Star(self.expr(node.value))

    def dict_(self, node: ast.Dict) -> ir.Expr:
        items = [(self.maybe(key), self.expr(value)) for key, value in zip(node.keys, node.values, strict=True)]
        return ir.Dict(tuple(items), self.span(node))

    def binary(self, node: ast.BinOp) -> ir.Expr:
        return ir.BinOp(_OPERATORS[type(node.op)], self.expr(node.left), self.expr(node.right))

    def unary(self, node: ast.UnaryOp) -> ir.Expr:
        return ir.UnaryOp(_OPERATORS[type(node.op)], self.expr(node.operand))

    def boolean(self, node: ast.BoolOp) -> ir.Expr:
        operator = type(node.op)
        values: list[ir.Expr] = []
        pending: list[ast.expr] = [node]
        while pending:
            value = pending.pop()
            if isinstance(value, ast.BoolOp) and type(value.op) is operator:
                pending += value.values[::-1]
            else:
                values.append(self.expr(value))
        return ir.BoolOp("and" if operator is ast.And else "or", tuple(values))

    def comparison(self, node: ast.Compare) -> ir.Expr:
        left = self.expr(node.left)
        links: list[ir.Expr] = []
        for operator, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.expr(comparator)
            links.append(ir.Compare(_OPERATORS[type(operator)], left, right))
            left = right
        return links[0] if len(links) == 1 else ir.BoolOp("and", tuple(links))

    def if_expression(self, node: ast.IfExp) -> ir.Expr:
        return ir.IfExp(self.expr(node.test), self.expr(node.body), self.expr(node.orelse))

    def lambda_(self, node: ast.Lambda) -> ir.Expr:
        params = self.parameters(node.args)
        yields = self.yields
        body = self.expr(node.body)
        self.yields = yields
        return ir.Lambda(params, body)

    def list_comprehension(self, node: ast.ListComp) -> ir.Expr:
        return ir.Comp("list", None, self.expr(node.elt), self.clauses(node.generators))

    def set_comprehension(self, node: ast.SetComp) -> ir.Expr:
        return ir.Comp("set", None, self.expr(node.elt), self.clauses(node.generators))

    def generator(self, node: ast.GeneratorExp) -> ir.Expr:
        return ir.Comp("generator", None, self.expr(node.elt), self.clauses(node.generators))

    def dict_comprehension(self, node: ast.DictComp) -> ir.Expr:
        return ir.Comp("dict", self.expr(node.key), self.expr(node.value), self.clauses(node.generators))

    def clauses(self, nodes: Iterable[ast.comprehension]) -> tuple[tuple[ir.Expr, ir.Expr, tuple[ir.Expr, ...]], ...]:
        return tuple([(self.expr(node.target), self.expr(node.iter), self.exprs(node.ifs)) for node in nodes])

    def await_(self, node: ast.Await) -> ir.Expr:
        return ir.Await(self.expr(node.value))

    def yield_(self, node: ast.Yield | ast.YieldFrom) -> ir.Expr:
        self.yields = True
        return ir.Yield(self.maybe(node.value))

    def walrus(self, node: ast.NamedExpr) -> ir.Expr:
        return ir.Walrus(self.ident(node.target.id), self.expr(node.value))

    def formatted(self, node: ast.JoinedStr) -> ir.Expr:
        lines = self.lines[node.lineno - 1 : node.end_lineno]
        if any(map(_SELF_DOCUMENTING.search, lines)):
            raise _Unfit  # `{x=}` gives its own text
        if not _KNOWS_FSTRINGS and len(lines) > 1 and any('"""' in line or "'''" in line for line in lines):
            raise _Unfit
        return ir.FString(tuple(self.parts(node)))

    def parts(self, node: ast.JoinedStr) -> list[ir.Expr]:
        found: list[ir.Expr] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                found.append(self.expr(part.value))
                if isinstance(part.format_spec, ast.JoinedStr):
                    found += self.parts(part.format_spec)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                text = _text(part.value)
                if isinstance(text, ir.Opaque):
                    raise _Unfit
                found.append(text)
            else:
                raise _Unfit
        return found

    def parameters(self, node: ast.arguments) -> tuple[ir.Param, ...]:
        positional = [*node.posonlyargs, *node.args]
        defaults = [None] * (len(positional) - len(node.defaults)) + node.defaults
        found = [self.parameter(arg, "pos", default) for arg, default in zip(positional, defaults, strict=True)]
        if node.vararg is not None:
            found.append(self.parameter(node.vararg, "*", None))
        found += [
            self.parameter(a, "kw", default) for a, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)
        ]
        if node.kwarg is not None:
            found.append(self.parameter(node.kwarg, "**", None))
        return tuple(found)

    def parameter(self, node: ast.arg, kind: str, default: ast.expr | None) -> ir.Param:
        annotation = self.maybe(node.annotation)
        return ir.Param(self.ident(node.arg), kind, self.maybe(default), annotation)

    # -------------------------------------------------------------- statements

    def block(self, nodes: Iterable[ast.stmt]) -> tuple[ir.Stmt, ...]:
        found: list[ir.Stmt] = []
        for node in nodes:
            handler = _STATEMENTS.get(type(node))
            if handler is None:
                raise _Unfit
            statement = handler(self, node)
            if statement is not None:
                found.append(statement)
        return tuple(found)

    def nothing(self, node: ast.Pass) -> None:
        return None

    def expression_statement(self, node: ast.Expr) -> ir.Stmt | None:
        if type(node.value) is ast.Constant:
            return None
        value = self.expr(node.value)
        return None if isinstance(value, ir.Const | ir.Opaque) else ir.ExprStmt(value, self.span(node))

    def assign(self, node: ast.Assign) -> ir.Stmt:
        return ir.Assign(self.exprs(node.targets), self.expr(node.value), self.span(node))

    def annotated(self, node: ast.AnnAssign) -> ir.Stmt | None:
        if node.value is None:
            return None
        return ir.Assign((self.expr(node.target),), self.expr(node.value), self.span(node))

    def augmented(self, node: ast.AugAssign) -> ir.Stmt:
        target = self.expr(node.target)
        return ir.AugAssign(target, _OPERATORS[type(node.op)], self.expr(node.value), self.span(node))

    def return_(self, node: ast.Return) -> ir.Stmt:
        return ir.Return(self.maybe(node.value), self.span(node))

    def raise_(self, node: ast.Raise) -> ir.Stmt:
        value = self.maybe(node.exc)
        self.maybe(node.cause)  # only for the `yield` that it may hold
        return ir.Raise(value, self.span(node))

    def break_(self, node: ast.Break) -> ir.Stmt:
        return ir.Break(self.span(node))

    def continue_(self, node: ast.Continue) -> ir.Stmt:
        return ir.Continue(self.span(node))

    def assert_(self, node: ast.Assert) -> ir.Stmt:
        test = self.expr(node.test)
        self.maybe(node.msg)  # only for the `yield` that it may hold
        return ir.Assert(test)

    def delete(self, node: ast.Delete) -> ir.Stmt:
        if len(node.targets) > MAX_ITEMS:
            raise _Unfit
        targets = self.exprs(node.targets)
        return ir.Delete(targets[0].items if len(targets) == 1 and isinstance(targets[0], ir.Seq) else targets)

    def global_(self, node: ast.Global) -> ir.Stmt:
        return ir.Global(tuple(map(self.ident, node.names)))

    def nonlocal_(self, node: ast.Nonlocal) -> ir.Stmt:
        return ir.Nonlocal(tuple(map(self.ident, node.names)))

    def import_(self, node: ast.Import) -> ir.Stmt:
        bindings: list[tuple[str, str, str]] = []
        for alias in node.names:
            bindings += bindings_of(self.ident(alias.name), self.ident(alias.asname or ""))
        return ir.Import(tuple(bindings), self.span(node))

    def import_from(self, node: ast.ImportFrom) -> ir.Stmt:
        module = "." * node.level + self.ident(node.module or "")
        names = [(self.ident(alias.asname or alias.name), module, self.ident(alias.name)) for alias in node.names]
        return ir.Import(tuple(names), self.span(node))

    def if_(self, node: ast.If) -> ir.Stmt:
        branches: list[tuple[ir.Expr, tuple[ir.Stmt, ...], ir.Span]] = []
        rest: list[ast.stmt] = [node]
        while len(rest) == 1 and isinstance(branch := rest[0], ast.If):
            branches.append((self.expr(branch.test), self.block(branch.body), self.bare(branch.test)))
            rest = branch.orelse
        if len(branches) > MAX_DEPTH:
            raise _Unfit
        orelse = self.block(rest)
        for test, body, span in reversed(branches):
            orelse = (ir.If(test, body, orelse, span),)
        return orelse[0]

    def for_(self, node: ast.For | ast.AsyncFor) -> ir.Stmt:
        iterable = self.expr(node.iter)
        target = self.expr(node.target)
        body = self.block(node.body)
        return ir.For(target, iterable, body, self.block(node.orelse), self.header(node))

    def while_(self, node: ast.While) -> ir.Stmt:
        test = self.expr(node.test)
        body = self.block(node.body)
        return ir.While(test, body, self.block(node.orelse), self.bare(node.test))

    def with_(self, node: ast.With | ast.AsyncWith) -> ir.Stmt:
        items = []
        for item in node.items:
            target = self.maybe(item.optional_vars)
            items.append((self.expr(item.context_expr), target, self.bare(item.context_expr)))
        return ir.With(tuple(items), self.block(node.body))

    def try_(self, node: Any) -> ir.Stmt:
        body = self.block(node.body)
        handlers = [
            (self.maybe(handler.type), self.ident(handler.name or ""), self.block(handler.body))
            for handler in node.handlers
        ]
        return ir.Try(body, tuple(handlers), self.block(node.orelse), self.block(node.finalbody))

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ir.Stmt:
        decorators = self.decorators(node.decorator_list)
        params = self.parameters(node.args)
        returns = self.maybe(node.returns)
        outer, self.yields = self.yields, False
        body = self.block(node.body)
        is_generator, self.yields = self.yields, outer
        is_async = isinstance(node, ast.AsyncFunctionDef)
        span = self.name_of(node, "def")
        return ir.FunctionDef(node.name, params, decorators, body, is_async, is_generator, returns, span)

    def class_(self, node: ast.ClassDef) -> ir.Stmt:
        decorators = self.decorators(node.decorator_list)
        bases, keywords = self.exprs(node.bases), self.keywords(node.keywords)
        body, span, fields = self.block(node.body), self.name_of(node, "class"), tuple(_fields(node))
        return ir.ClassDef(node.name, bases, keywords, decorators, body, span, fields)

    def decorators(self, nodes: Iterable[ast.expr]) -> tuple[tuple[ir.Expr, ir.Span], ...]:
        return tuple([(self.expr(node), self.bare(node)) for node in nodes])


def _text(value: str) -> ir.Expr:
    if value.isascii():
        return ir.Const(value[:MAX_TEXT])
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates
        return _OPAQUE
    return ir.Const(value[:MAX_TEXT])


def _fields(node: ast.ClassDef) -> Iterable[str]:
    for stmt in node.body:
        if isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name):
            kind = stmt.annotation.value if isinstance(stmt.annotation, ast.Subscript) else stmt.annotation
            last = kind.attr if isinstance(kind, ast.Attribute) else kind.id if isinstance(kind, ast.Name) else ""
            if last != "ClassVar":
                yield stmt.target.id


_EXPRESSIONS: dict[type[ast.AST], Callable[[_Reading, Any], ir.Expr]] = {
    ast.Constant: _Reading.constant,
    ast.Name: _Reading.name,
    ast.Attribute: _Reading.attribute,
    ast.Call: _Reading.call,
    ast.Subscript: _Reading.subscript,
    ast.Slice: _Reading.slice,
    ast.Tuple: _Reading.tuple_,
    ast.List: _Reading.list_,
    ast.Set: _Reading.set_,
    ast.Starred: _Reading.starred,
    ast.Dict: _Reading.dict_,
    ast.BinOp: _Reading.binary,
    ast.UnaryOp: _Reading.unary,
    ast.BoolOp: _Reading.boolean,
    ast.Compare: _Reading.comparison,
    ast.IfExp: _Reading.if_expression,
    ast.Lambda: _Reading.lambda_,
    ast.ListComp: _Reading.list_comprehension,
    ast.SetComp: _Reading.set_comprehension,
    ast.GeneratorExp: _Reading.generator,
    ast.DictComp: _Reading.dict_comprehension,
    ast.Await: _Reading.await_,
    ast.Yield: _Reading.yield_,
    ast.YieldFrom: _Reading.yield_,
    ast.NamedExpr: _Reading.walrus,
    ast.JoinedStr: _Reading.formatted,
}
"""A chunk with any other expression is LibCST's."""

_STATEMENTS: dict[type[ast.AST], Callable[[_Reading, Any], ir.Stmt | None]] = {
    ast.Pass: _Reading.nothing,
    ast.Expr: _Reading.expression_statement,
    ast.Assign: _Reading.assign,
    ast.AnnAssign: _Reading.annotated,
    ast.AugAssign: _Reading.augmented,
    ast.Return: _Reading.return_,
    ast.Raise: _Reading.raise_,
    ast.Break: _Reading.break_,
    ast.Continue: _Reading.continue_,
    ast.Assert: _Reading.assert_,
    ast.Delete: _Reading.delete,
    ast.Global: _Reading.global_,
    ast.Nonlocal: _Reading.nonlocal_,
    ast.Import: _Reading.import_,
    ast.ImportFrom: _Reading.import_from,
    ast.If: _Reading.if_,
    ast.For: _Reading.for_,
    ast.AsyncFor: _Reading.for_,
    ast.While: _Reading.while_,
    ast.With: _Reading.with_,
    ast.AsyncWith: _Reading.with_,
    ast.Try: _Reading.try_,
    ast.FunctionDef: _Reading.function,
    ast.AsyncFunctionDef: _Reading.function,
    ast.ClassDef: _Reading.class_,
}
"""A chunk with any other statement (`match`, `except*`, type aliases) is LibCST's."""

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.USub: "-", ast.UAdd: "+", ast.Invert: "~", ast.Not: "not",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
