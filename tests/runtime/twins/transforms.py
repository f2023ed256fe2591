"""torch.func: gradients of a function of the weights, and per-sample gradients by vmap."""

import torch
from by_hand import STEPS, finish, region
from torch import nn
from torch.func import functional_call, grad, grad_and_value, vmap
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
weights = {name: weight.detach() for name, weight in model.named_parameters()}
mixing = torch.randn(6, 6)
losses = []


def objective(weights, x, y):
    with region():
        return F.cross_entropy(functional_call(model, weights, (x,)), y)


def of_one(weights, x, y):
    return objective(weights, x.unsqueeze(0), y.unsqueeze(0))


for _ in range(STEPS):
    x, y = torch.randn(5, 6) @ mixing, torch.randint(0, 3, (5,))
    gradients, loss = grad_and_value(objective)(weights, x, y)
    each = vmap(grad(of_one), in_dims=(None, 0, 0))(weights, x, y)
    weights = {name: weight - 0.1 * gradients[name] - 0.01 * each[name].mean(0) for name, weight in weights.items()}
    losses.append(loss)
finish(losses, weights.values())
