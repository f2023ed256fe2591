"""The mutation analysis: it breaks what it says, where it says, and counts only what is new and at the place."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import mutations
from benchmarks.operators import OPERATORS, Mutant, Tree
from benchmarks.source import CLOSE, OPEN, Edit, Source, rewrite

ENGINE = '''\
import torch
from torch.nn.utils import clip_grad_norm_


def train_one_epoch(model, loader, optimizer, scaler, k):
    """One pass over the data."""
    model.train()
    for i, (x, y) in enumerate(loader):
        with torch.autocast(device_type="cuda"):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x), y) / k
        total = loss.item()
        scaler.scale(loss).backward()
        if (i + 1) % k == 0:
            scaler.unscale_(optimizer)
            clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)  # naïve: no scheduler
            scaler.update()
            optimizer.zero_grad()
    return total
'''
TRAIN = """\
import torch
from engine import train_one_epoch


def main(model, loader, amp):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda", enabled=True)
    for epoch in range(10):
        train_one_epoch(model, loader, optimizer, scaler, 4)
        torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, f"{epoch}.pt")
"""
FILES = {"engine.py": ENGINE, "train.py": TRAIN}


def sources(files: dict[str, str] = FILES) -> dict[str, Source]:
    return {path: Source(path, text) for path, text in files.items()}


def broken(operator: str, files: dict[str, str] = FILES) -> list[tuple[Mutant, dict[str, str], set[str]]]:
    """Each mutant with the changed files and the code on the marked lines."""
    found = []
    for mutant in OPERATORS[operator](Tree(sources(files).values())):
        changed = mutations.apply(mutant, sources(files))
        marked = {c.text.split("\n")[line - 1].strip() for c in changed.values() for line in c.places}
        found.append((mutant, {path: c.text for path, c in changed.items()}, marked))
    return found


OF_TWO = {"update-after-each-step", "unscale-of-another", "update-under-the-condition-of-a-step"}
OF_OTHERS = {"autocast-decorator-dropped", "scaler-not-loaded", "float32-left-out"}
NOT_HERE = (
    {"autocast-arguments-of-the-other", "scaler-in-epoch-loop", "wrapper-call-into-autocast"} | OF_TWO | OF_OTHERS
)


@pytest.mark.parametrize("operator", sorted(set(OPERATORS) - NOT_HERE))
def test_every_operator_changes_the_project_and_marks_a_place(operator: str) -> None:
    mutants = broken(operator)
    assert mutants
    for mutant, changed, marked in mutants:
        assert all(
            changed[path] != FILES[path] for path in {e.path for e in mutant.edits if e.text not in (OPEN, CLOSE)}
        )
        assert marked
        assert not any(OPEN in text or CLOSE in text for text in changed.values())


def test_at_least_fifteen_operators_of_many_codes() -> None:
    codes = set().union(*(OPERATORS[name].codes for name in OPERATORS))  # type: ignore[attr-defined]
    assert len(OPERATORS) >= 15
    assert len(codes) >= 15


STEP = "scaler.step(optimizer)  # naïve: no scheduler"
UNSCALE = "scaler.unscale_(optimizer)"
CLIP = "clip_grad_norm_(model.parameters(), 1.0)"
REMADE = "scaler = torch.cuda.amp.GradScaler()"
CALLED = 'torch.autocast(device_type="cuda")'
MADE = 'scaler = torch.amp.GradScaler("cuda", enabled=True)'
BACKWARD = "scaler.scale(loss).backward()"


@pytest.mark.parametrize(
    ("operator", "come", "marked"),
    [
        ("drop-update", "scheduler\n            pass\n", {"pass", STEP}),
        ("raw-step", "            optimizer.step()  # naïve", {"optimizer.step()  # naïve: no scheduler"}),
        ("raw-backward", "        loss.backward()", {"loss.backward()"}),
        ("step-twice", "scheduler\n            scaler.step(optimizer)\n", {STEP, "scaler.step(optimizer)"}),
        ("clip-before-unscale", f"1.0)\n            {UNSCALE}\n", {CLIP}),
        ("clip-in-each-micro-batch", f"        {CLIP}\n        if (i + 1)", {CLIP}),
        ("unscale-in-each-micro-batch", f"        {UNSCALE}\n        if (i + 1)", {UNSCALE}),
        ("backward-into-autocast", f"            total = loss.item()\n            {BACKWARD}\n", {BACKWARD}),
        ("scaler-in-epoch-function", f'data."""\n    {REMADE}\n', {REMADE}),
        ("autocast-not-entered", f"        {CALLED}\n        if True:\n", {CALLED}),
        ("bf16-under-scaler", 'device_type="cuda", dtype=torch.bfloat16)', {BACKWARD, MADE}),
    ],
)
def test_what_an_operator_does(operator: str, come: str, marked: set[str]) -> None:
    [(_, changed, places)] = broken(operator)
    assert come in changed["engine.py"]
    assert places == marked


def test_operators_of_two_optimizers() -> None:
    text = ENGINE.replace(
        f"            {STEP}\n", "            scaler.step(optimizer)\n            scaler.step(other)\n"
    )
    files = {"engine.py": text, "train.py": TRAIN}
    [(_, changed, places)] = broken("update-after-each-step", files)
    assert "scaler.step(optimizer)\n            scaler.update()\n            scaler.step(other)" in changed["engine.py"]
    assert places == {"scaler.step(optimizer)", "scaler.update()", "scaler.step(other)"}
    [(_, changed, places)] = broken("unscale-of-another", files)
    assert places == {"scaler.unscale_(other)", CLIP}


def test_an_update_goes_under_the_condition_of_one_of_two_steps() -> None:
    text = """\
def train(loader, gen, critic, scaler):
    for i, (a, b) in enumerate(loader):
        scaler.scale(a).backward()
        scaler.step(critic)
        if i % 5 == 0:
            scaler.scale(b).backward()
            scaler.step(gen)
        scaler.update()
"""
    [(_, changed, places)] = broken("update-under-the-condition-of-a-step", {"a.py": text})
    assert "scaler.step(gen)\n            scaler.update()\n        pass\n" in changed["a.py"]
    assert places == {"scaler.step(critic)", "scaler.update()"}


def test_a_decorator_goes_with_every_other_autocast() -> None:
    files = {
        "net.py": "from torch.cuda.amp import autocast\n\n\nclass Net:\n    @autocast()\n    def forward(self, x):\n"
        "        with autocast(enabled=False):\n            return x\n",
        "engine.py": ENGINE,
    }
    [(_, changed, places)] = broken("autocast-decorator-dropped", files)
    assert "@autocast" not in changed["net.py"]
    assert "autocast(enabled=False)" in changed["net.py"]
    assert "with torch.autocast" not in changed["engine.py"]
    assert BACKWARD in places


def test_the_state_of_a_scaler_is_not_loaded() -> None:
    text = "def load(opt, scaler, state):\n    opt.load_state_dict(state[0])\n    scaler.load_state_dict(state[1])\n"
    wrapper = "class S:\n    def load_state_dict(self, state):\n        self._scaler.load_state_dict(state)\n"
    [(_, changed, places)] = broken("scaler-not-loaded", {"a.py": text, "b.py": wrapper})
    assert "scaler.load" not in changed["a.py"]
    assert places == {"opt.load_state_dict(state[0])", "pass"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("torch.from_numpy(np.zeros(3, dtype=np.float32))", "torch.from_numpy(np.zeros(3, ))"),
        ("torch.tensor(np.random.rand(3).astype(np.float32))", "torch.tensor(np.random.rand(3))"),
        ("torch.as_tensor(np.ones(3)).float().cuda()", "torch.as_tensor(np.ones(3)).cuda()"),
        ("torch.tensor(np.arange(3).astype(np.float32))", ""),
        ("torch.tensor(np.zeros(3, dtype=np.int64)).float()", ""),
        ("torch.tensor(np.zeros(3))", ""),
    ],
)
def test_a_conversion_to_float32_is_left_out(before: str, after: str) -> None:
    found = broken("float32-left-out", {"a.py": f"x = {before}\n"})
    assert [changed["a.py"] for _, changed, _ in found] == ([f"x = {after}\n"] if after else [])


def test_nothing_is_broken_about_a_scaler_that_is_never_on() -> None:
    files = {"engine.py": ENGINE, "train.py": TRAIN.replace("enabled=True", "enabled=False")}
    assert not broken("drop-update", files)


def test_a_scaler_is_disabled_where_it_is_made() -> None:
    [(_, changed, _)] = broken("scaler-disabled")
    assert 'GradScaler("cuda", enabled=False)' in changed["train.py"]


def test_what_is_dropped_is_gone() -> None:
    for operator, gone in (("drop-update", "scaler.update"), ("raw-step", "scaler.step"), ("raw-backward", "scale(")):
        [(_, changed, _)] = broken(operator)
        assert gone not in changed["engine.py"]


def test_an_operator_that_spans_files() -> None:
    [(_, changed, marked)] = broken("scaler-removed")
    assert "scaler." not in changed["engine.py"]
    assert "scaler = None" in changed["train.py"]
    assert marked == {"loss.backward()"}


def test_the_key_of_a_checkpoint_is_cut_with_its_comma() -> None:
    [(_, changed, _)] = broken("scaler-left-out-of-the-checkpoint")
    assert '"optimizer": optimizer.state_dict(), }, f"' in changed["train.py"]


def test_calls_within_conditional_expressions_and_after_semicolons() -> None:
    text = "def f(scaler, opt, loss):\n    for x in y: scaler.step(opt) if scaler else opt.step(); scaler.update()\n"
    [(_, changed, _)] = broken("step-twice", {"a.py": text})
    assert "(scaler.step(opt), scaler.step(opt)) if scaler" in changed["a.py"]
    [(_, changed, _)] = broken("drop-update", {"a.py": text})
    assert changed["a.py"].endswith("opt.step(); pass\n")


def test_every_update_of_a_scaler_is_a_site_and_no_other_update() -> None:
    text = (
        "from torch.amp import GradScaler\ns = GradScaler()\n"
        + "s.update()\nself.amp_scaler.update()\nd.update({})\n" * 3
    )
    assert [m.line for m, _, _ in broken("drop-update", {"a.py": text})] == [3, 4, 6, 7, 9, 10]


# --------------------------------------------------------------------------- edits


@given(st.lists(st.sampled_from(["a = 1", "if a:\n    b = 'é'", "c = (\n    2,\n)", ""]), min_size=1), st.data())
def test_old_lines_are_found_where_they_went(blocks: list[str], data: st.DataObject) -> None:
    source = Source("a.py", "\n".join(blocks) + "\n")
    edits: list[Edit] = []
    for statement in source.tree.body:
        if data.draw(st.booleans()):
            put = source.before if data.draw(st.booleans()) else source.after
            edits += put(statement, "new = 1\nnew = 2")
    rewritten = rewrite(source, edits)
    lines = rewritten.text.split("\n")
    assert [lines[rewritten.line(number) - 1] for number in range(1, len(source.lines))] == source.lines[:-1]
    ast.parse(rewritten.text)


def test_overlapping_edits_are_refused() -> None:
    source = Source("a.py", "f(x)\n")
    with pytest.raises(ValueError, match="overlap"):
        rewrite(source, [Edit("a.py", 0, 3, "g"), Edit("a.py", 2, 4, "h")])


def test_a_mark_covers_all_lines_of_a_node() -> None:
    source = Source("a.py", "é = 1; f(\n  x,\n)\n")
    assert rewrite(source, source.mark(source.tree.body[1])).places == {1, 2, 3}


# ------------------------------------------------------------------------ the whole


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "owner__name"
    root.mkdir()
    for path, text in FILES.items():
        (root / path).write_text(text)
    return root


def run(tree: Path, tmp_path: Path, *operators: str, limit: int | None = None) -> mutations.Report:
    report = mutations.Report()
    mutations.audit_mutants(tree, tmp_path / "work", operators, report, limit)
    return report


def test_broken_projects_are_reported_and_the_tree_is_left_alone(tree: Path, tmp_path: Path) -> None:
    report = run(tree, tmp_path, "step-twice", "unscale-twice", "autocast-not-entered")
    assert Counter(r.outcome for r in report.results) == {"caught": 3}
    assert {path.name: path.read_text() for path in tree.iterdir()} == FILES
    assert {(tmp_path / "work" / "name" / path).read_text() for path in FILES} == set(FILES.values())


def test_a_finding_that_was_there_before_catches_nothing(tree: Path, tmp_path: Path) -> None:
    twice = ENGINE.replace(
        "            scaler.update()", "            scaler.step(optimizer)\n            scaler.update()"
    )
    (tree / "engine.py").write_text(twice)
    report = run(tree, tmp_path, "drop-update", "step-twice")
    assert not report.results
    assert report.not_clean == {(False, "drop-update"): 1, (False, "step-twice"): 2}


def test_equivalents_are_counted_apart(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"repo": "owner/name", "commit": "c0ffee", "path": "engine.py", "line": 17, "operators": ["drop-update"]}
    listed = tmp_path / "equivalent.json"
    listed.write_text(json.dumps([entry]))
    monkeypatch.setattr(mutations, "EQUIVALENT", listed)
    assert [r.outcome for r in run(tree, tmp_path, "drop-update").results] == ["equivalent"]
    (tree.parent / "commits.json").write_text('{"owner/name": "another"}')
    assert [r.outcome for r in run(tree, tmp_path, "drop-update").results] != ["equivalent"]


def test_a_limit_takes_the_same_mutants_for_the_same_seed(tree: Path, tmp_path: Path) -> None:
    (tree / "more.py").write_text(ENGINE)
    chosen = [[(r.path, r.line) for r in run(tree, tmp_path, "raw-step", limit=1).results] for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 1


def test_a_run_again_takes_what_was_caught_and_looks_at_the_rest(tree: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first.json", tmp_path / "again.json"
    mutations.main([str(tree), "--operators", "drop-update,raw-step", "--json", str(first), "--quiet"])
    report = json.loads(first.read_text())
    dropped, raw = report["results"]
    assert dropped["outcome"] == raw["outcome"] == "caught"
    report["results"] = [{**dropped, "new": ["as it was"]}, {**raw, "outcome": "missed"}]
    first.write_text(json.dumps(report))
    options = ["--operators", "drop-update,raw-step", "--again", str(first), "--json", str(again), "--quiet"]
    mutations.main([str(tree), *options])
    assert json.loads(again.read_text())["results"] == [{**dropped, "new": ["as it was"]}, raw]


def test_the_list_of_equivalents_names_real_operators_and_gives_reasons() -> None:
    for entry in json.loads(mutations.EQUIVALENT.read_text()):
        assert set(entry) == {"repo", "commit", "path", "line", "operators", "reason"}
        assert set(entry["operators"]) <= set(OPERATORS)
        assert len(entry["commit"]) == 40
        assert entry["reason"]


def test_command_line(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mutants.json"
    assert mutations.main([str(tree), "--operators", "step-twice", "--json", str(out)]) == 0
    assert "| step-twice" in capsys.readouterr().out
    assert [r["outcome"] for r in json.loads(out.read_text())["results"]] == ["caught"]
    assert mutations.main([str(tree), "--operators", "step-thrice"]) == 2
    assert "no such operator: step-thrice" in capsys.readouterr().err


def test_sites_that_time_does_not_suffice_for_are_counted(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "mutants.json"
    options = ["--operators", "step-twice,raw-step", "--minutes-per-tree", "1e-9", "--json", str(out), "--quiet"]
    assert mutations.main([str(tree), *options]) == 0
    report = json.loads(out.read_text())
    assert report["results"] == []
    assert report["not_reached"] == {tree.name: 2}
