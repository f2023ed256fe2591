"""MPA101 where 16 bits gain little or where no forward is: possible at most, or found at another place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.model import Confidence
from mpaudit.settings import Settings
from mpaudit.static.program.makers import is_pretrained
from mpaudit.static.run import lint
from tests.static.program.shapes import TOLD

TRAIN = """
import argparse
import torch
import torch.nn.functional as F
from net import Net

def main(loader):
    parser = argparse.ArgumentParser()
    parser.add_argument("{option}", default="{default}")
    args = parser.parse_args()
    net = Net().cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        loss = F.cross_entropy(net(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        self.body = nn.Conv2d(3, width, 3)
        self.out = nn.Linear(width, 10)

    def forward(self, x):
        return self.out(self.body(x).mean((2, 3)))
"""


def found(folder: Path, files: dict[str, str]) -> list[tuple[int, str]]:
    """Lines and confidences of MPA101."""
    (folder / ".git").mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + TOLD, encoding="utf-8")
    settings = Settings(root=str(folder), codes=("MPA101",), min_confidence=Confidence.POSSIBLE)
    audit = lint(["."], settings, cwd=folder, use_cache=False)
    return [(finding.line, finding.confidence.value) for finding in audit.findings]


def confidences(folder: Path, files: dict[str, str]) -> list[str]:
    return [confidence for _, confidence in found(folder, files)]


@pytest.mark.parametrize(
    ("option", "default", "confidence"),
    [
        ("--device", "cpu", "possible"),
        ("--device", "cuda", "likely"),
        ("--backend", "cpu", "possible"),
        ("--map-location", "cpu", "likely"),
    ],
)
def test_an_option_that_stays_on_the_cpu_by_default(option: str, default: str, confidence: str, tmp_path: Path) -> None:
    script = TRAIN.format(option=option, default=default)
    assert confidences(tmp_path, {"train.py": script, "net.py": NET}) == [confidence]


def test_an_option_that_is_the_cpu_where_there_is_no_gpu_stays_on_no_cpu(tmp_path: Path) -> None:
    script = TRAIN.format(option="--device", default="cpu")
    chosen = script.replace('default="cpu"', 'default="cuda" if torch.cuda.is_available() else "cpu"')
    assert chosen != script
    assert confidences(tmp_path, {"train.py": chosen, "net.py": NET}) == ["likely"]


REGULARISED = """
import torch
from torch import nn
import torch.nn.functional as F

class Scores(nn.Module):
    def __init__(self, entities):
        super().__init__()
        self.entities = nn.Parameter(torch.zeros(entities, 500))

    def forward(self, pairs):
        return (self.entities[pairs[:, 0]] * self.entities[pairs[:, 1]]).sum(1)

    @staticmethod
    def step(model, optimizer, batches, args):
        model.train()
        loss = F.softplus(model(next(batches).cuda())).mean()
        loss = loss + model.entities.norm(p=3).norm(p=3) ** 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
REGULARISE = """
import torch
from scores import Scores

def main(batches, args):
    model = Scores(1000).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(args.steps):
        Scores.step(model, optimizer, batches, args)
"""


def test_a_norm_of_weights_is_no_forward(tmp_path: Path) -> None:
    assert confidences(tmp_path, {"scores.py": REGULARISED, "train.py": REGULARISE}) == ["possible"]


FACTORY = """
from bodies import *

def get_model(name, **kwargs):
    models = {"a": get_a, "b": get_b}
    return models[name.lower()](**kwargs)
"""
BODIES = """
from torch import nn

def get_a(width=512):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, width, 3))

get_b = get_a
"""
FROM_FACTORY = """
import torch
import torch.nn.functional as F
from factory import get_model

def main(args, loader):
    model = get_model(args.model, width=args.width).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    for x, y in loader:
        loss = F.cross_entropy(model(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_what_a_factory_of_a_table_makes_is_not_run_there(tmp_path: Path) -> None:
    files = {"factory.py": FACTORY, "bodies.py": BODIES, "train.py": FROM_FACTORY}
    assert found(tmp_path, files) == [(10, "possible")]  # the bodies are too far below to be looked at


TRIAL = """
import torch
from net import Net

def find_memory():
    net = Net().cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.rand(2, 3, 64, 64).cuda()
    for _ in range({steps}):
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("steps", "confidence"), [(20, "possible"), (20_000, "likely")])
def test_a_few_steps_on_random_tensors_are_a_trial(steps: int, confidence: str, tmp_path: Path) -> None:
    assert confidences(tmp_path, {"net.py": NET, "trial.py": TRIAL.format(steps=steps)}) == [confidence]


SMALL_DATA = """
import torchvision

def get_data():
    return torchvision.datasets.CIFAR10("data")
"""
WIDE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, {factor}):
        super().__init__()
        channels = [16, 16 * widen, 32 * widen, 64 * widen]
        self.body = nn.Sequential(*[nn.Conv2d(a, b, 3) for a, b in zip(channels, channels[1:])])
        self.out = nn.Linear(channels[-1], 10)

    def forward(self, x):
        return self.out(self.body(x).mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("factor", "confidence"), [("widen=2", "possible"), ("widen=10", "likely"), ("widen", "likely")]
)
def test_a_narrow_network_on_small_images_that_another_file_loads(factor: str, confidence: str, tmp_path: Path) -> None:
    script = "import small_data\n" + TRAIN.format(option="--lr", default="0.1")
    files = {"small_data.py": SMALL_DATA, "net.py": WIDE.format(factor=factor), "train.py": script}
    assert confidences(tmp_path, files) == [confidence]


@pytest.mark.parametrize(
    ("default", "confidence"),
    [("resnet8", "possible"), ("wrn-16-2", "possible"), ("resnet50", "likely"), ("wrn-28-10", "likely")],
)
def test_a_network_for_small_images_by_default(default: str, confidence: str, tmp_path: Path) -> None:
    script = "import small_data\n" + TRAIN.format(option="--model", default=default)
    assert confidences(tmp_path, {"small_data.py": SMALL_DATA, "net.py": NET, "train.py": script}) == [confidence]


def test_small_data_by_default_of_a_package_that_is_imported_as_a_whole(tmp_path: Path) -> None:
    script = """
import argparse
import agents

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="MNIST")
args = parser.parse_args()
agent = agents.__dict__[args.kind](args)
agent.learn(args.loader)
"""
    agent = """
import torch
import torch.nn.functional as F
from torch import nn

class Agent(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.model = config.make().cuda()
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def learn(self, loader):
        for x, y in loader:
            loss = F.cross_entropy(self.model(x.cuda()), y.cuda())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
"""
    files = {"main.py": script, "agents/__init__.py": "from . import agent\n", "agents/agent.py": agent}
    assert confidences(tmp_path, {**files, "net.py": NET}) == []


SOLVED = """
from torch import nn
from solvers import broyden

class Equilibrium(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        self.body = nn.Conv2d(3, width, 3)

    def forward(self, x):
        return broyden(self.body, x)
"""
WRAPPED = """
import torch
from equilibria import Equilibrium
from wrapper import Wrapper

def main(args, loader):
    net = Wrapper(args.kinds[args.kind](Equilibrium)).cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x in loader:
        loss = net(x.cuda()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
WRAPPER = """
from torch import nn

class Wrapper(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)
"""


def test_a_wrapper_says_nothing_of_what_is_solved_inside(tmp_path: Path) -> None:
    files = {"equilibria.py": SOLVED, "solvers.py": "def broyden(f, x):\n    return f(x)\n", "wrapper.py": WRAPPER}
    assert confidences(tmp_path, {**files, "train.py": WRAPPED}) == ["possible"]


CLASS_BY_NAME = """
from torch import nn

class Net(nn.Module):
    def __init__(self, kind="gru", width=2048):
        super().__init__()
        self.kind = nn.LSTM if kind == "lstm" else nn.GRU
        self.rnn = self.kind(width, width)

    def forward(self, x):
        state = None
        for i in range(len(x)):
            x, state = self.rnn(x, state)
        return x
"""


def test_a_recurrent_layer_that_is_named_and_made_later(tmp_path: Path) -> None:
    script = TRAIN.format(option="--lr", default="0.1")
    assert confidences(tmp_path, {"net.py": CLASS_BY_NAME, "train.py": script}) == ["possible"]


COMPILED = """
from torch.autograd import Function
from _ext import points

class Gather(Function):
    @staticmethod
    def forward(ctx, x):
        return points.gather(x)

    @staticmethod
    def backward(ctx, grad):
        return points.gather_grad(grad)
"""


@pytest.mark.parametrize(
    "ops",
    [
        COMPILED,
        COMPILED.replace("_ext import points", ". import _ext as points"),
        COMPILED.replace("from _ext import points", "import tvm\nfrom tvm.contrib import points"),
    ],
)
def test_kernels_that_were_compiled_elsewhere(ops: str, tmp_path: Path) -> None:
    net = NET.replace("from torch import nn", "from torch import nn\nfrom ops import Gather")
    net = net.replace("self.body(x)", "Gather.apply(self.body(x))")
    files = {"ops.py": ops, "net.py": net, "train.py": TRAIN.format(option="--lr", default="0.1")}
    assert confidences(tmp_path, files) == ["possible"]


@pytest.mark.parametrize("package", ["sparseconvnet", "MinkowskiEngine", "pointnet2_ops.pointnet2_utils"])
def test_layers_of_a_package_with_kernels_for_float32(package: str, tmp_path: Path) -> None:
    net = NET.replace("from torch import nn", f"from torch import nn\nfrom {package} import Layer")
    files = {"net.py": net, "train.py": TRAIN.format(option="--lr", default="0.1")}
    assert confidences(tmp_path, files) == ["possible"]


SEARCH = """
import torch
import torch.nn.functional as F
from net import Net

class Learner:
    def __init__(self, loader):
        self.loader = loader
        self.net = Net().cuda()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-8)

    def {name}(self):
        for x, y in self.loader:
            loss = F.cross_entropy(self.net(x.cuda()), y.cuda())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.optimizer.param_groups[0]["lr"] *= 1.1
"""


@pytest.mark.parametrize(("name", "expected"), [("find_lr", []), ("lr_range_test", []), ("fit", ["likely"])])
def test_a_search_for_a_learning_rate(name: str, expected: list[str], tmp_path: Path) -> None:
    assert confidences(tmp_path, {"net.py": NET, "learner.py": SEARCH.format(name=name)}) == expected


@pytest.mark.parametrize(("data", "expected"), [("FashionMNIST", []), ("ImageNet", ["likely"])])
def test_small_data_by_a_constant(data: str, expected: list[str], tmp_path: Path) -> None:
    script = f'DATASET = "{data}"\n' + TRAIN.format(option="--lr", default="0.1")
    assert confidences(tmp_path, {"net.py": NET, "train.py": script}) == expected


def test_what_a_script_for_small_data_shares_with_another(tmp_path: Path) -> None:
    small = 'DATASET = "MNIST"\n' + TRAIN.format(option="--lr", default="0.1")
    files = {"net.py": NET, "small.py": small, "train.py": TRAIN.format(option="--lr", default="0.1")}
    assert confidences(tmp_path, files) == ["likely"]


@pytest.mark.parametrize(
    ("solved", "confidence"),
    [("torch.inverse(x)", "possible"), ("torch.linalg.svd(x)[1]", "possible"), ("torch.linalg.norm(x)", "likely")],
)
def test_inverses_of_matrices_have_no_sixteen_bits(solved: str, confidence: str, tmp_path: Path) -> None:
    net = NET.replace("self.out(self.body(x)", f"self.out(self.body({solved})").replace(
        "from torch", "import torch\nfrom torch"
    )
    files = {"net.py": net, "train.py": TRAIN.format(option="--lr", default="0.1")}
    assert confidences(tmp_path, files) == [confidence]


@pytest.mark.parametrize(("width", "confidence"), [(150, "possible"), (450, "likely")])
def test_convolutions_over_sequences_alone(width: int, confidence: str, tmp_path: Path) -> None:
    net = NET.replace("Conv2d", "Conv1d").replace("width=512", f"width={width}").replace("(2, 3)", "2")
    script = TRAIN.format(option="--lr", default="0.1").replace("from net import Net\n", "")
    assert confidences(tmp_path, {"train.py": net + script}) == [confidence]


LOOKED_UP_IN_A_PACKAGE = """
import torch
import torch.nn.functional as F
import lib

def main(args, loader):
    if args.small:
        model = lib.models.small_unet(size=args.size, channels=3)
    else:
        model = lib.models.unets.large_unet(size=args.size, channels=3)
    model.to("cuda")
    optimizer = torch.optim.Adam(model.parameters())
    for x, y in loader:
        loss = F.cross_entropy(model(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_what_a_package_of_models_makes_is_not_run_there(tmp_path: Path) -> None:
    lib = {"lib/__init__.py": "", "lib/models/__init__.py": "from .unets import *\n", "lib/models/unets.py": NET}
    assert found(tmp_path, {**lib, "train.py": LOOKED_UP_IN_A_PACKAGE}) == [(14, "likely")]


def test_vectors_that_an_embedding_is_made_of(tmp_path: Path) -> None:
    net = """
from torch import nn

class Net(nn.Module):
    def __init__(self, vectors, hidden=50):
        super().__init__()
        self.embed = nn.Embedding(num_embeddings=9, embedding_dim=50).from_pretrained(vectors)
        self.body = nn.GRU(50, hidden, bidirectional=True)

    def forward(self, x):
        return self.body(self.embed(x))[0]
"""
    files = {
        "net.py": net,
        "train.py": TRAIN.format(option="--lr", default="0.1").replace("Net()", "Net(loader.vectors)"),
    }
    assert confidences(tmp_path, files) == ["possible"]


def test_a_network_that_is_widened_little_by_default(tmp_path: Path) -> None:
    script = "import small_data\n" + TRAIN.format(option="--widen-factor", default="2").replace('"2"', "2")
    net = WIDE.format(factor="widen=1")
    assert confidences(tmp_path, {"small_data.py": SMALL_DATA, "net.py": net, "train.py": script}) == ["possible"]


SPEED = """
import torch
import torch.nn.functional as F

def {name}(net, x, y):
    net = net.cuda()
    scaler = torch.cuda.amp.GradScaler()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for i in range(1000):
        with torch.autocast("cuda", dtype=torch.float16):
            loss = F.cross_entropy(net(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""


@pytest.mark.parametrize(("name", "codes"), [("model_speed_test", []), ("fit", ["MPA228"])])
def test_gradients_that_add_up_in_a_measurement(name: str, codes: list[str], tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "net.py").write_text(SPEED.format(name=name), encoding="utf-8")
    settings = Settings(root=str(tmp_path), codes=("MPA228",))
    assert [f.code for f in lint(["."], settings, cwd=tmp_path, use_cache=False).findings] == codes


MEASURED = """
import torch
import torch.nn.functional as F

class {name}:
    def __init__(self, net):
        self.net = net.cuda()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def run(self, x, y):
        for i in range(1000):
            self.optimizer.zero_grad()
            with torch.autocast("cuda", dtype=torch.float16):
                F.cross_entropy(self.net(x), y).backward()
            self.optimizer.step()
"""


@pytest.mark.parametrize(
    ("name", "path", "codes"),
    [
        ("StepBenchmarkRunner", "measured.py", []),
        ("Runner", "measured.py", ["MPA103", "MPA201"]),
        ("Runner", "benchmarks/measured.py", []),
    ],
)
def test_what_measures_trains_nothing(name: str, path: str, codes: list[str], tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(MEASURED.format(name=name), encoding="utf-8")
    settings = Settings(root=str(tmp_path), codes=("MPA103", "MPA104", "MPA201"))
    assert [f.code for f in lint(["."], settings, cwd=tmp_path, use_cache=False).findings] == codes


@pytest.mark.parametrize(("made", "confidence"), [("resnet20_cifar", "possible"), ("resnet50_cifar", "likely")])
def test_a_network_for_small_images_that_a_script_makes(made: str, confidence: str, tmp_path: Path) -> None:
    script = "import small_data\n" + TRAIN.format(option="--lr", default="0.1")
    script = script.replace("import Net", f"import Net as {made}").replace("Net()", f"{made}()")
    assert confidences(tmp_path, {"small_data.py": SMALL_DATA, "net.py": NET, "train.py": script}) == [confidence]


@pytest.mark.parametrize(("data", "expected"), [("MNIST", []), ("CelebA", ["likely"])])
def test_small_data_in_a_table_of_settings(data: str, expected: list[str], tmp_path: Path) -> None:
    script = "from config import params\n" + TRAIN.format(option="--lr", default="0.1")
    files = {"net.py": NET, "train.py": script, "config.py": f"params = {{'lr': 0.1, 'dataset': '{data}'}}\n"}
    assert confidences(tmp_path, files) == expected


WRAPS_ITS_NETWORK = """
from torch import nn

class DataParallelModel(nn.DataParallel):
    def forward(self, *inputs):
        return super().forward(*inputs)
"""


def test_kernels_of_a_network_in_a_wrapper_of_the_project(tmp_path: Path) -> None:
    net = NET.replace("from torch import nn", "from torch import nn\nfrom ops import Gather")
    net = net.replace("self.body(x)", "Gather.apply(self.body(x))")
    script = TRAIN.format(option="--lr", default="0.1").replace(
        "import Net", "import Net\nfrom parallel import DataParallelModel"
    )
    script = script.replace("Net().cuda()", "DataParallelModel(Net()).cuda()")
    files = {"ops.py": COMPILED, "net.py": net, "parallel.py": WRAPS_ITS_NETWORK, "train.py": script}
    assert confidences(tmp_path, files) == ["possible"]


LOOKED_UP = """
import torch
import torch.nn.functional as F
from net import KINDS

def get_model(name, options):
    model = KINDS[name]
    if name == "wide":
        model = model(options.width)
    else:
        model = model(options.width, options.depth)
    return model

def main(loader, options):
    model = get_model("wide", options).cuda()
    model.train()
    optimizer = torch.optim.Adam(model.parameters())
    for x, y in loader:
        loss = F.cross_entropy(model(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_a_name_that_is_called_to_give_itself_a_value_is_a_factory(tmp_path: Path) -> None:
    kinds = "\nKINDS = load_plugins()\n"
    assert [line for line, _ in found(tmp_path, {"train.py": LOOKED_UP, "net.py": kinds})] == [19]


@pytest.mark.parametrize(
    ("name", "gives"),
    [
        ("transformers.BertModel", True),
        ("transformers.AutoModelForCausalLM", True),
        ("transformers.BertTokenizer", False),
        ("transformers.BertTokenizerFast", False),
        ("transformers.AutoImageProcessor", False),
        ("transformers.GenerationConfig", False),
    ],
)
def test_what_a_model_library_has_beside_models_is_no_network(name: str, gives: bool) -> None:
    assert is_pretrained(f"{name}.from_pretrained", "from_pretrained") is gives


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("", ""), ["likely"]),
        (("x.cuda()", "x.cuda().reshape(-1, 1, 28, 28)"), []),
        (("x.cuda()", "x.cuda().view((1, 28, 28))"), []),
        (("x.cuda()", "x.cuda().reshape(-1, 512, 28, 28)"), ["likely"]),
        (("net = Net()", "net = Net(continuous_cols)"), ["possible"]),
        (("import argparse", "import argparse, ding"), ["possible"]),
    ],
)
def test_data_that_is_small_and_tables(change: tuple[str, str], expected: list[str], tmp_path: Path) -> None:
    script = TRAIN.format(option="--lr", default="0.1").replace(*change)
    assert confidences(tmp_path, {"net.py": NET, "train.py": script}) == expected


@pytest.mark.parametrize(("name", "expected"), [("hyperparam_search.py", []), ("find.py", ["likely"])])
def test_a_search_for_settings_is_no_training(name: str, expected: list[str], tmp_path: Path) -> None:
    assert confidences(tmp_path, {"net.py": NET, name: TRAIN.format(option="--lr", default="0.1")}) == expected


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ("Net().to('cuda', dtype=torch.double)", []),
        ("Net().to(torch.float64).cuda()", []),
        ("make(Net).to('cuda', dtype=torch.double)", []),
        ("make(Net).cuda().double()", []),
        ("Net().to('cuda', dtype=torch.float32)", ["likely"]),
    ],
)
def test_weights_in_float64_are_not_float32(moved: str, expected: list[str], tmp_path: Path) -> None:
    script = TRAIN.format(option="--name", default="a").replace("Net().cuda()", moved)
    script = script.replace("from net import Net", "from net import Net\nfrom elsewhere import make")
    net = NET.replace("nn.Conv2d(3, width, 3)", "nn.Sequential(*[nn.Conv2d(512, 512, 3) for _ in range(18)])")
    assert confidences(tmp_path, {"train.py": script, "net.py": net}) == expected


BY_NAME = """
import importlib
import torch
import torch.nn.functional as F
from elsewhere import make

def main(args, loader):
    net = {made}.cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        loss = F.cross_entropy(net(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("made", "confidence"),
    [("make(args)", "likely"), ("getattr(importlib.import_module(args.model), 'Net')()", "possible")],
)
def test_a_file_by_itself_that_imports_its_network_by_name(made: str, confidence: str, tmp_path: Path) -> None:
    assert confidences(tmp_path, {"train.py": BY_NAME.format(made=made)}) == [confidence]


OF_PACKAGES = """
class {name}:
    def __init__(self, path):
        self.path = path
"""


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["MnistDataset"], []), (["FacesDataset"], ["likely"]), (["MnistDataset", "FacesDataset"], ["likely"])],
)
def test_data_of_a_class_with_its_name(names: list[str], expected: list[str], tmp_path: Path) -> None:
    script = "".join(f"from data import {name}\n" for name in names) + TRAIN.format(option="--lr", default="0.1")
    script += "".join(f"{name}('data')\n" for name in names)
    data = "".join(OF_PACKAGES.format(name=name) for name in names)
    assert confidences(tmp_path, {"net.py": NET, "train.py": script, "data.py": data}) == expected


@pytest.mark.parametrize(
    ("helper", "expected"), [("createImageCubes", ["possible"]), ("create_image_pairs", ["likely"])]
)
def test_patches_around_single_pixels(helper: str, expected: list[str], tmp_path: Path) -> None:
    script = f"from data import {helper}\n" + TRAIN.format(option="--lr", default="0.1") + f"{helper}('scene.mat')\n"
    files = {"net.py": NET, "train.py": script, "data.py": f"def {helper}(path):\n    return path\n"}
    assert confidences(tmp_path, files) == expected


def test_a_smoke_test(tmp_path: Path) -> None:
    files = {"net.py": NET, "smoke_train.py": TRAIN.format(option="--lr", default="0.1")}
    assert confidences(tmp_path, files) == []


def test_the_forward_is_named_and_no_other_method(tmp_path: Path) -> None:
    script = TRAIN.format(option="--lr", default="0.1").replace(
        "        loss = ", "        x = net.mask(x.cuda())\n        loss = "
    )
    net = NET + "\n    def mask(self, x):\n        return self.body(x).mean(1, keepdim=True) * x\n"
    lines = script.splitlines()
    forward = next(number for number, line in enumerate(lines, 1) if "net(x.cuda())" in line)
    assert found(tmp_path, {"net.py": net, "train.py": script}) == [(forward, "likely")]


LEVELS = 6


def test_kernels_deep_below_the_network(tmp_path: Path) -> None:
    """`net` imports `level1`, that `level2`, and so on, down to what compiles the kernels."""
    files = {"net.py": "import level1\n" + NET, "train.py": TRAIN.format(option="--lr", default="0.1")}
    body = "\n\nclass Layer(Function):\n    @staticmethod\n    def forward(ctx, x):\n        return x\n"
    for number in range(1, LEVELS):
        below = f"import level{number + 1}\n" if number < LEVELS - 1 else "from torch.utils.cpp_extension import load\n"
        files[f"level{number}.py"] = "from torch.autograd import Function\n" + below + body
    assert confidences(tmp_path, files) == ["possible"]


VGG = """
import torch
from torch import nn
from torchvision import models


class PerceptualLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = models.vgg16().features[:9]

    def forward(self, x, y):
        return (self.features(x) - self.features(y)).abs().mean()
"""
ZOO = """
import importlib


def make(name):
    return importlib.import_module(name).Net()
"""


@pytest.mark.parametrize(("file", "expected"), [("losses", ["possible"]), ("nets", ["likely"])])
def test_a_network_of_a_loss_says_nothing_of_the_trained_one(file: str, expected: list[str], tmp_path: Path) -> None:
    name = "PerceptualLoss" if file == "losses" else "Features"
    script = TRAIN.format(option="--lr", default="0.1").replace("from net import Net", "from zoo import make")
    script = script.replace("Net()", "make(args.net)").replace("F.cross_entropy", "criterion")
    script = f"from {file} import {name}\ncriterion = {name}()\n" + script
    files = {"train.py": script, f"{file}.py": VGG.replace("PerceptualLoss", name), "zoo.py": ZOO}
    assert confidences(tmp_path, files) == expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("monai.networks.nets.UNet(channels=(16, 32, 64))", ["possible"]),
        ("monai.utils.set_determinism(1) or Net()", ["likely"]),
    ],
)
def test_networks_for_volumes_as_narrow_as_one_says(made: str, expected: list[str], tmp_path: Path) -> None:
    script = "import monai\n" + TRAIN.format(option="--lr", default="0.1").replace("Net().cuda()", f"({made}).cuda()")
    assert confidences(tmp_path, {"net.py": NET, "train.py": script}) == expected


def test_a_network_of_the_same_name_that_is_not_in_sight(tmp_path: Path) -> None:
    """What a second function is given by the same name is no other network than the one in sight."""
    script = TRAIN.format(option="--lr", default="0.1").replace(
        "        loss = ", "        penalty = again(net, x)\n        loss = penalty + "
    )
    script = script.replace("def main", "def again(net, x):\n    return load(net)(x.cuda()).mean()\n\n\ndef main", 1)
    narrow = NET.replace("512", "32")
    assert confidences(tmp_path, {"net.py": narrow, "train.py": "from net import Net, load\n" + script}) == ["possible"]
