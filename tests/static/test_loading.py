"""What belongs together: admission by imports, components, and keys that are of contents and names alone."""

from __future__ import annotations

from pathlib import Path

from mpaudit.static.cache import Cache
from mpaudit.static.loading import Tree, survey

SEED = "import torch\nscaler = torch.cuda.amp.GradScaler()\n"


def surveyed(root: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return survey(root, [root / name for name in files], Cache(None), ["GradScaler"])


def components(tree: Tree) -> list[list[str]]:
    return [[file.name for file in component.files] for component in tree.components]


def test_importers_and_imports_of_a_seed_belong_to_it(tmp_path: Path) -> None:
    files = {
        "main.py": "import engine\n", "engine.py": "from lib import amp\nfrom lib import data\n", "lib/amp.py": SEED,
        "lib/data.py": "x = 1\n", "alone.py": SEED, "nothing.py": "x = 1\n",
    }  # fmt: skip
    tree = surveyed(tmp_path, files)
    assert components(tree) == [["alone.py"], ["engine.py", "lib/amp.py", "lib/data.py", "main.py"]]
    assert (tree.counts.files, tree.counts.seeds, tree.counts.admitted) == (6, 2, 5)


def test_what_a_package_defines_links_to_it(tmp_path: Path) -> None:
    files = {"p/__init__.py": SEED, "p/train.py": "from . import scaler\n"}
    assert components(surveyed(tmp_path, files)) == [["p/__init__.py", "p/train.py"]]


def test_a_key_changes_with_its_component_only(tmp_path: Path) -> None:
    files = {"a.py": SEED, "b.py": SEED, "c.py": "import b\n"}
    before = {c.files[0].name: c.key for c in surveyed(tmp_path / "one", files).components}
    assert {c.files[0].name: c.key for c in surveyed(tmp_path / "two", files).components} == before
    after = {c.files[0].name: c.key for c in surveyed(tmp_path / "one", {**files, "c.py": "import b\n#\n"}).components}
    assert after["a.py"] == before["a.py"]
    assert after["b.py"] != before["b.py"]
