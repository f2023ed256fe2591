"""Two models, two optimizers, two scalers; one of the losses overflows in float16 until its scale has come down."""

import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(8, 10), torch.randn(8, 1)
small, large = nn.Linear(10, 1), nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
of_small = torch.optim.SGD(small.parameters(), lr=1e-2)
of_large = torch.optim.AdamW(large.parameters(), lr=1e-2, foreach=True)
for_small, for_large = Scaler(), Scaler()
losses = []
for _ in range(STEPS):
    of_small.zero_grad()
    of_large.zero_grad()
    with region():
        one = F.mse_loss(small(x), y)
        other = F.mse_loss(large(x) * 64, y)
    for_small.backward(one)
    for_large.backward(other)
    for_small.step(of_small)
    for_large.step(of_large)
    losses += [one.detach(), other.detach()]
finish(losses, [*small.parameters(), *large.parameters()])
