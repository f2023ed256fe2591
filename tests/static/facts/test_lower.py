from __future__ import annotations

import msgspec
import pytest

from mpaudit.static.facts import ir
from mpaudit.static.facts.limits import MAX_DEPTH, MAX_ITEMS, MAX_TEXT
from mpaudit.static.facts.lower import lower, pack, unpack


def statements(text: str) -> tuple[ir.Stmt, ...]:
    lowered = lower(text)
    assert isinstance(lowered, tuple), lowered
    assert unpack(pack(lowered)) == lowered
    return lowered


def only(text: str) -> ir.Stmt:
    (statement,) = statements(text)
    return statement


def value(text: str) -> ir.Expr:
    statement = only(f"x = {text}\n")
    assert isinstance(statement, ir.Assign)
    return statement.value


def calls(node: object) -> list[ir.Call]:
    found = [node] if isinstance(node, ir.Call) else []
    if isinstance(node, msgspec.Struct):
        node = tuple(getattr(node, name) for name in node.__struct_fields__)
    if isinstance(node, tuple):
        found += [call for part in node for call in calls(part)]
    return found


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ('f"{a(1)!r:>{b()}}{{}} {c()=}"', [(1, 8, 1, 12), (1, 17, 1, 20), (1, 28, 1, 31)]),
        ('f"{x["é"]} {a(f"{b()}")}"', [(1, 17, 1, 28), (1, 22, 1, 25)]),
        ('f"""{\n a()\n}"""', [(2, 2, 2, 5)]),
        ('"text" f"{a()}" "more"', [(1, 15, 1, 18)]),
        ('t"{a()}"', [(1, 8, 1, 11)]),
    ],
)
def test_calls_in_fstrings_have_their_places(text: str, spans: list[ir.Span]) -> None:
    assert [call.span for call in calls(value(text))] == spans


def test_parts_of_an_fstring() -> None:
    parts = (ir.Const("a{"), ir.Name("b"), ir.Const(">9"), ir.Const("\n"))
    assert value('f"a{{{b!r:>9}\\n"') == ir.FString(parts)
    assert value('rf"\\d{b}"') == ir.FString((ir.Const("\\d"), ir.Name("b")))


@pytest.mark.parametrize(
    "text",
    [
        "type X = int\n",
        "x: int\n",
        "pass; ...; 1; None; 'text' \"more\"; b'bytes' b'more'\n",
        "",
        "# comment",
    ],
)
def test_what_does_nothing_is_dropped(text: str) -> None:
    assert statements(text) == ()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("def f[T: int = str, *U, **P](x: T) -> T: return x\n", ir.FunctionDef),
        ("class A[T](B): pass\n", ir.ClassDef),
        ("try: a\nexcept A, B: b\n", ir.Try),
        ("try: a\nexcept* A as b: b\n", ir.Try),
        ("with (a() as b, c() as d,): e\n", ir.With),
        ("x = {**a for a in b}\n", ir.Assign),
        ("x = [*a for a in b]\n", ir.Assign),
        ("a[*b]\n", ir.ExprStmt),
        ("return 1\n", ir.Return),
        ("await a\n", ir.ExprStmt),
    ],
)
def test_syntax_newer_than_this_python_or_out_of_place(text: str, kind: type) -> None:
    assert isinstance(only(text), kind)


def test_lazy_imports_are_imports() -> None:
    first, second = statements("lazy import a.b\nlazy from c import d as e\n")
    assert first == ir.Import((("a", "a", ""), ("", "a.b", "")), (1, 1, 1, 16))
    assert second == ir.Import((("e", "c", "d"),), (2, 1, 2, 26))


@pytest.mark.parametrize(
    ("text", "generator"),
    [
        ("def f(): yield\n", True),
        ("def f(): return [(yield from a)]\n", True),
        ("def f():\n    def g(): yield\n", False),
        ("def f(): return lambda: (yield)\n", False),
        ("def f():\n    def g(a=(yield)): pass\n", True),
        ("def f(): return (a for a in b)\n", False),
    ],
)
def test_a_generator_yields_itself(text: str, generator: bool) -> None:
    function = only(text)
    assert isinstance(function, ir.FunctionDef)
    assert function.is_generator is generator


@pytest.mark.parametrize(
    ("pattern", "names", "values"),
    [
        ("_", (), ()),
        ("x", ("x",), ()),
        ("1 | a.b", (), (ir.Const(1), ir.Attr(ir.Name("a"), "b"))),
        ("1 | _", (), ()),
        ("(1 | 2) as x", ("x",), (ir.Const(1), ir.Const(2))),
        ("[1, x, *y]", ("x", "y"), (ir.Opaque(),)),
        ("{'k': x, **y}", ("x", "y"), (ir.Opaque(),)),
        ("A(x, k=[y]) as z", ("x", "y", "z"), (ir.Opaque(),)),
        ("A() | B()", (), (ir.Opaque(), ir.Opaque())),
    ],
)
def test_a_pattern_has_no_values_only_if_it_always_matches(
    pattern: str, names: tuple[str, ...], values: tuple[ir.Expr, ...]
) -> None:
    match = only(f"match a:\n    case {pattern}: pass\n")
    assert match == ir.Match(ir.Name("a"), ((names, values, None, ()),))


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        (str(2**63 - 1), ir.Const(2**63 - 1)),
        (str(2**63), ir.Opaque()),
        ("9" * 5000, ir.Opaque()),
        ("1e999", ir.Const(float("inf"))),
        ("0X_fF", ir.Const(255)),
        ("2j", ir.Opaque()),
        ("b'x'", ir.Opaque()),
        ("Rb'x'", ir.Opaque()),
        ("''", ir.Const("")),
        ("''''''", ir.Const("")),
        ('"""a"b"""', ir.Const('a"b')),
        (r"'\'\"\\\a\x41\u00e9\U0001F600\N{DEGREE SIGN}\0\12\q'", ir.Const("'\"\\\aAé😀°\0\n\\q")),
        (r"r'\n'", ir.Const(r"\n")),
        (r"'\ud800'", ir.Opaque()),
        (r"'\N{NO SUCH NAME}'", ir.Opaque()),
        (r"'\U00110000'", ir.Opaque()),
        ("'" + "ü" * 300 + "'", ir.Const("ü" * MAX_TEXT)),
        ("'a' 'b'", ir.Const("ab")),
        (r"'a' '\ud800'", ir.Opaque()),
    ],
)
def test_literals(literal: str, expected: ir.Expr) -> None:
    assert value(literal) == expected


def test_long_displays_are_cut() -> None:
    for brackets, kind in (("()", "tuple"), ("[]", "list"), ("{}", "set")):
        items = tuple(ir.Const(i) for i in range(MAX_ITEMS))
        text = ", ".join(map(str, range(MAX_ITEMS)))
        assert value(f"{brackets[0]}{text}{brackets[1]}") == ir.Seq(kind, items)
        assert value(f"{brackets[0]}{text}, 0, f(){brackets[1]}") == ir.Seq(kind, (*items, ir.Opaque()))


def test_deep_expressions_end_in_opaque() -> None:
    node = value("+".join("a" * 900))
    depth = 0
    while isinstance(node, ir.BinOp):
        assert node.right in (ir.Name("a"), ir.Opaque())
        node, depth = node.left, depth + 1
    assert node == ir.Opaque()
    assert depth == MAX_DEPTH


def test_a_long_chain_of_one_boolean_operator_is_flat() -> None:
    assert value(" or ".join("a" * 900)) == ir.BoolOp("or", (ir.Name("a"),) * 900)


def test_the_far_end_of_a_long_elif_chain_is_a_match_with_guards() -> None:
    branches = 2 * MAX_DEPTH
    node = only("if c0(): b0\n" + "".join(f"elif c{i}(): b{i}\n" for i in range(1, branches)) + "else: e\n")
    for i in range(MAX_DEPTH):
        assert isinstance(node, ir.If)
        assert node.span == (i + 1, 4 if i == 0 else 6, i + 1, (6 if i == 0 else 8) + len(str(i)) + 1)
        (node,) = node.orelse
    assert isinstance(node, ir.Match)
    assert [case[2] for case in node.cases[:-1]] == [
        ir.Call(ir.Name(f"c{i}"), (), (), (i + 1, 6, i + 1, 9 + len(str(i)))) for i in range(MAX_DEPTH, branches)
    ]
    assert node.cases[-1] == ((), (), None, (ir.ExprStmt(ir.Name("e"), (branches + 1, 7, branches + 1, 8)),))


def test_deep_blocks() -> None:
    text = "".join("  " * i + "if a:\n" for i in range(99)) + "  " * 99 + "b\n"
    node = only(text)
    for _ in range(99):
        assert isinstance(node, ir.If)
        (node,) = node.body
    assert node == ir.ExprStmt(ir.Name("b"), (100, 199, 100, 200))


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 5_000 + "a" + ")" * 5_000,
        "x = " + "+".join("a" * 3_000),
        "x = " + "+".join("a" * 50_000),
        "x = " + " and ".join("a" * 20_000),
        "x = " + "f(" * 199 + ")" * 150,
        "x = (\n",
        "print 'python 2'\n",
    ],
)
def test_what_cannot_be_parsed_is_a_problem(text: str) -> None:
    assert isinstance(lower(text), ir.SyntaxProblem)


def test_valid_code_that_libcst_has_doubts_about_is_taken() -> None:
    statement = only("() if 0 else(lambda:())\n")
    assert isinstance(statement, ir.ExprStmt)
    assert isinstance(statement.value, ir.IfExp)


def test_the_parentheses_around_an_iterable_belong_to_the_header() -> None:
    loop = only("for x in ((  # )\n  a), b): pass\n")
    assert isinstance(loop, ir.For)
    assert loop.span == (1, 1, 2, 9)


def test_columns_are_code_points() -> None:
    statement = statements("größe = '🙂'; é = f()\n")[1]
    assert isinstance(statement, ir.Assign)
    assert statement.span == (1, 14, 1, 21)


def test_unpack_rejects_other_data() -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack(b"\x93\x01\x02")
    with pytest.raises(msgspec.DecodeError):
        unpack(pack(statements("x = 1\n"))[:-1])
