from __future__ import annotations

import ast

import pytest

from mpaudit.static.facts import ir
from mpaudit.static.facts.widths import GROWN, is_recurrent_net
from mpaudit.static.outline import outline
from mpaudit.static.triggers import Scanner


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("nn.Linear(784, 512)", 784),
        ("nn.LSTM(40, hidden_size=256)", 256),
        ("Net(hidden=[64, 128, 32])", 128),
        ("parser.add_argument('--nhid', type=int, default=30)", 30),
        ("parser.add_argument('--epochs', type=int, default=300)", 0),
        ("def f(x, vocabulary=50000, d_model=96): pass", 96),
        ("def f(*, units, hidden: int = 48): pass", 48),
        ("self.hidden_dim = 200", 200),
        ("self.input_dim = 862", 0),
        ("parser.add_argument('--feat_dim', default=2048)", 0),
        ("parser.add_argument('--v-feat-dim', default=2048)", 0),
        ("in_features = 300", 300),
        ("Net(d_model=256, enc_dff_dim=512)", 256),
        ("dim_feedforward = 2048", 1024),
        ("feedback_dim = 300", 300),
        ("hidden: int = 200", 200),
        ("hidden, epochs = 8, 900", 0),
        ("channels = [25] * levels", 25),
        ("channels = [width] * levels", 0),
        ("nn.Conv2d(width, width * 2, 3)", GROWN),
        ("channels *= 2", GROWN),
        ("rate *= 2", 0),
        ("seed = 1234", 0),
        ("Net(hidden=True)", 0),
    ],
)
def test_the_width_of_a_unit(text: str, width: int) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.width for unit in found.units] == [width]


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("nn.Conv2d(3, 96, kernel_size=200)", 96),
        ("nn.Conv2d(3, n, 9)", 3),
        ("nn.Linear(784, 512)", 0),
        ("DoubleConv(64, 128)", 128),
        ("self._make_layer(Bottleneck, 512, 3)", 512),
        ("nn.Conv2d(n, n * 2, 3)", GROWN),
        ("def f(x, hidden_dim=256, hid_channels=32): pass", 32),
        ("parser.add_argument('--filters', default=48)", 48),
        ("self.inplanes = 64", 64),
        ("planes *= 2", GROWN),
        ("hidden *= 2", 0),
        ("block(40000)", 0),
    ],
)
def test_the_channels_of_a_unit(text: str, channels: int) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.channels for unit in found.units] == [channels]


@pytest.mark.parametrize(
    ("text", "looks_up"),
    [
        ("kinds[name](3)", True),
        ("getattr(models, name)()", True),
        ("kinds[name].size", False),
        ("f(kinds[name])", False),
    ],
)
def test_what_is_called_is_looked_up(text: str, looks_up: bool) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.looks_up for unit in found.units] == [looks_up]


@pytest.mark.parametrize(
    ("text", "small"),
    [
        ("parser.add_argument('--dataset', type=str, default='mnist')", True),
        ("parser.add_argument('--data', default='fashion-mnist')", True),
        ("parser.add_argument('--dataset', default='cifar10')", False),
        ("parser.add_argument('--dataset', choices=['mnist', 'cifar10'])", False),
        ("parser.add_argument('--dataset', default='RotatedMNIST')", True),
        ("parser.add_argument('--dataset', default='moving_mnist')", False),
        ("parser.add_argument('--name', default='mnist')", False),
        ("parser.add_argument('--experiment', default='CIFAR10' if pretrain else 'splitMNIST')", True),
        ("parser.add_argument('--experiment', default='CIFAR10' if pretrain else 'CIFAR100')", False),
    ],
)
def test_an_option_chooses_small_data(text: str, small: bool) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.small_data for unit in found.units] == [small]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("for t in range(9):\n    out, state = self.cell(out, state)", True),
        ("for layer in layers:\n    x = layer(x)", False),
        ("for i in range(9):\n    x = self.relu(x)", False),
        ("for x, y in loader:\n    out, state = self.net(x, y)", False),
    ],
)
def test_a_loop_that_steps_through_time(text: str, steps: bool) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.steps for unit in found.units] == [steps]


@pytest.mark.parametrize(
    ("text", "small"),
    [
        ("params = {'dataset': 'MNIST'}", True),
        ("presets = [{'dataset': 'mnist'}, {'dataset': 'imagenet'}]", False),
        ("params = {'model': 'mnist'}", False),
        ("DATASET = 'FashionMNIST'", True),
        ("dataset = 'mnist'", False),
    ],
)
def test_constants_choose_small_data(text: str, small: bool) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.small_data for unit in found.units] == [small]


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("def f(widen=2):\n    channels = [16, 16 * widen, 64 * widen]", 128),
        ("def f(widen=1):\n    channels = [16, 64 * widen]", GROWN),
        ("def f(widen):\n    channels = [16, 64 * widen]", GROWN),
    ],
)
def test_products_with_a_default(text: str, channels: int) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.channels for unit in found.units] == [channels]


@pytest.mark.parametrize(
    ("text", "solves"),
    [
        ("class Net:\n    def forward(self, x):\n        return torch.linalg.inv(x)", True),
        ("class Net:\n    def __init__(self, x):\n        self.x = torch.svd(x)", False),
        ("x = numpy.linalg.inv(x)", False),
    ],
)
def test_what_inverts_matrices_when_it_is_run(text: str, solves: bool) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert ["linalg" in unit.calls for unit in found.units] == [solves]


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("nn.Conv2d(3, 8, 3); nn.Linear(8, 2); nn.BatchNorm2d(8)", 2),
        ("self.conv1(x)", 0),
        ("self._make_layer(Block, 64, 3)", ir.MANY),
        ("body = [nn.Conv2d(8, 8, 3) for _ in range(n)]", ir.MANY),
        ("body = nn.ModuleDict({k: unit(8) for k in keys})", ir.MANY),
        ("while size > 4:\n    body.append(nn.Conv2d(8, 8, 3))", ir.MANY),
        ("nn.Linear(8, 8)\nfor m in self.modules():\n    start(m)", 1),
        ("nn.Linear(8, 8)\nfor x in range(len(y)):\n    print(x)", 1),
        ("for x in loader:\n    start(x)", 0),
    ],
)
def test_how_many_layers_a_unit_makes(text: str, layers: int) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.layers for unit in found.units] == [layers]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("self.resnet = Stack(3)\nself.resnet(x)", ("resnet",)),
        ("resnets = []\nnn.Sequential(*resnets)", ("resnets",)),
        ("self.resnet = resnet\nself.resnet(x)", ()),
        ("self.resnet = models.resnet(3)\nself.resnet(x)", ()),
        ("self.resnet(x)", ()),
    ],
)
def test_what_a_unit_has_made_itself(text: str, kept: tuple[str, ...]) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.kept for unit in found.units] == [kept]


@pytest.mark.parametrize(
    ("text", "looks_up"),
    [("self.layers = ModuleList()\nself.layers[0](x)", False), ("self.kinds[0](x)", True), ("KINDS[name](x)", True)],
)
def test_what_a_unit_calls_by_its_index(text: str, looks_up: bool) -> None:
    found = outline(text, Scanner(["HOT"], str))
    assert isinstance(found, ir.Outline)
    assert [unit.looks_up for unit in found.units] == [looks_up]


@pytest.mark.parametrize(
    ("text", "recurrent"),
    [
        ("parser.add_argument('--model', default='LSTM_End')", True),
        ("parser.add_argument('--model', type=str, default='ASTLSTM')", False),
        ("parser.add_argument('--arch', default='bi-gru')", True),
        ("parser.add_argument('--model', default='RNN')", True),
        ("parser.add_argument('--model', default='crnn')", False),
        ("parser.add_argument('--data', default='lstm')", False),
        ("parser.add_argument('--model', choices=['lstm'])", False),
    ],
)
def test_an_option_that_chooses_a_recurrent_network(text: str, recurrent: bool) -> None:
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call)
    assert is_recurrent_net(node) is recurrent
