"""Runs the code cells of a notebook as one script, as Jupyter would without its magics."""

from __future__ import annotations

import linecache
import re
import sys

import msgspec

_MAGIC = re.compile(r"^(\s*)(?:[%!].*|\?.*|[\w.]+\?{1,2}\s*|\w+\s*=\s*[%!].*)$")


class _Cell(msgspec.Struct):
    cell_type: str
    source: str | list[str] = ""

    @property
    def text(self) -> str:
        return self.source if isinstance(self.source, str) else "".join(self.source)


class _Notebook(msgspec.Struct):
    cells: list[_Cell]


def code_cells(data: bytes) -> list[tuple[int, str]]:
    """Number (from 1, over all cells) and code of each code cell, magics and shell lines blanked, lines kept. A cell
    that starts with `%%` is blanked whole, but for those whose body is timed Python. Raises msgspec.DecodeError for
    what is no notebook."""
    cells = msgspec.json.decode(data, type=_Notebook).cells
    return [(number, blank(cell.text)) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"]


def blank(source: str) -> str:
    lines = source.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first.startswith("%%"):
        if not first.startswith(("%%time", "%%capture", "%%prun")):
            return "\n" * (len(lines) - 1)
        lines[lines.index(first)] = ""
    return "\n".join(_MAGIC.sub(r"\1pass", line) for line in lines)


def run() -> None:
    """Runs the notebook named by `sys.argv[1]` in `__main__`."""
    del sys.argv[0]
    path = sys.argv[0]
    with open(path, "rb") as file:
        cells = code_cells(file.read())
    space = sys.modules["__main__"].__dict__
    space.pop("run", None)
    for number, code in cells:
        name = f"{path}[{number}]"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        exec(compile(code, name, "exec"), space)
