"""What a class says of its methods."""

from __future__ import annotations

from mpaudit.static.facts.quick import quickly
from mpaudit.static.outline import outline
from mpaudit.static.program.definitions import ModuleInfo, define

TEXT = """
class Prefetcher:
    def __init__(self, loader):
        self.loader = loader
        self.reset()

    def reset(self):
        self.source = iter(self.loader)
        self.fetch()

    def fetch(self):
        self.batch = next(self.source, None)

    def following(self):
        batch = self.batch
        self.fetch()
        return batch

    def size(self):
        return len(self.loader)
"""


def module() -> ModuleInfo:
    found, statements = outline(TEXT, _Nothing()), quickly(TEXT)
    assert not hasattr(found, "message")
    assert statements is not None
    made = ModuleInfo("a.py", ("a",), False, found, ((found.units[0], statements),))  # type: ignore[union-attr,arg-type]
    define(made)
    return made


class _Nothing:
    def starts(self, text: str) -> list[int]:
        return []


def test_what_a_method_assigns_counts_for_those_that_name_it() -> None:
    cls = module().classes["Prefetcher"]
    assigned = {name: cls.assigned_by(method) for name, method in cls.methods.items()}
    assert assigned == {
        "__init__": {"loader", "source", "batch"},
        "reset": {"source", "batch"},
        "fetch": {"batch"},
        "following": {"batch"},
        "size": set(),
    }
