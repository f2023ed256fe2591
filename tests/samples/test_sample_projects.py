"""The sample projects: they run, they do what `expected.json` says, and a lint finds exactly what stands there."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mpaudit import rulebook
from mpaudit.settings import Settings
from mpaudit.static.run import lint

SAMPLES = Path(__file__).parents[2] / "sample_projects"
PROJECTS = sorted(path.parent for path in SAMPLES.glob("*/expected.json"))


def expected(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "expected.json").read_text(encoding="utf-8"))
    assert set(found) == {"findings", "runtime", "effects"}
    return found


def run_as_users_do(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Runs a project in this process, which saves the import of torch; the projects' modules share names."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(project: Path, *arguments: str) -> str:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(project))
            patch.setattr(sys, "argv", ["train.py", *arguments])
            before = set(sys.modules)
            try:
                runpy.run_path(str(project / "train.py"), run_name="__main__")
            finally:
                for name in set(sys.modules) - before:
                    if str(getattr(sys.modules[name], "__file__", None)).startswith(str(project)):
                        del sys.modules[name]
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)


def numbers(after: str, output: str) -> list[float]:
    return [float(number) for number in re.findall(rf"{after} ([\d.]+)", output)]


def test_there_are_projects() -> None:
    assert {"char_gpt_wrapper", "digits_amp_clean", "digits_cnn_fp32"} <= {project.name for project in PROJECTS}


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_lint_finds_what_is_expected(project: Path) -> None:
    settings = Settings(root=str(project), codes=tuple(rulebook.headers()))
    audit = lint(["."], settings, cwd=project, cache_dir=None, use_cache=False)
    assert audit.errors == ()
    found = [{"code": entry.code, "path": entry.path, "line": entry.line} for entry in audit.findings]
    assert found == expected(project)["findings"]


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_it_runs_and_learns(project: Path) -> None:
    losses = numbers("loss", run_as_users_do(project, "--epochs", "2"))
    assert len(losses) == 2
    assert losses[1] < losses[0]


@pytest.mark.parametrize(("amp", "low", "high"), [(True, 10_000.0, float("inf")), (False, 0.1, 10.0)])
def test_the_wrapper_clips_scaled_gradients(amp: bool, low: float, high: float, run_here: Callable[..., str]) -> None:
    output = run_here(SAMPLES / "char_gpt_wrapper", "--epochs", "1", *([] if amp else ["--no-amp"]))
    (norm,) = numbers("gradient norm at the clip", output)
    assert low < norm < high


def test_the_clean_project_resumes_with_its_scale(tmp_path: Path, run_here: Callable[..., str]) -> None:
    project, file = SAMPLES / "digits_amp_clean", str(tmp_path / "run.pt")
    common = ("--checkpoint", file, "--precision", "fp16", "--seed", "1")
    run_here(project, "--epochs", "1", *common)
    assert torch.load(file)["scaler"]["scale"] == 65536.0
    output = run_here(project, "--epochs", "2", "--resume", "--export", str(tmp_path / "weights.pt"), *common)
    assert output.startswith("epoch 1: ")
    assert set(torch.load(tmp_path / "weights.pt")) == set(torch.load(file)["model"])


class Outputs(TorchFunctionMode):
    """Notes for each line of a project which functions it called and what type they returned, in training."""

    def __init__(self, project: Path) -> None:
        self.project = str(project)
        self.seen: dict[tuple[str, int, str], set[str]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point() and torch.is_grad_enabled():
            frame = sys._getframe(1)
            while frame.f_back is not None and not frame.f_code.co_filename.startswith(self.project):
                frame = frame.f_back
            place = os.path.relpath(frame.f_code.co_filename, self.project)
            self.seen.setdefault((place, frame.f_lineno, func.__name__), set()).add(str(result.dtype))
        return result


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_what_each_line_computes_in_under_amp(project: Path, run_here: Callable[..., str]) -> None:
    without_autocast = any(finding["code"] == "MPA101" for finding in expected(project)["findings"])
    with torch.autocast("cpu") if without_autocast else nullcontext(), Outputs(project) as outputs:
        run_here(project, "--epochs", "1")
    kinds = {"low": ({"torch.float16"}, {"torch.bfloat16"}), "float32": ({"torch.float32"},)}
    for fact in expected(project)["runtime"]["under_amp"]:
        assert outputs.seen[fact["path"], fact["line"], fact["op"]] in kinds[fact["output"]], fact
