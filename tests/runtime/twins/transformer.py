import torch
from by_hand import STEPS, Scaler, finish, region
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 20)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)))


torch.manual_seed(0)
tokens = torch.randint(0, 20, (4, 9))
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
scaler = Scaler()
losses = []
for _ in range(STEPS):
    optimizer.zero_grad(set_to_none=True)
    with region():
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, 20), tokens[:, 1:].reshape(-1))
    scaler.backward(loss)
    scaler.unscale(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    losses += [loss.detach(), norm]
finish(losses, model.parameters())
