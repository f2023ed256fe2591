"""LibCST tree to facts: one chunk of source becomes the statements of `ir`.

The tree is walked once, by own recursion over a table of node types: no LibCST visitor, no metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import libcst as cst
import msgspec

from mpaudit.static.facts import ir
from mpaudit.static.facts.expressions import OPAQUE, Expressions
from mpaudit.static.facts.limits import MAX_DEPTH, deep_recursion
from mpaudit.static.facts.positions import Positions
from mpaudit.static.syntax import normalise_newlines, parse_chunk
from mpaudit.static.triggers import bindings_of

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


class _Lowering(Expressions):
    """One pass over one module: the statements."""

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
        value = self.maybe(node.exc)
        if node.cause is not None:
            self.expr(node.cause.item)  # only for the `yield` that it may hold
        return ir.Raise(value, self.span(node))

    def break_(self, node: cst.Break) -> ir.Stmt:
        return ir.Break(self.span(node))

    def continue_(self, node: cst.Continue) -> ir.Stmt:
        return ir.Continue(self.span(node))

    def assert_(self, node: cst.Assert) -> ir.Stmt:
        test = self.expr(node.test)
        self.maybe(node.msg)  # only for the `yield` that it may hold
        return ir.Assert(test)

    def delete(self, node: cst.Del) -> ir.Stmt:
        target = self.expr(node.target)
        return ir.Delete(target.items if isinstance(target, ir.Seq) else (target,))

    def global_(self, node: cst.Global) -> ir.Stmt:
        return ir.Global(tuple(item.name.value for item in node.names))

    def nonlocal_(self, node: cst.Nonlocal) -> ir.Stmt:
        return ir.Nonlocal(tuple(item.name.value for item in node.names))

    def import_(self, node: cst.Import | cst.LazyImport) -> ir.Stmt:
        bindings: list[tuple[str, str, str]] = []
        for alias in node.names:
            module = _dotted(alias.name)
            local = _local(alias)
            bindings += bindings_of(module, local)
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
        body, span, fields = self.suite(node.body), self.span(node.name), tuple(_fields(node))
        return ir.ClassDef(node.name.value, bases, keywords, decorators, body, span, fields)


def _fields(node: cst.ClassDef) -> Iterable[str]:
    for line in node.body.body:
        for small in line.body if isinstance(line, cst.SimpleStatementLine) else (line,):
            if (
                isinstance(small, cst.AnnAssign)
                and isinstance(small.target, cst.Name)
                and not _is_class_variable(small)
            ):
                yield small.target.value


def _is_class_variable(node: cst.AnnAssign) -> bool:
    kind = node.annotation.annotation
    return _dotted(kind.value if isinstance(kind, cst.Subscript) else kind).split(".")[-1] == "ClassVar"


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
    cst.Nonlocal: _Lowering.nonlocal_,
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
