"""Options that speak of a precision, and of stored features."""

from __future__ import annotations

import ast

import pytest

from mpaudit.static.facts.options import precision_default, reads_features


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('p.add_argument("--amp-dtype", default="float16")', ("amp_dtype", "float16")),
        ('p.add_argument("-p", "--precision", type=str, default="amp")', ("precision", "amp")),
        ('group.add_argument("--type", dest="dtype", default="bf16")', ("dtype", "bf16")),
        ('p.add_argument("--dtype")', None),
        ('p.add_argument("--dtype", default=DTYPE)', None),
        ('p.add_argument("--half", default=False)', None),
        ('p.add_argument("--name", default="float16")', None),
        ('add_argument("--dtype", default="float16")', None),
        ('p.add_argument(*flags, default="float16")', None),
    ],
)
def test_the_default_of_an_option(text: str, found: tuple[str, str] | None) -> None:
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    assert precision_default(call) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('p.add_argument("--vid_feat_path", default="")', True),
        ('p.add_argument("--feats_dir", type=str)', True),
        ('p.add_argument("-f", "--img-features-h5")', True),
        ('p.add_argument("--input_fc_dir")', True),
        ('p.add_argument("--feat_dim", default=2048)', False),
        ('p.add_argument("--feature-dir-name")', False),
        ('p.add_argument("--data_path")', False),
        ('p.set_defaults("--feats_dir")', False),
        ("p.add_argument(*flags)", False),
    ],
)
def test_options_that_say_where_features_lie(text: str, found: bool) -> None:
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    assert reads_features(call) is found
