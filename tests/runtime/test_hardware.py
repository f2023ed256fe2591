"""Which precisions a device is given, and why the others are not; the probe of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpaudit.errors import UsageError
from mpaudit.runtime.hardware import NATIVE_FP16, Hardware, choose, default_budget, probe
from mpaudit.runtime.protocol import VARIANTS, Variant


def gpu(major: int, minor: int) -> Hardware:
    return Hardware("2.13.0", "cuda", "a GPU", 8, (major, minor))


CPU = Hardware("2.13.0", "cpu", "a CPU", 2)


@pytest.mark.parametrize(
    ("hardware", "kept"),
    [
        (CPU, ("fp32", "amp-bf16")),
        (gpu(9, 0), ("fp32", "tf32", "amp-bf16", "amp-fp16")),
        (gpu(8, 0), ("fp32", "tf32", "amp-bf16", "amp-fp16")),
        (gpu(7, 5), ("fp32", "amp-fp16")),
        (gpu(6, 1), ("fp32",)),
        (Hardware("2.13.0", "mps", "a Mac", 8), ("fp32", "amp-fp16")),
        (Hardware("2.13.0", "xpu", "an XPU", 8), ("fp32", "amp-bf16", "amp-fp16")),
    ],
)
def test_the_default_is_what_runs_at_full_speed(hardware: Hardware, kept: tuple[Variant, ...]) -> None:
    variants, left_out = choose(hardware, None)
    assert variants == kept
    assert {*variants, *(left.variant for left in left_out)} == set(VARIANTS)
    assert all(left.reason for left in left_out)


def test_what_is_asked_for_runs_where_it_means_anything() -> None:
    assert choose(gpu(7, 5), ("amp-bf16", "fp32")) == (("fp32", "amp-bf16"), ())
    variants, left_out = choose(gpu(7, 5), ("fp32", "tf32"))
    assert variants == ("fp32",)
    assert [(left.variant, left.reason) for left in left_out] == [
        ("tf32", "TF32 needs compute capability 8.0, this GPU has 7.5")
    ]


def test_fp16_is_never_timed_on_a_cpu() -> None:
    variants, left_out = choose(CPU, VARIANTS)
    assert "amp-fp16" not in variants
    assert ("amp-fp16", NATIVE_FP16) in [(left.variant, left.reason) for left in left_out]


def test_emulated_bf16_gets_a_budget() -> None:
    slow = Hardware("2.13.0", "cpu", "a CPU", 2, native_bf16=False)
    assert default_budget(slow, ("fp32", "amp-bf16")) == 600
    assert default_budget(slow, ("fp32",)) is None
    for other in (CPU, Hardware("2.13.0", "cpu", "a CPU", 2, native_bf16=True), gpu(9, 0)):
        assert default_budget(other, ("fp32", "amp-bf16")) is None


def test_a_cpu_without_bf16_is_told() -> None:
    slow, both = Hardware("2.13.0", "cpu", "a CPU", 2, native_bf16=False), ("fp32", "amp-bf16")
    assert "no bf16 instructions" in slow.notes(both)[0]
    assert not slow.notes(("fp32",))
    assert not CPU.notes(both) and not Hardware("2.13.0", "cpu", "a CPU", 2, native_bf16=True).notes(both)


def test_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # a module of the user's working directory does not stand in for one that torch imports
    (tmp_path / "random.py").write_text("raise RuntimeError('the wrong module')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    hardware = probe("cpu")
    assert (hardware.device, hardware.threads, hardware.capability) == ("cpu", 1, None)
    assert hardware.torch.startswith("2.")
    rates = {(ceiling.operation, ceiling.variant): ceiling.tflop_per_s for ceiling in hardware.ceilings}
    assert rates.keys() == {
        (operation, variant) for operation in ("matmul", "convolution") for variant in ("fp32", "amp-bf16")
    }
    assert all(0 < rate < 1000 for rate in rates.values())
    assert os.listdir(tmp_path) == ["random.py"]


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"torch cannot be used: ImportError: libcudart\.so"):
        probe("auto")


def test_a_probe_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UsageError, match="did not answer within 1 s"):
        probe("auto", limit_s=1)
