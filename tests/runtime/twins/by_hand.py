"""Mixed precision as an author writes it, chosen by BY_HAND: none, bf16, fp16. Under `none` there is no AMP at all."""

import hashlib
import json
import os
from contextlib import nullcontext

import torch

MODE = os.environ["BY_HAND"]
STEPS = 20


def region():
    if MODE == "none":
        return nullcontext()
    return torch.autocast("cpu", dtype=torch.bfloat16 if MODE == "bf16" else torch.float16)


def island():
    """A region that computes in float32, part of the plain script too."""
    return torch.autocast("cpu", enabled=False)


class Scaler:
    """What a training loop does beside forward and loss. A GradScaler where the mode is fp16."""

    def __init__(self, **settings):
        self.scaler = torch.amp.GradScaler("cpu", **settings) if MODE == "fp16" else None

    def backward(self, loss, **kwargs):
        (loss if self.scaler is None else self.scaler.scale(loss)).backward(**kwargs)

    def gradients(self, outputs, inputs, **kwargs):
        """The gradients that torch.autograd.grad gives, by the recipe for gradient penalties."""
        if self.scaler is None:
            return torch.autograd.grad(outputs, inputs, **kwargs)
        inverse = 1.0 / self.scaler.get_scale()
        return [g * inverse for g in torch.autograd.grad(self.scaler.scale(outputs), inputs, **kwargs)]

    def unscale(self, optimizer):
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer):
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()


def finish(losses, parameters):
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.detach().numpy().tobytes())
    seen = {"losses": [float(loss).hex() for loss in losses], "parameters": digest.hexdigest()}
    with open(os.environ["BY_HAND_RESULT"], "w") as file:
        json.dump(seen, file)
