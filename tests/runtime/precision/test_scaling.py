"""Losses scaled in scripts that have no scaler: what optimizers, hooks and loops may do with the gradients."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Drive

Script = Callable[[str], Path]

LOOP = """
import torch
from by_hand import Scaler, region
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(16, 10), torch.randn(16, 3)
model = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 3))
weights = list(model.parameters())
losses = []
scaler = Scaler()
optimizer = {optimizer}
for number in range(14):
{step}
"""
STEP = """
optimizer.zero_grad()
with region():
    loss = F.mse_loss(model(x), y) * 32
scaler.backward(loss)
scaler.step(optimizer)
losses.append(loss.detach())
"""

SMALL = STEP.replace("* 32", "/ 32")
"""Nothing overflows."""


def loop(optimizer: str, step: str = STEP) -> str:
    return LOOP.format(optimizer=optimizer, step=textwrap.indent(textwrap.dedent(step).strip("\n"), "    "))


def both(drive: Drive, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Injected, and by hand."""
    answers = drive(path, "none:amp-fp16", "fp16:off")
    for answer in answers.values():
        assert "error" not in answer, answer["error"]
    return answers["none:amp-fp16"], answers["fp16:off"]


OPTIMIZERS = [
    "torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)",
    "torch.optim.SGD(weights, lr=0.01, fused=True)",
    "torch.optim.AdamW(weights, lr=0.01, fused=True)",
    "torch.optim.AdamW(weights, lr=0.01, foreach=True, amsgrad=True)",
    "torch.optim.NAdam(weights, lr=0.01)",
    "torch.optim.RMSprop(weights, lr=0.01, centered=True)",
    "torch.optim.Adagrad(weights, lr=0.01)",
    "torch.optim.Adam([{'params': weights[:2]}, {'params': weights[2:], 'lr': 0.1}], lr=0.01)",
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_are_left_out_as_a_scaler_does(drive: Drive, script: Script, optimizer: str) -> None:
    injected, by_hand = both(drive, script(loop(optimizer)))
    assert injected["control"]["skipped"] >= 3
    assert injected["losses"] == by_hand["losses"]
    assert injected["parameters"] == by_hand["parameters"]
    assert injected["control"]["unfaithful"] == []


STEPS = {
    "accumulation with zeros": """
        for part in (0, 8):
            with region():
                loss = F.mse_loss(model(x[part : part + 8]), y[part : part + 8]) * 32
            scaler.backward(loss)
            losses.append(loss.detach())
        scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=False)
    """,
    "two losses, two backward passes": """
        optimizer.zero_grad()
        with region():
            output = model(x)
            one, two = F.mse_loss(output, y) * 32, output.float().pow(2).mean()
        scaler.backward(one, retain_graph=True)
        scaler.backward(two)
        scaler.step(optimizer)
        losses += [one.detach(), two.detach()]
    """,
    "a new optimizer on the way": """
        if number == 6:
            optimizer = torch.optim.SGD(weights, lr=0.01)
        optimizer.zero_grad()
        with region():
            loss = F.mse_loss(model(x), y) * 32
        scaler.backward(loss)
        scaler.step(optimizer)
        losses.append(loss.detach())
    """,
    "a part frozen at first": """
        model[0].requires_grad_(number >= 5)
        optimizer.zero_grad()
        with region():
            loss = F.mse_loss(model(x), y) * 32
        scaler.backward(loss)
        scaler.step(optimizer)
        losses.append(loss.detach())
    """,
    "gradients that are asked for": """
        with region():
            loss = F.mse_loss(model(x), y) * 32
        for weight, gradient in zip(weights, scaler.gradients(loss, weights)):
            weight.grad = gradient if scaler.scaler is None else gradient * scaler.scaler.get_scale()
        scaler.step(optimizer)
        losses.append(loss.detach())
    """,
    "a loss with an output for each sample": """
        optimizer.zero_grad()
        with region():
            loss = (model(x) - y).pow(2).mean(1) * 32
        scaler.backward(loss, gradient=torch.full((16,), 0.5))
        scaler.step(optimizer)
        losses.append(loss.detach().sum())
    """,
    "an input that has a gradient": """
        noisy = x.clone().requires_grad_()
        optimizer.zero_grad()
        with region():
            loss = F.mse_loss(model(noisy), y)
        scaler.backward(loss)
        slope = noisy.grad if scaler.scaler is None else noisy.grad / scaler.scaler.get_scale()
        optimizer.zero_grad()
        with region():
            loss = F.mse_loss(model(x + 0.1 * slope.sign()), y)
        scaler.backward(loss)
        scaler.step(optimizer)
        losses += [loss.detach(), slope.abs().sum()]
    """,
}


@pytest.mark.parametrize("name", STEPS)
def test_loops(drive: Drive, script: Script, name: str) -> None:
    body = loop("torch.optim.AdamW(weights, lr=0.01)", STEPS[name])
    injected, by_hand = both(drive, script(body))
    assert injected["losses"] == by_hand["losses"]
    assert injected["parameters"] == by_hand["parameters"]
    assert injected["control"]["unfaithful"] == []


def test_a_sparse_gradient(drive: Drive, script: Script) -> None:
    body = loop("torch.optim.SGD(table.parameters(), lr=0.1)").replace("model(x)", "model(table(x.argmax(1)))")
    body = body.replace("scaler = Scaler()", "table = nn.Embedding(10, 10, sparse=True)\nscaler = Scaler()")
    injected, by_hand = both(drive, script(body + "\nweights = table.parameters()\n"))
    assert injected["losses"] == by_hand["losses"]
    assert injected["parameters"] == by_hand["parameters"]


def test_a_loop_without_an_optimizer_sees_unscaled_gradients(drive: Drive, script: Script) -> None:
    step = """
        with region():
            loss = F.mse_loss(model(x), y)
        scaler.backward(loss)
        with torch.no_grad():
            for weight in weights:
                weight -= 0.1 * weight.grad
                weight.grad = None
        losses.append(loss.detach())
    """
    answers = drive(script(loop("None", step)), "none:amp-fp16", "none:off")
    injected, plain = ([float.fromhex(loss) for loss in answers[word]["losses"]] for word in answers)
    assert injected != plain
    assert injected == pytest.approx(plain, rel=0.01)
    assert answers["none:amp-fp16"]["control"]["unfaithful"] == []


def doubts(answer: dict[str, Any]) -> list[str]:
    return [place["what"] for place in answer["control"]["unfaithful"]]


def test_gradients_that_overflow_without_an_optimizer_are_named(drive: Drive, script: Script) -> None:
    step = "loss = F.mse_loss(model(x), y) * 1e4\nscaler.backward(loss)\nlosses.append(loss.detach())"
    answer = drive(script(loop("None", step)), "none:amp-fp16")["none:amp-fp16"]
    assert doubts(answer) == ["gradients of tensors that no optimizer holds are not finite: no step can be left out"]


def test_a_closure_is_named(drive: Drive, script: Script) -> None:
    step = """
        def closure():
            optimizer.zero_grad()
            with region():
                loss = F.mse_loss(model(x), y)
            loss.backward()
            losses.append(loss.detach())
            return loss
        optimizer.step(closure)
    """
    path = script(loop("torch.optim.LBFGS(weights, max_iter=2)", step))
    answers = drive(path, "none:amp-fp16", "none:amp-bf16", "bf16:off")
    assert answers["none:amp-bf16"]["losses"] == answers["bf16:off"]["losses"]
    assert answers["none:amp-bf16"]["parameters"] == answers["bf16:off"]["parameters"]
    assert doubts(answers["none:amp-fp16"]) == ["a backward inside of a step (a closure): its loss is not scaled"]
    assert doubts(answers["none:amp-bf16"]) == []


def test_hooks_on_weights_see_unscaled_gradients(drive: Drive, script: Script) -> None:
    body = loop("torch.optim.SGD(weights, lr=0.1)", SMALL)
    hooked = body.replace(
        "for number",
        """
seen = []
weights[0].register_hook(lambda gradient: seen.append(gradient.abs().sum()) or gradient.clamp(-1e-4, 1e-4))
weights[1].register_post_accumulate_grad_hook(lambda weight: weight.grad.clamp_(-1e-4, 1e-4))
for number""",
    )
    clipped = body.replace(
        "scaler.step",
        "losses.append(weights[0].grad.abs().sum())\n    for w in weights[:2]:\n        w.grad.clamp_(-1e-4, 1e-4)\n"
        "    scaler.step",
    )
    of_hook = drive(script(hooked + "\nlosses += seen"), "none:amp-fp16")["none:amp-fp16"]
    of_loop = drive(script(clipped + "\nlosses = losses[1::2] + losses[::2]"), "none:amp-fp16")["none:amp-fp16"]
    assert of_hook["losses"] == of_loop["losses"]
    assert of_hook["parameters"] == of_loop["parameters"]
    assert doubts(of_hook) == []


def test_optimizers_that_step_inside_of_the_backward(drive: Drive, script: Script) -> None:
    step = (
        "with region():\n    loss = F.mse_loss(model(x), y) / 32\nscaler.backward(loss)\nlosses.append(loss.detach())"
    )
    inside = loop("{w: torch.optim.SGD([w], lr=0.1) for w in weights}", step).replace(
        "for number",
        """
def step(weight):
    optimizer[weight].step()
    weight.grad = None
for weight in weights:
    weight.register_post_accumulate_grad_hook(step)
for number""",
    )
    after = loop("torch.optim.SGD(weights, lr=0.1)", SMALL)
    of_hooks = drive(script(inside), "none:amp-fp16")["none:amp-fp16"]
    of_loop = drive(script(after), "none:amp-fp16")["none:amp-fp16"]
    assert of_hooks["losses"] == of_loop["losses"]
    assert of_hooks["parameters"] == of_loop["parameters"]
    assert doubts(of_hooks) == []


def test_weights_that_no_optimizer_holds_are_unscaled_too(drive: Drive, script: Script) -> None:
    body = loop("torch.optim.SGD(weights[2:], lr=0.1)", SMALL + "losses.append(weights[0].grad.norm())")
    body = body.replace("optimizer.zero_grad()", "model.zero_grad()")
    answers = drive(script(body), "none:amp-fp16", "none:off")
    injected, plain = ([float.fromhex(loss) for loss in answers[word]["losses"]] for word in answers)
    assert injected != plain
    assert injected == pytest.approx(plain, rel=0.02)


def test_a_sparse_gradient_is_added_to(drive: Drive, script: Script) -> None:
    body = loop("torch.optim.SGD(table.parameters(), lr=0.1)").replace("model(x)", "model(table(x.argmax(1)))")
    body = body.replace("scaler = Scaler()", "table = nn.Embedding(10, 10, sparse=True)\nscaler = Scaler()")
    body = body.replace("scaler.step(optimizer)", "if number % 2:\n        scaler.step(optimizer)")
    body = body.replace("optimizer.zero_grad()", "if number % 2 == 0:\n        optimizer.zero_grad()")
    injected, by_hand = both(drive, script(body + "\nweights = table.parameters()\n"))
    assert injected["losses"] == by_hand["losses"]


INNER = """
optimizer.zero_grad()
with region():
    hidden = model[0](x).float()
    hidden.retain_grad()
    hidden.register_hook(lambda gradient: seen.append(gradient.abs().sum()))
    loss = F.mse_loss(model[2](hidden), y) / 32
scaler.backward(loss)
losses += [loss.detach(), hidden.grad.abs().sum()]
scaler.step(optimizer)
"""


def test_gradients_inside_of_the_graph_are_unscaled_too(drive: Drive, script: Script) -> None:
    body = loop("torch.optim.SGD(weights, lr=0.1)", INNER).replace("for number", "seen = []\nfor number")
    answers = drive(script(body + "\nlosses += seen"), "none:amp-fp16", "none:off")
    injected, plain = ([float.fromhex(loss) for loss in answers[word]["losses"]] for word in answers)
    assert injected != plain
    assert injected == pytest.approx(plain, rel=0.01)
    assert injected[1:28:2] == injected[28:]
    assert doubts(answers["none:amp-fp16"]) == []


def test_scaled_gradients_that_a_script_gets_are_named(drive: Drive, script: Script) -> None:
    step = """
        with region():
            hidden = model[0](x)
            hidden.register_hook(lambda gradient: None)  # a hook on a tensor in float16 gets a scaled gradient
            hidden.retain_grad()  # the gradient that a tensor in float16 retains is scaled
            loss = F.mse_loss(model[2](hidden), y) / 32
        scaler.backward(loss)
        losses.append(loss.detach())
    """
    hooks = "\n".join(
        f"model[2].{name}(lambda *given: None)  # a backward hook of a module gets scaled gradients"
        for name in ("register_full_backward_hook", "register_full_backward_pre_hook")
    )
    path = script(loop("torch.optim.SGD(weights, lr=0.1)", step).replace("for number", hooks + "\nfor number"))
    lines = enumerate(path.read_text().splitlines(), 1)
    wanted = {(number, line.partition("  # ")[2]) for number, line in lines if "  # " in line}
    answers = drive(path, "none:amp-fp16", "none:amp-bf16")
    named = {(place["line"], place["what"]) for place in answers["none:amp-fp16"]["control"]["unfaithful"]}
    assert named == wanted
    assert doubts(answers["none:amp-bf16"]) == []
