from contextlib import nullcontext

import torch


class Precision:
    """How a run computes: `fp32`, `bf16`, or `fp16` with a scaler. `auto` is fp16 on a GPU and bf16 elsewhere."""

    def __init__(self, name, device):
        if name == "auto":
            name = "fp16" if device.type == "cuda" else "bf16"
        self.device = device
        self.dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def autocast(self):
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
