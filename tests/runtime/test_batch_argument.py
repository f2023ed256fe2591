"""Which argument of a script sets its batch size, and what a command line with another size looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.runtime.batch_argument import BatchArgument, find
from mpaudit.runtime.protocol import Target

ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("--test-batch-size", type=int, default=1000)
parser.add_argument("-e", "--epochs", default=3, type=int)
"""


def found(folder: Path, script: str, *arguments: str) -> BatchArgument | str:
    (folder / "train.py").write_text(script)
    return find(Target("script", "train.py", arguments), folder)


@pytest.mark.parametrize(
    ("given", "larger"),
    [
        (("--batch-size", "8", "--lr", "1"), ("--batch-size", "16", "--lr", "1")),
        (("--lr", "1", "--batch_size=8"), ("--lr", "1", "--batch_size=16")),
        (("--bs", "8"), ("--bs", "16")),
        (("-b", "8"), ("-b", "16")),
        (("-b8", "x"), ("-b16", "x")),
        (("-batch_size", "8"), ("-batch_size", "16")),
        (("train.batch_size=8", "model=small"), ("train.batch_size=16", "model=small")),
        (("+batch_size=8",), ("+batch_size=16",)),
        (("--per_device_train_batch_size", "8", "--batch_size", "3"), None),
        (("--batch-size", "4", "--batch-size", "8"), ("--batch-size", "4", "--batch-size", "16")),
    ],
)
def test_what_the_user_gave(tmp_path: Path, given: tuple[str, ...], larger: tuple[str, ...] | None) -> None:
    argument = found(tmp_path, "", *given)
    assert isinstance(argument, BatchArgument) and argument.value == 8
    assert argument.arguments(given, 16) == (larger or ("--per_device_train_batch_size", "16", *given[2:]))


@pytest.mark.parametrize(
    "given", [("--test-batch-size", "8"), ("--batch-size", "auto"), ("eval.batch_size=8",), ("--batch-size",), ("8",)]
)
def test_what_is_no_batch_size_of_a_training(tmp_path: Path, given: tuple[str, ...]) -> None:
    assert isinstance(found(tmp_path, "", *given), str)


def test_a_short_flag_is_what_the_script_defines_it_to_be(tmp_path: Path) -> None:
    branch = ARGPARSE.replace('"-b", ', "") + 'parser.add_argument("-b", "--blocks", type=int, default=2)\n'
    argument = found(tmp_path, branch, "-b", "8")
    assert argument == BatchArgument("--batch-size", " ", 64, None)
    assert argument.arguments(("-b", "8"), 16) == ("-b", "8", "--batch-size", "16")
    assert found(tmp_path, ARGPARSE, "-b", "8") == BatchArgument("-b", " ", 8, 0)
    assert isinstance(found(tmp_path, "p.add_argument('-b', '--blocks')\n", "-b", "8"), str)


@pytest.mark.parametrize(
    ("script", "flag", "form"),
    [
        (ARGPARSE, "--batch-size", " "),
        (
            "import click\n@click.command()\n@click.option('--batch-size', default=64)\ndef main(batch_size): ...\n",
            "--batch-size",
            " ",
        ),
        ("import typer\ndef main(batch_size: int = typer.Option(64, help='n')): ...\n", "--batch-size", " "),
        ("from absl import flags\nflags.DEFINE_integer('batch_size', 64, 'n')\n", "--batch_size", "="),
        ("import fire\ndef train(lr=1.0, *, batch_size=64): ...\nfire.Fire(train)\n", "--batch_size", "="),
        (ARGPARSE.replace("default=64", "default='64'"), "--batch-size", " "),
    ],
)
def test_what_the_script_defines(tmp_path: Path, script: str, flag: str, form: str) -> None:
    assert found(tmp_path, script) == BatchArgument(flag, form, 64, None)  # type: ignore[arg-type]


def test_what_a_file_of_the_project_defines(tmp_path: Path) -> None:
    package = tmp_path / "tools"
    package.mkdir()
    (package / "__init__.py").write_text("from .options import parse\n")
    (package / "options.py").write_text(ARGPARSE)
    assert found(tmp_path, "from tools import parse\n", "--epochs", "1") == BatchArgument("--batch-size", " ", 64, None)
    (package / "__main__.py").write_text("from tools import parse\n")
    assert isinstance(find(Target("module", "tools"), tmp_path), BatchArgument)
    assert isinstance(find(Target("module", "tools.options"), tmp_path), BatchArgument)


def test_the_configuration_of_hydra(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "main.yaml").write_text("seed: 1\nval:\n  batch_size: 9\ntrain:\n  batch_size: 64  # each\n")
    script = "import hydra\n@hydra.main(version_base=None, config_path='conf', config_name='main')\ndef main(c): ...\n"
    assert found(tmp_path, script) == BatchArgument("train.batch_size", "=", 64, None)


def test_where_there_is_none_a_sentence_says_so(tmp_path: Path) -> None:
    assert found(tmp_path, "import torch\n") == (
        "train.py has no argument for its batch size that could be found (--batch-size, -b, batch_size=… and the "
        "like); where it has one, give it on its command line"
    )
    unknown = found(tmp_path, ARGPARSE.replace("default=64", "default=config.batch"))
    assert unknown == (
        "the default of --batch-size is not written as a number in train.py: give --batch-size on its command line"
    )
    assert found(tmp_path, "def broken(:\n") == found(tmp_path, "")
    assert find(Target("notebook", "book.ipynb"), tmp_path) == "book.ipynb is a notebook, which takes no arguments"
