"""What computes in a low precision without an autocast, so that a scaler without one has its use (MPA216)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

LOOP = """
def main(loader):
    model = Net().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        loss = model(x.cuda()).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


main([])
"""
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(512, 512)

    def forward(self, x):
        return self.layer(x)
"""
LOSES_NOTHING = {
    "casts that are made in an autocast alone": """
from torch.amp import custom_fwd


class Encode(torch.autograd.Function):
    @staticmethod
    @custom_fwd(cast_inputs=torch.half, device_type="cuda")
    def forward(ctx, x, table):
        if torch.is_autocast_enabled():
            table = table.to(torch.half)
        return kernels.encode(x, table)
""",
    "images that a class of data keeps in half": """
class Images:
    def __init__(self, images):
        self.images = images.to(torch.half)

    def collate(self, index):
        return self.images[index]

    def dataloader(self):
        return torch.utils.data.DataLoader(range(len(self.images)), collate_fn=self.collate)
""",
    "an image that is made half beside a layer": """
class Blur(nn.Module):
    def forward(self, x):
        return nn.functional.conv2d(x, self.kernel)


def image_to_tensor(image, half):
    tensor = torch.from_numpy(image)
    return tensor.half() if half else tensor
""",
    "weights in a dict that is saved": """
def keep(model, other, path):
    for one, two in zip(model.state_dict().values(), other.state_dict().values()):
        one.copy_(two)
    state = {"model": model.half()}
    torch.save(state, path)
""",
    "entries of a dict of weights": """
def keep(network, path):
    head_state_dict = network.heads.state_dict()
    for k, v in head_state_dict.items():
        head_state_dict[k] = head_state_dict[k].half()
    torch.save(head_state_dict, path)
""",
    "images that are made half for who asks": """
def image_to_tensor(image, half):
    tensor = torch.from_numpy(image).float()
    if half:
        tensor = tensor.half()
    return tensor
""",
    "a layer that follows the dtype of its input": """
class Flow(nn.Module):
    def forward(self, z):
        inverse = self.weight.float().inverse()
        if z.type() == "torch.cuda.HalfTensor":
            inverse = inverse.half()
        return inverse @ z
""",
    "weights that are rounded once": "def fuse(model):\n    model.half().float()\n",
    "a copy that is saved": """
from copy import deepcopy


def save(model):
    torch.save({"model": deepcopy(model).half()}, "last.pt")
""",
    "weights that are kept on the CPU": """
class Adapter(nn.Module):
    def forward(self, x):
        return x


def keep(module):
    return module.weight.data.cpu().half(), module.bias.data.half().cpu()
""",
    "a network that is read to be tested": "from tools import load, test\n\ntest(model=load('best.pt').half())\n",
    "a checkpoint that is stripped": """
def strip_optimizer(path):
    checkpoint = torch.load(path)
    checkpoint["model"].half()
    torch.save(checkpoint, path)
""",
    "a wrapper for inference": """
class DetectMultiBackend(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.half()

    def forward(self, x):
        return self.model(x)
""",
    "tensors of a checkpoint": """
def save(state):
    return {key: state[key].half() for key in state}
""",
    "a layer that asks for the dtype first": """
class Waves(nn.Module):
    def forward(self, x):
        is_half = x.dtype is not torch.float32
        phase = torch.cumsum(x.double(), dim=1)
        return phase.half() if is_half else phase.float()
""",
    "a product that failed in float32": """
class Mixes(nn.Module):
    def forward(self, x, v):
        try:
            return x @ v
        except RuntimeError:
            return x.half() @ v
""",
    "a kernel that moves what it gets": """
import triton
import triton.language as tl


@triton.jit
def scan(x, y, size: tl.constexpr):
    tl.store(y, tl.load(x))
""",
}
LOWERS = {
    "a network that has itself in half": """
class Images(nn.Module):
    def __init__(self, images):
        super().__init__()
        self.net = nn.Linear(4, 4).half()

    def collate(self, index):
        return self.images[index]

    def forward(self, x):
        return self.net(x)
""",
    "half outside of what asks for an autocast": """
def encode(x, table):
    if not torch.is_autocast_enabled():
        x = x.contiguous()
    return kernels.encode(x.half(), table)
""",
    "a kernel that names a 16-bit dtype": """
import triton
import triton.language as tl


@triton.jit
def product(x, y, out):
    tl.store(out, tl.dot(tl.load(x).to(tl.float16), tl.load(y).to(tl.float16)))
""",
    "a network that a helper makes half": "def prepare(model):\n    return model.half()\n",
    "a network in a list": "def prepare(models):\n    for number in range(3):\n        models[number].half()\n",
    "a package of half networks": "import tinycudann as tcnn\n\nFIELD = tcnn.Network\n",
}


@pytest.mark.parametrize("beside", LOSES_NOTHING)
def test_what_lowers_nothing_by_itself(tmp_path: Path, beside: str) -> None:
    sources, _ = variant({"train.py": "import beside\n" + NET + LOOP, "beside.py": LOSES_NOTHING[beside]}, "right")
    assert [(path, code) for path, _, code in reported(tmp_path, sources, all_codes=True)] == [("train.py", "MPA216")]


@pytest.mark.parametrize("beside", LOWERS)
def test_what_may_lower(tmp_path: Path, beside: str) -> None:
    sources, _ = variant({"train.py": "import beside\n" + NET + LOOP, "beside.py": LOWERS[beside]}, "right")
    assert reported(tmp_path, sources, all_codes=True) == []


TRAINER = """
class Trainer:
    def __init__(self, model):
        self.model = model.cuda()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def fit(self, loader):
        for x in loader:
            self.optimizer.zero_grad()
            loss = self.model(x.cuda()).mean()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
"""
PLAIN = "from trainer import Trainer\n" + NET + "\nTrainer(Net()).fit([])\n"
HASHED = "import tinycudann\nfrom trainer import Trainer\n\nTrainer(tinycudann.Network(3, 4)).fit([])\n"


@pytest.mark.parametrize(
    ("scripts", "codes"),
    [({"plain.py": PLAIN, "hashed.py": HASHED}, ["MPA216"]), ({"hashed.py": HASHED}, [])],
    ids=["two scripts", "one"],
)
def test_a_script_that_lowers_says_nothing_of_another_with_its_trainer(
    tmp_path: Path, scripts: dict[str, str], codes: list[str]
) -> None:
    sources, _ = variant({"trainer.py": TRAINER, **scripts}, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes


MANY = (
    LOOP.replace("model(x.cuda()).mean()", " + ".join(["model(x.cuda()).mean()"] * 17))
    .replace("(loader):", "(loader, options, dtype=None):\n    norm = nn.LayerNorm(4, dtype={dtype})")
    .replace("main([])", "")
)
"""More forwards than are kept for a loss, so that the networks it came from are not all known."""


@pytest.mark.parametrize(
    ("dtype", "codes"),
    [("None", ["MPA216"]), ("dtype", ["MPA216"]), ("options.dtype", []), ("torch.bfloat16", [])],
)
def test_a_dtype_that_is_none_is_the_default_of_torch(tmp_path: Path, dtype: str, codes: list[str]) -> None:
    sources, _ = variant({"train.py": NET + MANY.format(dtype=dtype)}, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes


EVALUATED = """
def validate(model, loader):
    model.half()
    for x in loader:
        model(x.half())
    model.float()


"""


@pytest.mark.parametrize(("name", "codes"), [("validate", ["MPA216"]), ("prepare", [])])
def test_what_an_evaluation_makes_of_the_network_itself(tmp_path: Path, name: str, codes: list[str]) -> None:
    text = (
        EVALUATED.replace("validate", name) + NET + LOOP.replace("    for x", f"    {name}(model, loader)\n    for x")
    )
    sources, _ = variant({"train.py": text}, "right")
    found = {code for _, _, code in reported(tmp_path, sources, all_codes=True)}
    assert found & {"MPA216"} == set(codes)


@pytest.mark.parametrize(
    ("change", "codes"), [("model.half().float()", ["MPA216"]), ("deepcopy(model).half()", ["MPA216"])]
)
def test_a_step_between_that_leaves_float32(tmp_path: Path, change: str, codes: list[str]) -> None:
    text = "from copy import deepcopy\n" + NET + LOOP.replace("    scaler =", f"    {change}\n    scaler =")
    sources, _ = variant({"train.py": text}, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes


@pytest.mark.parametrize(("folder", "codes"), [("infer_pack", ["MPA216"]), ("common", [])])
def test_a_folder_of_what_uses_the_network(tmp_path: Path, folder: str, codes: list[str]) -> None:
    helper = "def prepare(model):\n    return model.half()\n"
    files = {"train.py": f"from {folder} import tools\n" + NET + LOOP, f"{folder}/tools.py": helper}
    sources, _ = variant(files, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes


def test_an_autocast_in_another_script(tmp_path: Path) -> None:
    """Where the loss is lost track of on one path, it is what it is on the others, whatever another process does."""
    lost = LOOP.replace(
        "        scaler.scale", "        if loader.odd:\n            loss = loader.weigh(loss)\n        scaler.scale"
    )
    demo = "from net import Net\n\nwith autocast('cuda'):\n    Net()(torch.ones(4, 512))\n"
    files = {"net.py": NET, "train.py": "from net import Net\n" + lost, "show.py": demo}
    sources, _ = variant(files, "right")
    assert [(path, code) for path, _, code in reported(tmp_path, sources, all_codes=True)] == [("train.py", "MPA216")]


UNSEEN = """
import losses


def main(loader):
    model = losses.network().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        loss = losses.compute(x)
        {scope}scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


main([])
"""


@pytest.mark.parametrize(
    ("scope", "codes"), [("", ["MPA216"]), ("with autocast('cuda'): losses.more(x)\n        ", [])]
)
def test_a_loss_of_which_nothing_is_known(tmp_path: Path, scope: str, codes: list[str]) -> None:
    sources, _ = variant({"train.py": UNSEEN.format(scope=scope)}, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes


PARTLY = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(512, 512)
        self.rest = nn.Linear(512, 512)

    def forward(self, x):
        with autocast("cuda", enabled=False):
            x = self.first(x)
        return self.rest(x)
"""


@pytest.mark.parametrize(("outer", "codes"), [("True", []), ("False", ["MPA216"])])
def test_an_autocast_that_is_off_for_a_part(tmp_path: Path, outer: str, codes: list[str]) -> None:
    around = f"        with autocast('cuda', enabled={outer}):\n            loss = model"
    sources, _ = variant({"train.py": PARTLY + LOOP.replace("        loss = model", around)}, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes


@pytest.mark.parametrize(("where", "codes"), [("ctx", []), ("nullcontext()", ["MPA216"])])
def test_an_autocast_that_is_made_and_never_entered(tmp_path: Path, where: str, codes: list[str]) -> None:
    loop = LOOP.replace("        loss = model", f"        with {where}:\n            loss = weigh * model")
    text = "from contextlib import nullcontext\nfrom tools import weigh\n" + NET + "\n\nctx = autocast('cuda')\n" + loop
    sources, _ = variant({"train.py": text}, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes


@pytest.mark.parametrize(("dtype", "codes"), [("torch.float32", ["MPA216"]), ("torch.float16", [])])
def test_an_autocast_to_float32_is_none(tmp_path: Path, dtype: str, codes: list[str]) -> None:
    around = f"        with autocast('cuda', dtype={dtype}):\n            loss = model"
    sources, _ = variant({"train.py": NET + LOOP.replace("        loss = model", around)}, "right")
    assert [code for _, _, code in reported(tmp_path, sources, all_codes=True)] == codes
