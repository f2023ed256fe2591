import torch


def train_one_epoch(model, criterion, loader, optimizer, precision, device, accumulate, max_norm):
    model.train()
    scaler = precision.scaler
    total, seen = 0.0, 0
    optimizer.zero_grad(set_to_none=True)
    for step, (images, labels) in enumerate(loader):
        images, labels = images.to(device), labels.to(device)
        with precision.autocast():
            loss = criterion(model(images), labels)
        scaler.scale(loss / accumulate).backward()
        if (step + 1) % accumulate == 0 or step + 1 == len(loader):
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        total += loss.item() * len(images)
        seen += len(images)
    return total / seen


@torch.no_grad()
def evaluate(model, loader, precision, device):
    model.eval()
    correct, seen = 0, 0
    for images, labels in loader:
        with precision.autocast():
            logits = model(images.to(device))
        correct += (logits.float().argmax(dim=1).cpu() == labels).sum().item()
        seen += len(labels)
    return correct / seen
