"""What a parser of YAML or JSON gives has no attributes: a path that asks for one raises. See shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

TRAINER = """
class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        self.model = nn.Linear(2, 2).cuda()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scaler = GradScaler("cuda")

    def train(self, loader):
        for x in loader:
            self.optimizer.zero_grad()
            with autocast("cuda"):
                loss = self.model(x).mean()
            self.scaler.scale(loss).backward()
            if self.cfg["training"]["clip"]:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), {norm})  # wrong MPA205
            self.scaler.step(self.optimizer)
            self.scaler.update()


def main(loader):
    {load}
    Trainer(cfg).train(loader)


if __name__ == "__main__":
    main(loader)
"""
SAFE = "cfg = yaml.safe_load(open('base.yaml'))"


def shape(load: str, norm: str) -> dict[str, str]:
    return {"train.py": "import yaml, json\n" + TRAINER.replace("{load}", load).replace("{norm}", norm)}


@pytest.mark.parametrize(
    ("load", "norm"),
    [
        (SAFE, "self.cfg.norm"),
        ("cfg = json.loads(open('base.json').read())", "self.cfg['training'].norm"),
        ("cfg = yaml.load(open('base.yaml'), Loader=yaml.FullLoader)", "self.cfg.training.norm"),
    ],
)
def test_an_attribute_of_a_dict_raises(tmp_path: Path, load: str, norm: str) -> None:
    sources, _ = variant(shape(load, norm), "wrong")
    assert reported(tmp_path, sources) == []


@pytest.mark.parametrize(
    ("load", "norm"),
    [
        (SAFE, "self.cfg['norm']"),
        (SAFE, "self.cfg.get('norm', 1.0)"),
        ("cfg = yaml.load(open('base.yaml'), Loader=Loader)", "self.cfg.norm"),
        ("cfg = json.load(open('base.json'), object_hook=Options)", "self.cfg.norm"),
        (f"{SAFE}; cfg = EasyDict(cfg)", "self.cfg.norm"),
    ],
)
def test_what_has_it_goes_on(tmp_path: Path, load: str, norm: str) -> None:
    sources, marks = variant(shape(load, norm), "wrong")
    assert marks
    assert reported(tmp_path, sources) == marks
