import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(8, 3, 8, 8), torch.randint(0, 4, (8,))
model = nn.Sequential(
    nn.Conv2d(3, 6, 3, padding=1),
    nn.BatchNorm2d(6),
    nn.ReLU(),
    nn.Conv2d(6, 8, 3, stride=2),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(72, 4),
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, foreach=True)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    with region():
        output = model(x)
        loss = criterion(output, y)
    optimizer.zero_grad(set_to_none=False)
    scaler.backward(loss)
    scaler.step(optimizer)
    losses.append(loss.detach())
finish([*losses, *model[1].running_var], model.parameters())
