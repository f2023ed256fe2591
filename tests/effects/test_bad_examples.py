"""The bad examples that show their effect on a CPU, run as they stand on the page."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mpaudit import rulebook
from tests.effects.toy import Toy, runnable

UNSET = (
    "_scale is None.  This may indicate your script did not use scaler.scale(loss or outputs) earlier in the iteration."
)
TWICE_UNSCALED = "unscale_() has already been called on this optimizer since the last update()."
TWICE_STEPPED = "step() has already been called since the last update()."

RAISES: dict[tuple[str, int], tuple[type[Exception], str]] = {
    ("MPA105", 1): (TypeError, "'type' object does not support the context manager protocol"),
    ("MPA105", 2): (ValueError, "Expected `device_type` of type `str`, got: `<class 'function'>`"),
    ("MPA106", 0): (ValueError, "Expected `device_type` of type `str`, got: `<class 'torch.device'>`"),
    ("MPA106", 1): (RuntimeError, "device type at start of device string: gpu"),
    ("MPA106", 2): (TypeError, "autocast.__init__() missing 1 required positional argument: 'device_type'"),
    ("MPA108", 0): (TypeError, "set_autocast_dtype(): argument 'dtype' (position 2) must be torch.dtype, not bool"),
    ("MPA202", 0): (AssertionError, f"Attempted step but {UNSET}"),
    ("MPA204", 0): (RuntimeError, TWICE_STEPPED),
    ("MPA204", 1): (RuntimeError, "unscale_() is being called after step()."),
    ("MPA206", 0): (RuntimeError, TWICE_UNSCALED),
    ("MPA206", 1): (RuntimeError, TWICE_UNSCALED),
    ("MPA207", 0): (RuntimeError, TWICE_UNSCALED),
    ("MPA207", 1): (RuntimeError, TWICE_UNSCALED),
    ("MPA208", 0): (RuntimeError, "unscale_() is being called after step()."),
    ("MPA209", 1): (RuntimeError, TWICE_STEPPED),
    ("MPA210", 0): (AssertionError, "No inf checks were recorded prior to update."),
    ("MPA210", 1): (AssertionError, "No inf checks were recorded prior to update."),
    ("MPA211", 0): (AssertionError, "No inf checks were recorded for this optimizer."),
    ("MPA221", 0): (ValueError, "Attempting to unscale FP16 gradients."),
    ("MPA222", 2): (AttributeError, "'int' object has no attribute 'device'"),
    ("MPA303", 1): (RuntimeError, "expected scalar type Float but found Double"),
    ("MPA303", 2): (RuntimeError, "expected scalar type Float but found Double"),
}
"""What the `number`-th runnable bad example of a page raises."""

SILENT = {
    ("MPA105", 0),
    ("MPA202", 1),
    ("MPA203", 0),
    ("MPA205", 0),
    ("MPA208", 1),
    ("MPA209", 0),
    ("MPA211", 1),
    ("MPA211", 2),
    ("MPA212", 0),
    ("MPA213", 0),
    ("MPA215", 0),
    ("MPA216", 0),
    ("MPA222", 0),
    ("MPA222", 1),
    ("MPA224", 0),
    ("MPA224", 1),
    ("MPA228", 0),
    ("MPA301", 0),
    ("MPA303", 0),
    ("MPA701", 0),
}
"""The runnable bad examples that raise nothing; each has a test below."""


@pytest.fixture(autouse=True)
def quiet_and_float32() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def test_every_runnable_example_is_here() -> None:
    found = {(code, number) for code in rulebook.rules() for number in range(len(runnable(code)))}
    assert found == set(RAISES) | SILENT


@pytest.mark.parametrize(("code", "number"), sorted(RAISES))
def test_it_raises_what_the_page_says(code: str, number: int) -> None:
    kind, text = RAISES[code, number]
    with pytest.raises(kind) as caught:
        Toy().train(code, number)
    assert text in str(caught.value)
    shown = " ".join(rulebook.rules()[code].markdown.split())
    assert " ".join(text.split()) in shown


def correct(toy: Toy, clip: float | None = None, repeats: int = 1) -> Toy:
    """Trains as the pages say it is right, in float16 with a scaler."""
    scaler = torch.amp.GradScaler("cpu")
    for x, y in toy.loader:
        toy.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.cross_entropy(toy.model(x), y) * repeats
        scaler.scale(loss).backward()
        scaler.unscale_(toy.optimizer)
        if clip is not None:
            nn.utils.clip_grad_norm_(toy.model.parameters(), clip)
        scaler.step(toy.optimizer)
        scaler.update()
    return toy


def test_bare_autocast_leaves_float32() -> None:
    bad, plain = Toy(), Toy()
    bad.train("MPA105", 0)
    for x, y in plain.loader:
        plain.optimizer.zero_grad()
        nn.functional.cross_entropy(plain.model(x), y).backward()
        plain.optimizer.step()
    assert bad.moved() == plain.moved()


def test_discarded_scale_shrinks_the_update_by_the_scale() -> None:
    bad, right = Toy(batches=1), correct(Toy(batches=1))
    bad.train("MPA202", 1)
    assert right.moved() / bad.moved() == pytest.approx(65536, rel=0.02)


def test_raw_step_applies_scaled_gradients() -> None:
    bad, right = Toy(batches=1), correct(Toy(batches=1))
    bad.train("MPA203", 0)
    assert bad.moved() / right.moved() == pytest.approx(65536, rel=0.02)


def test_clip_before_unscale_freezes_the_weights() -> None:
    bad, right = Toy(gain=2.0, batches=1), correct(Toy(gain=2.0, batches=1), clip=1.0)
    bad.train("MPA205", 0)
    assert right.moved() == pytest.approx(0.1, rel=1e-3)  # the learning rate times the clipped norm
    assert right.moved() / bad.moved() == pytest.approx(65536, rel=0.02)


def test_clip_after_step_has_no_effect() -> None:
    bad = Toy(gain=2.0, batches=1)
    bad.train("MPA208", 1)
    assert bad.moved() == correct(Toy(gain=2.0, batches=1)).moved() > 0.1


def test_raw_step_after_the_scalers_doubles_the_update() -> None:
    bad, right = Toy(batches=1), correct(Toy(batches=1))
    bad.train("MPA209", 0)
    assert bad.moved() / right.moved() == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("number", [1, 2])
def test_zeroed_gradients_move_nothing(number: int) -> None:
    bad = Toy()
    bad.train("MPA211", number)
    assert bad.moved() == 0.0


def test_backward_after_unscale_mixes_the_scales() -> None:
    bad, right = Toy(batches=1), correct(Toy(batches=1))
    bad.train("MPA212", 0)
    assert bad.moved() / right.moved() > 10_000


def test_a_new_scaler_per_iteration_skips_every_step() -> None:
    bad, right = Toy(lr=0.01, gain=50.0, batches=20), correct(Toy(lr=0.01, gain=50.0, batches=20))
    bad.train("MPA213", 0)
    assert bad.moved() == 0.0
    assert right.moved() > 0.0


def test_in_float32_the_scaler_changes_next_to_nothing() -> None:
    bad, plain = Toy(), Toy()
    bad.train("MPA216", 0)
    for x, y in plain.loader:
        plain.optimizer.zero_grad()
        nn.functional.cross_entropy(plain.model(x), y).backward()
        plain.optimizer.step()
    weights = zip(bad.model.parameters(), plain.model.parameters(), strict=True)
    assert all(torch.allclose(scaled, unscaled, rtol=1e-5, atol=1e-7) for scaled, unscaled in weights)


def test_in_bfloat16_the_scaler_changes_nothing() -> None:
    bad, plain = Toy(), Toy()
    bad.train("MPA215", 0)
    for x, y in plain.loader:
        plain.optimizer.zero_grad()
        with torch.autocast("cpu"):
            loss = nn.functional.cross_entropy(plain.model(x), y)
        loss.backward()
        plain.optimizer.step()
    weights = zip(bad.model.parameters(), plain.model.parameters(), strict=True)
    assert all(torch.equal(scaled, unscaled) for scaled, unscaled in weights)


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_argument_of_a_scaler_is_its_device(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.amp.GradScaler] = []
    initialise = torch.amp.GradScaler.__init__

    def record(self: torch.amp.GradScaler, *args: object, **kwargs: object) -> None:
        initialise(self, *args, **kwargs)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(torch.amp.GradScaler, "__init__", record)
    Toy().train("MPA222", number)
    (scaler,) = made
    assert scaler.is_enabled()
    assert scaler.get_scale() == 65536.0


@pytest.mark.parametrize("number", [0, 1])
def test_an_unscaled_loss_beside_a_scaled_one_has_no_effect(number: int) -> None:
    bad, right = Toy(batches=1), correct(Toy(batches=1))
    bad.train("MPA224", number)
    assert bad.moved() / right.moved() == pytest.approx(1.0, rel=1e-3)  # the second loss adds nothing


def test_without_zero_grad_the_first_overflow_is_the_last_step() -> None:
    bad, right = Toy(lr=0.01, gain=50.0, batches=40), correct(Toy(lr=0.01, gain=50.0, batches=40))
    bad.train("MPA228", 0)
    assert bad.moved() == 0.0
    assert right.moved() > 0.0


def test_default_float64_escapes_autocast() -> None:
    assert Toy().train("MPA301", 0) == torch.float64


def test_a_float64_target_makes_the_loss_float64() -> None:
    assert Toy().train("MPA303", 0) == torch.float64


def test_old_names_warn() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Toy().train("MPA701", 0)
    said = [str(warning.message) for warning in caught if warning.category is FutureWarning]
    assert any(text.endswith("Please use `torch.amp.GradScaler('cuda', args...)` instead.") for text in said)
    assert any(text.endswith("Please use `torch.amp.autocast('cuda', args...)` instead.") for text in said)
