"""What only a torch from before autocast runs."""

from __future__ import annotations

import ast

import pytest

from mpaudit.static.facts.ages import calls_python_2, indexes_loss


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("loss.data[0]", True),
        ("self.G_train_loss.data[0]", True),
        ("errD_fake.data[0]", True),
        ("kld.data[0]", True),
        ("l_d.data[0]", True),
        ("labels.data[0]", False),
        ("images.data[0]", False),
        ("terror.data[0]", False),
        ("loss.data[1]", False),
        ("loss.data[False]", False),
        ("loss.data[i]", False),
        ("loss.grad[0]", False),
        ("losses[0]", False),
        ("model(x).data[0]", False),
    ],
)
def test_a_loss_that_has_a_dimension(text: str, found: bool) -> None:
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Subscript)
    assert indexes_loss(node) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("table.iteritems()", True),
        ("state['model'].has_key(name)", True),
        ("six.iteritems(table)", False),
        ("iteritems(table)", False),
        ("table.items()", False),
    ],
)
def test_methods_of_python_2(text: str, found: bool) -> None:
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call)
    assert calls_python_2(node) is found
