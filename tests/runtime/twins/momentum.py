"""A teacher that follows the student's weights and is asked without gradients, before, between and after forwards."""

import copy

import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
student = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
predictor = nn.Linear(8, 8)
teacher = copy.deepcopy(student).requires_grad_(False)
parameters = [*student.parameters(), *predictor.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.2, momentum=0.9)
scaler = Scaler()
losses = []


def distance(a, b):
    return 2 - 2 * (F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T).diagonal().mean()


for _ in range(STEPS):
    one, two = torch.randn(8, 12), torch.randn(8, 12)
    with region():
        with torch.no_grad():
            wanted = teacher(one)
        loss = distance(predictor(student(two)), wanted)
        with torch.no_grad():
            wanted = teacher(two)
        loss = loss + distance(predictor(student(one)), wanted)
    optimizer.zero_grad()
    scaler.backward(loss)
    scaler.step(optimizer)
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
            slow.lerp_(fast, 0.1)
        with region():
            features = teacher(one)
        spread = (features.float() @ features.float().T).std()
    losses += [loss.detach(), spread]
finish(losses, [*parameters, *teacher.parameters()])
