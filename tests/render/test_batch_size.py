"""What a report says of the batch sizes that were tried."""

from __future__ import annotations

import msgspec
import pytest

from mpaudit.measured import BatchSearch, BatchTrial
from mpaudit.render import terminal
from mpaudit.render.batch_size import blocks, sentence

TRIALS = (
    BatchTrial("fp32", 8, "fits", 2**20, "made its 2 steps"),
    BatchTrial("amp-bf16", 16, "fits", 2**19, "made its 2 steps"),
    BatchTrial("amp-bf16", 32, "too large", 2**21, "made its 2 steps"),
    BatchTrial("amp-bf16", 64, "too large", None, "ran out of memory at train.py:3"),
)
FOUND = BatchSearch("--bs", 8, True, "amp-bf16", 2**20, 16, TRIALS, "")


def test_what_fits_and_every_trial() -> None:
    rows = terminal.write(blocks(FOUND), 80, colour=False).splitlines()
    assert rows == [
        "",
        "Batch size",
        "A batch of 16 fits under amp-bf16 in what fp32 holds with 8 (--bs, as given): 2",
        "  times as large.",
        "  precision  batch      holds",
        "  fp32           8    1.0 MiB",
        "  amp-bf16      16  512.0 KiB",
        "  amp-bf16      32    2.0 MiB  too large",
        "  amp-bf16      64             ran out of memory at train.py:3",
        "Holds: tensors held at the largest backward pass of a step, in a run of two",
        "  steps each.",
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"limit_bytes": None, "given": False, "why": "no more than 16 was tried"},
            "A batch of 16 fits under amp-bf16 on this device, where --bs is 8 (its default): 2 times as large; "
            "no more than 16 was tried.",
        ),
        ({"largest": 8}, "No larger batch than 8 fits under amp-bf16 in what fp32 holds with 8 (--bs, as given)."),
        (
            {"largest": None, "why": "it failed"},
            "No batch was seen to fit under amp-bf16 in what fp32 holds with 8 (--bs, as given); it failed.",
        ),
        ({"trials": (), "largest": None, "why": "the budget is spent"}, "Not tried: the budget is spent."),
        ({"trials": TRIALS[:1], "largest": None, "limit_bytes": None, "why": "fp32 failed"}, "Not tried: fp32 failed."),
        ({"argument": None, "why": "train.py has none"}, "Not tried: train.py has none."),
    ],
)
def test_the_sentence(changes: dict[str, object], text: str) -> None:
    assert sentence(msgspec.structs.replace(FOUND, **changes)) == text


def test_nothing_is_said_where_it_was_not_asked_for() -> None:
    assert list(blocks(None)) == []
