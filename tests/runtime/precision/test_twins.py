"""Scripts beside what their authors would have written by hand: losses and weights are equal bit for bit.

A twin holds the variants that its author wrote (`by_hand.MODE`): without AMP, with bfloat16 autocast, with float16
autocast and a GradScaler. What mpaudit makes of one of them must be another of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .conftest import TWINS, Drive

NAMES = sorted(path.stem for path in TWINS.glob("*.py") if path.stem != "by_hand")

EQUAL = {
    "none:fp32": "none:off",
    "none:amp-bf16": "bf16:off",
    "none:amp-fp16": "fp16:off",
    "fp16:fp32": "none:off",
    "fp16:amp-bf16": "bf16:off",
    "fp16:amp-fp16": "fp16:off",
    "bf16:amp-fp16": "fp16:off",
    "bf16:amp-bf16": "bf16:off",
}
MODES = {
    "none:fp32": "as-is",
    "none:amp-bf16": "injected",
    "none:amp-fp16": "injected",
    "fp16:fp32": "neutralised",
    "fp16:amp-bf16": "overridden",
    "fp16:amp-fp16": "as-is",
    "bf16:amp-fp16": "overridden",
    "bf16:amp-bf16": "as-is",
}
UNSCALED = {"transforms"}
"""Twins in which float16 gradients cannot be scaled, and are named."""


@pytest.mark.parametrize("name", NAMES)
def test_bit_for_bit(drive: Drive, name: str) -> None:
    by_hand = ["none:off", "bf16:off", "fp16:off"]
    answers = drive(TWINS / f"{name}.py", *by_hand, *EQUAL)
    errors = [answer["error"] for answer in answers.values() if "error" in answer]
    assert not errors, errors[0]
    # or equality would say nothing
    assert len({tuple(answers[word]["losses"]) for word in by_hand}) == 3
    for word, twin in EQUAL.items():
        seen, wanted = answers[word], answers[twin]
        departed = [
            at for at, pair in enumerate(zip(seen["losses"], wanted["losses"], strict=True)) if len({*pair}) > 1
        ]
        assert not departed, f"{word} departs from {twin} at loss {departed[0]}"
        assert seen["parameters"] == wanted["parameters"], f"{word}: the weights differ from those of {twin}"
        control = seen["control"]
        assert control["mode"] == MODES[word]
        if name not in UNSCALED:
            assert control["unfaithful"] == [], word


@pytest.mark.skipif(
    not (os.environ.get("MPAUDIT_TEST_INDUCTOR") and shutil.which("g++")),
    reason="takes minutes of a C++ compiler: asked for with MPAUDIT_TEST_INDUCTOR=1",
)
def test_bit_for_bit_under_inductor(drive: Drive, tmp_path: Path) -> None:
    """Code that is compiled to C++. The twins above stop at the graph that autograd is given, without a compiler."""
    script = tmp_path / "compiled.py"
    script.write_text((TWINS / "compiled.py").read_text().replace("aot_eager", "inductor"))
    equal = {"none:amp-bf16": "bf16:off", "fp16:fp32": "none:off"}
    answers = drive(script, *equal, *equal.values())
    for word, twin in equal.items():
        assert "error" not in answers[word], answers[word]["error"]
        assert answers[word]["losses"] == answers[twin]["losses"], word
        assert answers[word]["parameters"] == answers[twin]["parameters"], word
        assert answers[word]["control"]["mode"] == MODES[word]
    assert answers["bf16:off"]["losses"] != answers["none:off"]["losses"]


def test_scale_and_left_out_steps_are_reported(drive: Drive) -> None:
    control = drive(TWINS / "overflow.py", "none:amp-fp16", "fp16:amp-fp16")
    assert [answer["control"]["skipped"] for answer in control.values()] == [7, 7]
    assert control["none:amp-fp16"]["control"]["scale"] == 512.0


def test_gradients_of_transforms_are_named_as_unscaled(drive: Drive) -> None:
    answer = drive(TWINS / "transforms.py", "none:amp-fp16")["none:amp-fp16"]
    assert {(place["line"], place["what"]) for place in answer["control"]["unfaithful"]} == {
        (27, "gradients of torch.func are not scaled"),
        (28, "gradients of torch.func are not scaled"),
    }
