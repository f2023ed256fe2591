"""Which lines a comment speaks for, and for which codes."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit.static.suppressions import suppressions

CODE, NAME = "MPA205", "clip-before-unscale"


def covered(text: str, code: str = CODE, name: str = NAME) -> list[int]:
    text = dedent(text).lstrip("\n")
    found = suppressions(text)
    return [line for line in range(1, text.count("\n") + 2) if found.covers(code, name, line, line)]


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "#noqa",
        "# NOQA",
        "# noqa: MPA205",
        "# noqa:MPA205",
        "# noqa : mpa205",
        "# noqa: E501, MPA205",
        "# noqa: E501 MPA205 because",
        "# noqa: MPA2",
        "# noqa: MPA",
        "# type: ignore # noqa: MPA205",
        "# noqa: E501  # noqa: MPA205",
        "# noqa for a reason",
        "# mpaudit: ignore",
        "# mpaudit: ignore, the scale is in max_norm",
        "#mpaudit:ignore[MPA205]",
        "# mpaudit: ignore[MPA205] max_norm has the scale in it",
        "# mpaudit: ignore[MPA301, MPA205]",
        "# mpaudit: ignore [ mpa205 ]",
        "# mpaudit: ignore[MPA2]",
        "# mpaudit: ignore[clip-before-unscale]",
        "# mpaudit: ignore[missing-autocast, Clip-Before-Unscale] reason",
        "# fmt: skip # mpaudit: ignore[MPA205]",
    ],
)
def test_comments_that_hide(comment: str) -> None:
    assert covered(f"x = 1\nclip()  {comment}\ny = 2\n") == [2]


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa: E501",
        "# noqa: E501,W605",
        "# noqa: MPA206",
        "# noqa: MPA2051",
        "# noqaX",
        "# nonoqa",
        "# mpaudit: ignore[]",
        "# mpaudit: ignore[MPA206]",
        "# mpaudit: ignore[double-unscale]",
        "# mpaudit: ignore[clip]",
        "# mpaudit: ignored",
        "# mpaudit",
        "# flake8: noqa",
        "# type: ignore",
    ],
)
def test_comments_that_do_not(comment: str) -> None:
    assert covered(f"clip()  {comment}\n") == []


def test_all_lines_of_a_simple_statement() -> None:
    text = """
        before()
        clip(
            model.parameters(),  # noqa: MPA205
            1.0,
        )
        after()
    """
    assert covered(text) == [2, 3, 4, 5]


def test_a_comment_alone_inside_the_statement() -> None:
    assert covered("clip(\n    # mpaudit: ignore[MPA205]\n    a,\n)\n") == [1, 2, 3, 4]


def test_continued_lines_and_strings() -> None:
    assert covered('x = 1 + \\\n    clip()  # noqa\ny = """\n a\n"""  # noqa\nz\n') == [1, 2, 3, 4, 5]


def test_a_comment_on_its_own_line_is_in_no_statement() -> None:
    assert covered("# noqa\nclip()\n# mpaudit: ignore\n") == []


def test_a_compound_statement_is_its_header() -> None:
    text = """
        for x in (
            loader
        ):  # noqa
            clip()
        else:
            clip()
    """
    assert covered(text) == [1, 2, 3]


def test_a_comment_in_the_body_does_not_reach_the_header() -> None:
    assert covered("with autocast():\n    clip()  # noqa\n    step()\n") == [2]


def test_a_definition_has_its_decorators() -> None:
    text = """
        x = 1
        @autocast(
            "cuda",
        )  # noqa: MPA205
        # a comment
        @other
        def train(
            model,
        ):
            clip()
    """
    assert covered(text) == [2, 3, 4, 5, 6, 7, 8, 9]


def test_one_line_bodies_and_semicolons() -> None:
    assert covered("if x: clip(); step()  # noqa\nelse: clip()\n") == [1]


def test_strings_hold_no_comments() -> None:
    assert covered('x = "# noqa"\ny = """\n# noqa\n# mpaudit: ignore\n"""\nz = 1\n') == []


def test_a_finding_over_several_lines() -> None:
    found = suppressions("with a:\n    b()\n    c()  # noqa\n")
    assert not found.covers(CODE, NAME, 1, 2)
    assert found.covers(CODE, NAME, 1, 3)


def test_a_file_without_a_last_newline() -> None:
    assert covered("clip()  # noqa") == [1]


@pytest.mark.parametrize("broken", ["def f(:\n", "'''\n", "  x\n y\n", "(\n", "print 'a\n", "x = 1\n\ty\n"])
def test_a_file_that_does_not_tokenize_is_read_by_lines(broken: str) -> None:
    assert 1 in covered(f"clip()  # noqa: MPA205\nx = 1\n{broken}")
    assert 2 not in covered(f"clip()  # noqa: MPA205\nx = 1\n{broken}")


def test_other_rules_of_the_line_stay() -> None:
    text = "clip()  # noqa: MPA205\n"
    assert covered(text, "MPA206", "double-unscale") == []
    assert covered(text, "MPA205", "clip-before-unscale") == [1]


@given(st.text(alphabet="x=()[]'\"#\\\n\t :@noqa mpaudit:ignore[]MPA205,", max_size=120))
def test_any_text_has_an_answer(text: str) -> None:
    covered(text)


@given(
    st.lists(
        st.sampled_from(["x = 1", "f(", "a,", ")", "# noqa", "x  # noqa: MPA205", "@d", "def f(): pass"]), max_size=12
    )
)
def test_nothing_is_hidden_without_a_comment_in_the_file(lines: list[str]) -> None:
    text = "\n".join(lines)
    without = "\n".join(line.partition("#")[0] for line in lines)
    assert covered(without) == []
    assert len(covered(text)) >= ("# noqa: MPA205" in text)
