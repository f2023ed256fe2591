import argparse

import torch
from torch import nn

import checkpoint
from data import digit_loaders
from engine import evaluate, train_one_epoch
from model import DigitsCNN
from precision import Precision


def parse_args():
    parser = argparse.ArgumentParser(description="Train a small CNN on scikit-learn's digits in mixed precision.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--max-norm", type=float, default=1.0)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")
    parser.add_argument("--checkpoint")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--export")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = Precision(args.precision, device)

    train_loader, test_loader = digit_loaders(args.batch_size, args.seed)
    model = DigitsCNN().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, args.epochs))

    first = 0
    if args.resume:
        first = checkpoint.load(args.checkpoint, model, optimizer, scheduler, precision.scaler, device)
    for epoch in range(first, args.epochs):
        loss = train_one_epoch(
            model, criterion, train_loader, optimizer, precision, device, args.accumulate, args.max_norm
        )
        scheduler.step()
        accuracy = evaluate(model, test_loader, precision, device)
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.3f}, scale {precision.scaler.get_scale():g}")
        if args.checkpoint:
            checkpoint.save(args.checkpoint, epoch, model, optimizer, scheduler, precision.scaler)
    if args.export:
        checkpoint.export(args.export, model)


if __name__ == "__main__":
    main()
