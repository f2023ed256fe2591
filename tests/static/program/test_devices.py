"""What autocast is given for a device (MPA106); see shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import HEAD, reported


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ("pipe.device", ["MPA106"]),
        ("self.unet.device", ["MPA106"]),
        ("accelerator.device", ["MPA106"]),
        ("x.device", ["MPA106"]),
        ("pipe.device.type", []),
        ("accelerator.device.type", []),
        ("args.device", []),
        ("self.device", []),
        ("self.config.device", []),
    ],
)
def test_the_device_of_something(tmp_path: Path, given: str, codes: list[str]) -> None:
    text = f"""
from accelerate import Accelerator

accelerator = Accelerator(mixed_precision="fp16")


class Sampler:
    def __init__(self, unet, args):
        self.unet, self.config, self.device = unet, args, args.device

    def sample(self, pipe, args, x):
        with torch.autocast({given}):
            return pipe(self.unet(x))
"""
    assert [code for _, _, code in reported(tmp_path, {"sample.py": HEAD + text})] == codes
