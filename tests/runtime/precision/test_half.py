"""Half precision that is the script's own and that no variant undoes: each place is named, by its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Drive

Script = Callable[[str], Path]

CASTS = """
import torch
from torch import nn
from torch.nn import functional as F

layer, x = nn.Linear(4, 4), torch.randn(4, 4)
like = torch.zeros(1, dtype=torch.float16)
layer.half()  # a module is made float16 by the script
layer.bfloat16()  # a module is made bfloat16 by the script
layer.to(torch.float16)  # a module is made float16 by the script
layer.to("cpu", dtype=torch.bfloat16)  # a module is made bfloat16 by the script
layer.type(torch.float16)  # a module is made float16 by the script
x.half()  # a tensor is made float16 by the script
x.bfloat16()  # a tensor is made bfloat16 by the script
x.to(torch.float16)  # a tensor is made float16 by the script
x.to("cpu", torch.bfloat16)  # a tensor is made bfloat16 by the script
x.to(like)  # a tensor is made float16 by the script
x.type("torch.HalfTensor")  # a tensor is made float16 by the script
x.type(dtype=torch.bfloat16)  # a tensor is made bfloat16 by the script
torch.set_default_dtype(torch.float16)  # the default type is set to float16
torch.set_default_dtype(torch.float32)
layer.float().to("cpu"), x.to(torch.float64), x.float(), x.to("cpu"), like.half(), torch.arange(3).half()
model = nn.Linear(4, 4, dtype=torch.bfloat16)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # parameters that an optimizer takes in bfloat16
output = model(torch.ones(1, 4, dtype=torch.bfloat16))  # weights of Linear in bfloat16; the output of the model in ...
output.sum().backward()  # the loss in bfloat16
losses, weights = [], layer.parameters()
"""


def named(drive: Drive, path: Path, variant: str) -> set[tuple[int, str]]:
    answer = drive(path, f"none:{variant}")[f"none:{variant}"]
    assert "error" not in answer, answer["error"]
    assert {place["path"] for place in answer["control"]["unfaithful"]} <= {str(path)}
    return {(place["line"], place["what"]) for place in answer["control"]["unfaithful"]}


@pytest.mark.parametrize("variant", ["fp32", "amp-bf16", "amp-fp16"])
def test_every_cast_is_named(drive: Drive, script: Script, variant: str) -> None:
    path = script(CASTS.replace("in ...", "in bfloat16"))
    wanted = {
        (number, what)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "  # " in line
        for what in line.partition("  # ")[2].split("; ")
    }
    own = {"amp-bf16": "bfloat16", "amp-fp16": "float16"}.get(variant)
    if own is not None:  # what a half model gives, and tensors in the type of the variant, are as they are to be
        wanted = {
            (line, what)
            for line, what in wanted
            if what != f"a tensor is made {own} by the script" and not what.startswith(("the output", "the loss"))
        }
    assert named(drive, path, variant) == wanted


def test_a_script_in_float32_is_not_named(drive: Drive, script: Script) -> None:
    path = script("""
        import torch
        model, losses = torch.nn.Linear(4, 4), []
        weights = model.double().float().parameters()
        model(torch.randn(1, 4, dtype=torch.float64).to(torch.float32)).sum().backward()
    """)
    assert named(drive, path, "fp32") == set()
