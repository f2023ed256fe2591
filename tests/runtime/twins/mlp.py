import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(16, 12), torch.randint(0, 5, (16,))
model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 5))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    optimizer.zero_grad()
    with region():
        loss = F.cross_entropy(model(x), y)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
finish(losses, model.parameters())
