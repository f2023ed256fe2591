"""What the project says of itself holds: README, CI, packages, versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import mpaudit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent


def test_ci_runs_the_test_command_of_the_readme() -> None:
    [command] = re.findall(
        r"^python3 -m venv \.venv && \. \.venv/bin/activate && (.*pytest.*)$", readme(), re.MULTILINE
    )
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {file.parent for file in (ROOT / "mpaudit").rglob("*.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted({*packages, "mpaudit.rules"})


def test_every_package_has_a_docstring() -> None:
    for folder in sorted({file.parent for file in (ROOT / "mpaudit").rglob("*.py")}):
        assert (folder / "__init__.py").read_text().startswith('"""'), folder


def test_every_module_can_be_imported_first() -> None:
    """Modules that import each other work from wherever one begins."""
    program = """
import importlib, pkgutil, sys
import mpaudit.static
for name in [m.name for m in pkgutil.walk_packages(mpaudit.static.__path__, "mpaudit.static.")]:
    for other in [other for other in sys.modules if other.split(".")[0] == "mpaudit"]:
        del sys.modules[other]
    importlib.import_module(name)
    print(name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(list((ROOT / "mpaudit" / "static").rglob("*.py"))) - 1


def test_the_hook_runs_the_command() -> None:
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    for line in (
        "- id: mpaudit",
        "entry: mpaudit lint",
        "language: python",
        "types_or: [python]",
        "require_serial: true",
    ):
        assert re.search(rf"^\s*{re.escape(line)}$", hook, re.MULTILINE), line


def test_dependencies_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {re.split(r"[<>=; ]", name)[0] for name in wanted} <= pins.keys()
    assert pins["torch"] == "2.13.0"


def test_version_is_that_of_the_command() -> None:
    shown = subprocess.run([sys.executable, "-m", "mpaudit", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"mpaudit {mpaudit.__version__}\n"


def test_settings_in_the_readme_are_valid(tmp_path: Path) -> None:
    from mpaudit import settings

    [example] = re.findall(r"```toml\n(\[tool\.mpaudit\].*?)```", readme(), re.DOTALL)
    file = tmp_path / "pyproject.toml"
    file.write_text(example)
    assert settings.load([], cwd=tmp_path, config=file).target_torch == (2, 3)


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")
