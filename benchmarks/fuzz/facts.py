"""Coverage-guided fuzzing of everything between the bytes of a file and its facts.

    python benchmarks/fuzz/facts.py CORPUS [-max_total_time=3600] [other options of libFuzzer]

CORPUS is a folder for inputs; where it is empty it is filled with the examples of the rule pages. For each input: the
bytes are decoded, scanned for triggers and import lines, outlined by `ast` and lowered by LibCST and by `ast`, whole
and unit by unit. What the user must never see fails the run: an exception, a result that is not plain data, facts that
`ast` gives and LibCST does not, more than five seconds (`-timeout=5` is the default here), a dead process. Needs
atheris (`pip install atheris`).
"""

from __future__ import annotations

import random
import sys
from hashlib import blake2b
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mpaudit.static"]):
    from mpaudit import rulebook
    from mpaudit.static.facts import ir
    from mpaudit.static.facts.lower import lower, pack, unpack
    from mpaudit.static.facts.quick import quickly
    from mpaudit.static.outline import outline, split_lines, unit_text
    from mpaudit.static.syntax import decode
    from mpaudit.static.triggers import Scanner, import_lines

TRIGGERS = [pattern for header in rulebook.headers().values() for pattern in header.triggers]
BYTES, TEXT = Scanner(TRIGGERS, bytes), Scanner(TRIGGERS, str)


def one_input(data: bytes) -> None:
    BYTES.search(data)
    import_lines(data)
    text = decode(data)
    if isinstance(text, ir.SyntaxProblem):
        return
    _check(text)
    found = outline(text, TEXT)
    if isinstance(found, ir.SyntaxProblem):
        return
    lines = split_lines(text)
    for unit in found.units:
        assert 1 <= unit.first_line <= unit.last_line <= max(len(lines), 1), unit
        _check(unit_text(lines, unit))


def _check(text: str) -> None:
    found, quick = lower(text), quickly(text)
    # LibCST rejects some of what Python takes: after a tab, spaces that go on from a line without one
    assert quick is None or quick == found or isinstance(found, ir.SyntaxProblem), text
    if isinstance(found, ir.SyntaxProblem):
        assert found.line >= 1, found
        assert found.column >= 1, found
        assert found.message
    else:
        assert unpack(pack(found)) == found


def examples() -> list[bytes]:
    return [
        example.source.encode()
        for rule in rulebook.rules().values()
        for group in (*rule.bad, *rule.good, *rule.fixed, *rule.limits)
        for example in group
    ]


def seed(corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for data in examples():
        (corpus / blake2b(data, digest_size=8).hexdigest()).write_bytes(data)


# Bytes changed at random are nearly always a syntax error: half of the changes keep lines and tokens whole.
LINES = sorted({line for data in examples() for line in data.splitlines()})
TOKENS = [
    *b"if for while with try: except: else: finally: def class return yield await async lambda match case".split(),
    *b"( ) [ ] { } : ; , = == := -> ** * @ @torch.no_grad() f'{x!r:>{w}}' b'' 0x1F 1e-8 1j ... None not".split(),
    *b"scaler.scale(loss).backward() scaler.step(opt) scaler.update() autocast() type X[T]=int nonlocal".split(),
    *("é漢".encode(), b"\t", b"\x0c", b"\r", b"\\", b"'''", b'"""'),
]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    pick = random.Random(seed)
    if pick.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    lines = data.split(b"\n")
    for _ in range(pick.randint(1, 4)):
        place = pick.randrange(len(lines))
        kind = pick.randrange(6)
        if kind == 0:
            lines.insert(place, b" " * (4 * pick.randrange(4)) + pick.choice(LINES).lstrip())
        elif kind == 1:
            lines[place] = b"    " + lines[place]
        elif kind == 2:
            lines[place] = lines[place].removeprefix(b"    ")
        elif kind == 3 and len(lines) > 1:
            del lines[place]
        elif kind == 4:
            lines[place:place] = lines[place : place + pick.randint(1, 8)] * pick.choice((1, 1, 2, 30))
        else:
            words = lines[place].split(b" ")
            words.insert(pick.randrange(len(words) + 1), pick.choice(TOKENS))
            lines[place] = b" ".join(words)
    return b"\n".join(lines)[:max_size]


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    seed(Path(sys.argv[1]))
    options = ["-timeout=5", "-max_len=20000", "-rss_limit_mb=2048", *sys.argv[2:]]
    atheris.Setup([sys.argv[0], *options, sys.argv[1]], one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
