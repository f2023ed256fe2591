import torch

from utils import Average


def train_one_epoch(model, loader, optimizer, loss_scaler, device, args):
    model.train()
    losses, norms = Average(), Average()
    optimizer.zero_grad(set_to_none=True)
    for step, (ids, targets) in enumerate(loader):
        ids, targets = ids.to(device), targets.to(device)
        need_update = (step + 1) % args.accumulate == 0
        with torch.autocast(device.type, dtype=torch.float16, enabled=args.amp):
            _, loss = model(ids, targets)
        norm = loss_scaler(
            loss / args.accumulate,
            optimizer,
            parameters=list(model.parameters()),
            clip_grad=args.clip,
            need_update=need_update,
        )
        if need_update:
            optimizer.zero_grad(set_to_none=True)
        losses.add(loss.item())
        if norm is not None and torch.isfinite(norm):
            norms.add(norm.item())
    return losses.value, norms.value
