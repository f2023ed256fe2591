"""Which file an import means, where nothing says what is on `sys.path`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpaudit.static.program.linker import ModuleIndex
from tests.static.program.shapes import HEAD
from tests.static.test_rearrangement import found


def index(*names: str, root: str = "") -> ModuleIndex[str]:
    return ModuleIndex(((parts(name), name) for name in names), root)


def parts(name: str) -> tuple[str, ...]:
    *folder, last = name.removesuffix(".py").split("/")
    return tuple(folder) if last == "__init__" else (*folder, last)


def find(modules: ModuleIndex[str], importer: str, dotted: str) -> str | None:
    return modules.find(parts(importer), importer.endswith("__init__.py"), dotted)


@pytest.mark.parametrize(
    ("importer", "dotted", "meant"),
    [
        ("train.py", "engine", "engine.py"),
        ("tools/run.py", "engine", "tools/engine.py"),
        ("tools/deep/run.py", "engine", "tools/engine.py"),
        ("train.py", "lib.engine", None),
        ("train.py", "pkg", "src/pkg/__init__.py"),
        ("train.py", "pkg.steps", "src/pkg/steps.py"),
        ("tools/run.py", "pkg.steps", "src/pkg/steps.py"),
        ("src/pkg/sub/deep.py", "pkg.steps", "src/pkg/steps.py"),
        ("src/pkg/sub/deep.py", "..steps", "src/pkg/steps.py"),
        ("src/pkg/sub/deep.py", "..", "src/pkg/__init__.py"),
        ("src/pkg/__init__.py", ".steps", "src/pkg/steps.py"),
        ("src/pkg/__init__.py", "....steps", None),
        ("train.py", "inner.only", "vendor/code/inner/only.py"),
        ("train.py", "only", None),
        ("train.py", "twice.x", None),
        ("train.py", "json", None),
    ],
)
def test_what_an_import_means(importer: str, dotted: str, meant: str | None) -> None:
    modules = index(
        "engine.py", "tools/engine.py", "src/pkg/__init__.py", "src/pkg/steps.py", "src/pkg/sub/deep.py",
        "vendor/code/inner/only.py", "one/twice/x.py", "two/twice/x.py", "other/json.py",
    )  # fmt: skip
    assert find(modules, importer, dotted) == meant


def test_a_repository_that_is_a_package_itself() -> None:
    modules = index("__init__.py", "models/unet.py", "train.py", root="diffuser")
    assert find(modules, "train.py", "diffuser.models.unet") == "models/unet.py"
    assert find(modules, "train.py", "diffuser") == "__init__.py"
    assert find(modules, "train.py", "timm.models.unet") is None
    assert find(index("models/unet.py", root="code"), "train.py", "code.models.unet") is None


ENGINE = """
def step(model, batch, optimizer, scaler):
    scaler.scale(model(batch).mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
"""
TRAIN = """
def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cuda", enabled=False)
    for batch in loader:
        optimizer.zero_grad()
        {}.step(model, batch, optimizer, scaler)
"""
LAYOUTS = {
    "import a.b of a package": (
        "import app.core.engine",
        "app.core.engine",
        ["app/__init__.py", "app/core/__init__.py"],
    ),
    "import a.b of plain folders": ("import app.core.engine", "app.core.engine", []),
    "import a.b beside import a.c": ("import app.core.engine\nimport app.core.other", "app.core.engine", []),
    "import a.b as c": ("import app.core.engine as engine", "engine", []),
    "from a import b": ("from app.core import engine", "engine", []),
    "import a.b in a function": ("def unused():\n    import app.core.engine\nimport app.core", "app.core.engine", []),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["", "src/", "project/code/"])
def test_a_disabled_scaler_is_known_across_an_import(tmp_path: Path, layout: str, place: str) -> None:
    """Followed from train.py nothing is wrong; engine.py, on its own, would be reported."""
    lines, name, packages = LAYOUTS[layout]
    files = {
        "train.py": f"{HEAD}{lines}\n{TRAIN.format(name)}",
        f"{place}app/core/engine.py": HEAD + ENGINE,
        **{f"{place}{package}": "" for package in packages},
    }
    assert found(tmp_path / "linked", files) == []
    alone = found(tmp_path / "alone", {"engine.py": files[f"{place}app/core/engine.py"]})
    assert [code for _, _, code in alone] == ["MPA205"]


@pytest.mark.parametrize("line", ["from diffuser.core import engine", "import diffuser.core.engine as engine"])
def test_a_repository_that_imports_itself_by_its_name(tmp_path: Path, line: str) -> None:
    files = {
        "train.py": f"{HEAD}{line}\n{TRAIN.format('engine')}",
        "core/engine.py": HEAD + ENGINE,
    }
    assert found(tmp_path / "diffuser", files) == []
    assert [code for _, _, code in found(tmp_path / "another", files)] == ["MPA205"]


def test_a_package_and_its_module_that_take_a_name_from_each_other(tmp_path: Path) -> None:
    """Neither of them has it: a compiled extension may, or nothing."""
    files = {
        "train.py": f"{HEAD}from app import extension, engine\n{TRAIN.format('engine')}\nextension()\n",
        "app/__init__.py": "from .engine import *\n",
        "app/engine.py": f"{HEAD}from app import extension\n{ENGINE}",
    }
    assert found(tmp_path, files) == []
