"""Matrix multiplications in the loss, which autocast casts, and in the preparation of the data, which it does not."""

import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 8))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
mixing = torch.randn(10, 10)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    x = torch.randn(12, 10) @ mixing
    target = x @ mixing[:, :8]
    with region():
        z = nn.functional.normalize(model(x), dim=1)
        similarity = z @ z.T
        wanted = nn.functional.normalize(target, dim=1)
        loss = (similarity - wanted @ wanted.T).pow(2).mean() + (z @ z.new_ones(8, 1)).float().abs().mean()
    optimizer.zero_grad()
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
finish(losses, model.parameters())
