"""MPA101 in scripts that only a torch from before autocast runs, in those of recurrent networks,
and in those that are kept aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import TRAIN, confidences
from tests.static.program.test_small_starts import DEEP

HEAD = {
    "": "",
    "import": "from six.moves import xrange\n",
    "try": "try:\n    xrange\nexcept NameError:\n    xrange = range\n",
}


@pytest.mark.parametrize(("head", "confidence"), [("", "possible"), ("import", "likely"), ("try", "likely")])
def test_xrange_that_nothing_stands_in_for(head: str, confidence: str, tmp_path: Path) -> None:
    script = HEAD[head] + TRAIN.format(option="--name", default="a") + "        print(list(xrange(3)))\n"
    assert confidences(tmp_path, {"train.py": script, "net.py": DEEP}) == [confidence]


@pytest.mark.parametrize(
    ("name", "confidence"),
    [("train_lstm.py", "possible"), ("RNN/train.py", "possible"), ("train_crnn.py", "likely"), ("train.py", "likely")],
)
def test_a_script_that_is_named_after_a_recurrent_network(name: str, confidence: str, tmp_path: Path) -> None:
    script = TRAIN.format(option="--name", default="a").replace("Net()", "getattr(net, args.name)()")
    script = script.replace("from net import Net", "import net")
    assert confidences(tmp_path, {name: script, "net.py": DEEP}) == [confidence]


@pytest.mark.parametrize(
    ("line", "confidence"),
    [
        ("print(loss.data[0])", "possible"),
        ("total = loss.data[0] / len(x)", "possible"),
        ("print(loss.item())", "likely"),
        ("print(x.data[0])", "likely"),
    ],
)
def test_what_a_loss_is_read_by(line: str, confidence: str, tmp_path: Path) -> None:
    script = TRAIN.format(option="--name", default="a") + f"        {line}\n"
    assert confidences(tmp_path, {"train.py": script, "net.py": DEEP}) == [confidence]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("legacy_train.py", ["likely"]), ("legacy/train.py", []), ("trash/train.py", []), ("train_backup.py", [])],
)
def test_what_is_kept_aside_by_its_name(name: str, expected: list[str], tmp_path: Path) -> None:
    script = TRAIN.format(option="--name", default="a")
    assert confidences(tmp_path, {name: script, "net.py": DEEP}) == expected
