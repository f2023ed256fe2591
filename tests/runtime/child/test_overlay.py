"""The overlay against the file system itself: the same operations, drawn at random, give the same answers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.runtime.launching import launch

OPERATIONS = """
import glob, io, os, pathlib, random, shutil, sys

draw = random.Random(int(sys.argv[1]))
NAMES = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "l", "l/a"]


def name():
    return draw.choice(NAMES)


def write(mode, text):
    with open(name(), mode) as file:
        file.write(text)


def read():
    with open(name()) as file:
        return file.read()


def patch():
    with open(name(), "r+") as file:
        file.seek(1)
        file.write("P")


def low(flags):
    descriptor = os.open(name(), flags)
    try:
        return os.write(descriptor, b"low") if flags & 3 else os.read(descriptor, 9)
    finally:
        os.close(descriptor)


def entries():
    with os.scandir(name()) as found:
        return sorted((entry.name, entry.is_dir(), entry.is_file(), entry.is_symlink()) for entry in found)


def facts(path):
    return os.path.exists(path), os.path.isfile(path), os.path.isdir(path), os.path.islink(path), os.path.lexists(path)


def copytree():
    source, target = name(), name()
    if not os.path.realpath(target).startswith(os.path.realpath(source)):  # it would copy into itself for ever
        shutil.copytree(source, target)


def rmtree():
    try:
        shutil.rmtree(name())
    except OSError:  # by path the error of a link is another than by descriptor
        return "OSError"


def walk():
    return sorted((top, sorted(folders), sorted(files)) for top, folders, files in os.walk("."))


def visit():
    here = os.getcwd()
    os.chdir(name())
    try:
        return os.path.relpath(os.getcwd(), here), sorted(os.listdir())
    finally:
        os.chdir(here)


OPERATIONS = [
    lambda: write("w", "new"), lambda: write("a", "more"), lambda: write("x", "only"), patch, read, read, read,
    lambda: low(os.O_RDONLY), lambda: low(os.O_WRONLY), lambda: low(os.O_WRONLY | os.O_CREAT),
    lambda: low(os.O_WRONLY | os.O_CREAT | os.O_EXCL), lambda: low(os.O_RDWR | os.O_TRUNC),
    lambda: os.remove(name()), lambda: os.unlink(name()), lambda: os.rmdir(name()), lambda: os.mkdir(name()),
    lambda: os.makedirs(name(), exist_ok=True), lambda: os.rename(name(), name()), lambda: os.replace(name(), name()),
    lambda: sorted(os.listdir(name())), entries, lambda: facts(name()), lambda: facts(name()), walk, visit,
    lambda: sorted(path for path in glob.glob("**", recursive=True) if path.count("/") < 20),
    lambda: sorted(map(str, pathlib.Path().rglob("*"))),
    rmtree, lambda: shutil.rmtree(name(), ignore_errors=True),
    lambda: shutil.copyfile(name(), name()), copytree,
    lambda: shutil.move(name(), name()), lambda: pathlib.Path(name()).write_text("path"),
    lambda: pathlib.Path(name()).touch(), lambda: pathlib.Path(name()).unlink(missing_ok=True),
    lambda: os.path.getsize(name()), lambda: os.truncate(name(), 2), lambda: io.open(name(), "rb").read(),
    lambda: os.symlink(draw.choice(["a", "b", "d", os.path.abspath("d")]), "l"), lambda: os.readlink(name()),
]
for number in range(int(sys.argv[2])):
    choice = draw.randrange(len(OPERATIONS))
    try:
        answer = OPERATIONS[choice]()
    except OSError as error:
        answer = type(error).__name__, error.errno
    except shutil.Error as error:
        answer = "shutil.Error"
    print(number, choice, str(answer).replace(os.getcwd(), "HERE"))
"""


def tree(folder: Path) -> str:
    """A hash of all names, contents and links."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        what = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b"/"
        digest.update(b"%d %s %s\n" % (len(what), str(path.relative_to(folder)).encode(), what))
    return digest.hexdigest()


def make(home: Path) -> None:
    (home / "d" / "e").mkdir(parents=True)
    for name in ("a", "d/a", "d/e/a"):
        (home / name).write_text(f"old {name}")
    (home / "operations.py").write_text(OPERATIONS)


ROUNDS = 50

DRIVER = f"""
import os, runpy, sys
logs = sys.argv[1] if len(sys.argv) > 1 else os.environ["MPAUDIT_RUN"]
for seed in range({ROUNDS}):
    process = os.fork()
    if not process:
        os.dup2(os.open(os.path.join(logs, f"log{{seed}}"), os.O_WRONLY | os.O_CREAT), 1)
        os.chdir(f"round{{seed}}")
        sys.argv[1:] = [str(seed), "120"]
        runpy.run_path("operations.py", run_name="operations")
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, seed
"""


def test_operations_drawn_at_random_give_the_same_answers(tmp_path: Path) -> None:
    guarded, plain, logs = tmp_path / "guarded", tmp_path / "plain", tmp_path / "logs"
    logs.mkdir()
    for place in (guarded, plain):
        for seed in range(ROUNDS):
            make(place / f"round{seed}")
        (place / "train.py").write_text(DRIVER)
    before = tree(guarded)
    subprocess.run([sys.executable, "train.py", str(logs)], cwd=plain, check=True)
    record = launch(guarded, DRIVER)
    assert record.outcome == "no-steps", record.stderr
    assert tree(guarded) == before
    for seed in range(ROUNDS):
        ours = (tmp_path / "run" / f"log{seed}").read_text().splitlines()
        theirs = (logs / f"log{seed}").read_text().splitlines()
        assert ours == theirs, next((seed, a, b) for a, b in zip(ours, theirs, strict=False) if a != b)
