"""Parts that are kept in float32 by `enabled=False`: in the model, and in the loss, around the backward too."""

import torch
from by_hand import STEPS, Scaler, finish, island, region
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.first(x)
        with island():
            x = x.float() @ self.first.weight
        return self.second(self.first(x))


torch.manual_seed(0)
x, y = torch.randn(8, 12), torch.randn(8, 4)
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    optimizer.zero_grad()
    with region():
        output = model(x)
        with island():
            loss = (output.float() @ y.T).logsumexp(1).mean()
    with island():
        scaler.backward(loss)
    scaler.step(optimizer)
    with island():
        check = x @ x.T
    losses += [loss.detach(), check.sum()]
finish(losses, model.parameters())
