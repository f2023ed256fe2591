"""Precision control as a run of `mpaudit profile` has it, through parent and child."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.launching import LOOP, launch

TRAIN = f"""{LOOP}
torch.backends.cuda.matmul.allow_tf32 = True
torch.seed()
torch.manual_seed(3)
for _ in range(9):
    step()
"""


@pytest.mark.parametrize(("variant", "mode"), [("fp32", "as-is"), ("amp-bf16", "injected")])
def test_a_variant_is_brought_about(tmp_path: Path, variant: str, mode: str) -> None:
    record = launch(tmp_path / "home", TRAIN, variant=variant)
    assert record.result is not None, record
    assert record.result.control.mode == mode
    assert record.result.control.unfaithful == ()
    assert "torch.amp.autocast_mode.autocast.__enter__" in record.result.patched
    assert len(record.result.losses) == 5
    assert [place.what for place in record.result.unseeded] == ["torch.seed()"]
    assert record.result.environment["matmul_tf32"] is (variant != "fp32")
    assert len(record.result.control.sites) == (variant == "fp32")
