"""A dtype that an option chooses, and the scaler that goes with it; see shapes.py for how a shape is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.static.program.dtype_choice import by_default
from mpaudit.static.program.values import Key
from tests.static.program.shapes import HEAD, found_in, reported, variant

SHAPES = {
    "a script whose names a configuration file sets": {
        "train.py": """
dtype = "bfloat16"  # float32|bfloat16|float16
exec(open("configurator.py").read())
ptdtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
ctx = autocast("cuda", dtype=ptdtype)
model = nn.Linear(2, 2).cuda()
optimizer = torch.optim.AdamW(model.parameters())
scaler = GradScaler("cuda", enabled=(dtype == "float16"))  # right
scaler = GradScaler("cuda", enabled=False)  # wrong
for x in torch.rand(8, 2):
    optimizer.zero_grad(set_to_none=True)
    with ctx:
        loss = model(x).mean()
    scaler.scale(loss).backward()  # wrong MPA201
    scaler.scale(loss).backward()  # right
    scaler.step(optimizer)
    scaler.update()
"""
    },
    "names of a script that its functions use": {
        "train.py": """
import argparse


def train_epoch(loader):
    for x in loader:
        with context:
            loss = model(x).mean()
        scaler.scale(loss).backward()  # wrong MPA201
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float16
    context = autocast("cuda", dtype=dtype)
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda", enabled=(args.dtype == "float16"))  # right
    scaler = GradScaler("cuda", enabled=False)  # wrong
    for _ in range(3):
        train_epoch(torch.rand(8, 2))
"""
    },
    "an option whose default is float16, in another file": {
        "options.py": """
import argparse


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--amp-dtype", default="float16")
    return parser.parse_args()
""",
        "train.py": """
from contextlib import suppress
from functools import partial

from options import options


def main(loader):
    args = options()
    dtype = torch.float16  # wrong
    dtype = torch.float32  # right
    if args.amp_dtype == "bfloat16":
        dtype = torch.bfloat16
    context = suppress
    if args.amp:
        context = partial(torch.autocast, device_type="cuda", dtype=dtype)
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for x in loader:
        optimizer.zero_grad()
        with context():
            loss = model(x).mean()
        loss.backward()  # wrong MPA201
        loss.backward()  # right
        optimizer.step()


main(torch.rand(8, 2))
""",
    },
    "a scaler that is off in the arm that is not float16": {
        "train.py": """
def main(loader, args):
    dtype = torch.float16 if args.dtype == "float16" else torch.bfloat16
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    if args.dtype == "float16":
        scaler = GradScaler("cuda")  # right
        scaler = GradScaler("cuda", enabled=False)  # wrong
    else:
        scaler = GradScaler("cuda", enabled=False)
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=dtype):
            loss = model(x).mean()
        scaler.scale(loss).backward()  # wrong MPA201
        scaler.scale(loss).backward()  # right
        scaler.step(optimizer)
        scaler.update()
"""
    },
    "a loss that is backpropagated where the dtype is known not to be float16": {
        "train.py": """
def main(loader, args):
    dtype = torch.float16 if args.half else torch.bfloat16
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = GradScaler("cuda", enabled=False)
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=dtype):
            loss = model(x).mean()
        if not args.half:  # right
            scaler.scale(loss).backward()  # right
            scaler.step(optimizer)  # right
        scaler.scale(loss).backward()  # wrong MPA201
        scaler.step(optimizer)  # wrong
"""
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert marks
    assert [found for found in reported(tmp_path, sources) if found[2] == "MPA201"] == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert [found for found in reported(tmp_path, sources) if found[2] == "MPA201"] == []


CHOSEN = """
import argparse

from options import options


def main(loader):
    args = options(argparse.ArgumentParser())
    dtype = torch.float16 if args.dtype == "float16" else torch.bfloat16
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=dtype):
            loss = model(x).mean()
        loss.backward()  # MPA201
        optimizer.step()


main(torch.rand(8, 2))
"""
OPTIONS = """
def options(parser):
    parser.add_argument("--dtype", default="DEFAULT")
    return parser.parse_args()
"""
ELSEWHERE = """
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--dtype", default="bfloat16")
with autocast("cuda", dtype=torch.bfloat16):
    print(nn.Linear(2, 2)(torch.rand(2, 2)))
"""
"""A script that trains nothing, whose option has another default."""


def severity(folder: Path, sources: dict[str, str]) -> set[str]:
    sources = {name: f"{HEAD}{text}" for name, text in sources.items()}
    return {finding.severity for finding in found_in(folder, sources) if finding.code == "MPA201"}


@pytest.mark.parametrize(("default", "expected"), [("float16", "error"), ("bfloat16", "warning"), ("auto", "warning")])
def test_what_only_an_option_asks_for_is_a_warning(tmp_path: Path, default: str, expected: str) -> None:
    sources = {"train.py": CHOSEN, "options.py": OPTIONS.replace("DEFAULT", default)}
    assert severity(tmp_path, sources) == {expected}


def test_a_script_that_trains_nothing_may_have_another_default(tmp_path: Path) -> None:
    sources = {"train.py": CHOSEN, "options.py": OPTIONS.replace("DEFAULT", "float16"), "evaluate.py": ELSEWHERE}
    own = 'parser = argparse.ArgumentParser()\n    parser.add_argument("--dtype", default="float16")\n'
    sources["train.py"] = CHOSEN.replace("args = options(", f"{own}    args = options(")
    assert severity(tmp_path, sources) == {"error"}


ARGS: Key = ("call", "parse_args")
HALF: Key = ("eq", ("attr", ARGS, "dtype"), "float16")
MODE: Key = ("truth", ("attr", ARGS, "precision"))


@pytest.mark.parametrize(
    ("key", "known"),
    [
        (HALF, True),
        (("not", HALF), False),
        (("eq", ("attr", ARGS, "dtype"), "bfloat16"), False),
        (("eq", ("attr", ARGS, "other"), "float16"), None),
        (MODE, False),
        (("and", HALF, MODE), False),
        (("or", HALF, ("truth", ("attr", ARGS, "other"))), True),
        (("and", HALF, ("truth", ("attr", ARGS, "other"))), None),
    ],
)
def test_what_a_decision_on_options_is_by_default(key: Key, known: bool | None) -> None:
    assert by_default(key, {"dtype": "float16", "precision": ""}) is known


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ('device.type in ["cuda", "cpu"]', []), ('device.type == "cuda"', []), ("args.bf16", ["MPA201"]),
        ("not torch.cuda.is_available()", ["MPA201"]),
    ],
)  # fmt: skip
def test_a_dtype_for_devices_other_than_cuda(tmp_path: Path, asked: str, codes: list[str]) -> None:
    text = f"""
from options import args


def main(model, loader):
    device = torch.device("cuda" if torch.cuda.is_available() else "mps")
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    for x in loader:
        optimizer.zero_grad()
        with autocast(device_type=device.type, dtype=torch.bfloat16 if {asked} else torch.float16):
            loss = model(x.to(device)).mean()
        loss.backward()
        optimizer.step()
"""
    assert [code for _, _, code in reported(tmp_path, {"train.py": HEAD + text})] == codes
