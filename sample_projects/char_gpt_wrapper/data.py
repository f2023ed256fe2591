import textwrap
from pathlib import Path

import torch
from torch.utils.data import Dataset


class Characters(Dataset):
    """Windows of a text that every Python has: the source of `textwrap`."""

    def __init__(self, block_size, windows=128):
        text = Path(textwrap.__file__).read_text(encoding="utf-8")
        self.alphabet = sorted(set(text))
        index = {character: i for i, character in enumerate(self.alphabet)}
        self.ids = torch.tensor([index[character] for character in text], dtype=torch.long)
        self.block_size = block_size
        self.stride = max(1, (len(self.ids) - block_size - 1) // windows)
        self.windows = windows

    def __len__(self):
        return self.windows

    def __getitem__(self, i):
        start = i * self.stride
        chunk = self.ids[start : start + self.block_size + 1]
        return chunk[:-1], chunk[1:]
