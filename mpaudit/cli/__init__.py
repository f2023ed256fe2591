"""The command line. Each command is one file, imported when it is called."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from mpaudit import __version__
from mpaudit.errors import FAILURE, UsageError

_COMMANDS = {
    "lint": "Report what is wrong with the precision of training code.",
    "profile": "Run a training script under several precisions and compare them.",
    "report": "Print a saved audit again.",
    "rule": "Explain a rule.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"mpaudit.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mpaudit", message="%(prog)s %(version)s")
def app() -> None:
    """Audits mixed-precision training in PyTorch."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 nothing to fail on, 1 findings, 2 usage or internal error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows its number
            stream.reconfigure(errors="backslashreplace")
    status = _run(arguments)
    gc.freeze()  # the process ends: looking through all that it holds once more would take a tenth of a second
    sys.exit(status)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return app.main(arguments, prog_name="mpaudit", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return FAILURE
    except UsageError as error:
        click.echo(f"mpaudit: {error}", err=True)
        return FAILURE
    except (click.Abort, KeyboardInterrupt) as interrupt:
        click.echo("mpaudit: interrupted", err=True)
        cause = interrupt.__cause__ or interrupt  # click raises an Abort from what came
        return 128 + getattr(cause, "number", signal.SIGINT)
    except Exception as error:
        if os.environ.get("MPAUDIT_DEBUG"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        click.echo(f"mpaudit: internal error: {text} (MPAUDIT_DEBUG=1 shows the traceback)", err=True)
        return FAILURE
