"""What `ast` gives must be what LibCST's tree gives, f-strings included, or nothing."""

from __future__ import annotations

import pytest

from mpaudit.static.complexity import MAX_BRANCHES, MAX_CHAIN
from mpaudit.static.facts.limits import MAX_DEPTH
from mpaudit.static.facts.lower import lower
from mpaudit.static.facts.quick import quickly

from .test_lower_against_ast import MODULES, _source


@pytest.mark.parametrize("module", MODULES)
def test_the_standard_library_reads_as_libcst_has_it(module: str) -> None:
    source = _source(module)
    found = quickly(source)
    assert found is None or found == lower(source)


def test_nearly_all_of_the_standard_library_is_read() -> None:
    read = [module for module in MODULES if quickly(_source(module)) is not None]
    assert len(read) > 0.8 * len(MODULES)


@pytest.mark.parametrize(
    "text",
    [
        'x = f"{a(1)!r:>{b()}}{{}} {c({})}"',
        'x = "a" f"b{c()}" "d" f"" "" \'e\'',
        'x = f"{a:.2f}" ".3f"',
        'x = rf"\\d{b}" "\\n" f"\\n"',
        'x = f"{a()}" \\\n    f"{b()}"',
        'x = (f"{a()}"\n     f" {b()} {c(d)}")',
        'def a():\n    x()\n\f\n\f  \ndef b():\n    y()\n  \f\n    z()',
        'ä = 1',
        'x = "ä", a("é")(b)',
        'def ä(): pass',
        'for x in ((a(1)) ): pass',
        'x = ["%s"] * 2; y = a(1)',
        'x[a, b:c, ...] = lambda *a, b=c(): (yield)',
        'if a: b()\nelif c: d()\nelse:\n    if e: f()',
        'if (a, b): c()',
        'async   def   f(): return await g()',
        'del a, b; del (c, d); del e',
        '@a.b(c)\nclass C(D, e=f):\n    x: int\n    y: ClassVar[int] = 1\n    def g(self, /, *, h: "i" = 2): yield',
    ],
)  # fmt: skip
def test_either_reads_the_same(text: str) -> None:
    found = quickly(text + "\n")
    assert found is None or found == lower(text + "\n")


@pytest.mark.parametrize(
    "text",
    [
        'x = f"{y=}"',
        'ﬁ = 1',  # Python reads `fi`
        "match x:\n    case 1: pass",
        "class A:\n    def b(self): pass\n\n \f    def c(self): pass",
        "def a():\n    b()\n    \\\ndef c(): pass",
        "x = " + "a.b(" * MAX_DEPTH + ")" * MAX_DEPTH,
        "x = " + "-" * (MAX_CHAIN + 1) + "1",
        "if a: pass\n" + "elif b: pass\n" * (MAX_BRANCHES + 1),
        "x = (",
    ],
)  # fmt: skip
def test_what_is_left_to_libcst(text: str) -> None:
    assert quickly(text + "\n") is None


def test_usual_code_is_not_left_to_libcst() -> None:
    text = '''
@torch.no_grad()
def train(model, loader, *, lr=1e-3):
    """Trains."""
    for i, (x, y) in enumerate(loader):
        with autocast(enabled=i % 2 == 0) as cast, other():
            loss = model(x.to("cuda"), **{"y": y})[0]
        print(f"{i:4d} {loss.item():.3f} "
              f"{lr}")
        try:
            loss.backward()
        except RuntimeError as error:
            raise SystemExit(str(error)) from error
'''
    found = quickly(text)
    assert found is not None
    assert found == lower(text)
