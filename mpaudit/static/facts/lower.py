"""LibCST tree to facts: one chunk of source becomes the statements of `ir`.

The tree is walked once, by own recursion over a table of node types: no LibCST visitor, no metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import libcst as cst
import msgspec

from mpaudit.static.facts import ir
from mpaudit.static.facts.positions import Positions, deep_recursion
from mpaudit.static.facts.strings import literal, unescape
from mpaudit.static.syntax import normalise_newlines, parse_chunk

MAX_DEPTH = 100
"""Expressions below this depth are Opaque; statements cannot be nested more deeply in Python."""
MAX_ITEMS = 64
"""Items of a display that are kept."""
MAX_TEXT = 200
"""Characters of a string that are kept."""

OPAQUE = ir.Opaque()

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[ir.Stmt, ...])


def lower(text: str) -> tuple[ir.Stmt, ...] | ir.SyntaxProblem:
    """The statements of a chunk of whole top-level statements; spans and problems count from its first line."""
    tree = parse_chunk(normalise_newlines(text))
    if isinstance(tree, ir.SyntaxProblem):
        return tree
    try:
        with deep_recursion():
            return _Lowering(Positions(tree)).block(tree.body)
    except RecursionError:
        return ir.SyntaxProblem(1, 1, "the code is nested too deeply to be analysed")


def pack(statements: tuple[ir.Stmt, ...]) -> bytes:
    """The statements as msgpack."""
    return _encoder.encode(statements)


def unpack(data: bytes) -> tuple[ir.Stmt, ...]:
    """The statements that `pack` wrote; raises msgspec.DecodeError for anything else."""
    return _decoder.decode(data)


class _Lowering:
    """One pass over one module. Handlers are found by the exact type of a node."""

    def __init__(self, positions: Positions) -> None:
        self.span = positions.span
        self.header = positions.header
        self.depth = 0
        self.yields = False
        """Whether a `yield` was seen since the start of the innermost function."""

    # ------------------------------------------------------------ expressions

    def expr(self, node: cst.CSTNode) -> ir.Expr:
        if self.depth >= MAX_DEPTH:
            return OPAQUE
        handler = _EXPRESSIONS.get(type(node))
        if handler is None:
            return OPAQUE
        self.depth += 1
        result = handler(self, node)
        self.depth -= 1
        return result

    def maybe(self, node: cst.CSTNode | None) -> ir.Expr | None:
        return None if node is None else self.expr(node)

    def name(self, node: cst.Name) -> ir.Expr:
        value = node.value
        return _CONSTANT_NAMES.get(value) or ir.Name(value)

    def attribute(self, node: cst.Attribute) -> ir.Expr:
        return ir.Attr(self.expr(node.value), node.attr.value)

    def integer(self, node: cst.Integer) -> ir.Expr:
        try:
            value = int(node.value, 0)
        except ValueError:  # more digits than int() converts
            return OPAQUE
        return ir.Const(value) if value < 2**63 else OPAQUE

    def float_(self, node: cst.Float) -> ir.Expr:
        return ir.Const(float(node.value))

    def string(self, node: cst.SimpleString) -> ir.Expr:
        return _text(literal(node.value))

    def formatted(self, node: cst.FormattedString | cst.TemplatedString) -> ir.Expr:
        return _fstring(self.formatted_parts(node.parts, raw="r" in node.start.lower()))

    def formatted_parts(self, parts: Iterable[cst.CSTNode], *, raw: bool) -> list[ir.Expr]:
        found: list[ir.Expr] = []
        for part in parts:
            if isinstance(part, (cst.FormattedStringText, cst.TemplatedStringText)):
                found.append(_text(unescape(part.value.replace("{{", "{").replace("}}", "}"), raw=raw)))
            elif isinstance(part, (cst.FormattedStringExpression, cst.TemplatedStringExpression)):
                found.append(self.expr(part.expression))
                if part.format_spec is not None:
                    found += self.formatted_parts(part.format_spec, raw=raw)
        return found

    def concatenated(self, node: cst.ConcatenatedString) -> ir.Expr:
        pieces: list[ir.Expr] = []
        rest: cst.BaseString = node
        while isinstance(rest, cst.ConcatenatedString):
            pieces.append(self.expr(rest.left))
            rest = rest.right
        pieces.append(self.expr(rest))
        if any(isinstance(piece, ir.FString) for piece in pieces):
            return ir.FString(
                tuple(part for piece in pieces for part in (piece.parts if isinstance(piece, ir.FString) else (piece,)))
            )
        texts = [piece.value for piece in pieces if isinstance(piece, ir.Const) and isinstance(piece.value, str)]
        return _text("".join(texts)) if len(texts) == len(pieces) else OPAQUE

    def comparison(self, node: cst.Comparison) -> ir.Expr:
        left = self.expr(node.left)
        links: list[ir.Expr] = []
        for target in node.comparisons:
            right = self.expr(target.comparator)
            links.append(ir.Compare(_COMPARISONS[type(target.operator)], left, right))
            left = right
        return links[0] if len(links) == 1 else ir.BoolOp("and", tuple(links))

    def unary(self, node: cst.UnaryOperation) -> ir.Expr:
        return ir.UnaryOp(_UNARY[type(node.operator)], self.expr(node.expression))

    def binary(self, node: cst.BinaryOperation) -> ir.Expr:
        return ir.BinOp(_BINARY[type(node.operator)], self.expr(node.left), self.expr(node.right))

    def boolean(self, node: cst.BooleanOperation) -> ir.Expr:
        operator = type(node.operator)
        values: list[ir.Expr] = []
        pending: list[cst.BaseExpression] = [node]
        while pending:
            value = pending.pop()
            if isinstance(value, cst.BooleanOperation) and type(value.operator) is operator:
                pending += (value.right, value.left)
            else:
                values.append(self.expr(value))
        return ir.BoolOp("and" if operator is cst.And else "or", tuple(values))

    def call(self, node: cst.Call) -> ir.Expr:
        func = self.expr(node.func)
        args, keywords = self.arguments(node.args)
        return ir.Call(func, args, keywords, self.span(node))

    def arguments(self, nodes: Iterable[cst.Arg]) -> tuple[tuple[ir.Expr, ...], tuple[tuple[str, ir.Expr], ...]]:
        args: list[ir.Expr] = []
        keywords: list[tuple[str, ir.Expr]] = []
        for arg in nodes:
            value = self.expr(arg.value)
            if arg.star:
                if arg.star == "*":
                    args.append(ir.Star(value))
                else:
                    keywords.append(("", value))
            elif arg.keyword is None:
                args.append(value)
            else:
                keywords.append((arg.keyword.value, value))
        return tuple(args), tuple(keywords)

    def subscript(self, node: cst.Subscript) -> ir.Expr:
        base = self.expr(node.value)
        elements = node.slice
        first = elements[0]
        starred = isinstance(first.slice, cst.Index) and first.slice.star
        if len(elements) == 1 and not starred and not isinstance(first.comma, cst.Comma):
            return ir.Sub(base, self.index(first.slice))
        return ir.Sub(base, ir.Seq("tuple", tuple(self.index(element.slice) for element in elements)))

    def index(self, node: cst.BaseSlice) -> ir.Expr:
        if isinstance(node, cst.Slice):
            return ir.Slice((self.maybe(node.lower), self.maybe(node.upper), self.maybe(node.step)))
        assert isinstance(node, cst.Index)
        value = self.expr(node.value)
        return ir.Star(value) if node.star else value

    def tuple_(self, node: cst.Tuple) -> ir.Expr:
        return ir.Seq("tuple", self.items(node.elements))

    def list_(self, node: cst.List) -> ir.Expr:
        return ir.Seq("list", self.items(node.elements))

    def set_(self, node: cst.Set) -> ir.Expr:
        return ir.Seq("set", self.items(node.elements))

    def items(self, elements: Sequence[cst.BaseElement]) -> tuple[ir.Expr, ...]:
        kept = tuple([self.element(element) for element in elements[:MAX_ITEMS]])
        return kept if len(elements) <= MAX_ITEMS else (*kept, OPAQUE)

    def element(self, node: cst.BaseElement) -> ir.Expr:
        value = self.expr(node.value)
        return value if type(node) is cst.Element else ir.Star(value)

    def starred(self, node: cst.StarredElement) -> ir.Expr:
        return ir.Star(self.expr(node.value))

    def dict_(self, node: cst.Dict) -> ir.Expr:
        items: list[tuple[ir.Expr | None, ir.Expr]] = []
        for element in node.elements:
            key = self.expr(element.key) if isinstance(element, cst.DictElement) else None
            items.append((key, self.expr(element.value)))
        return ir.Dict(tuple(items), self.span(node))

    def if_expression(self, node: cst.IfExp) -> ir.Expr:
        body = self.expr(node.body)
        return ir.IfExp(self.expr(node.test), body, self.expr(node.orelse))

    def lambda_(self, node: cst.Lambda) -> ir.Expr:
        params = self.parameters(node.params)
        yields = self.yields
        body = self.expr(node.body)
        self.yields = yields
        return ir.Lambda(params, body)

    def list_comprehension(self, node: cst.ListComp) -> ir.Expr:
        return ir.Comp("list", None, self.expr(node.elt), self.clauses(node.for_in))

    def set_comprehension(self, node: cst.SetComp) -> ir.Expr:
        return ir.Comp("set", None, self.expr(node.elt), self.clauses(node.for_in))

    def generator(self, node: cst.GeneratorExp) -> ir.Expr:
        return ir.Comp("generator", None, self.expr(node.elt), self.clauses(node.for_in))

    def dict_comprehension(self, node: cst.DictComp) -> ir.Expr:
        return ir.Comp("dict", self.expr(node.key), self.expr(node.value), self.clauses(node.for_in))

    def merged_comprehension(self, node: cst.StarredDictComp) -> ir.Expr:
        return ir.Comp("dict", None, ir.Star(self.expr(node.value)), self.clauses(node.for_in))

    def clauses(self, node: cst.CompFor | None) -> tuple[tuple[ir.Expr, ir.Expr, tuple[ir.Expr, ...]], ...]:
        found = []
        while node is not None:
            conditions = tuple([self.expr(condition.test) for condition in node.ifs])
            found.append((self.expr(node.target), self.expr(node.iter), conditions))
            node = node.inner_for_in
        return tuple(found)

    def await_(self, node: cst.Await) -> ir.Expr:
        return ir.Await(self.expr(node.expression))

    def yield_(self, node: cst.Yield) -> ir.Expr:
        self.yields = True
        value = node.value
        return ir.Yield(self.maybe(value.item if isinstance(value, cst.From) else value))

    def walrus(self, node: cst.NamedExpr) -> ir.Expr:
        value = self.expr(node.value)
        return ir.Walrus(node.target.value, value) if isinstance(node.target, cst.Name) else value

    def parameters(self, node: cst.Parameters) -> tuple[ir.Param, ...]:
        found = [self.parameter(param, "pos") for param in (*node.posonly_params, *node.params)]
        if isinstance(node.star_arg, cst.Param):
            found.append(self.parameter(node.star_arg, "*"))
        found += [self.parameter(param, "kw") for param in node.kwonly_params]
        if node.star_kwarg is not None:
            found.append(self.parameter(node.star_kwarg, "**"))
        return tuple(found)

    def parameter(self, node: cst.Param, kind: str) -> ir.Param:
        annotation = None if node.annotation is None else self.expr(node.annotation.annotation)
        return ir.Param(node.name.value, kind, self.maybe(node.default), annotation)

    # ------------------------------------------------------------- statements

    def block(self, nodes: Iterable[cst.CSTNode]) -> tuple[ir.Stmt, ...]:
        found: list[ir.Stmt] = []
        for node in nodes:
            if isinstance(node, cst.SimpleStatementLine):
                self.small(node.body, found)
            else:
                found.append(_COMPOUND[type(node)](self, node))
        return tuple(found)

    def small(self, nodes: Iterable[cst.BaseSmallStatement], found: list[ir.Stmt]) -> None:
        for node in nodes:
            handler = _SMALL.get(type(node))
            if handler is not None:
                statement = handler(self, node)
                if statement is not None:
                    found.append(statement)

    def suite(self, node: cst.BaseSuite) -> tuple[ir.Stmt, ...]:
        if not isinstance(node, cst.SimpleStatementSuite):
            return self.block(node.body)
        found: list[ir.Stmt] = []
        self.small(node.body, found)
        return tuple(found)

    def orelse(self, node: cst.Else | cst.Finally | None) -> tuple[ir.Stmt, ...]:
        return () if node is None else self.suite(node.body)

    def expression_statement(self, node: cst.Expr) -> ir.Stmt | None:
        value = self.expr(node.value)
        return None if isinstance(value, (ir.Const, ir.Opaque)) else ir.ExprStmt(value, self.span(node))

    def assign(self, node: cst.Assign) -> ir.Stmt:
        targets = tuple([self.expr(target.target) for target in node.targets])
        return ir.Assign(targets, self.expr(node.value), self.span(node))

    def annotated(self, node: cst.AnnAssign) -> ir.Stmt | None:
        if node.value is None:
            return None
        return ir.Assign((self.expr(node.target),), self.expr(node.value), self.span(node))

    def augmented(self, node: cst.AugAssign) -> ir.Stmt:
        target = self.expr(node.target)
        return ir.AugAssign(target, _AUGMENTED[type(node.operator)], self.expr(node.value), self.span(node))

    def return_(self, node: cst.Return) -> ir.Stmt:
        return ir.Return(self.maybe(node.value), self.span(node))

    def raise_(self, node: cst.Raise) -> ir.Stmt:
        return ir.Raise(self.maybe(node.exc), self.span(node))

    def break_(self, node: cst.Break) -> ir.Stmt:
        return ir.Break(self.span(node))

    def continue_(self, node: cst.Continue) -> ir.Stmt:
        return ir.Continue(self.span(node))

    def assert_(self, node: cst.Assert) -> ir.Stmt:
        return ir.Assert(self.expr(node.test))

    def delete(self, node: cst.Del) -> ir.Stmt:
        target = self.expr(node.target)
        return ir.Delete(target.items if isinstance(target, ir.Seq) else (target,))

    def global_(self, node: cst.Global | cst.Nonlocal) -> ir.Stmt:
        return ir.Global(tuple(item.name.value for item in node.names))

    def import_(self, node: cst.Import | cst.LazyImport) -> ir.Stmt:
        bindings = []
        for alias in node.names:
            module = _dotted(alias.name)
            local = _local(alias)
            bindings.append((local, module, "") if local else (module.split(".")[0], module.split(".")[0], ""))
        return ir.Import(tuple(bindings), self.span(node))

    def import_from(self, node: cst.ImportFrom | cst.LazyImportFrom) -> ir.Stmt:
        module = "." * len(node.relative) + ("" if node.module is None else _dotted(node.module))
        if isinstance(node.names, cst.ImportStar):
            return ir.Import((("*", module, "*"),), self.span(node))
        bindings = tuple((_local(alias) or _dotted(alias.name), module, _dotted(alias.name)) for alias in node.names)
        return ir.Import(bindings, self.span(node))

    def if_(self, node: cst.If) -> ir.Stmt:
        # An `elif` chain can be longer than anything downstream should recurse: it is folded from its end.
        branches: list[tuple[ir.Expr, tuple[ir.Stmt, ...], ir.Span]] = []
        rest: cst.If | cst.Else | None = node
        while isinstance(rest, cst.If):
            branches.append((self.expr(rest.test), self.suite(rest.body), self.span(rest.test)))
            rest = rest.orelse
        orelse = self.orelse(rest)
        if len(branches) > MAX_DEPTH:
            far = [((), (), test, body) for test, body, _ in branches[MAX_DEPTH:]]
            orelse = (ir.Match(OPAQUE, (*far, ((), (), None, orelse))),)
        for test, body, span in reversed(branches[:MAX_DEPTH]):
            orelse = (ir.If(test, body, orelse, span),)
        return orelse[0]

    def for_(self, node: cst.For) -> ir.Stmt:
        iterable = self.expr(node.iter)
        target = self.expr(node.target)
        body = self.suite(node.body)
        return ir.For(target, iterable, body, self.orelse(node.orelse), self.header(node, node.iter))

    def while_(self, node: cst.While) -> ir.Stmt:
        test = self.expr(node.test)
        body = self.suite(node.body)
        return ir.While(test, body, self.orelse(node.orelse), self.span(node.test))

    def with_(self, node: cst.With) -> ir.Stmt:
        items = []
        for item in node.items:
            target = None if item.asname is None else self.expr(item.asname.name)
            items.append((self.expr(item.item), target, self.span(item.item)))
        return ir.With(tuple(items), self.suite(node.body))

    def try_(self, node: cst.Try | cst.TryStar) -> ir.Stmt:
        body = self.suite(node.body)
        handlers = tuple([self.handler(handler) for handler in node.handlers])
        return ir.Try(body, handlers, self.orelse(node.orelse), self.orelse(node.finalbody))

    def handler(
        self, node: cst.ExceptHandler | cst.ExceptStarHandler
    ) -> tuple[ir.Expr | None, str, tuple[ir.Stmt, ...]]:
        name = "" if node.name is None or not isinstance(node.name.name, cst.Name) else node.name.name.value
        return self.maybe(node.type), name, self.suite(node.body)

    def match(self, node: cst.Match) -> ir.Stmt:
        subject = self.expr(node.subject)
        cases = []
        for case in node.cases:
            names, values = self.pattern(case.pattern)
            cases.append((names, values, self.maybe(case.guard), self.suite(case.body)))
        return ir.Match(subject, tuple(cases))

    def pattern(self, node: cst.MatchPattern) -> tuple[tuple[str, ...], tuple[ir.Expr, ...]]:
        """The names bound, and the values compared with: none if it always matches, Opaque if it tests a shape."""
        if isinstance(node, (cst.MatchValue, cst.MatchSingleton)):
            return (), (self.expr(node.value),)
        if isinstance(node, cst.MatchAs):
            names, values = ((), ()) if node.pattern is None else self.pattern(node.pattern)
            return names if node.name is None else (*names, node.name.value), values
        if isinstance(node, cst.MatchOr):
            alternatives = [self.pattern(element.pattern) for element in node.patterns]
            values = tuple(value for _, tested in alternatives for value in tested)
            return alternatives[0][0], values if all(tested for _, tested in alternatives) else ()
        return tuple(_captures(node)), (OPAQUE,)

    def decorators(self, nodes: Iterable[cst.Decorator]) -> tuple[tuple[ir.Expr, ir.Span], ...]:
        return tuple([(self.expr(node.decorator), self.span(node.decorator)) for node in nodes])

    def function(self, node: cst.FunctionDef) -> ir.Stmt:
        decorators = self.decorators(node.decorators)
        params = self.parameters(node.params)
        returns = None if node.returns is None else self.expr(node.returns.annotation)
        outer, self.yields = self.yields, False
        body = self.suite(node.body)
        is_generator, self.yields = self.yields, outer
        is_async = node.asynchronous is not None
        span = self.span(node.name)
        return ir.FunctionDef(node.name.value, params, decorators, body, is_async, is_generator, returns, span)

    def class_(self, node: cst.ClassDef) -> ir.Stmt:
        decorators = self.decorators(node.decorators)
        bases, keywords = self.arguments((*node.bases, *node.keywords))
        return ir.ClassDef(node.name.value, bases, keywords, decorators, self.suite(node.body), self.span(node.name))


def _text(value: str | None) -> ir.Expr:
    return OPAQUE if value is None else ir.Const(value[:MAX_TEXT])


def _fstring(parts: list[ir.Expr]) -> ir.Expr:
    return ir.FString(tuple(parts))


def _dotted(node: cst.BaseExpression) -> str:
    parts = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if isinstance(node, cst.Name):
        parts.append(node.value)
    return ".".join(reversed(parts))


def _local(alias: cst.ImportAlias) -> str:
    name = None if alias.asname is None else alias.asname.name
    return name.value if isinstance(name, cst.Name) else ""


def _captures(node: cst.CSTNode) -> Iterable[str]:
    """The names that a sequence, mapping or class pattern binds, in source order."""
    if isinstance(node, (cst.MatchAs, cst.MatchStar)):
        if isinstance(node, cst.MatchAs) and node.pattern is not None:
            yield from _captures(node.pattern)
        if node.name is not None:
            yield node.name.value
    elif isinstance(node, (cst.MatchList, cst.MatchTuple)):
        for item in node.patterns:
            yield from _captures(item.value if isinstance(item, cst.MatchSequenceElement) else item)
    elif isinstance(node, cst.MatchMapping):
        for element in node.elements:
            yield from _captures(element.pattern)
        if node.rest is not None:
            yield node.rest.value
    elif isinstance(node, cst.MatchClass):
        for positional in node.patterns:
            yield from _captures(positional.value)
        for keyword in node.kwds:
            yield from _captures(keyword.pattern)
    elif isinstance(node, cst.MatchOr):
        yield from _captures(node.patterns[0].pattern)


_CONSTANT_NAMES = {"None": ir.Const(None), "True": ir.Const(True), "False": ir.Const(False)}

_EXPRESSIONS: dict[type[cst.CSTNode], Callable[[_Lowering, Any], ir.Expr]] = {
    cst.Name: _Lowering.name,
    cst.Attribute: _Lowering.attribute,
    cst.Call: _Lowering.call,
    cst.SimpleString: _Lowering.string,
    cst.Integer: _Lowering.integer,
    cst.Float: _Lowering.float_,
    cst.Subscript: _Lowering.subscript,
    cst.BinaryOperation: _Lowering.binary,
    cst.Comparison: _Lowering.comparison,
    cst.Tuple: _Lowering.tuple_,
    cst.List: _Lowering.list_,
    cst.Set: _Lowering.set_,
    cst.Dict: _Lowering.dict_,
    cst.UnaryOperation: _Lowering.unary,
    cst.BooleanOperation: _Lowering.boolean,
    cst.FormattedString: _Lowering.formatted,
    cst.TemplatedString: _Lowering.formatted,
    cst.ConcatenatedString: _Lowering.concatenated,
    cst.IfExp: _Lowering.if_expression,
    cst.Lambda: _Lowering.lambda_,
    cst.ListComp: _Lowering.list_comprehension,
    cst.SetComp: _Lowering.set_comprehension,
    cst.DictComp: _Lowering.dict_comprehension,
    cst.StarredDictComp: _Lowering.merged_comprehension,
    cst.GeneratorExp: _Lowering.generator,
    cst.StarredElement: _Lowering.starred,
    cst.Await: _Lowering.await_,
    cst.Yield: _Lowering.yield_,
    cst.NamedExpr: _Lowering.walrus,
}
"""Other expressions (imaginary numbers, `...`) are Opaque."""

_SMALL: dict[type[cst.CSTNode], Callable[[_Lowering, Any], ir.Stmt | None]] = {
    cst.Expr: _Lowering.expression_statement,
    cst.Assign: _Lowering.assign,
    cst.AnnAssign: _Lowering.annotated,
    cst.AugAssign: _Lowering.augmented,
    cst.Return: _Lowering.return_,
    cst.Raise: _Lowering.raise_,
    cst.Break: _Lowering.break_,
    cst.Continue: _Lowering.continue_,
    cst.Assert: _Lowering.assert_,
    cst.Del: _Lowering.delete,
    cst.Global: _Lowering.global_,
    cst.Nonlocal: _Lowering.global_,
    cst.Import: _Lowering.import_,
    cst.ImportFrom: _Lowering.import_from,
    cst.LazyImport: _Lowering.import_,
    cst.LazyImportFrom: _Lowering.import_from,
}
"""Others (`pass`, type aliases) are dropped."""

_COMPOUND: dict[type[cst.CSTNode], Callable[[_Lowering, Any], ir.Stmt]] = {
    cst.If: _Lowering.if_,
    cst.For: _Lowering.for_,
    cst.While: _Lowering.while_,
    cst.With: _Lowering.with_,
    cst.Try: _Lowering.try_,
    cst.TryStar: _Lowering.try_,
    cst.Match: _Lowering.match,
    cst.FunctionDef: _Lowering.function,
    cst.ClassDef: _Lowering.class_,
}

_COMPARISONS: dict[type[cst.CSTNode], str] = {
    cst.Equal: "==",
    cst.NotEqual: "!=",
    cst.LessThan: "<",
    cst.LessThanEqual: "<=",
    cst.GreaterThan: ">",
    cst.GreaterThanEqual: ">=",
    cst.Is: "is",
    cst.IsNot: "is not",
    cst.In: "in",
    cst.NotIn: "not in",
}

_UNARY: dict[type[cst.CSTNode], str] = {cst.Minus: "-", cst.Plus: "+", cst.BitInvert: "~", cst.Not: "not"}

_BINARY: dict[type[cst.CSTNode], str] = {
    cst.Add: "+",
    cst.Subtract: "-",
    cst.Multiply: "*",
    cst.Divide: "/",
    cst.FloorDivide: "//",
    cst.Modulo: "%",
    cst.Power: "**",
    cst.MatrixMultiply: "@",
    cst.LeftShift: "<<",
    cst.RightShift: ">>",
    cst.BitAnd: "&",
    cst.BitOr: "|",
    cst.BitXor: "^",
}

_AUGMENTED: dict[type[cst.CSTNode], str] = {
    cst.AddAssign: "+",
    cst.SubtractAssign: "-",
    cst.MultiplyAssign: "*",
    cst.DivideAssign: "/",
    cst.FloorDivideAssign: "//",
    cst.ModuloAssign: "%",
    cst.PowerAssign: "**",
    cst.MatrixMultiplyAssign: "@",
    cst.LeftShiftAssign: "<<",
    cst.RightShiftAssign: ">>",
    cst.BitAndAssign: "&",
    cst.BitOrAssign: "|",
    cst.BitXorAssign: "^",
}
