"""TF32 is as the variant has it, whatever the script sets. Settings only: the arithmetic needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Drive

READ = """
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
losses += [torch.tensor(float(matmul.allow_tf32)), torch.tensor(float(cudnn.allow_tf32))]
losses.append(torch.tensor(float(torch.get_float32_matmul_precision() != "highest")))
"""
SETS = f"""
import torch
losses, weights = [], []
{READ}
torch.backends.cuda.matmul.allow_tf32 = TRUE
torch.backends.cudnn.allow_tf32 = TRUE
torch.set_float32_matmul_precision("high" if TRUE else "highest")
with torch.backends.cudnn.flags(allow_tf32=TRUE):
    losses.append(torch.tensor(float(torch.backends.cudnn.allow_tf32)))
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    torch.backends.cuda.matmul.fp32_precision = "tf32" if TRUE else "ieee"
    torch.backends.cudnn.conv.fp32_precision = "tf32" if TRUE else "ieee"
    losses.append(torch.tensor(float(torch.backends.cuda.matmul.fp32_precision == "tf32")))
    losses.append(torch.tensor(float(torch.backends.cudnn.conv.fp32_precision == "tf32")))
{READ}
"""


@pytest.mark.parametrize(("variant", "wanted"), [("fp32", False), ("tf32", True)])
def test_it_is_held_and_the_script_that_sets_it_is_named(
    drive: Drive, script: Callable[[str], Path], variant: str, wanted: bool
) -> None:
    path = script(SETS.replace("TRUE", str(not wanted)))
    answer = drive(path, f"none:{variant}")[f"none:{variant}"]
    assert "error" not in answer, answer["error"]
    assert {float.fromhex(value) for value in answer["losses"]} == {float(wanted)}
    setting = {
        number
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(word in line for word in ("tf32 = ", "precision(", "precision = ", "flags(")) and "get_" not in line
    }
    assert {site["line"] for site in answer["control"]["sites"]} == setting
    assert answer["control"]["unfaithful"] == []
