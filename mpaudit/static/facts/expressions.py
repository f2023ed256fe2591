"""Expressions of a LibCST tree to those of `ir`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import libcst as cst

from mpaudit.static.facts import ir
from mpaudit.static.facts.limits import MAX_DEPTH, MAX_ITEMS, MAX_TEXT
from mpaudit.static.facts.positions import Positions
from mpaudit.static.facts.strings import literal, unescape

OPAQUE = ir.Opaque()


class Expressions:
    """One pass over one module: the expressions. Handlers are found by the exact type of a node."""

    def __init__(self, positions: Positions) -> None:
        self.span = positions.span
        self.header = positions.header
        self.depth = 0
        self.yields = False
        """Whether a `yield` was seen since the start of the innermost function."""

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
        return ir.FString(_joined(self.pieces(node)))

    def pieces(self, node: cst.BaseString) -> list[str | ir.Expr]:
        """The texts and the expressions of one literal."""
        if isinstance(node, cst.SimpleString):
            text = literal(node.value)
            return [OPAQUE if text is None else text]
        assert isinstance(node, cst.FormattedString | cst.TemplatedString)
        return self.formatted_pieces(node.parts, raw="r" in node.start.lower())

    def formatted_pieces(self, parts: Iterable[cst.CSTNode], *, raw: bool) -> list[str | ir.Expr]:
        found: list[str | ir.Expr] = []
        for part in parts:
            if isinstance(part, (cst.FormattedStringText, cst.TemplatedStringText)):
                text = unescape(part.value.replace("{{", "{").replace("}}", "}"), raw=raw)
                found.append(OPAQUE if text is None else text)
            elif isinstance(part, (cst.FormattedStringExpression, cst.TemplatedStringExpression)):
                found.append(self.expr(part.expression))
                if part.format_spec is not None:
                    found += _joined(self.formatted_pieces(part.format_spec, raw=raw))
        return found

    def concatenated(self, node: cst.ConcatenatedString) -> ir.Expr:
        literals: list[cst.BaseString] = []
        rest: cst.BaseString = node
        while isinstance(rest, cst.ConcatenatedString):
            literals.append(rest.left)
            rest = rest.right
        literals.append(rest)
        pieces = [piece for part in literals for piece in self.pieces(part)]
        if any(not isinstance(part, cst.SimpleString) for part in literals):
            return ir.FString(_joined(pieces))
        return OPAQUE if OPAQUE in pieces else _text("".join(piece for piece in pieces if isinstance(piece, str)))

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


def _text(value: str | None) -> ir.Expr:
    return OPAQUE if value is None else ir.Const(value[:MAX_TEXT])


def _joined(pieces: Iterable[str | ir.Expr]) -> tuple[ir.Expr, ...]:
    """Texts that stand side by side are one, as they are to Python; an empty one is none."""
    found: list[ir.Expr] = []
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if not is_text:
            found += group  # type: ignore[arg-type]
        elif text := "".join(group):  # type: ignore[arg-type]
            found.append(_text(text))
    return tuple(found)


_CONSTANT_NAMES = {"None": ir.Const(None), "True": ir.Const(True), "False": ir.Const(False)}

_EXPRESSIONS: dict[type[cst.CSTNode], Callable[[Expressions, Any], ir.Expr]] = {
    cst.Name: Expressions.name,
    cst.Attribute: Expressions.attribute,
    cst.Call: Expressions.call,
    cst.SimpleString: Expressions.string,
    cst.Integer: Expressions.integer,
    cst.Float: Expressions.float_,
    cst.Subscript: Expressions.subscript,
    cst.BinaryOperation: Expressions.binary,
    cst.Comparison: Expressions.comparison,
    cst.Tuple: Expressions.tuple_,
    cst.List: Expressions.list_,
    cst.Set: Expressions.set_,
    cst.Dict: Expressions.dict_,
    cst.UnaryOperation: Expressions.unary,
    cst.BooleanOperation: Expressions.boolean,
    cst.FormattedString: Expressions.formatted,
    cst.TemplatedString: Expressions.formatted,
    cst.ConcatenatedString: Expressions.concatenated,
    cst.IfExp: Expressions.if_expression,
    cst.Lambda: Expressions.lambda_,
    cst.ListComp: Expressions.list_comprehension,
    cst.SetComp: Expressions.set_comprehension,
    cst.DictComp: Expressions.dict_comprehension,
    cst.StarredDictComp: Expressions.merged_comprehension,
    cst.GeneratorExp: Expressions.generator,
    cst.StarredElement: Expressions.starred,
    cst.Await: Expressions.await_,
    cst.Yield: Expressions.yield_,
    cst.NamedExpr: Expressions.walrus,
}
"""Other expressions (imaginary numbers, `...`) are Opaque."""

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
