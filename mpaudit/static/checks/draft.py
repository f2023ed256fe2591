"""What a check gives: a finding before names, severities and settings are joined to it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from types import MappingProxyType

from msgspec import Struct

from mpaudit.model import Confidence, Severity

from ..program.definitions import FunctionInfo, Site
from ..program.keeping import Kept
from ..program.networks import Networks
from ..program.trace import Trace
from ..program.values import Key


class Draft(Struct, frozen=True, gc=False):
    code: str
    site: Site
    message: str
    remedy: str
    confidence: Confidence
    related: tuple[tuple[Site, str], ...] = ()
    severity: Severity | None = None
    """In place of the page's, where one case is worse or milder than the rule."""


class Target(Struct, frozen=True, gc=False):
    """What the audit is for; None is the newest torch and any device."""

    torch: tuple[int, ...] | None = None
    device: str | None = None


class Seen(Struct, frozen=True, gc=False):
    trace: Trace
    networks: Networks
    target: Target
    sciences: bool
    """The project computes in float64 on purpose, by what it imports."""
    tf32: frozenset[str]
    """Folders with a file that turns TF32 on."""
    low_precision: frozenset[str] = frozenset()
    """Files that speak of a low precision."""
    lowering: frozenset[str] = frozenset()
    """Files that may run together with one that computes in a low precision without autocast."""
    casting: frozenset[str] = frozenset()
    """Files that may run together with one that enters an autocast."""
    names_grad_scaler: bool = False
    """Something of the project speaks of torch's GradScaler."""
    compute_dtypes: frozenset[Key] = frozenset()
    """Constants for the dtype that the project's networks cast to by themselves."""
    modules_cast: bool = False
    """A class of modules enters an autocast in a method of its own."""
    simulators: frozenset[str] = frozenset()
    """Files of reinforcement learning."""
    toys: frozenset[str] = frozenset()
    """Files that load very small data."""
    tables: frozenset[str] = frozenset()
    """Files that speak of columns of tables."""
    searches: frozenset[str] = frozenset()
    """Files that search for an architecture."""
    small_images: frozenset[str] = frozenset()
    """Files that load images of 32 by 32 pixels and none that are larger."""
    small_nets: frozenset[str] = frozenset()
    """Scripts that train a narrow network for such images unless an option says otherwise."""
    narrow_nets: frozenset[str] = frozenset()
    """Scripts that start a network with very few channels unless an option says otherwise."""
    shrinking: frozenset[str] = frozenset()
    """Scripts of such images whose network was made for larger ones and leaves next to nothing of them."""
    spectra: frozenset[str] = frozenset()
    """Files of programs that classify pixels by small patches."""
    volumes: frozenset[str] = frozenset()
    """Files that make networks for volumes, of a library that lets them be narrow."""
    on_cpu: frozenset[str] = frozenset()
    """Scripts that stay on the CPU unless an option says otherwise."""
    untold: frozenset[Site] = frozenset()
    """Backward passes that stay on the CPU by the default of a parameter, which no call says otherwise."""
    graphs: frozenset[str] = frozenset()
    """Files that work with a library of graphs."""
    defaults: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    """Script → options of the command line that speak of a precision → what they are unless they are told otherwise."""
    trials: frozenset[Site] = frozenset()
    """Backward passes in a few steps on random numbers."""
    self_checks: frozenset[Site] = frozenset()
    """Calls in what a file does by itself, on random numbers, to try out what it defines."""
    aged: frozenset[str] = frozenset()
    """Files that only a torch from before autocast runs."""
    small_batches: frozenset[str] = frozenset()
    """Scripts whose batches hold a handful of examples unless an option says otherwise."""
    recurrent: frozenset[str] = frozenset()
    """Scripts that train a recurrent network unless an option says otherwise."""
    features: frozenset[str] = frozenset()
    """Scripts that train on features which another network has computed before."""
    kernels: frozenset[str] = frozenset()
    """Files with CUDA kernels of their own, or that import such a file."""
    rehearsals: frozenset[Site] = frozenset()
    """Backward passes in functions that test or measure something."""
    stepwise: frozenset[str] = frozenset()
    """Files with a network that goes through a sequence cell by cell."""
    resumable: frozenset[Site] = frozenset()
    """Checkpoints that some code of the project may resume from."""
    homes: Mapping[Site, FunctionInfo | None] = MappingProxyType({})
    saved_otherwise: frozenset[tuple[Site, Hashable]] = frozenset()
    """Checkpoints, and scalers of objects that have a method of their own in the place of the one that saves."""
    """Checkpoint → the function that writes it."""
    unset: frozenset[Hashable] = frozenset()
    """Scalers that are read from an attribute which nothing sets."""
    never_saved: tuple[Kept, ...] = ()
    """Scalers whose state is loaded and never saved."""
    never_loaded: tuple[Kept, ...] = ()
    """Scalers whose state is saved and never loaded."""
    in_vain: tuple[tuple[Kept, Kept], ...] = ()
    """Loads of an optimizer's state by what gets the scaler too and leaves it aside, and where that is saved."""
    resuming_loads: tuple[Kept, ...] = ()
    """Where the state of an optimizer or a scaler is loaded."""
    for_a_while: frozenset[Site] = frozenset()
    """Calls that set the default dtype in what sets it back."""
    shims: frozenset[str] = frozenset()
    """Files that choose between torch versions: by hasattr, by a version, by catching ImportError or AttributeError."""


def is_test(site: Site) -> bool:
    """A test file: what it does slowly or in float64 trains nothing."""
    return is_test_file(site.path)


def is_test_file(path: str) -> bool:
    parts = path.replace("\\", "/").split("/")
    return parts[-1].startswith("test_") or parts[-1] == "conftest.py" or not _TESTS.isdisjoint(parts[-4:-1])


_TESTS = frozenset(("tests", "testing"))


def in_tests(site: Site) -> bool:
    """A file of a suite of tests: it takes a step or two and asserts on them, nobody uses what it trains."""
    return "tests" in site.path.replace("\\", "/").split("/")[:-1] and is_test(site)


_ASIDE = frozenset(
    (
        "smoke",
        "tutorial",
        "tutorials",
        "archive",
        "archived",
        "archives",
        "backup",
        "trash",
        "deprecated",
        "legacy",
        "benchmark",
        "benchmarks",
        "toy",
        "toys",
    )
)
_WORD = re.compile(r"[A-Za-z]+")


def is_aside(site: Site) -> bool:
    """Code that is kept or shown, or that measures, by the names of its folders and file; a search for a learning rate
    is over after some hundred steps."""
    folder, _, name = site.path.lower().rpartition("/")
    kept = set(_WORD.findall(folder)) | (set(_WORD.findall(name)) - {"legacy"})  # `legacy_train.py` is run as before
    return bool(_ASIDE & kept) or "lr_finder" in site.path.lower() or "find_lr" in site.path.lower()


def name_of(trace: Trace, ident: Hashable, otherwise: str) -> str:
    """What the user calls an object; for an unknown one the last part of where it came from."""
    found = trace.names.get(ident)
    if found:
        return found
    if isinstance(ident, tuple) and ident and isinstance(ident[-1], str):
        return ident[-1]
    return otherwise
