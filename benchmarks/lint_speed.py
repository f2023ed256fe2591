"""How fast `mpaudit lint` is on a tree, beside its peers, in one run.

    python benchmarks/lint_speed.py TREE [--changed FILE] [--runs N] [--timeout SECONDS] [--torchfix]

Works on a copy of TREE. Times are wall seconds of whole processes, the median of N; CPU and peak memory are those of
the process and its children (peak: of the largest of them).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
MPAUDIT = [sys.executable, "-m", "mpaudit", "lint", "--format", "json", "--fail-on", "never"]
PARSE = """
import pathlib, sys, warnings
warnings.simplefilter("ignore")
from {module} import {function} as parse
for file in pathlib.Path(".").rglob("*.py"):
    try:
        parse(file.read_bytes())
    except Exception:
        pass
"""


class Cost(NamedTuple):
    wall: float
    cpu: float
    peak: float
    """MB"""
    status: int


def measure(command: list[str], folder: Path, timeout: float) -> Cost | None:
    """What a process and its children cost; None where it took longer than `timeout` seconds or does not exist."""
    meter = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss, done.returncode)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ""}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", meter, *command], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None
    wall = time.perf_counter() - start
    if process.returncode:
        return None
    cpu, peak, status = out.split()
    return Cost(wall, float(cpu), float(peak) * (1 if platform.system() == "Darwin" else 1024) / 1e6, int(status))


def median(costs: Iterable[Cost]) -> Cost:
    walls, cpus, peaks, statuses = zip(*costs, strict=True)
    return Cost(statistics.median(walls), statistics.median(cpus), max(peaks), max(statuses))


def forget(tree: Path) -> None:
    for name in (".mpaudit_cache", ".ruff_cache"):
        for folder in list(tree.rglob(name)):
            shutil.rmtree(folder)


def torchfix(folder: Path) -> list[str] | None:
    """TorchFix in an environment of its own: it pins an old LibCST."""
    python = folder / "bin" / "python"
    steps = [[sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", "torchfix"]]
    for step in steps:
        if subprocess.run(step, capture_output=True, check=False).returncode:
            return None
    return [str(folder / "bin" / "torchfix"), "."]


def stages(tree: Path) -> list[tuple[str, int | str, str]]:
    """Files and MB that each stage of the sieve lets through, from a cached run's counts and a cold one."""
    code = (
        "import sys; from pathlib import Path; from mpaudit import settings as s\n"
        "from mpaudit.static import run; from mpaudit.static.loading import Counts\n"
        "c = Counts(); cwd = Path.cwd()\n"
        "set_ = s.load((), cwd=cwd, config=None, selection=s.Selection(None, (), ()), overrides={})\n"
        "run.lint((), set_, cwd=cwd, use_cache=False, counts=c)\n"
        "print(*[getattr(c, n) for n in ('files', 'bytes', 'seeds', 'admitted', 'outlined_bytes', 'lowered',"
        " 'lowered_bytes', 'parsed', 'parsed_bytes')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        return []
    files, size, seeds, admitted, outlined, units, lowered, parsed, trees = map(int, done.stdout.split())
    return [
        ("read and scanned", f"{files:,} files", f"{size / 1e6:.2f}"),
        ("with a trigger", f"{seeds:,} files", ""),
        ("admitted: `ast`", f"{admitted:,} files", f"{outlined / 1e6:.2f}"),
        ("followed: `ast`", f"{units:,} statements", f"{lowered / 1e6:.2f}"),
        ("parsed: LibCST", f"{parsed:,} statements", f"{trees / 1e6:.2f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--changed", help="file that changes, below TREE; default: the largest with a backward in it")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--torchfix", action="store_true", help="install TorchFix and run it once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.home()) as place:
        tree = Path(place) / "tree"
        shutil.copytree(options.tree, tree, symlinks=True, ignore=shutil.ignore_patterns(".mpaudit_cache"))
        report(tree, options, Path(place))


def report(tree: Path, options: argparse.Namespace, place: Path) -> None:
    files = sorted(tree.rglob("*.py"))
    size = sum(file.stat().st_size for file in files) / 1e6
    training = [file for file in files if b".backward(" in file.read_bytes()]
    changed = tree / options.changed if options.changed else max(training or files, key=lambda f: f.stat().st_size)
    name = str(changed.relative_to(tree))
    time.sleep(2.5)  # a file younger than two seconds is not recognised by its times

    def edit() -> None:
        with changed.open("ab") as file:
            file.write(b"\n# changed\n")

    def nothing() -> None:
        pass

    here = [sys.executable, "-m"]
    rows: list[tuple[str, list[str] | None, Callable[[], None], int]] = [
        ("mpaudit, cold", MPAUDIT, lambda: forget(tree), 1),
        ("mpaudit, warm", MPAUDIT, nothing, options.runs),
        ("mpaudit, no cache", [*MPAUDIT, "--no-cache"], nothing, 1),
        ("mpaudit, one file changed", MPAUDIT, edit, options.runs),
        ("mpaudit, that file changed (pre-commit)", [*MPAUDIT, name], edit, options.runs),
        ("mpaudit, that file unchanged (pre-commit)", [*MPAUDIT, name], nothing, options.runs),
        ("ruff check, cold", [*here, "ruff", "check", "--isolated", "."], lambda: forget(tree), options.runs),
        ("ruff check, warm", [*here, "ruff", "check", "--isolated", "."], nothing, options.runs),
        ("flake8", [*here, "flake8", "--isolated", "."], nothing, 1),
        ("ast.parse of every file", [sys.executable, "-c", PARSE.format(module="ast", function="parse")], nothing, 1),
        ("libcst.parse_module of every file",
         [sys.executable, "-c", PARSE.format(module="libcst", function="parse_module")], nothing, 1),
    ]  # fmt: skip
    if options.torchfix:
        rows.append(("TorchFix", torchfix(place / "torchfix"), nothing, 1))
    print(f"{len(files):,} files, {size:.2f} MB; changed file: {name}")
    print(f"{date.today()}, {platform.system()} {platform.machine()}, {_cores()} cores, load {os.getloadavg()[0]:.1f},")
    print("; ".join(f"{tool} {_version(tool)}" for tool in ("mpaudit", "libcst", "ruff", "flake8")), end="; ")
    print(f"Python {platform.python_version()}\n")
    table, walls = [], {}
    for label, command, before, runs in rows:
        absent = command is None or (command[1:2] == ["-m"] and not _version(command[2])[0].isdecimal())
        costs = []
        for _ in range(0 if absent else runs):
            before()
            cost = measure(command or [], tree, options.timeout)
            if cost is None:
                break
            costs.append(cost)
        if not costs:
            table.append((label, "absent" if absent else f"> {options.timeout:.0f}", "", "", ""))
            continue
        cost = median(costs)
        walls[label] = cost.wall
        failed = "" if cost.status in (0, 1) else f" (exit {cost.status})"
        table.append(
            (label + failed, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.peak:.0f}", f"{size / cost.wall:.2f}")
        )
    print(tabulate(table, ("", "wall s", "CPU s", "peak MB", "MB/s"), tablefmt="github", disable_numparse=True))
    print("\n" + tabulate(stages(tree), ("stage", "let through", "MB"), tablefmt="github", disable_numparse=True))
    if {"TorchFix", "mpaudit, cold"} <= walls.keys():
        print(f"\nTorchFix / mpaudit cold: {walls['TorchFix'] / walls['mpaudit, cold']:.1f}")
    if {"ruff check, warm", "mpaudit, warm"} <= walls.keys():
        print(f"mpaudit warm / ruff warm: {walls['mpaudit, warm'] / walls['ruff check, warm']:.1f}")


def _version(tool: str) -> str:
    if tool == "mpaudit":
        from mpaudit import __version__

        return __version__
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
