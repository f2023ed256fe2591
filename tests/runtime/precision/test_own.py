"""Precision that scripts bring themselves, in each way to write it: switched off, recast, and found."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Drive

Script = Callable[[str], Path]

LOOP = """
import contextlib
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(8, 10), torch.randint(0, 4, (8,))
model = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
losses, weights = [], model.parameters()
HALF = torch.float16

def objective(x, y):
    return F.cross_entropy(model(x), y)

{before}
for _ in range(4):
    optimizer.zero_grad()
{step}
    loss.backward()
    optimizer.step()
    losses.append(loss.detach())
"""


def loop(step: str, before: str = "") -> str:
    return LOOP.format(before=textwrap.dedent(before), step=textwrap.indent(textwrap.dedent(step).strip("\n"), "    "))


WITH = "with {}:\n    loss = objective(x, y)"
FORMS = {
    "torch.autocast": loop(WITH.format("torch.autocast('cpu', HALF)")),
    "torch.amp.autocast": loop(WITH.format("torch.amp.autocast('cpu', dtype=HALF, enabled=True)")),
    "torch.cpu.amp.autocast": loop(WITH.format("torch.cpu.amp.autocast(True, HALF)")),
    "another name": loop(
        WITH.format("cast('cpu', dtype=HALF)"), "from torch.amp.autocast_mode import autocast as cast"
    ),
    "one region for all": loop(WITH.format("region"), "region = torch.autocast('cpu', dtype=HALF)"),
    "entered by a stack": loop(
        "with contextlib.ExitStack() as stack:\n    stack.enter_context(torch.autocast('cpu', HALF))\n"
        "    loss = objective(x, y)"
    ),
    "a helper": loop(
        WITH.format("helper()"),
        """
        @contextlib.contextmanager
        def helper():
            with torch.autocast("cpu", dtype=HALF):
                yield
        """,
    ),
    "a decorator": loop("loss = cast(x, y)", "cast = torch.autocast('cpu', dtype=HALF)(objective)"),
    "a decorated forward": loop(
        "out = model(x)\nwith torch.autocast('cpu', HALF):\n    loss = F.cross_entropy(out, y)",
        """
        class Model(nn.Sequential):
            forward = torch.autocast("cpu", dtype=HALF)(nn.Sequential.forward)
        model.__class__ = Model
        """,
    ),
    "a subclass": loop(
        WITH.format("Mine()"),
        """
        class Mine(torch.autocast):
            def __init__(self):
                super().__init__("cpu", dtype=HALF)
        """,
    ),
    "no region": loop(
        """
        torch.set_autocast_enabled("cpu", True)
        torch.set_autocast_dtype("cpu", HALF)
        loss = objective(x, y)
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cpu", False)
        """
    ),
    "no region, the old way": loop(
        """
        torch.set_autocast_cpu_dtype(HALF)
        torch.set_autocast_cpu_enabled(True)
        loss = objective(x, y)
        torch.clear_autocast_cache()
        torch.set_autocast_cpu_enabled(False)
        """
    ),
    "compiled": loop(
        "loss = compiled(x, y)",
        """
        @torch.compile(backend="aot_eager", fullgraph=True)
        def compiled(x, y):
            with torch.autocast("cpu", dtype=HALF):
                return objective(x, y)
        """,
    ),
}
OFF = {
    "a flag": loop(WITH.format("torch.autocast('cpu', dtype=HALF, enabled=use_amp)"), "use_amp = False"),
    "a flag, in a compiled function": loop(
        "with torch.autocast('cpu', dtype=HALF, enabled=use_amp):\n    loss = compiled(x, y)",
        "use_amp = False\ncompiled = torch.compile(objective, backend='aot_eager')",
    ),
    "a device that is not there": loop(WITH.format("torch.cuda.amp.autocast()")),
}


@pytest.fixture
def by_hand(drive: Drive, script: Script) -> dict[str, list[str]]:
    """The losses of the loop in each precision."""
    regions = {"fp32": "contextlib.nullcontext()", "bf16": "torch.autocast('cpu', torch.bfloat16)"}
    regions["fp16"] = "torch.autocast('cpu', torch.float16)"
    return {
        name: drive(script(loop(WITH.format(region))), "none:off")["none:off"]["losses"]
        for name, region in regions.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_controlled(drive: Drive, script: Script, by_hand: dict[str, list[str]], form: str) -> None:
    words = {"none:off": "fp16", "none:fp32": "fp32", "none:tf32": "fp32", "none:amp-bf16": "bf16"}
    early = {f"{word}+own_amp": losses for word, losses in words.items() if "off" not in word}
    answers = drive(script(FORMS[form]), *words, *early, "none:amp-fp16+own_amp")
    for word, wanted in {**words, **early, "none:amp-fp16+own_amp": "fp16"}.items():
        assert "error" not in answers[word], answers[word]["error"]
        # without knowledge from an earlier run, a region in the model is met when the first span is on
        if form == "a decorated forward" or (form == "compiled" and word == "none:amp-bf16"):
            continue
        assert answers[word]["losses"] == by_hand[wanted], word
    for word, mode in (("none:fp32", "neutralised"), ("none:amp-bf16", "overridden")):
        assert answers[f"{word}+own_amp"]["control"]["mode"] == mode
        assert answers[f"{word}+own_amp"]["control"]["sites"]
        assert answers[word]["control"]["own_amp"]


@pytest.mark.parametrize("form", OFF)
def test_what_is_off_by_a_flag_is_put_on(
    drive: Drive, script: Script, by_hand: dict[str, list[str]], form: str
) -> None:
    answers = drive(script(OFF[form]), "none:off", "none:fp32", "none:amp-bf16")
    for word, wanted in {"none:off": "fp32", "none:fp32": "fp32", "none:amp-bf16": "bf16"}.items():
        assert answers[word]["losses"] == by_hand[wanted], word
    assert answers["none:fp32"]["control"]["mode"] == "as-is"
    assert answers["none:fp32"]["control"]["own_amp"]
    assert answers["none:amp-bf16"]["control"]["mode"] == "overridden"


def test_a_flag_beside_a_region_that_is_on_is_respected(drive: Drive, script: Script) -> None:
    body = loop(
        """
        with torch.autocast("cpu", dtype=HALF):
            hidden = model(x)
            with torch.autocast("cpu", dtype=HALF, enabled=wide):
                loss = F.cross_entropy(hidden.float() @ y.new_ones(4, 4).float(), y)
        """,
        "wide = False",
    )
    recast = script(body.replace("HALF = torch.float16", "HALF = torch.bfloat16"))
    wanted = drive(recast, "none:off")["none:off"]["losses"]
    assert drive(script(body), "none:amp-bf16")["none:amp-bf16"]["losses"] == wanted


INSIDE = loop(
    "loss = F.cross_entropy(model(x), y)",
    """
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(10, 12), nn.Linear(12, 4)
        def forward(self, x):
            x = self.first(x)
            with torch.autocast("cpu", dtype=HALF):
                x = self.second(F.relu(x))
            return x.float()
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    weights = model.parameters()
    """,
)


def test_a_region_inside_of_the_model_is_named_or_known(drive: Drive, script: Script) -> None:
    recast = script(INSIDE.replace("HALF = torch.float16", "HALF = torch.bfloat16"))
    wanted = drive(recast, "none:off")["none:off"]
    answers = drive(script(INSIDE), "none:amp-bf16", "none:amp-bf16+own_amp")
    late, known = answers["none:amp-bf16"], answers["none:amp-bf16+own_amp"]
    (place,) = late["control"]["unfaithful"]
    assert "met after the injected one was on" in place["what"]
    assert place["line"] == 1 + script(INSIDE).read_text().splitlines().index(
        '        with torch.autocast("cpu", dtype=HALF):'
    )
    assert known["control"]["unfaithful"] == []
    assert known["losses"] == wanted["losses"]
    assert known["parameters"] == wanted["parameters"]


def test_inputs_of_custom_functions_are_recast(drive: Drive, script: Script) -> None:
    body = loop(
        WITH.format("torch.autocast('cpu', dtype=HALF)"),
        """
        class Product(torch.autograd.Function):
            @staticmethod
            @torch.amp.custom_fwd(device_type="cpu", cast_inputs=HALF)
            def forward(ctx, a, b):
                ctx.save_for_backward(a, b)
                return a @ b
            @staticmethod
            @torch.amp.custom_bwd(device_type="cpu")
            def backward(ctx, g):
                a, b = ctx.saved_tensors
                return g @ b.T, a.T @ g
        def objective(x, y):
            return F.cross_entropy(Product.apply(F.relu(model[0](x)), model[2].weight.T), y)
        """,
    )
    recast = script(body.replace("HALF = torch.float16", "HALF = torch.bfloat16"))
    wanted = drive(recast, "none:off")["none:off"]["losses"]
    answers = drive(script(body), "none:off", "none:amp-bf16", "none:fp32")
    assert answers["none:amp-bf16"]["losses"] == wanted != answers["none:off"]["losses"]
    plain = script(body.replace("torch.autocast('cpu', dtype=HALF)", "contextlib.nullcontext()"))
    assert answers["none:fp32"]["losses"] == drive(plain, "none:off")["none:off"]["losses"]


SCALED = "scaler.scale(loss).backward()\n    scaler.step(optimizer)\n    scaler.update()"


@pytest.mark.parametrize(
    "scaler",
    ["torch.amp.GradScaler('cpu')", "torch.amp.grad_scaler.GradScaler(device='cpu', enabled=True)", "Mine('cpu')"],
)
def test_scalers_are_off_where_they_are_not_wanted(drive: Drive, script: Script, scaler: str) -> None:
    body = loop(
        "with torch.autocast('cpu', dtype=HALF):\n    loss = objective(x, y)\nseen.append(scaler.get_scale())",
        f"""
        class Mine(torch.amp.GradScaler):
            pass
        scaler, seen = {scaler}, []
        """,
    )
    body = body.replace(
        "loss.backward()\n    optimizer.step()",
        SCALED,
    )
    body += "\nlosses += [torch.tensor(value) for value in seen]"
    answers = drive(script(body), "none:fp32", "none:amp-bf16", "none:amp-fp16")
    seen = {word: {float.fromhex(value) for value in answers[word]["losses"][4:]} for word in answers}
    assert seen == {"none:fp32": {1.0}, "none:amp-bf16": {1.0}, "none:amp-fp16": {65536.0}}
    assert answers["none:amp-fp16"]["control"]["mode"] == "as-is"
    assert answers["none:amp-fp16"]["control"]["scale"] == 65536.0


def test_a_scaler_without_autocast_is_named(drive: Drive, script: Script) -> None:
    """As it is written, such a script computes in float32, whatever the run is called."""
    body = loop("loss = objective(x, y)", "scaler = torch.amp.GradScaler('cpu')")
    answers = drive(script(body.replace("loss.backward()\n    optimizer.step()", SCALED)), "none:fp32", "none:amp-bf16")
    assert answers["none:amp-bf16"]["losses"] == answers["none:fp32"]["losses"]
    named = [place["what"] for place in answers["none:amp-bf16"]["control"]["unfaithful"]]
    assert named == ["nothing was computed in autocast: the script has a scaler or a region of its own, and none is on"]
    assert answers["none:amp-bf16"]["control"]["nothing"] == named[0]
    assert answers["none:fp32"]["control"]["unfaithful"] == []


@pytest.mark.parametrize(
    "scaler",
    ["torch.amp.GradScaler('cuda')", "torch.cuda.amp.GradScaler(enabled=True)", "torch.amp.GradScaler(enabled=False)"],
)
def test_a_scaler_that_is_off_is_none(drive: Drive, script: Script, by_hand: dict[str, list[str]], scaler: str) -> None:
    """As torch switches one off whose device is not there, and the script its autocast with it."""
    body = loop("with contextlib.nullcontext():\n    loss = objective(x, y)", f"scaler = {scaler}")
    body = body.replace("loss.backward()\n    optimizer.step()", SCALED)
    answers = drive(script(body), "none:fp32", "none:amp-bf16")
    assert answers["none:fp32"]["losses"] == by_hand["fp32"]
    assert not answers["none:fp32"]["control"]["own_amp"]
    injected = answers["none:amp-bf16"]
    assert injected["losses"] == by_hand["bf16"] != by_hand["fp32"]
    assert (injected["control"]["mode"], injected["control"]["nothing"]) == ("injected", "")
