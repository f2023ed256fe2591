"""What a reader would call the same program gives the same findings: other names, a body wrapped in a function, a
helper in a module of its own. Lines are those of the change; columns are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from mpaudit import rulebook
from mpaudit.model import Confidence, Example
from mpaudit.settings import load
from mpaudit.static.run import lint
from tests.static.rearranged import Files, keywords, moved, renamed, with_block_wrapped, wrapped


def groups() -> list[object]:
    return [
        pytest.param(group, id=f"{rule.code}-{kind}-{number}")
        for rule in rulebook.rules().values()
        if rule.code != "MPA001"
        for kind, found in (("bad", rule.bad), ("good", rule.good))
        for number, group in enumerate(found)
    ]


def files_of(group: tuple[Example, ...]) -> Files:
    return {example.file or "example.py": example.source for example in group}


def found(folder: Path, files: Files, least: Confidence = Confidence.LIKELY) -> list[tuple[str, int, str]]:
    (folder / ".git").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    settings = replace(load([str(folder)], cwd=folder), min_confidence=least)
    audit = lint([str(folder)], settings, cwd=folder, use_cache=False)
    assert audit.errors == ()
    return sorted((finding.path, finding.line, finding.code) for finding in audit.findings)


@pytest.mark.parametrize("group", groups())
def test_other_names_for_locals(tmp_path: Path, group: tuple[Example, ...]) -> None:
    files = files_of(group)
    again = {name: renamed(text, keywords(files.values())) for name, text in files.items()}
    assert found(tmp_path / "again", again) == found(tmp_path / "before", files)


@pytest.mark.parametrize("group", groups())
def test_a_body_in_a_function_of_its_own(tmp_path: Path, group: tuple[Example, ...]) -> None:
    files = files_of(group)
    again = {name: wrapped(text) for name, text in files.items()}
    before = [(path, code) for path, _, code in found(tmp_path / "before", files)]
    assert sorted((path, code) for path, _, code in found(tmp_path / "again", again)) == sorted(before)


@pytest.mark.parametrize("group", groups())
def test_a_helper_in_another_module(tmp_path: Path, group: tuple[Example, ...]) -> None:
    files = files_of(group)
    parts = moved(files["example.py"], "helper_2") if list(files) == ["example.py"] else None
    if parts is not None:
        again = {"example.py": parts[0], "helper_2.py": parts[1]}
        # what a file by itself need not tell is possible in a project of two
        before = sorted(code for _, _, code in found(tmp_path / "before", files, Confidence.POSSIBLE))
        assert sorted(code for _, _, code in found(tmp_path / "again", again, Confidence.POSSIBLE)) == before


PLAIN = """
total = 1
names = ["a", "b"]
for name in names:
    total += len(name)


def run(values, limit=3):
    best = None
    count = 0
    text = "a \\
    b"
    for i, value in enumerate(values):
        if value > limit:
            break
        doubled = sum([value for i in range(2)])
        count += doubled
        if best is None or doubled > best:
            best = doubled
        else:
            continue
    with open(__file__) as file:
        first = file.readline()
    while count > 10:
        count -= 3
    return best, count, text, first == "", total


result = run([1, 2, 3, 2, 9])
"""


def test_a_block_in_a_function_of_its_own_does_the_same(tmp_path: Path) -> None:
    (tmp_path / "plain.py").touch()

    def result(text: str) -> object:
        names = {"__file__": str(tmp_path / "plain.py")}
        exec(compile(text, "plain.py", "exec"), names)
        return names["result"], names["total"]

    places: list[object] = []
    with_block_wrapped(PLAIN, lambda blocks: places.extend(blocks) or [])
    again = [with_block_wrapped(PLAIN, lambda blocks, i=i: [blocks[i]]) for i in range(len(places))]
    assert len(set(again)) > 20
    assert {repr(result(text)) for text in again} == {repr(result(PLAIN))}


SAMPLES = Path(rulebook.__file__).parent.parent / "sample_projects"


@pytest.mark.parametrize("name", ["char_gpt_wrapper", "digits_amp_clean", "digits_cnn_fp32"])
def test_sample_projects_rearranged(tmp_path: Path, name: str) -> None:
    files = {str(p.relative_to(SAMPLES / name)): p.read_text("utf-8") for p in (SAMPLES / name).rglob("*.py")}
    before = [(path, code) for path, _, code in found(tmp_path / "before", files)]
    keep = keywords(files.values())
    for folder, change in (("renamed", lambda text: renamed(text, keep)), ("wrapped", wrapped)):
        again = found(tmp_path / folder, {path: change(text) for path, text in files.items()})
        assert [(path, code) for path, _, code in again] == before


def test_the_changes_change_something() -> None:
    sources = [text for param in groups() for text in files_of(param.values[0]).values()]  # type: ignore[attr-defined]
    assert sum(renamed(text) != text for text in sources) > len(sources) / 2
    assert sum(wrapped(text) != text for text in sources) > len(sources) / 3
    assert sum(moved(text, "helper_2") is not None for text in sources) > 10
