"""What belongs together: admission by imports, components, and keys that are of contents and names alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpaudit import rulebook
from mpaudit.settings import Settings
from mpaudit.static import judging
from mpaudit.static.cache import Cache
from mpaudit.static.facts import quick
from mpaudit.static.facts.lower import lower
from mpaudit.static.loading import MAX_IMPORTERS, MAX_IMPORTS, Counts, Tree, survey
from mpaudit.static.pool import Begun, Pool
from mpaudit.static.run import lint

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


MATERIAL = "import torch\nx = torch.tensor(1.0)\n"


def admitted(root: Path, files: dict[str, str]) -> set[str]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    triggers = ["GradScaler", r"\btorch\.(?:as_)?tensor\s*\("]
    tree = survey(root, [root / name for name in files], Cache(None), triggers)
    return {file.name for component in tree.components for file in component.files}


def test_what_only_training_can_make_a_finding_of_needs_training(tmp_path: Path) -> None:
    files = {
        "train.py": SEED + "from data import sets\n", "data/__init__.py": "", "alone.py": MATERIAL,
        "data/sets.py": "from data import images\n", "data/images.py": MATERIAL,
    }  # fmt: skip
    assert admitted(tmp_path, files) == files.keys() - {"alone.py"}


def test_what_resumes_a_training_belongs_to_it(tmp_path: Path) -> None:
    files = {
        "train.py": SEED + "import utils\n", "utils/__init__.py": "from .state import *\nfrom .other import *\n",
        "utils/state.py": "def load(optimizer, path):\n    optimizer.load_state_dict(path)\n",
        "utils/other.py": "x = 1\n",
    }  # fmt: skip
    assert admitted(tmp_path, files) == files.keys() - {"utils/other.py"}


def test_a_library_foundation_does_not_admit_the_library(tmp_path: Path) -> None:
    users = {f"model_{i}.py": "import base\n" for i in range(MAX_IMPORTERS + 1)}
    assert admitted(tmp_path, {"base.py": SEED, **users}) == {"base.py"}
    few = dict(list(users.items())[:3])
    assert admitted(tmp_path / "small", {"base.py": SEED, **few}) == {"base.py", *few}


def test_an_index_of_a_library_does_not_admit_the_library(tmp_path: Path) -> None:
    names = [f"model_{i}" for i in range(MAX_IMPORTS + 1)]
    files = {
        "train.py": SEED + "".join(f"import {name}\n" for name in names),
        **{f"{name}.py": MATERIAL for name in names},
    }
    assert admitted(tmp_path, files) == {"train.py"}


def test_admission_is_bounded_in_bytes_but_never_leaves_out_precision_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"train.py": SEED + "import data\n", "data.py": MATERIAL, "main.py": "import train\n"}
    assert admitted(tmp_path, files) == {"train.py", "data.py", "main.py"}
    monkeypatch.setattr("mpaudit.static.loading.MAX_ADMITTED", 10)
    assert admitted(tmp_path, files) == {"train.py"}


def test_what_a_finding_stands_in_is_what_libcst_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import torch\n\n\ndef train():\n    return torch.cuda.amp.GradScaler()\n"
    (tmp_path / "train.py").write_text(text)
    settings = Settings(root=str(tmp_path), codes=tuple(rulebook.headers()))
    expected = lint(["."], settings, cwd=tmp_path, use_cache=False, jobs=1)
    assert [(finding.code, finding.line, finding.column) for finding in expected.findings] == [("MPA701", 5, 12)]

    def misplaced(chunk: str) -> object:
        return lower(chunk.replace("    return", "  return"))

    counts = Counts()
    monkeypatch.setattr(quick, "quickly", misplaced)
    shown = lint(["."], settings, cwd=tmp_path, use_cache=False, jobs=1, counts=counts)
    assert shown.findings == expected.findings
    assert counts.parsed == 1


def test_what_trains_is_read_ahead_and_followed_again_where_it_says_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = "    loss.backward()\n    optimizer.step()\n"
    loop = f"import torch\n\n\ndef train(loss, optimizer):\n    torch.cuda.amp.GradScaler()\n{step}"
    (tmp_path / "train.py").write_text(loop + "\n\n# much longer than the other" * 20)
    (tmp_path / "other.py").write_text(SEED)
    settings = Settings(root=str(tmp_path), codes=("MPA701",))
    expected = lint(["."], settings, cwd=tmp_path, use_cache=False, jobs=1)
    assert [(finding.path, finding.column) for finding in expected.findings] == [("other.py", 10), ("train.py", 5)]
    begin, reads = Pool.begin, []

    def begun(pool: Pool, *given: Any) -> Begun[Any]:
        return replace(begin(pool, *given), goes_on=lambda: reads.append(len(reads)) is None)

    def misplaced(chunk: str) -> object:
        return lower(chunk.replace("    torch.", "  torch.").replace("    loss", "  loss").replace("    opt", "  opt"))

    monkeypatch.setattr(judging, "ANSWER", replace(judging.ANSWER, worth=1))
    monkeypatch.setattr(quick, "quickly", misplaced)
    monkeypatch.setattr(Pool, "begin", begun)
    assert lint(["."], settings, cwd=tmp_path, use_cache=False, jobs=2).findings == expected.findings
    assert reads == [0]
