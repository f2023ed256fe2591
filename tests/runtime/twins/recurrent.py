import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 10, num_layers=2, batch_first=True)
        self.cell = nn.LSTMCell(10, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        hidden, _ = self.rnn(x)
        state = None
        for step in hidden.unbind(1):
            state = self.cell(step, state)
        return {"output": self.head(state[0])}


torch.manual_seed(0)
x, y = torch.randn(4, 5, 6), torch.randn(4, 2)
model = Model()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    optimizer.zero_grad()
    with region():
        loss = F.smooth_l1_loss(model(x)["output"], y)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
finish(losses, model.parameters())
