"""What a network is made of decides how sure MPA101 is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.model import Confidence
from mpaudit.settings import Settings
from mpaudit.static.facts.widths import GROWN
from mpaudit.static.program.networks import Nature, Network, nature_of, needs_digits
from mpaudit.static.run import lint
from tests.static.program.shapes import TOLD

SCRIPT = """
import argparse
import torch
import torch.nn.functional as F
from net import make

parser = argparse.ArgumentParser()
parser.add_argument("--hidden", type=int, default={hidden})
args = parser.parse_args()
model = make(args).cuda()
optimizer = torch.optim.Adam(model.parameters())
for x, y in torch.load("data.pt"):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x.cuda()), y.cuda())
    loss.backward()
    optimizer.step()
"""

CONV = """
from torch import nn

def unit(channels):
    return nn.Conv1d(channels, channels, 3)

class Net(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.body = nn.Sequential(*[unit(hidden) for _ in range(8)])

    def forward(self, x):
        return self.body(x)

def make(args):
    return Net(args.hidden)
"""
DENSE = CONV.replace("nn.Conv1d(channels, channels, 3)", "nn.Linear(channels, channels)")
RECURRENT = CONV.replace("nn.Conv1d(channels, channels, 3)", "nn.LSTM(channels, channels)")
GRAPH = CONV.replace("nn.Conv1d(channels, channels, 3)", "GCNConv(channels, channels)")
LOOKED_UP = """
from torch import nn
from bodies import BODIES

class Net(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.body = BODIES[args.body]()
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.body(x))

def make(args):
    return Net(args)
"""
BODIES = "from torch import nn\n\nBODIES = {'deep': lambda: nn.Conv2d(3, 64, 3)}\n"


def confidences(folder: Path, files: dict[str, str]) -> list[str]:
    (folder / ".git").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + TOLD, encoding="utf-8")
    audit = lint(
        ["."],
        Settings(root=str(folder), codes=("MPA101",), min_confidence=Confidence.POSSIBLE),
        cwd=folder,
        use_cache=False,
    )
    return [finding.confidence.value for finding in audit.findings]


def in_one_file(script: str, net: str) -> dict[str, str]:
    return {"train.py": net + script.replace("from net import make\n", "")}


@pytest.mark.parametrize(
    ("net", "hidden", "confidence"),
    [
        (CONV, 450, "likely"),
        (CONV, 16, "possible"),
        (CONV.replace("nn.Conv1d(channels, channels, 3)", "nn.Conv1d(channels, channels * 2, 3)"), 16, "likely"),
        (CONV, 3, "possible"),
        (DENSE, 256, "possible"),
        (DENSE, 4096, "likely"),
        (RECURRENT, 128, "possible"),
        (RECURRENT, 2048, "likely"),
        (GRAPH, 4096, "possible"),
    ],
)
def test_by_the_layers_and_the_width_of_the_command_line(
    net: str, hidden: int, confidence: str, tmp_path: Path
) -> None:
    assert confidences(tmp_path / "alone", in_one_file(SCRIPT.format(hidden=hidden), net)) == [confidence]
    if confidence == "likely":  # beside other files it takes more than its width to tell
        files = {"train.py": SCRIPT.format(hidden=hidden), "net.py": net}
        assert confidences(tmp_path / "beside", files) == ["possible"]


def test_a_layer_that_is_looked_up_may_be_a_convolution(tmp_path: Path) -> None:
    net = LOOKED_UP.replace("from bodies import BODIES", BODIES)
    assert confidences(tmp_path, in_one_file(SCRIPT.format(hidden=64), net)) == ["likely"]


STEPWISE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30000, 1024)
        self.rnn = nn.GRU(1024, 1024)

    def forward(self, word):
        state = None
        for _ in range(50):
            word, state = self.rnn(self.embed(word), state)
        return word

def make(args):
    return Net()
"""


def test_a_recurrent_layer_that_is_called_step_by_step_waits_for_launches(tmp_path: Path) -> None:
    files = {"train.py": SCRIPT.format(hidden=1024), "net.py": STEPWISE}
    assert confidences(tmp_path, files) == ["possible"]


def test_a_single_dense_layer_is_fed_with_what_was_computed_before(tmp_path: Path) -> None:
    script = SCRIPT.format(hidden=4096).replace("make(args)", "torch.nn.Linear(4096, 4096)")
    assert confidences(tmp_path, {"train.py": script, "net.py": CONV}) == ["possible"]


@pytest.mark.parametrize(
    ("names", "nature"),
    [
        (["Linear", "ReLU"], Nature.DENSE),
        (["Linear", "Conv2d"], Nature.CONVOLUTION),
        (["Embedding"], Nature.TABLES),
        (["Linear", "+SelfAttention"], Nature.ATTENTION),
        (["Linear", "+GraphAttentionLayer"], Nature.GRAPH),
        (["GCNConv", "Conv1d"], Nature.CONVOLUTION),
        (["Linear", "+ConvTransE"], Nature.DENSE),
        (["Linear", "plot_graph"], Nature.DENSE),
        (["resnet50", "Linear"], Nature.LIBRARY),
        (["LSTM", "Linear"], Nature.RECURRENT),
        (["view", "size"], Nature.UNKNOWN),
        (["Conv1d", "+DeepFM"], Nature.SPARSE),
        (["resnet50", "+DeepFM"], Nature.LIBRARY),
    ],
)
def test_the_nature_of_names(names: list[str], nature: Nature) -> None:
    assert nature_of(names) is nature


def test_what_is_not_known_is_not_light() -> None:
    assert not Network(Nature.UNKNOWN, 0).is_light
    assert not Network(Nature.CONVOLUTION, 0, sees_images=True).is_light
    assert Network(Nature.CONVOLUTION, 0).is_light
    assert Network(Nature.DENSE, 0).is_light


@pytest.mark.parametrize(
    ("network", "is_light"),
    [
        (Network(Nature.CONVOLUTION, 1000, channels=32), True),
        (Network(Nature.CONVOLUTION, 1000, channels=3), False),
        (Network(Nature.CONVOLUTION, 100, channels=100, recurs=True), True),
        (Network(Nature.CONVOLUTION, 256, channels=100, recurs=True), False),
        (Network(Nature.CONVOLUTION, GROWN, channels=100, recurs=True), True),
        (Network(Nature.CONVOLUTION, GROWN, channels=6, recurs=True), False),
        (Network(Nature.CONVOLUTION, 512, steps=True, channels=512, sees_images=True), False),
        (Network(Nature.CONVOLUTION, 512, steps=True, channels=512), True),
        (Network(Nature.CONVOLUTION, 512, channels=512, needs_float32=True), True),
        (Network(Nature.SPARSE, 4096), True),
        (Network(Nature.ATTENTION, 50), True),
        (Network(Nature.ATTENTION, 256, stated=256), True),
        (Network(Nature.ATTENTION, 512, stated=512), False),
        (Network(Nature.CONVOLUTION, 320, own=64, layers=70), True),
        (Network(Nature.CONVOLUTION, 320, in_sight=False), False),
        (Network(Nature.ATTENTION, GROWN, stated=32), True),
        (Network(Nature.ATTENTION, 0), True),
        (Network(Nature.ATTENTION, 512, recurs=True, stated=512), True),
        (Network(Nature.ATTENTION, 1024, recurs=True, stated=1024), False),
        (Network(Nature.LIBRARY, 512, in_sight=False, recurs=True, sees_images=True), True),
        (Network(Nature.LIBRARY, 512, in_sight=False, sees_images=True), False),
        (Network(Nature.LIBRARY, 512, recurs=True, sees_images=True), False),
        (Network(Nature.CONVOLUTION, GROWN, channels=GROWN), True),
        (Network(Nature.CONVOLUTION, GROWN, channels=GROWN, stated=64), False),
        (Network(Nature.CONVOLUTION, GROWN, channels=GROWN, sees_images=True), False),
        (Network(Nature.UNKNOWN, 300, unseen=True), True),
        (Network(Nature.CONVOLUTION, 1024, sees_images=True, layers=40, own=128), True),
        (Network(Nature.CONVOLUTION, 1024, sees_images=True, layers=40, own=192), False),
        (Network(Nature.CONVOLUTION, 1024, sees_images=True, layers=5, own=128), False),
        (Network(Nature.CONVOLUTION, GROWN, sees_images=True, layers=5, own=GROWN, stated=10), True),
        (Network(Nature.CONVOLUTION, GROWN, sees_images=True, layers=5, own=GROWN, stated=512), False),
        (Network(Nature.CONVOLUTION, GROWN, sees_images=True, layers=60, own=GROWN, stated=32), False),
        (Network(Nature.CONVOLUTION, 1024, recurs=True, channels=512, layers=60, own=512), True),
        (Network(Nature.CONVOLUTION, 1024, recurs=True, channels=1024, layers=60, own=1024), False),
        (Network(Nature.DENSE, 2048), True),
        (Network(Nature.UNKNOWN, 1150, unseen=True), True),
    ],
)
def test_light_by_what_decides_the_time(network: Network, is_light: bool) -> None:
    assert network.is_light is is_light


@pytest.mark.parametrize(
    ("network", "is_head_sized"),
    [
        (Network(Nature.ATTENTION, 512), True),
        (Network(Nature.ATTENTION, 768), False),
        (Network(Nature.ATTENTION, 768, in_sight=False), True),  # so wide may be what it is given
        (Network(Nature.DENSE, 512), True),
        (Network(Nature.CONVOLUTION, 64), False),
        (Network(Nature.CONVOLUTION, 1000, channels=128), True),
        (Network(Nature.CONVOLUTION, 1000, channels=512), False),
        (Network(Nature.LIBRARY, 0), False),
    ],
)
def test_what_one_puts_on_the_features_of_another_network(network: Network, is_head_sized: bool) -> None:
    assert network.is_head_sized is is_head_sized


ATTENTION = """
from torch import nn

class Net(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.layers = nn.TransformerEncoderLayer({width}, nhead=8)

    def forward(self, x):
        return self.layers(x)

def make(args):
    return Net(args)
"""


@pytest.mark.parametrize(
    ("option", "width", "confidence"),
    [
        ("--video_feat_path", 512, "possible"),
        ("--video_feat_weight", 512, "likely"),
        ("--features-dir", 512, "possible"),
    ],
)
def test_a_head_on_features_that_were_computed_before(option: str, width: int, confidence: str, tmp_path: Path) -> None:
    script = SCRIPT.format(hidden=width)
    at = script.index("args = parser")
    line = f"parser.add_argument('{option}')\n" + script[script.rindex("\n", 0, at) + 1 : at]
    files = in_one_file(script[:at] + line + script[at:], ATTENTION.format(width=f"d_model={width}"))
    assert confidences(tmp_path, files) == [confidence]


@pytest.mark.parametrize(
    ("name", "solved"),
    [
        ("anderson", True), ("MDEQNet", True), ("slogdet", True), ("+InvConv2d", True), ("ActNorm", True),
        ("deque", False), ("InvertedResidual", False), ("log_softmax", False), ("inverse", False),
    ],
)  # fmt: skip
def test_what_needs_its_digits_by_name(name: str, solved: bool) -> None:
    assert needs_digits([name]) is solved


def test_narrow_are_convolutions_alone() -> None:
    assert Network(Nature.CONVOLUTION, 512, channels=128).is_narrow
    assert not Network(Nature.CONVOLUTION, 512, channels=160).is_narrow
    assert not Network(Nature.CONVOLUTION, 0).is_narrow
    assert not Network(Nature.ATTENTION, 64).is_narrow


def test_what_a_script_imports_is_small_where_its_data_is_by_default(tmp_path: Path) -> None:
    script = (
        SCRIPT.format(hidden=512).replace("--hidden", "--dataset").replace("type=int, default=512", "default='mnist'")
    )
    assert confidences(tmp_path, {"train.py": script, "net.py": CONV}) == []


def test_options_in_a_file_of_their_own_choose_small_data_too(tmp_path: Path) -> None:
    script = SCRIPT.format(hidden=512).replace("import argparse\n", "from options import args\n")
    script = "\n".join(line for line in script.splitlines() if "parse" not in line)
    options = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="mnist")
parser.add_argument("--hidden", default=512)
args = parser.parse_args()
"""
    files = {"train.py": script, "net.py": CONV}
    assert confidences(tmp_path, {**files, "options.py": options}) == []


def test_a_table_of_vectors_is_no_network_of_a_library(tmp_path: Path) -> None:
    net = """
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(hidden.vectors)
        self.body = nn.LSTM(100, 100)

    def forward(self, x):
        return self.body(self.embed(x))[0]

def make(args):
    return Net(args)
"""
    assert confidences(tmp_path, {"train.py": SCRIPT.format(hidden=100), "net.py": net}) == ["possible"]
