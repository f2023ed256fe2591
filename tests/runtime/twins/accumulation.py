import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(32, 12), torch.randn(32, 3)
model = nn.Sequential(nn.Linear(12, 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 3))
optimizer = torch.optim.Adagrad(model.parameters(), lr=1e-2)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    for part in range(4):
        rows = slice(8 * part, 8 * part + 8)
        with region():
            loss = F.mse_loss(model(x[rows]), y[rows]) / 4
        scaler.backward(loss)
        losses.append(loss.detach())
    scaler.step(optimizer)
    optimizer.zero_grad()
finish(losses, model.parameters())
