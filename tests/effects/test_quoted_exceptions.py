"""Every exception that a page quotes with its text, raised as the page says; those of an older torch are named."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mpaudit import rulebook

QUOTED = re.compile(r"(?<!`)(`{1,2})\s?(?P<kind>\w+Error): (?P<text>.+?)\s?\1(?!`)")


def quoted() -> set[tuple[str, str, str]]:
    """(page, exception, text) of every quotation in the prose of the pages."""
    return {
        (code, match["kind"], match["text"])
        for code, rule in rulebook.rules().items()
        for match in QUOTED.finditer(re.sub(r"```.*?```", "", rule.markdown, flags=re.DOTALL))
    }


class Setup:
    """A weight with an optimizer and a scaler, on the CPU."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.weight = nn.Parameter(torch.ones(2, dtype=dtype))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)
        self.scaler = torch.amp.GradScaler("cpu")

    def backward(self) -> Setup:
        self.scaler.scale(self.weight.sum()).backward()
        return self

    def unscale(self) -> Setup:
        self.scaler.unscale_(self.optimizer)
        return self

    def step(self) -> Setup:
        self.scaler.step(self.optimizer)
        return self

    def update(self, scale: object = None) -> Setup:
        self.scaler.update(scale)  # type: ignore[arg-type]
        return self

    def zero(self) -> Setup:
        self.optimizer.zero_grad()
        return self


def entered(context: object) -> None:
    with context:  # type: ignore[attr-defined]
        pass


def linear(x: torch.Tensor, low: bool = False) -> None:
    with torch.autocast("cpu", enabled=low):
        nn.Linear(2, 2)(x)


def bce_on_cuda() -> None:
    """With tensors that have a device and no memory: autocast decides before anything runs."""
    with FakeTensorMode():
        fake = torch.rand(3, device="cuda")
        torch.set_autocast_enabled("cuda", True)
        try:
            nn.functional.binary_cross_entropy(fake, fake)
        finally:
            torch.set_autocast_enabled("cuda", False)


TWICE = "unscale_() has already been called on this optimizer since the last update()."
STEPPED = "step() has already been called since the last update()."
AFTER = "unscale_() is being called after step()."
F64 = torch.ones(2, 2, dtype=torch.float64)

RAISED: dict[tuple[str, str], Callable[[], object]] = {
    ("MPA105", "'type' object does not support the context manager protocol"): lambda: entered(torch.autocast),
    ("MPA105", "Expected `device_type` of type `str`, got: `<class 'function'>`"): lambda: torch.autocast(linear),  # type: ignore[arg-type]
    ("MPA105", "autocast()(func) requires a callable, but got Tensor."): (
        lambda: torch.cuda.amp.autocast(linear)(torch.ones(2))  # type: ignore[arg-type]
    ),
    ("MPA106", "Expected `device_type` of type `str`, got: `<class 'torch.device'>`"): (
        lambda: torch.autocast(torch.device("cuda"))  # type: ignore[arg-type]
    ),
    ("MPA106", "Expected `device_type` of type `str`, got: `<class 'bool'>`"): lambda: torch.autocast(True),  # type: ignore[arg-type]
    ("MPA106", "Expected one of cpu, cuda, ipu, … device type at start of device string: gpu"): (
        lambda: torch.autocast("gpu")
    ),
    ("MPA106", "autocast.__init__() missing 1 required positional argument: 'device_type'"): (
        lambda: torch.amp.autocast(enabled=True)  # type: ignore[call-arg]
    ),
    ("MPA108", "set_autocast_dtype(): argument 'dtype' (position 2) must be torch.dtype, not bool"): (
        lambda: entered(torch.autocast("cpu", True))  # type: ignore[arg-type]
    ),
    ("MPA108", "autocast.__new__() got an unexpected keyword argument 'device_type'"): (
        lambda: torch.cuda.amp.autocast(device_type="cuda")  # type: ignore[call-arg]
    ),
    ("MPA112", "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast."): bce_on_cuda,
    (
        "MPA202",
        "Attempted step but _scale is None.  This may indicate your script did not use scaler.scale(loss or outputs) "
        "earlier in the iteration.",
    ): lambda: Setup().step(),
    ("MPA204", STEPPED): lambda: Setup().backward().step().backward().step(),
    ("MPA204", AFTER): lambda: Setup().backward().step().backward().unscale(),
    ("MPA206", TWICE): lambda: Setup().backward().unscale().unscale(),
    ("MPA207", TWICE): lambda: Setup().backward().unscale().zero().backward().unscale(),
    ("MPA208", AFTER): lambda: Setup().backward().step().unscale(),
    ("MPA209", STEPPED): lambda: Setup().backward().step().step(),
    ("MPA210", "No inf checks were recorded prior to update."): lambda: Setup().backward().update(),
    ("MPA211", "No inf checks were recorded for this optimizer."): lambda: Setup().backward().zero().step(),
    (
        "MPA214",
        "A GradScaler instance may only be pickled at the beginning of an iteration, or at the end after "
        "scaler.update().",
    ): lambda: pickle.dumps(Setup().backward().step().scaler),
    ("MPA221", "Attempting to unscale FP16 gradients."): lambda: Setup(torch.float16).backward().step(),
    ("MPA222", "full(): argument 'fill_value' (position 2) must be Number, not str"): (
        lambda: torch.amp.GradScaler("cpu", init_scale="cuda").scale(torch.ones(1))  # type: ignore[arg-type]
    ),
    ("MPA222", "'int' object has no attribute 'device'"): lambda: Setup().backward().step().update(1024),
    ("MPA303", "mat1 and mat2 must have the same dtype, but got Double and Float"): lambda: linear(F64),
    ("MPA303", "Found dtype Double but expected Float"): (
        lambda: nn.functional.huber_loss(nn.Linear(2, 2)(torch.ones(2, 2)), F64).backward()
    ),
    ("MPA303", "expected scalar type Float but found Double"): (
        lambda: nn.functional.cross_entropy(torch.ones(2, 2), torch.tensor([0, 1]), weight=F64[0])
    ),
}

ELSEWHERE = {
    ("MPA106", "User specified an unsupported autocast device_type 'cuda:0'"): "an older torch",
    (
        "MPA215",
        "\"_amp_foreach_non_finite_check_and_unscale_cuda\" not implemented for 'BFloat16'",
    ): "an older torch, on CUDA",
}


def test_every_quotation_is_here() -> None:
    assert {(code, text) for code, _, text in quoted()} == set(RAISED) | set(ELSEWHERE)


@pytest.mark.parametrize(("code", "kind", "text"), sorted(q for q in quoted() if (q[0], q[2]) not in ELSEWHERE))
def test_it_is_raised_as_it_is_quoted(code: str, kind: str, text: str) -> None:
    with warnings.catch_warnings(), pytest.raises(Exception) as caught:
        warnings.simplefilter("ignore")
        RAISED[code, text]()
    assert type(caught.value).__name__ == kind
    assert all(part.strip() in str(caught.value) for part in text.split("…"))
