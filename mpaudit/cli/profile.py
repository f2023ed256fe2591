"""`mpaudit profile`."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import click

from mpaudit.audit import to_json
from mpaudit.cli import output, signals
from mpaudit.errors import UsageError, nearest
from mpaudit.render import REPORT_FORMATS, report
from mpaudit.render.evidence import BY
from mpaudit.runtime.plan import ROUNDS, STEPS, WARMUP
from mpaudit.runtime.protocol import VARIANTS, Stop, Target, Variant

OK, SCRIPT_FAILED = 0, 1
AUDIT_FILE = "audit.json"
DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")

EMULATIONS: dict[str, Variant] = {"cuda-amp-fp16": "amp-fp16", "cuda-amp-bf16": "amp-bf16"}
RUNS_HELP = "Runs of each variant. An interval takes three."
EVIDENCE_HELP = "Runs of each variant with probes: ops, memory, gradients. Two give op-time ratios."

INSTALL = "`mpaudit profile` needs torch: python -m pip install 'mpaudit[profile]'"


def _variants(_: click.Context, __: click.Parameter, value: str | None) -> tuple[Variant, ...] | None:
    """`--variants fp32,amp-bf16`; None where the option is not given."""
    if value is None:
        return None
    wanted = [word.strip() for word in value.split(",") if word.strip()]
    for word in wanted:
        if word not in VARIANTS:
            raise UsageError(f"--variants: {word!r} is none of {', '.join(VARIANTS)}{nearest(word, VARIANTS)}")
    if not wanted:
        raise UsageError(f"--variants: name some of {', '.join(VARIANTS)}")
    return tuple(variant for variant in VARIANTS if variant in wanted)


@click.command("profile", context_settings={"allow_interspersed_args": False})
@click.argument("script", type=click.Path())
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.option("-m", "module", is_flag=True, help="SCRIPT is the name of a module, as with `python -m`.")
@click.option("--variants", callback=_variants, metavar="LIST", help=f"Of {','.join(VARIANTS)}. Default: what suits.")
@click.option("--warmup", type=click.IntRange(min=1), default=WARMUP, show_default=True, help="Steps not counted.")
@click.option("--steps", type=click.IntRange(min=3), default=STEPS, show_default=True, help="Steps measured per run.")
@click.option("--runs", type=click.IntRange(min=1), default=ROUNDS, show_default=True, help=RUNS_HELP)
@click.option("--time-limit", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds per run.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True)
@click.option(
    "--stop", type=click.Choice(get_args(Stop)), default="clean", show_default=True, help="How a run is ended."
)
@click.option(
    "--budget",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Cut the plan to this time. Default: none, or 600 where bf16 is emulated.",
)
@click.option("--allow-writes", is_flag=True, help="Let the script change, rename and delete files that were there.")
@click.option("--evidence", type=click.IntRange(min=0), default=0, show_default=True, help=EVIDENCE_HELP)
@click.option("--emulate", type=click.Choice(tuple(EMULATIONS)), multiple=True, help="For numerics only, on a CPU.")
@click.option("--find-batch-size", is_flag=True, help="Try how large a batch fits under autocast.")
@click.option("--by", type=click.Choice(BY), default="line", show_default=True, help="How ops are grouped.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Keep audit.json and the runs here.")
@click.option("--format", "format_", type=click.Choice(REPORT_FORMATS), default="table", show_default=True)
def command(
    script: str,
    arguments: tuple[str, ...],
    module: bool,
    variants: tuple[Variant, ...] | None,
    warmup: int,
    steps: int,
    runs: int,
    time_limit: float,
    device: str,
    seed: int,
    stop: Stop,
    budget: float | None,
    allow_writes: bool,
    evidence: int,
    emulate: tuple[str, ...],
    find_batch_size: bool,
    by: str,
    out: str | None,
    format_: str,
) -> int:
    """Run a training script under several precisions and compare them.

    SCRIPT is a Python file, a notebook or, with -m, a module; what follows it is its own. It is run, unmodified,
    several times for some steps of its training. Exits with 0 where something was measured, with 1 where the script
    failed, with 2 on a usage or internal error.
    """
    target = _target(script, module, arguments)
    if find_spec("torch") is None:
        raise UsageError(INSTALL)

    from mpaudit.cli import progress
    from mpaudit.runtime import batch_search
    from mpaudit.runtime.compare import document
    from mpaudit.runtime.hardware import choose, default_budget, probe
    from mpaudit.runtime.log_directory import gather
    from mpaudit.runtime.plan import Options
    from mpaudit.runtime.session import carry_out

    cwd = Path.cwd()
    with signals.as_interrupts() as heeded, _folder(out) as folder:
        hardware = probe(device)
        chosen, left_out = choose(hardware, variants)
        if not chosen:
            raise UsageError("; ".join(f"{left.variant}: {left.reason}" for left in left_out))
        if emulate and hardware.device != "cpu":
            raise UsageError("--emulate: an emulation of CUDA's autocast runs on a CPU: add --device cpu")
        emulated = tuple(EMULATIONS[name] for name in dict.fromkeys(emulate))
        options = Options(
            target, hardware.device, folder, warmup, steps, runs, seed, stop, allow_writes, evidence, emulated
        )
        for note in hardware.notes(chosen):
            click.echo(note, err=True)
        if budget is None and (budget := default_budget(hardware, chosen)) is not None:
            click.echo(
                f"the plan gets a budget of {budget:g} s (--budget sets it; --variants fp32 needs none)",
                err=True,
            )
        begin = time.monotonic()
        with progress.shown() as watch:
            session = carry_out(options, chosen, time_limit_s=time_limit, budget_s=budget, watch=watch)
            batch = None
            if find_batch_size and not session.interrupted:
                left_s = None if budget is None else budget - (time.monotonic() - begin)
                batch = batch_search.search(session, cwd=cwd, time_limit_s=time_limit, left_s=left_s, watch=watch)
        if out is not None:
            gather((done.planned.plan for done in session.done), folder, partial(click.echo, err=True))
        audit = document(session, hardware, left_out, budget_s=budget, cwd=cwd, batch=batch)
        if out is not None:
            output.write(to_json(audit).decode(), os.path.join(folder, AUDIT_FILE))
    lines = partial(output.source, cwd)
    colour = output.has_colour()
    click.echo(report(audit, format_, lines=lines, width=output.width(), colour=colour, by=by), nl=False)
    if session.interrupted:
        return heeded.status
    return OK if audit.profile is not None and audit.profile.variants else SCRIPT_FAILED


def _target(script: str, module: bool, arguments: tuple[str, ...]) -> Target:
    if module:
        return Target("module", script, arguments)
    if not os.path.isfile(script):
        raise UsageError(f"{script}: there is no such file")
    kind: Literal["notebook", "script"] = "notebook" if script.endswith(".ipynb") else "script"
    return Target(kind, script, arguments)


@contextmanager
def _folder(out: str | None) -> Iterator[str]:
    """Where the runs are kept, absolute: `out`, new or empty, or a folder that is gone afterwards."""
    if out is None:
        folder = tempfile.mkdtemp(prefix="mpaudit-")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        os.makedirs(out, exist_ok=True)
        if os.listdir(out):
            raise UsageError(f"{out}: the folder is not empty")
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}") from None
    yield os.path.abspath(out)
