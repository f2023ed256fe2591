"""Steps are left out until the scale fits; the gradients that made one be left out are still there to be read."""

import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(16, 12), torch.randn(16, 3)
model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    optimizer.zero_grad()
    with region():
        loss = (model(x) - y).pow(2).sum() * 4
    scaler.backward(loss)
    scaler.unscale(optimizer)
    torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
    scaler.step(optimizer)
    losses += [loss.detach(), model[0].weight.grad.abs().max()]
finish(losses, model.parameters())
