"""No module: operations on weights, and matrix multiplications on the data before them."""

import torch
from by_hand import STEPS, Scaler, finish, region
from torch.nn import functional as F

torch.manual_seed(0)
weights = [torch.randn(16, 12) * 0.3, torch.zeros(16), torch.randn(16, 5) * 0.3]
for weight in weights:
    weight.requires_grad_()
optimizer = torch.optim.SGD(weights, lr=0.1)
mixing = torch.randn(12, 12)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    x, y = torch.randn(8, 12) @ mixing, torch.randint(0, 5, (8,))
    optimizer.zero_grad()
    with region():
        loss = F.cross_entropy(F.relu(F.linear(x, weights[0], weights[1])) @ weights[2], y)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
finish(losses, weights)
