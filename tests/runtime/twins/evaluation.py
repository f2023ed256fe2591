"""Evaluations with gradients enabled, between steps: in train mode, in eval mode, of a part; metrics by matmul."""

import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
mixing = torch.randn(12, 12)
model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = Scaler()
losses = []


def evaluate(x):
    with region():
        guess = model(x).argmax(1)
    return (x @ x.T).sum() + guess.sum()


for number in range(STEPS):
    x, y = torch.randn(8, 12) @ mixing, torch.randint(0, 5, (8,))
    optimizer.zero_grad()
    with region():
        loss = F.cross_entropy(model(x), y)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses += [loss.detach(), evaluate(x)]
    if number % 2:
        model.eval()
        with region():
            kept = model(x)
        losses.append((kept.detach().float() @ torch.ones(5, 5)).sum())
        model.train()
finish(losses, model.parameters())
