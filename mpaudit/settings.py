"""`[tool.mpaudit]` and the command line → one frozen `Settings`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mpaudit import rulebook
from mpaudit.errors import UsageError, nearest
from mpaudit.model import Confidence, Severity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEVICES = ("cpu", "cuda", "hpu", "mps", "mtia", "musa", "npu", "xla", "xpu")
EXCLUDE = (
    ".bzr", ".direnv", ".eggs", ".git", ".hg", ".ipynb_checkpoints", ".mpaudit_cache", ".mypy_cache", ".nox",
    ".pants.d", ".pyenv", ".pytest_cache", ".pytype", ".ruff_cache", ".svn", ".tox", ".venv", "__pycache__",
    "__pypackages__", "_build", "build", "dist", "node_modules", "site-packages", "venv",
)  # fmt: skip
"""What is not descended into unless named: gitignore patterns, as `exclude` takes them."""
FAIL_ON = ("error", "warning", "info", "never")


class SettingsError(UsageError):
    """A settings file or option that cannot be used; names file, key and the nearest valid key."""


class Settings(msgspec.Struct, frozen=True):
    """Everything that decides what is audited, what is shown and what fails. Patterns are relative to `root`."""

    root: str
    """Absolute folder of the settings file, or the working directory where there is none."""
    file: str | None = None
    """Absolute path of the settings file."""
    codes: tuple[str, ...] = ()
    """The rules that are on, after select, extend-select and ignore of file and command line."""
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(gitignore pattern, code prefixes)."""
    exclude: tuple[str, ...] = EXCLUDE
    """gitignore patterns."""
    severity: tuple[tuple[str, Severity], ...] = ()
    """(code, severity) in place of the page's own."""
    min_severity: Severity = Severity.WARNING
    min_confidence: Confidence = Confidence.LIKELY
    fail_on: Severity | None = Severity.ERROR
    """None: findings never fail the run."""
    target_torch: tuple[int, ...] | None = None
    """(2, 3) for "2.3"; None is the newest."""
    target_device: str | None = None


class Selection(msgspec.Struct, frozen=True):
    """One layer of rule selection, in code prefixes; `select` None leaves what the layer below chose."""

    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


def load(
    paths: Sequence[str],
    *,
    cwd: Path,
    config: Path | None = None,
    selection: Selection = Selection(),  # noqa: B008
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings for auditing `paths`: the settings file, and the command line over it.

    `config` is a pyproject.toml or a toml file of bare keys; without it the nearest pyproject.toml that has a
    `[tool.mpaudit]` is taken, upward from the folder that holds all of `paths`. `selection` and `overrides` (fields of
    Settings) come from the command line. Raises SettingsError.
    """
    file = config if config is not None else find(paths, cwd)
    table = read(file) if file is not None else None
    fields, chosen = _from_table(table or {}, file)
    root = cwd if file is None else Path(os.path.abspath(file)).parent
    return Settings(
        root=str(root),
        file=None if file is None else os.path.abspath(file),
        codes=_enabled(chosen, selection),
        **{**fields, **(overrides or {})},
    )


def find(paths: Sequence[str], cwd: Path) -> Path | None:
    """The nearest pyproject.toml with a `[tool.mpaudit]`, upward from the deepest folder that holds all paths."""
    absolute = [os.path.normpath(os.path.join(cwd, path)) for path in paths] or [str(cwd)]
    try:
        start = Path(os.path.commonpath(absolute))
    except ValueError:  # paths on several drives
        start = cwd
    if not start.is_dir():
        start = start.parent
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and b"mpaudit" in _bytes(file) and read(file) is not None:
            return file
    return None


def read(file: Path) -> dict[str, Any] | None:
    """The settings table of a file; None where a pyproject.toml has none. Raises SettingsError."""
    table = _toml(file)
    if file.name != "pyproject.toml":
        return table
    try:
        tools = _table(table.get("tool", {}))
        return _table(tools["mpaudit"]) if "mpaudit" in tools else None
    except SettingsError as error:
        raise SettingsError(f"{file}: tool.mpaudit: {error}") from None


def prefixes(selectors: Sequence[str]) -> tuple[str, ...]:
    """Code prefixes of codes, prefixes and rule names; «ALL» is every code. Raises SettingsError."""
    words = [selector.strip() for selector in selectors]
    if words and not any(words):  # an empty variable of a shell is no wish to select nothing
        raise SettingsError("no rule matches ''")
    return tuple(map(_prefix, filter(None, words)))


def torch_version(text: str) -> tuple[int, ...]:
    """(2, 3) of "2.3". Raises SettingsError."""
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", text):
        raise SettingsError(f"{text!r} is not a torch version such as '2.3'")
    return tuple(map(int, text.split(".")))


def device(text: str) -> str:
    """A device type of torch. Raises SettingsError."""
    if text not in DEVICES:
        raise SettingsError(f"{text!r} is not a device type ({', '.join(DEVICES)}){nearest(text, DEVICES)}")
    return text


def is_pattern(text: str) -> bool:
    """Whether git would read a line of a .gitignore file as a pattern (or as nothing, where it is blank)."""
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([text])
    except ValueError:
        return False
    return True


def _prefix(selector: str) -> str:
    if selector.upper() == "ALL":
        return "MPA"
    prefix = rulebook.expand(selector)
    if prefix is None:
        known = [word for rule in rulebook.headers().values() for word in (rule.code, rule.name)]
        raise SettingsError(f"no rule matches {selector!r}{nearest(selector, known)}")
    return prefix


def _enabled(*layers: Selection) -> tuple[str, ...]:
    """The codes that are on. In one layer the longest matching prefix decides, and `ignore` wins a tie."""
    enabled = set(rulebook.headers())
    for layer in layers:
        if layer.select is not None:
            enabled = set()
        for code in rulebook.headers():
            wanted = _longest(code, (*(layer.select or ()), *layer.extend_select))
            unwanted = _longest(code, layer.ignore)
            if unwanted and unwanted >= wanted:
                enabled.discard(code)
            elif wanted:
                enabled.add(code)
    return tuple(sorted(enabled))


def _longest(code: str, selectors: Sequence[str]) -> int:
    return max((len(selector) for selector in selectors if code.startswith(selector)), default=0)


# ------------------------------------------------------------------- from toml


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None


def _toml(file: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(_bytes(file).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None
    return table


def _from_table(table: dict[str, Any], file: Path | None) -> tuple[dict[str, Any], Selection]:
    """The fields of Settings that the table sets, and its selection."""
    read: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            raise SettingsError(f"{file}: unknown key {key!r}{nearest(key, _KEYS)}")
        try:
            read[key] = _KEYS[key](value)
        except SettingsError as error:
            raise SettingsError(f"{file}: {key}: {error}") from None
    selection = Selection(
        select=read.pop("select", None),
        extend_select=read.pop("extend-select", ()),
        ignore=read.pop("ignore", ()),
    )
    read["exclude"] = (*read.get("exclude", EXCLUDE), *read.pop("extend-exclude", ()))
    return {key.replace("-", "_"): value for key, value in read.items()}, selection


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{value!r} is not a string")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise SettingsError(f"{value!r} is not a list of strings")
    return tuple(map(_text, value))


def _pattern(text: str) -> str:
    if not is_pattern(text):
        raise SettingsError(f"{text!r} is not a gitignore pattern")
    return text


def _patterns(value: object) -> tuple[str, ...]:
    return tuple(map(_pattern, _texts(value)))


def _codes(value: object) -> tuple[str, ...]:
    return prefixes(_texts(value))


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{value!r} is not a table")
    return value


def _per_file_ignores(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((_pattern(glob), _codes(codes)) for glob, codes in sorted(_table(value).items()))


def _severities(value: object) -> tuple[tuple[str, Severity], ...]:
    found = []
    for selector, severity in _table(value).items():
        prefix = _prefix(selector)
        found += [(prefix, _severity(severity))]
    # shorter prefixes first, so that the last match is the most specific
    exact = {code: level for prefix, level in sorted(found) for code in rulebook.headers() if code.startswith(prefix)}
    return tuple(sorted(exact.items()))


def _one_of(words: Sequence[str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            near = nearest(value, words) if isinstance(value, str) else ""
            raise SettingsError(f"{value!r} is none of {', '.join(words)}{near}")
        return str(value)

    return read


def _severity(value: object) -> Severity:
    return Severity(_one_of([severity.value for severity in Severity])(value))


def _confidence(value: object) -> Confidence:
    return Confidence(_one_of([confidence.value for confidence in Confidence])(value))


def fail_on(value: object) -> Severity | None:
    """The severity that fails a run; None for "never". Raises SettingsError."""
    word = _one_of(FAIL_ON)(value)
    return None if word == "never" else Severity(word)


_KEYS: dict[str, Callable[[Any], Any]] = {
    "select": _codes,
    "extend-select": _codes,
    "ignore": _codes,
    "per-file-ignores": _per_file_ignores,
    "exclude": _patterns,
    "extend-exclude": _patterns,
    "severity": _severities,
    "min-severity": _severity,
    "min-confidence": _confidence,
    "fail-on": fail_on,
    "target-torch": lambda value: torch_version(_text(value)),
    "target-device": lambda value: device(_text(value)),
}
