"""What a function that is not followed gives back of what it got: `return model, optimizer`."""

from __future__ import annotations

from ..facts import ir
from .shapes import Args, Keywords
from .values import Func, Key, Sym, Tup, Value, choice


def handed_back(func: Func, args: Args, keywords: Keywords, otherwise: Key) -> Value | None:
    """None where it gives back anything else; what is new of a tuple has the name `otherwise` and its place."""
    forms = func.info.gives_back
    if not forms or _is(func, "classmethod"):
        return None
    given = _bound(func, args, keywords)
    values: list[Value] = []
    for form in forms:
        if isinstance(form, str):
            if form not in given:
                return None
            values.append(given[form])
            continue
        new = (Sym(("sub", otherwise, ("const", i))) for i in range(len(form)))
        values.append(Tup(tuple(given.get(name, other) for name, other in zip(form, new, strict=True))))
    return values[0] if len(values) == 1 else choice(values, otherwise)


def _bound(func: Func, args: Args, keywords: Keywords) -> dict[str, Value]:
    """The arguments by the names of their parameters, as far as they are told one by one."""
    node = func.info.node
    assert node is not None
    values = list(args)
    if func.self_value is not None and not _is(func, "staticmethod"):
        values.insert(0, func.self_value)
    names = [param.name for param in node.params if param.kind == "pos"]
    bound = dict(zip(names, values, strict=False))
    if any(isinstance(value, Sym) and value.key[0] == "star" for value in values):
        bound = {}
    return bound | {name: value for name, value in keywords if name}


def _is(func: Func, decorator: str) -> bool:
    node = func.info.node
    return node is not None and any(isinstance(e, ir.Name) and e.id == decorator for e, _ in node.decorators)
