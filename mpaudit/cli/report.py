"""`mpaudit report`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from mpaudit.audit import AuditError, from_json
from mpaudit.cli.output import has_colour, source, width
from mpaudit.errors import UsageError
from mpaudit.render import REPORT_FORMATS, report
from mpaudit.render.evidence import BY


@click.command("report")
@click.argument("audit", type=click.Path())
@click.option("--format", "format_", type=click.Choice(REPORT_FORMATS), default="table", show_default=True)
@click.option("--by", type=click.Choice(BY), default="line", show_default=True, help="How ops are grouped.")
def command(audit: str, format_: str, by: str) -> int:
    """Print a saved AUDIT again: what `mpaudit profile --out` or `--format json` kept."""
    try:
        document = from_json(Path(audit).read_bytes())
    except OSError as error:
        raise UsageError(f"{audit}: {error.strerror}") from None
    except AuditError as error:
        raise UsageError(f"{audit}: {error}") from None
    lines = partial(source, Path.cwd())
    click.echo(report(document, format_, lines=lines, width=width(), colour=has_colour(), by=by), nl=False)
    return 0
