import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


def digit_loaders(batch_size, seed=0):
    """Handwritten digits, 1 x 8 x 8 with values in 0..1: 1437 to train on and 360 to test on."""
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=360, random_state=seed, stratify=labels)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    generator = torch.Generator().manual_seed(seed)
    return (
        DataLoader(TensorDataset(train_x, train_y), batch_size=batch_size, shuffle=True, generator=generator),
        DataLoader(TensorDataset(test_x, test_y), batch_size=512),
    )
