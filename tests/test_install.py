"""Installed as users install it, from a wheel or editable: the command works from anywhere, pages included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from mpaudit import rulebook

ROOT = Path(rulebook.__file__).parent.parent
PARTS = ("mpaudit", "rules", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from, so that nothing is left in the real one."""
    copy = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, checkout)
    [built] = folder.glob("*.whl")
    return built


@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_installed(way: str, checkout: Path, wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    [site] = environment.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # the dependencies are not what is tested here
    source = ["-e", checkout] if way == "editable" else [wheel]
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        *source,
    )

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = environment / "bin" / "mpaudit"
    place = "import mpaudit.rules; print(mpaudit.rules.__file__)"
    assert Path(run(python, "-c", place, cwd=elsewhere).strip()).is_relative_to(checkout if way == "editable" else site)
    pages = run(command, "rule", "--all", cwd=elsewhere)
    assert [line.split()[1] for line in pages.splitlines() if line.startswith("# MPA")] == list(rulebook.headers())
    rule = rulebook.rules()["MPA205"]
    (elsewhere / "train.py").write_text(rule.bad[0][0].source)
    assert "MPA205" in run(command, "lint", "--fail-on", "never", cwd=elsewhere)


def test_the_wheel_holds_the_licence_and_no_tests(wheel: Path) -> None:
    names = run(sys.executable, "-m", "zipfile", "-l", wheel)
    assert "LICENSE" in names
    assert "mpaudit/py.typed" in names
    assert "tests/" not in names


def run(*command: object, cwd: Path | None = None) -> str:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_TARGET"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
