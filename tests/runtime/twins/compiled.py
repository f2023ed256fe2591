import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(8, 16), torch.randint(0, 5, (8,))
layer = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU())
head = nn.Linear(16, 5)
body = torch.compile(layer, backend="aot_eager")


@torch.compile(backend="aot_eager")
def objective(hidden, wanted):
    return F.cross_entropy(head(hidden), wanted)


parameters = [*layer.parameters(), *head.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=1e-2)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    optimizer.zero_grad()
    with region():
        loss = objective(body(x), y)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
finish(losses, parameters)
