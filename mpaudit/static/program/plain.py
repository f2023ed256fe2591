"""What YAML and JSON give: dicts, lists, texts and numbers. `cfg.lr` of a dict raises, and what follows never runs."""

from __future__ import annotations

from . import makers
from .frame import Run
from .shapes import Args, Keywords
from .values import Ext, Key, Sym, Value

_PARSERS = frozenset(("yaml.safe_load", "yaml.full_load", "yaml.load", "json.load", "json.loads"))
_ATTRIBUTES = frozenset(name for kind in (dict, list, str, int, float, bytes) for name in dir(kind))


def note(run: Run, name: str, args: Args, keywords: Keywords, result: Value) -> None:
    """Remembers what a call of `name` gives, if it parses. A loader of the project's own may make anything."""
    if name not in _PARSERS or not isinstance(result, Sym) or result.key[0] != "call":
        return
    loader = makers.argument(args, keywords, 1, "Loader") if name == "yaml.load" else None
    hooked = any(word in ("object_hook", "cls", "object_pairs_hook", "") for word, _ in keywords)
    if not hooked and (loader is None or (isinstance(loader, Ext) and loader.name.startswith("yaml."))):
        run.plain.add(result.key)


def lacks(run: Run, base: Value, name: str) -> bool:
    """Whether asking `base` for an attribute raises."""
    return bool(run.plain) and isinstance(base, Sym) and name not in _ATTRIBUTES and _parsed(base.key) in run.plain


def _parsed(key: Key) -> Key:
    """What was parsed, of an element of an element of it."""
    while key[0] == "sub":
        key = key[1]
    return key
