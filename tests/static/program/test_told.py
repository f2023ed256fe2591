"""MPA101 in programs of several files: likely where options and the size of what is trained are told, possible else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.model import Confidence
from mpaudit.settings import Settings
from mpaudit.static.facts.sizes import is_of_usual_size, takes_options
from mpaudit.static.run import lint

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = {body}
        self.deep = nn.Conv2d(512, 512, 3)

    def forward(self, x):
        return self.deep(self.body(x)).mean((2, 3))
"""
TRAIN = """
import torch
import torch.nn.functional as F
from net import Net
{imports}

def main(loader, kinds, name):
    net = Net({given}).cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        loss = F.cross_entropy(net(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
SEEN = NET.format(body="nn.Conv2d(3, 512, 3)").replace("(self, body)", "(self, kind)")
HIDDEN = NET.format(body="body")
NORMAL = "\nMEAN = (0.485, 0.456, 0.406)\n"


def confidences(folder: Path, files: dict[str, str]) -> list[str]:
    (folder / ".git").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    settings = Settings(root=str(folder), codes=("MPA101",), min_confidence=Confidence.POSSIBLE)
    audit = lint(["."], settings, cwd=folder, use_cache=False)
    return [finding.confidence.value for finding in audit.findings]


@pytest.mark.parametrize(
    ("net", "given", "imports", "confidence"),
    [
        (SEEN, "None", "import argparse", "likely"),
        (SEEN, "None", "", "possible"),
        (SEEN.replace("Conv2d", "Conv1d"), "None", "import argparse" + NORMAL, "possible"),
        (HIDDEN, "kinds[name]()", "import argparse" + NORMAL, "likely"),
        (HIDDEN, "kinds[name]()", "import argparse", "possible"),
        (HIDDEN, "kinds[name]()", NORMAL, "possible"),
    ],
    ids=["all in sight", "no options", "no images", "photographs", "no photographs", "photographs, no options"],
)
def test_what_has_to_be_told(net: str, given: str, imports: str, confidence: str, tmp_path: Path) -> None:
    files = {"train.py": TRAIN.format(given=given, imports=imports), "net.py": net}
    assert confidences(tmp_path, files) == [confidence]


def test_it_is_told_by_a_file_that_the_script_imports(tmp_path: Path) -> None:
    files = {
        "train.py": TRAIN.format(given="kinds[name]()", imports="import data, options"),
        "net.py": HIDDEN,
        "data.py": NORMAL,
        "options.py": "import yaml\n",
        "other.py": "",
    }
    assert confidences(tmp_path, files) == ["likely"]


def test_a_file_that_nothing_imports_tells_nothing(tmp_path: Path) -> None:
    files = {
        "train.py": TRAIN.format(given="kinds[name]()", imports="import argparse"),
        "net.py": HIDDEN,
        "data.py": NORMAL,
    }
    assert confidences(tmp_path, files) == ["possible"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"normalize = T.Normalize(mean=[0.485, 0.456, 0.406])", True),
        (b"model = AutoModel.from_pretrained(name)", True),
        (b"model = resnet50(pretrained=True)", True),
        (b"model = resnet50(pretrained=False)", False),
        (b"# the vocabulary of the corpus", False),
    ],
)
def test_words_for_usual_sizes(text: bytes, told: bool) -> None:
    assert is_of_usual_size(text) is told


@pytest.mark.parametrize(
    ("text", "told"), [(b"import argparse", True), (b"from yacs.config import CfgNode", True), (b"x = 1", False)]
)
def test_words_for_options(text: bytes, told: bool) -> None:
    assert takes_options(text) is told
