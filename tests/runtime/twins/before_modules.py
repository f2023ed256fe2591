"""A weight is used before the first module is called; another is used after the last."""

import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(8, 12), torch.randn(8, 3)
first, last = nn.Parameter(torch.randn(12, 16) * 0.2), nn.Parameter(torch.randn(16, 3) * 0.2)
model = nn.Sequential(nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
optimizer = torch.optim.SGD([first, last, *model.parameters()], lr=0.05)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    mixed = x @ torch.randn(12, 12)
    optimizer.zero_grad()
    with region():
        loss = (torch.einsum("ij,jk->ik", model(mixed @ first), last) - y).float().pow(2).mean()
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
finish(losses, [first, last, *model.parameters()])
