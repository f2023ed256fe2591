"""Loops by hand with the parts of detectron2, which drives a training only where its own trainers do; see shapes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.shapes import reported, variant

SHAPES: dict[str, dict[str, str]] = {
    "a plain loop whose settings turn float16 on": {
        "train_net.py": """
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage
from settings import add_config
from loaders import build_loader


def do_train(cfg, model):
    model.train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    DetectionCheckpointer(model, cfg.OUTPUT_DIR, optimizer=optimizer).resume_or_load(cfg.MODEL.WEIGHTS)
    if cfg.FP16:
        scaler = GradScaler("cuda")
    with EventStorage(0):
        for data, iteration in zip(build_loader(cfg), range(cfg.SOLVER.MAX_ITER)):
            losses = sum(model(data).values())
            optimizer.zero_grad()
            if cfg.FP16:
                scaler.scale(losses).backward()
                scaler.step(optimizer)
                scaler.step(optimizer)  # wrong MPA209
                scaler.update()
            else:
                losses.backward()
                optimizer.step()
            scheduler.step()


def main(args):
    cfg = get_cfg()
    add_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.freeze()
    default_setup(cfg, args)
    do_train(cfg, build_model(cfg))


if __name__ == "__main__":
    launch(main, 1, args=(default_argument_parser().parse_args(),))
""",
        "settings.py": """
def add_config(cfg):
    cfg.FP16 = False
    cfg.SOLVER.CUSTOM = False
""",
    },
    "an iteration that a trainer of detectron2 writes anew": {
        "trainer.py": """
from detectron2.engine import AMPTrainer


class MattingTrainer(AMPTrainer):
    def __init__(self, model, loader, optimizer):
        super().__init__(model, loader, optimizer, grad_scaler=None)
        self.batches = iter(loader)

    def run_step(self):
        assert self.model.training
        with autocast("cuda"):
            losses = sum(self.model(next(self.batches)).values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(losses).backward()
        self.grad_scaler.step(self.optimizer)  # right
        self.grad_scaler.step(self.optimizer)  # wrong MPA204
        self.grad_scaler.update()  # right
"""
    },
    "an iteration that leaves the steps to the trainer": {
        "trainer.py": """
from detectron2.engine import AMPTrainer


class Trainer(AMPTrainer):
    def run_step(self):
        super().run_step()
        self.optimizer.step()
"""
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_wrong_program_is_reported_where_it_is_wrong(tmp_path: Path, shape: str) -> None:
    sources, marks = variant(SHAPES[shape], "wrong")
    assert reported(tmp_path, sources) == marks


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_program_is_silent(tmp_path: Path, shape: str) -> None:
    sources, _ = variant(SHAPES[shape], "right")
    assert reported(tmp_path, sources) == []
