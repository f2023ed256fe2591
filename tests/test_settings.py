"""`[tool.mpaudit]` and the command line → Settings; every mistake names file, key and what was meant."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mpaudit import rulebook, settings
from mpaudit.model import Confidence, Rule, Severity
from mpaudit.settings import EXCLUDE, Selection, Settings, SettingsError, load

NAMES = {
    "MPA101": "missing-autocast",
    "MPA103": "backward-under-autocast",
    "MPA203": "step-bypasses-scaler",
    "MPA205": "clip-before-unscale",
    "MPA301": "default-float64",
}


@pytest.fixture(autouse=True)
def _five_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(code: str, name: str) -> Rule:
        fields = dict.fromkeys(("category", "fix", "since", "primary", "torch", "summary", "why", "markdown"), "")
        return Rule(
            code, name, severity=Severity.ERROR, confidence=Confidence.LIKELY, triggers=(), references=(), **fields
        )

    rules = {code: rule(code, name) for code, name in NAMES.items()}
    monkeypatch.setattr(rulebook, "headers", lambda: rules)


def of(tmp_path: Path, text: str, **options: object) -> Settings:
    (tmp_path / "pyproject.toml").write_text(text)
    return load([], cwd=tmp_path, **options)  # type: ignore[arg-type]


def of_table(tmp_path: Path, text: str, **options: object) -> Settings:
    return of(tmp_path, f"[tool.mpaudit]\n{text}\n", **options)


def test_defaults(tmp_path: Path) -> None:
    found = load([], cwd=tmp_path)
    assert found == Settings(root=str(tmp_path), codes=tuple(NAMES))
    assert found.exclude == EXCLUDE
    assert (found.min_severity, found.min_confidence, found.fail_on) == ("warning", "likely", "error")


def test_every_key(tmp_path: Path) -> None:
    found = of_table(
        tmp_path,
        """
        select = ["MPA2", "missing-autocast"]
        extend-select = ["MPA301"]
        ignore = ["MPA203"]
        exclude = ["a"]
        extend-exclude = ["b/*.py"]
        min-severity = "info"
        min-confidence = "possible"
        fail-on = "never"
        target-torch = "2.3.1"
        target-device = "cuda"
        [tool.mpaudit.per-file-ignores]
        "tests/**" = ["MPA1", "clip-before-unscale"]
        [tool.mpaudit.severity]
        MPA205 = "info"
        """,
    )
    assert found == Settings(
        root=str(tmp_path),
        file=str(tmp_path / "pyproject.toml"),
        codes=("MPA101", "MPA205", "MPA301"),
        exclude=("a", "b/*.py"),
        min_severity=Severity.INFO,
        min_confidence=Confidence.POSSIBLE,
        fail_on=None,
        target_torch=(2, 3, 1),
        target_device="cuda",
        per_file_ignores=(("tests/**", ("MPA1", "MPA205")),),
        severity=(("MPA205", Severity.INFO),),
    )


def test_every_field_has_a_key() -> None:
    keys = {key.replace("-", "_") for key in settings._KEYS} - {"select", "extend_select", "ignore", "extend_exclude"}
    assert keys | {"root", "file", "codes"} == {field.name for field in msgspec.structs.fields(Settings)}


def test_extend_exclude_keeps_the_defaults(tmp_path: Path) -> None:
    assert of_table(tmp_path, 'extend-exclude = ["b"]').exclude == (*EXCLUDE, "b")


def test_severity_by_prefix_the_longest_decides(tmp_path: Path) -> None:
    found = of_table(tmp_path, 'severity = { MPA2 = "info", clip-before-unscale = "warning", MPA = "error" }')
    assert dict(found.severity) == {
        "MPA101": "error",
        "MPA103": "error",
        "MPA203": "info",
        "MPA205": "warning",
        "MPA301": "error",
    }


# ------------------------------------------------------------------- which rules


@pytest.mark.parametrize(
    ("file", "line", "codes"),
    [
        ("", Selection(), "101 103 203 205 301"),
        ("", Selection(select=("MPA2",)), "203 205"),
        ("", Selection(ignore=("MPA2",)), "101 103 301"),
        ("", Selection(select=("MPA2",), ignore=("MPA205",)), "203"),
        ("", Selection(select=("MPA205",), ignore=("MPA2",)), "205"),
        ("", Selection(select=("MPA2",), ignore=("MPA2",)), ""),
        ("", Selection(select=()), ""),
        ('select = ["ALL"]\nignore = ["MPA2"]', Selection(), "101 103 301"),
        ('select = ["MPA2"]', Selection(extend_select=("MPA101",)), "101 203 205"),
        ('select = ["MPA205"]', Selection(ignore=("MPA2",)), ""),
        ('ignore = ["MPA205"]', Selection(extend_select=("MPA205",)), "101 103 203 205 301"),
        ('ignore = ["MPA205"]', Selection(select=("MPA205",)), "205"),
        ('select = ["MPA3"]\nextend-select = ["MPA1"]\nignore = ["MPA103"]', Selection(), "101 301"),
        ('extend-select = ["MPA1"]', Selection(), "101 103 203 205 301"),
    ],
)
def test_selection(tmp_path: Path, file: str, line: Selection, codes: str) -> None:
    assert of_table(tmp_path, file, selection=line).codes == tuple(f"MPA{code}" for code in codes.split())


def test_selectors() -> None:
    assert settings.prefixes(["MPA2", " mpa205 ", "Missing-Autocast", "all", ""]) == ("MPA2", "MPA205", "MPA101", "MPA")


def test_the_command_line_comes_after_the_file(tmp_path: Path) -> None:
    found = of_table(tmp_path, 'fail-on = "info"\nmin-severity = "info"', overrides={"fail_on": None})
    assert (found.fail_on, found.min_severity) == (None, Severity.INFO)


# ---------------------------------------------------------------- which file


def project(folder: Path, text: str = '[tool.mpaudit]\nselect = ["MPA2"]\n') -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_the_nearest_file_with_a_table(tmp_path: Path) -> None:
    project(tmp_path)
    project(tmp_path / "a", "[tool.ruff]\n# mpaudit is not set here\n")
    project(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "c" / "train.py").write_text("")
    assert load(["a/b"], cwd=tmp_path).root == str(tmp_path)
    assert load(["a/b/c"], cwd=tmp_path).root == str(tmp_path / "a/b/c")
    assert load(["a/b/c/train.py"], cwd=tmp_path).root == str(tmp_path / "a/b/c")
    assert load([], cwd=tmp_path / "a" / "b").root == str(tmp_path)


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    project(tmp_path)
    project(tmp_path / "a", "[tool.mpaudit]\n")
    assert load(["a"], cwd=tmp_path).root == str(tmp_path / "a")


def test_the_order_of_paths_does_not_matter(tmp_path: Path) -> None:
    project(tmp_path)
    project(tmp_path / "a")
    project(tmp_path / "b")
    assert load(["a", "b"], cwd=tmp_path).root == load(["b", "a"], cwd=tmp_path).root == str(tmp_path)


def test_config_may_be_bare(tmp_path: Path) -> None:
    file = tmp_path / "mpaudit.toml"
    file.write_text('select = ["MPA2"]')
    assert load([], cwd=tmp_path, config=file).codes == ("MPA203", "MPA205")
    project(tmp_path / "sub")
    assert load(["sub"], cwd=tmp_path, config=file).root == str(tmp_path)


def test_config_may_be_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path / "sub")
    monkeypatch.chdir(tmp_path)
    assert load([], cwd=tmp_path, config=Path("sub/pyproject.toml")).root == str(tmp_path / "sub")


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml: No such file or directory"):
        load([], cwd=tmp_path, config=tmp_path / "no.toml")


# ------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fail_on = 'error'", "unknown key 'fail_on'; did you mean 'fail-on'?"),
        ("selct = []", "unknown key 'selct'; did you mean 'select'?"),
        ("zzz = 1", "unknown key 'zzz'"),
        ("select = 'MPA2'", "select: 'MPA2' is not a list of strings"),
        ("select = [2]", "select: 2 is not a string"),
        ("ignore = ['MPA9']", "ignore: no rule matches 'MPA9'"),
        ("ignore = ['E501']", "ignore: no rule matches 'E501'"),
        ("ignore = ['M']", "ignore: no rule matches 'M'"),
        ("ignore = ['clip-before-unscaled']", "did you mean 'clip-before-unscale'?"),
        ("fail-on = 'errors'", "fail-on: 'errors' is none of error, warning, info, never; did you mean 'error'?"),
        ("fail-on = 1", "fail-on: 1 is none of error"),
        ("min-severity = 'never'", "min-severity: 'never' is none of"),
        ("min-confidence = 'sure'", "min-confidence: 'sure' is none of definite, likely, possible"),
        ("target-torch = 2.3", "target-torch: 2.3 is not a string"),
        ("target-torch = 'new'", "target-torch: 'new' is not a torch version"),
        ("target-device = 'cuda:0'", "target-device: 'cuda:0' is not a device type"),
        ("severity = { MPA205 = 'fatal' }", "severity: 'fatal' is none of error, warning, info"),
        ("severity = { MPA999 = 'info' }", "severity: no rule matches 'MPA999'"),
        ("severity = 'info'", "severity: 'info' is not a table"),
        ("per-file-ignores = ['a']", "per-file-ignores: ['a'] is not a table"),
        ("per-file-ignores = { 'a.py' = 'MPA2' }", "per-file-ignores: 'MPA2' is not a list of strings"),
        ("exclude = [['a']]", "exclude: ['a'] is not a string"),
        ("exclude = ['a', '!']", "exclude: '!' is not a gitignore pattern"),
        ("extend-exclude = ['\\']", "extend-exclude: '\\\\' is not a gitignore pattern"),
        ("per-file-ignores = { '!' = ['MPA2'] }", "per-file-ignores: '!' is not a gitignore pattern"),
        ("select = ['']", "select: no rule matches ''"),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        of_table(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'pyproject.toml'}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["[tool.mpaudit\n", "[tool.mpaudit]\nselect = [\n", "[tool]\nmpaudit = 3\n", "tool = 'mpaudit'\n"]
)
def test_files_that_are_no_settings(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"pyproject\.toml: "):
        of(tmp_path, text)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.mpaudit]\n# \xff\n")
    with pytest.raises(SettingsError, match=r"pyproject\.toml: .*utf-8"):
        load([], cwd=tmp_path)


def test_a_broken_file_of_others_is_left_alone(tmp_path: Path) -> None:
    assert of(tmp_path, "[tool.poetry\n").file is None
