"""Which statements of a function make no difference, and which locals are read after each."""

from __future__ import annotations

import textwrap

from mpaudit.static.facts import ir
from mpaudit.static.facts.lower import lower
from mpaudit.static.outline import outline
from mpaudit.static.program.definitions import ModuleInfo
from mpaudit.static.program.linker import Project
from mpaudit.static.program.liveness import Lives, lives
from mpaudit.static.program.nodes import walk_statements
from mpaudit.static.triggers import Scanner


def analyse(source: str) -> tuple[ir.FunctionDef, Lives]:
    """The first function of a module, and what is known of its locals."""
    text = textwrap.dedent(source)
    found = outline(text, Scanner((".",), str))
    assert isinstance(found, ir.Outline)
    lines = text.split("\n")
    chunks = []
    for unit in found.units:
        lowered = lower("\n".join(lines[unit.first_line - 1 : unit.last_line]) + "\n")
        assert isinstance(lowered, tuple)
        chunks.append((unit, lowered))
    project = Project([ModuleInfo("m.py", ("m",), False, found, tuple(chunks))])
    info = project.modules["m.py"].nested[0]
    assert info.node is not None
    return info.node, lives(project, info)


def dead(source: str) -> list[str]:
    """The targets of the assignments that need not be followed."""
    node, found = analyse(source)
    return [
        stmt.targets[0].id
        for stmt in walk_statements(node.body)
        if isinstance(stmt, ir.Assign) and id(stmt) in found.dead and isinstance(stmt.targets[0], ir.Name)
    ]


def test_what_only_a_dead_assignment_reads_is_dead() -> None:
    assert dead("""
        def f(model, x):
            a = 1
            b = a + 2
            c = len(x)
            return model(x)
    """) == ["a", "b", "c"]


def test_what_a_call_gets_is_read() -> None:
    assert (
        dead("""
        def f(model, x):
            a = 1
            unknown(a)
    """)
        == []
    )


def test_an_assignment_with_an_effect_stays() -> None:
    assert (
        dead("""
        def f(model, loss, x):
            a = model(x)
            b = loss.backward()
            c = unknown(x)
    """)
        == []
    )


def test_the_next_pass_over_a_loop_reads() -> None:
    assert dead("""
        def f(model, xs):
            last = None
            for x in xs:
                unused = x
                model(last)
                last = x
    """) == ["unused"]


def test_a_counter_that_is_only_logged_splits_nothing() -> None:
    node, found = analyse("""
        def f(model, xs, logger):
            n = 0
            for x in xs:
                n += 1
                if n % 10 == 0:
                    logger.info(f"step {n}")
                model(x)
    """)
    loop = node.body[1]
    assert isinstance(loop, ir.For)
    assert [type(stmt) for stmt in loop.body if id(stmt) not in found.dead] == [ir.ExprStmt]
    assert "n" not in found.head[id(loop)]


def test_a_condition_with_an_effect_in_its_branch_stays() -> None:
    node, found = analyse("""
        def f(optimizer, n):
            k = n + 1
            if k % 4 == 0:
                optimizer.step()
    """)
    assert not found.dead and "k" in found.after[id(node.body[0])]


def test_a_nested_function_reads_what_it_names() -> None:
    assert (
        dead("""
        def f(model):
            captured = 1
            def inner():
                return model(captured)
            return inner
    """)
        == []
    )


def test_handlers_and_finally_read() -> None:
    assert (
        dead("""
        def f(model):
            a = 1
            b = 2
            try:
                a = 3
                model.go()
                b = 4
            except ValueError:
                model.go(a)
            finally:
                model.go(b)
    """)
        == []
    )


def test_a_break_reads_what_comes_after_the_loop() -> None:
    assert (
        dead("""
        def f(model, xs):
            for x in xs:
                found = x
                if model(x):
                    break
                found = None
            return found
    """)
        == []
    )


def test_a_name_of_a_comprehension_is_its_own() -> None:
    assert dead("""
        def f(model, xs):
            x = 1
            return model([x for x in xs])
    """) == ["x"]


def test_globals_outlive_the_function() -> None:
    assert (
        dead("""
        def f():
            global state
            state = 1
    """)
        == []
    )


def test_a_local_function_shadows_a_harmless_name() -> None:
    assert (
        dead("""
        def f(log, x):
            a = log(x)
    """)
        == []
    )


def test_a_parameter_of_a_nested_function_hides_the_name_outside() -> None:
    assert dead("""
        def f(model):
            x = 1
            y = 2
            z = 3
            def inner(x, z=z):
                return model(x, y, z)
            return inner
    """) == ["x"]
