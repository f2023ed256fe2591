"""Frameworks that own the protocol: what they drive is not the user's to get wrong; plain code beside them is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit import rulebook
from mpaudit.settings import Settings
from mpaudit.static.run import lint
from tests.static.program.shapes import HEAD

LOOP = """
    model = model.cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
"""

FRAMEWORKS = {
    "accelerate": f"""
from accelerate import Accelerator


def main(model, loader):{LOOP}
    accelerator = Accelerator(mixed_precision="fp16", gradient_accumulation_steps=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch, target in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(batch.cuda()), target)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
""",
    "lightning": """
import lightning as L


class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Linear(2, 2).cuda()

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        loss = self.net(batch).mean()
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())


def main(loader):
    L.Trainer(precision="16-mixed", accelerator="gpu").fit(Lit(), loader)
""",
    "pytorch_lightning": """
import pytorch_lightning as pl


class Lit(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 2).cuda()

    def training_step(self, batch, index):
        return self.net(batch).mean()

    def optimizer_step(self, epoch, index, optimizer, closure):
        optimizer.step(closure=closure)
        optimizer.zero_grad()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
""",
    "fabric": f"""
from lightning.fabric import Fabric


def main(model, loader):
    fabric = Fabric(accelerator="cuda", precision="16-mixed"){LOOP}
    model, optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(loader)
    for batch in loader:
        optimizer.zero_grad()
        loss = model(batch.cuda()).mean()
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
""",
    "transformers": """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


class Own(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        return model(**inputs).loss

    def training_step(self, model, inputs, count=None):
        model.train()
        loss = self.compute_loss(model, inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()


def main(data):
    model = AutoModelForCausalLM.from_pretrained("gpt2").cuda()
    Own(model=model, args=TrainingArguments("out", fp16=True), train_dataset=data).train()
""",
    "deepspeed": f"""
import deepspeed


def main(model, loader, args):{LOOP}
    engine, optimizer, _, _ = deepspeed.initialize(args=args, model=model, optimizer=optimizer)
    for batch in loader:
        loss = engine(batch.cuda()).mean()
        engine.backward(loss)
        engine.step()
""",
    "composer": """
from composer import Trainer
from composer.models import ComposerModel


class Own(ComposerModel):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 2).cuda()

    def forward(self, batch):
        return self.net(batch)

    def loss(self, outputs, batch):
        return outputs.mean()


def main(loader):
    model = Own()
    optimizer = torch.optim.AdamW(model.parameters())
    Trainer(model=model, optimizers=optimizer, train_dataloader=loader, precision="amp_fp16", device="gpu").fit()
""",
    "ignite": f"""
from ignite.engine import create_supervised_trainer


def main(model, loader):{LOOP}
    trainer = create_supervised_trainer(
        model, optimizer, nn.functional.cross_entropy, device="cuda", amp_mode="amp", scaler=True
    )
    trainer.run(loader, max_epochs=10)
""",
    "fastai": """
from fastai.callback.core import Callback
from fastai.learner import Learner


class Own(Callback):
    def before_step(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)


def main(loaders):
    model = nn.Linear(2, 2).cuda()
    Learner(loaders, model, loss_func=nn.functional.mse_loss, cbs=[Own()]).to_fp16().fit(3)
""",
    "mmengine": f"""
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper


class Own(BaseModel):
    def train_step(self, data, optim_wrapper):
        with optim_wrapper.optim_context(self):
            loss = self(data).mean()
        optim_wrapper.update_params(loss)
        return loss


def main(model, loader):{LOOP}
    wrapper = AmpOptimWrapper(optimizer=optimizer, clip_grad=dict(max_norm=1.0))
    for batch in loader:
        with wrapper.optim_context(model):
            loss = model(batch.cuda()).mean()
        wrapper.update_params(loss)
""",
    "monai": f"""
from monai.engines import SupervisedTrainer


def main(model, loader):{LOOP}
    SupervisedTrainer(
        device=torch.device("cuda"), max_epochs=2, train_data_loader=loader, network=model, optimizer=optimizer,
        loss_function=nn.functional.cross_entropy, amp=True,
    ).run()
""",
    "detectron2": """
from detectron2.engine import AMPTrainer, DefaultTrainer


class Own(DefaultTrainer):
    def run_step(self):
        self.optimizer.zero_grad()
        losses = self.model(next(self._data_loader_iter))
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


def main(model, loader):
    AMPTrainer(model.cuda(), loader, torch.optim.SGD(model.parameters(), lr=0.1)).train(0, 100)
""",
    "ultralytics": """
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer


class Own(DetectionTrainer):
    def optimizer_step(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=10.0)
        self.scaler.step(self.optimizer)
        self.optimizer.zero_grad()


def main():
    YOLO("yolo11n.pt").train(data="coco8.yaml", amp=True, trainer=Own)
""",
    "apex": f"""
from apex import amp


def main(model, loader):{LOOP}
    model, optimizer = amp.initialize(model, optimizer, opt_level="O1")
    for batch in loader:
        optimizer.zero_grad()
        loss = model(batch.cuda()).mean()
        with amp.scale_loss(loss, optimizer) as scaled_loss:
            scaled_loss.backward()
        torch.nn.utils.clip_grad_norm_(amp.master_params(optimizer), 1.0)
        optimizer.step()
""",
}

PLAIN = """

def plain(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda")
    for batch in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = model(batch).mean()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # MPA205
        scaler.step(optimizer)
        scaler.update()
"""
FLOAT32 = """

def float32(loader):
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten(), nn.LazyLinear(10)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader:
        optimizer.zero_grad()
        loss = model(batch.cuda()).mean()  # MPA101
        loss.backward()
        optimizer.step()
"""


def found(folder: Path, files: dict[str, str]) -> list[tuple[str, int, str]]:
    (folder / ".git").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    settings = Settings(root=str(folder), codes=tuple(rulebook.headers()))
    audit = lint(["."], settings, cwd=folder, use_cache=False)
    return [(finding.path, finding.line, finding.code) for finding in audit.findings]


def marks(files: dict[str, str]) -> list[tuple[str, int, str]]:
    return [
        (name, number, line[-6:])
        for name, text in sorted(files.items())
        for number, line in enumerate(text.split("\n"), 1)
        if line[-8:-3] == "# MPA"
    ]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_a_framework_drives_is_left_alone(name: str, tmp_path: Path) -> None:
    assert found(tmp_path, {"train.py": HEAD + FRAMEWORKS[name]}) == []


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_plain_code_beside_it_is_not(name: str, tmp_path: Path) -> None:
    """In the same file, in a file that it imports, and in one of its own."""
    framework = HEAD + FRAMEWORKS[name]
    same = {"train.py": framework + PLAIN}
    linked = {"train.py": f"import plain\n{framework}", "plain.py": HEAD + PLAIN}
    for folder, files in (("same", same), ("linked", linked)):
        assert found(tmp_path / folder, files) == marks(files)


@pytest.mark.parametrize("name", [name for name in FRAMEWORKS if name != "apex"])
def test_a_float32_loop_beside_it_is_reported_too(name: str, tmp_path: Path) -> None:
    """Not beside apex, whose `initialize` patches the functions of torch for the whole process."""
    files = {"train.py": HEAD + FRAMEWORKS[name] + FLOAT32}
    assert found(tmp_path, files) == marks(files)


@pytest.mark.parametrize(
    ("outside", "options", "mark"),
    [(True, 'mixed_precision="fp16"', ""), (False, 'mixed_precision="fp16"', "  # MPA103"), (False, "**options", "")],
)
def test_a_backward_in_the_autocast_of_accelerate_is_reported(
    outside: bool, options: str, mark: str, tmp_path: Path
) -> None:
    """Not where no precision is in sight: the default is float32."""
    text = f"""
from accelerate import Accelerator


def main(model, loader, **options):{LOOP}
    accelerator = Accelerator({options})
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch, target in loader:
        with accelerator.autocast():
            loss = nn.functional.cross_entropy(model(batch), target)
{" " * 8 if outside else " " * 12}accelerator.backward(loss){mark}
        optimizer.step()
        optimizer.zero_grad()
"""
    files = {"train.py": HEAD + text}
    assert found(tmp_path, files) == marks(files)


def test_an_autocast_of_accelerate_that_is_not_entered_is_reported(tmp_path: Path) -> None:
    text = """
from accelerate import Accelerator


class Trainer:
    def __init__(self, model):
        self.accelerator = Accelerator(mixed_precision="fp16")
        self.model, self.optimizer = self.accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def train(self, loader):
        for batch, target in loader:
            self.accelerator.autocast()  # MPA105
            loss = nn.functional.cross_entropy(self.model(batch), target)
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
"""
    files = {"train.py": HEAD + text}
    assert found(tmp_path, files) == marks(files)


@pytest.mark.parametrize("told", ["", "deepspeed_plugin=plugin", "kwargs_handlers=handlers, fsdp_plugin=plugin"])
def test_a_scaler_beside_accelerate_is_held_to_the_protocol(tmp_path: Path, told: str) -> None:
    text = f"""
from accelerate import Accelerator


def main(model, loader, use_amp, plugin, handlers):
    accelerator = Accelerator({told})
    optimizer = torch.optim.Adam(model.parameters())
    loader, model, optimizer = accelerator.prepare(loader, model, optimizer)
    if use_amp:
        scaler = GradScaler("cuda")
    for batch, target in loader:
        optimizer.zero_grad()
        if use_amp:
            with autocast("cuda"):
                loss = nn.functional.cross_entropy(model(batch), target)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.step(optimizer)  # MPA209
            scaler.update()
        else:
            accelerator.backward(nn.functional.cross_entropy(model(batch), target))
            optimizer.step()
"""
    files = {"train.py": HEAD + text}
    assert found(tmp_path, files) == marks(files)


@pytest.mark.parametrize(("told", "mark"), [("precision=args.precision", ""), ("devices=1", "  # MPA105")])
def test_an_autocast_that_is_not_entered_matters_less_where_lightning_is_told_a_precision(
    told: str, mark: str, tmp_path: Path
) -> None:
    text = f"""
import pytorch_lightning as pl


class Net(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch, number):
        with torch.amp.autocast("cuda") and torch.set_grad_enabled(True):{mark}
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, number):
        torch.amp.autocast("cuda"){mark}
        return self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(net, data, args):
    pl.Trainer({told}).fit(Net(net), data)
"""
    files = {"train.py": HEAD + text}
    assert found(tmp_path, files) == marks(files)


@pytest.mark.parametrize(
    ("told", "kept", "mark"),
    [
        ('mixed_precision="fp16"', "optimizer.state_dict()", "  # MPA214"),
        ('mixed_precision="bf16"', "optimizer.state_dict()", ""),
        ('mixed_precision="fp16"', "model.state_dict()", ""),
    ],
)
def test_what_accelerate_saves_of_ones_own_has_no_scaler_in_it(told: str, kept: str, mark: str, tmp_path: Path) -> None:
    """`accelerator.save` is torch.save; only `save_state` keeps the scaler."""
    text = f"""
from accelerate import Accelerator


def main(model, optimizer, loader):
    accelerator = Accelerator({told})
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    optimizer.load_state_dict(torch.load("last.pt")["state"])
    for batch in loader:
        accelerator.backward(model(batch).mean())
        optimizer.step()
        optimizer.zero_grad()
    accelerator.save({{"state": {kept}}}, "last.pt"){mark}
"""
    files = {"train.py": HEAD + text}
    assert found(tmp_path, files) == marks(files)


BESIDE = """
{imports}


def main(model, loader):
    model = model.cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = GradScaler("cuda")
    criterion = {criterion}
    for image, target in loader:
        optimizer.zero_grad()
        with autocast("cuda"):
            loss = criterion(model(image.cuda()), target)
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
"""


@pytest.mark.parametrize(
    ("imports", "criterion"),
    [
        ("import monai", "monai.losses.DiceLoss(sigmoid=True)"),
        ("from monai.losses import DiceCELoss", "DiceCELoss()"),
        ("from monai.utils import set_determinism", "set_determinism(1) or nn.MSELoss()"),
        ("from ultralytics.utils import TQDM", "nn.MSELoss(TQDM(3))"),
        ("from ultralytics.data.converter import classes", "nn.MSELoss(classes())"),
        ("from monai.apps import DecathlonDataset", "nn.MSELoss(DecathlonDataset('.', task='Task01_BrainTumour'))"),
        ("from mmcv import Config", "nn.MSELoss(Config.fromfile('settings.py').loss)"),
        ("from mmcv.runner import get_dist_info", "nn.MSELoss(get_dist_info()[0])"),
        ("from accelerate.utils import set_seed", "set_seed(1) or nn.MSELoss()"),
        ("from pytorch_lightning import seed_everything", "nn.MSELoss(seed_everything(1))"),
        ("from detectron2.structures import ImageList", "nn.MSELoss(ImageList(None, []))"),
    ],
)
def test_losses_and_data_of_a_framework_drive_nothing(imports: str, criterion: str, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    text = HEAD + BESIDE.format(imports=imports, criterion=criterion)
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    settings = Settings(root=str(tmp_path), codes=tuple(rulebook.headers()))
    found = [finding.code for finding in lint(["."], settings, cwd=tmp_path, use_cache=False).findings]
    assert found == ["MPA205"]
