"""Two optimizers, one discriminator step to a generator step, and a gradient penalty that is differentiated again."""

import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 6))
critic = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    real, noise = torch.randn(8, 6), torch.randn(8, 4)
    mix = torch.rand(8, 1)
    with region():
        fake = generator(noise).detach()
    between = (mix * real + (1 - mix) * fake.float()).requires_grad_()
    with region():
        distance = critic(fake).mean() - critic(real).mean()
        scored = critic(between).sum()
    (slope,) = scaler.gradients(scored, between, create_graph=True)
    with region():
        penalty = (slope.norm(2, dim=1) - 1).pow(2).mean()
        loss = distance + 10 * penalty
    of_critic.zero_grad()
    scaler.backward(loss)
    scaler.step(of_critic)
    with region():
        fooled = -critic(generator(noise)).mean()
    of_generator.zero_grad()
    scaler.backward(fooled)
    scaler.step(of_generator)
    losses += [loss.detach(), fooled.detach()]
finish(losses, [*generator.parameters(), *critic.parameters()])
