"""Loops and wrappers of which a part is not in the project, each right and wrong; see shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES: dict[str, dict[str, str]] = {
    "a wrapper that keeps its scaler to itself forgets the update": {
        "train.py": """
class Stepper:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer, parameters, clip=None):
        self._scaler.scale(loss).backward()
        if clip is not None:
            self._scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        self._scaler.step(optimizer)  # wrong MPA204
        self._scaler.step(optimizer)  # right
        self._scaler.update()  # right
"""
    },
    "a wrapper that keeps its scaler to itself, with a method for the update": {
        "train.py": """
class Stepper:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def step(self, loss, optimizer):
        self._scaler.scale(loss).backward()
        self._scaler.step(optimizer)  # wrong MPA204
        self._scaler.step(optimizer)  # right

    def finish(self):  # right
        self._scaler.update()  # right
"""
    },
    "a wrapper that leaves after unscale_": {
        "train.py": """
class Stepper:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer, parameters):
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if not torch.isfinite(norm):
            self._scaler.update()  # right
            return None  # wrong MPA207
            return None  # right
        self._scaler.step(optimizer)
        self._scaler.update()
        return norm
"""
    },
    "a wrapper that updates between the steps too": {
        "train.py": """
class Stepper:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer, last):
        self._scaler.scale(loss).backward()
        if last:
            self._scaler.step(optimizer)
            self._scaler.update()  # right
        self._scaler.update()  # wrong MPA210
"""
    },
    "a wrapper that gives its scaler no loss": {
        "train.py": """
class Stepper:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer, parameters):
        loss.backward()  # wrong MPA202
        self._scaler.scale(loss).backward()  # right
        self._scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self._scaler.step(optimizer)
        self._scaler.update()
"""
    },
    "raw in an autocast inside of a context that is not known": {
        "train.py": """
def train(model, loader, optimizer, sync_context):
    for x in loader:
        optimizer.zero_grad()
        with sync_context():
            with autocast("cuda", dtype=torch.float16):  # wrong
            with autocast("cuda", dtype=torch.bfloat16):  # right
                loss = model(x).mean()
            loss.backward()  # wrong MPA201
            loss.backward()  # right
        optimizer.step()
"""
    },
    "bfloat16 for the network and nothing for its loss": {
        "train.py": """
def train(model, criterion, loader, optimizer):
    scaler = GradScaler("cuda")  # wrong MPA215
    scaler = GradScaler("cuda")  # right
    for x, y in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.bfloat16):  # wrong
        with autocast("cuda", dtype=torch.float16):  # right
            out = model(x)
        with autocast("cuda", enabled=False):
            loss = criterion(out, y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
    },
    "an optimizer that a framework may have taken": {
        "train.py": """
import deepspeed


def save(path, optimizer, scaler):
    state = {  # wrong MPA214
    state = {  # right
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),  # right
    }
    torch.save(state, path)


def resume(path, optimizer, scaler):
    state = torch.load(path)
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])


def main(args, model, loader):
    if args.sharded:
        model, optimizer, _, _ = deepspeed.initialize(args=args, model=model)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    resume(args.path, optimizer, scaler)
    for epoch in range(args.epochs):
        save(args.path, optimizer, scaler)
"""
    },
    "one of two ways to resume leaves the scaler as it is": {
        "train.py": """
def main(args, model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    if args.resume:
        given = torch.load(args.resume)
        optimizer.load_state_dict(given["optimizer"])
        scaler.load_state_dict(given["scaler"])
    else:
        latest = torch.load("latest.pt")
        optimizer.load_state_dict(latest["optimizer"])  # wrong MPA214
        optimizer.load_state_dict(latest["optimizer"])  # right
        scaler.load_state_dict(latest["scaler"])  # right
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "latest.pt")
"""
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert reported(tmp_path, sources) == []


SILENT: dict[str, str] = {
    "a scaler that callers can get at": """
class Stepper:
    def __init__(self):
        self.scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer):
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
""",
    "a scaler of a class of one's own, with a step of its own": """
class OwnScaler(GradScaler):
    def step_unscaled(self, optimizer):
        state = self._per_optimizer_states[id(optimizer)]
        if not sum(found.item() for found in state["found_inf_per_device"].values()):
            optimizer.step()


def train(model, loader, optimizer, fused):
    scaler = OwnScaler()
    for x in loader:
        with autocast("cuda"):
            loss = model(x).mean()
        scaler.scale(loss).backward()
        if fused:
            scaler.step_unscaled(optimizer)
            scaler.update()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
""",
    "a scaler that a property hands out": """
class Stepper:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    @property
    def scaler(self):
        return self._scaler

    def __call__(self, loss, optimizer):
        loss.backward()
        self._scaler.step(optimizer)
""",
    "a scaler that another file reaches into": """
class Stepper:
    def __init__(self):
        self._scaler = GradScaler("cuda")

    def __call__(self, loss, optimizer):
        self._scaler.scale(loss).backward()
        self._scaler.step(optimizer)


def finish(stepper):
    stepper._scaler.update()
""",
    "resuming with and without mixed precision": """
def main(args, model, optimizer, scaler):
    if args.use_amp:
        given = torch.load(args.resume)
        optimizer.load_state_dict(given["optimizer"])
        scaler.load_state_dict(given["scaler"])
    else:
        given = torch.load(args.resume)
        optimizer.load_state_dict(given["optimizer"])
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, args.path)
    return GradScaler("cuda")
""",
    "resuming on a TPU, which has no scaler, and elsewhere": """
from somewhere import has_tpu


def main(args, model, optimizer, scaler):
    if has_tpu():
        given = torch.load(args.resume, map_location="cpu")
        optimizer.load_state_dict(given["optimizer"])
    else:
        given = torch.load(args.resume)
        optimizer.load_state_dict(given["optimizer"])
        scaler.load_state_dict(given["scaler"])
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, args.path)
    return GradScaler("cuda")
""",
    "the scaler's state is loaded after both ways to resume": """
def main(args, model, optimizer, scaler):
    if args.resume:
        given = torch.load(args.resume)
        optimizer.load_state_dict(given["optimizer"])
        if args.whole:
            scaler.load_state_dict(given["scaler"])
    else:
        given = torch.load("latest.pt")
        optimizer.load_state_dict(given["optimizer"])
    scaler.load_state_dict(given["scaler"])
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, args.path)
    return GradScaler("cuda")
""",
    "bfloat16 inside of a context that is not known": """
def train(model, loader, optimizer, outer_autocast):
    for x in loader:
        optimizer.zero_grad()
        with autocast("cuda", dtype=torch.float16):
            with outer_autocast():
                loss = model(x).mean()
        loss.backward()
        optimizer.step()
""",
}


@pytest.mark.parametrize("shape", SILENT)
def test_what_someone_else_may_do_is_not_missed(tmp_path: Path, shape: str) -> None:
    sources, _ = variant({"train.py": SILENT[shape]}, "right")
    assert reported(tmp_path, sources) == []


PARTS = """
class Encoder(nn.Module):
    def __init__(self, amp):
        super().__init__()
        self.layer, self.amp = nn.Linear(8, 8), amp

    def forward(self, x):
        with autocast("cuda", enabled=self.amp):
            found = []
            for _ in range(3):
                x = self.layer(x)
                found.append(x)
            return found


class Net(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x):
        if x.dtype == torch.float64:
            x = x.float()
        total = 0
        for scale, part in zip([4, 2, 1], reversed(self.encoder(x))):
            total = total + nn.functional.interpolate(part, scale_factor=scale)
        return {output}


def train(loader):
    model = Net(Encoder(True)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        scaler.scale(model(x){item}.mean()).backward()
        scaler.step(optimizer)
        scaler.update()


train([])
"""


@pytest.mark.parametrize(
    ("output", "item"),
    [("total", ""), ('{"features": total}', '["features"]'), ("[total, x]", "[0]")],
)
def test_a_part_enters_an_autocast_whatever_its_output_is_put_in(tmp_path: Path, output: str, item: str) -> None:
    text = PARTS.replace("{output}", output).replace("{item}", item)
    sources, _ = variant({"train.py": text}, "right")
    assert reported(tmp_path, sources, all_codes=True) == []


LOOP = """
import net


def main(loader):
    model = net.Net().cuda()
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
LOWERING = "import deepspeed\nfrom net import Net\n\nmodel, _, _, _ = deepspeed.initialize(model=Net())\n"


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({"train.py": LOOP, "net.py": NET}, [("train.py", "MPA216")]),
        ({"train.py": LOOP, "net.py": NET, "sharded.py": LOWERING}, [("train.py", "MPA216")]),
        ({"train.py": LOOP, "net.py": NET + "import deepspeed\n", "sharded.py": LOWERING}, []),
        ({"train.py": LOOP + "import sharded\n", "net.py": NET, "sharded.py": LOWERING}, []),
        ({"train.py": LOOP, "net.py": NET, "sharded.py": LOWERING + "import train\n"}, []),
        ({"train.py": LOOP + "import importlib\n", "net.py": NET, "sharded.py": LOWERING}, []),
    ],
    ids=["alone", "another script", "below", "imports it", "imported by it", "by name"],
)
def test_what_lowers_counts_where_it_may_run_too(
    tmp_path: Path, files: dict[str, str], lines: list[tuple[str, str]]
) -> None:
    sources, _ = variant(files, "right")
    assert [(path, code) for path, _, code in reported(tmp_path, sources, all_codes=True)] == lines
