import argparse

import torch
from torch.utils.data import DataLoader

from data import Characters
from engine import train_one_epoch
from model import CharGPT
from utils import LossScaler


def parse_args():
    parser = argparse.ArgumentParser(description="Train a character GPT on text that ships with Python.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--no-amp", dest="amp", action="store_false")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    data = Characters(args.block_size)
    loader = DataLoader(data, batch_size=args.batch_size, shuffle=True)
    model = CharGPT(len(data.alphabet), args.block_size).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    loss_scaler = LossScaler(device, enabled=args.amp)

    for epoch in range(args.epochs):
        loss, norm = train_one_epoch(model, loader, optimizer, loss_scaler, device, args)
        print(f"epoch {epoch}: loss {loss:.4f}, gradient norm at the clip {norm:.1f}")


if __name__ == "__main__":
    main()
