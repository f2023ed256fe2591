"""`mpaudit lint`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from mpaudit import settings as config
from mpaudit.audit import effective, relative
from mpaudit.cli import output
from mpaudit.gate import exit_code
from mpaudit.model import Confidence, Severity
from mpaudit.render import FORMATS, escaped, render
from mpaudit.static.sources import discover


def _codes(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...] | None:
    """`--select MPA2,MPA301 --select clip-before-unscale`; None where the option is not given."""
    return config.prefixes([code for value in values for code in value.split(",")]) if values else None


@click.command("lint")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option(
    "--config", "config_file", type=click.Path(), metavar="FILE", help="Settings file, pyproject.toml or bare."
)
@click.option(
    "--select", multiple=True, callback=_codes, metavar="CODES", help="Only these rules (codes, prefixes, names)."
)
@click.option("--extend-select", multiple=True, callback=_codes, metavar="CODES", help="These rules too.")
@click.option("--ignore", multiple=True, callback=_codes, metavar="CODES", help="Not these rules.")
@click.option("--min-severity", type=click.Choice([s.value for s in Severity]), help="Default: warning.")
@click.option("--min-confidence", type=click.Choice([c.value for c in Confidence]), help="Default: likely.")
@click.option("--fail-on", type=click.Choice(config.FAIL_ON), help="Lowest severity that exits with 1. Default: error.")
@click.option("--strict", is_flag=True, help="Exit with 2 where a file could not be audited.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--output", "to", type=click.Path(), metavar="FILE", help="Write to a file in place of the terminal.")
@click.option("--statistics", is_flag=True, help="Show how often each rule reports, not the findings.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, metavar="N", help="Processes; 0 decides by the work.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the cache.")
@click.option("--cache-dir", type=click.Path(), metavar="DIR", help="Default: .mpaudit_cache in the project's root.")
@click.option("--show-files", is_flag=True, help="List the files that would be audited, and stop.")
@click.option("--show-settings", is_flag=True, help="Show the settings in force, and stop.")
def command(
    paths: tuple[str, ...],
    config_file: str | None,
    select: tuple[str, ...] | None,
    extend_select: tuple[str, ...] | None,
    ignore: tuple[str, ...] | None,
    min_severity: str | None,
    min_confidence: str | None,
    fail_on: str | None,
    strict: bool,
    format_: str,
    to: str | None,
    statistics: bool,
    jobs: int,
    no_cache: bool,
    cache_dir: str | None,
    show_files: bool,
    show_settings: bool,
) -> int:
    """Report what is wrong with the precision of training code.

    PATHS are Python files and folders; the default is the working directory. Exits with 0 where nothing reaches
    --fail-on, with 1 where something does, with 2 on a usage or internal error.
    """
    cwd = Path.cwd()
    overrides: dict[str, Any] = {}
    if min_severity:
        overrides["min_severity"] = Severity(min_severity)
    if min_confidence:
        overrides["min_confidence"] = Confidence(min_confidence)
    if fail_on:
        overrides["fail_on"] = config.fail_on(fail_on)
    settings = config.load(
        paths,
        cwd=cwd,
        config=Path(config_file) if config_file else None,
        selection=config.Selection(select, extend_select or (), ignore or ()),
        overrides=overrides,
    )
    if show_settings:
        output.write(_toml(settings, cwd), to)
        return 0
    if show_files:
        files = discover(paths, settings, cwd).files
        output.write("".join(f"{escaped(relative(str(file), cwd))}\n" for file in files), to)
        return 0

    from mpaudit.static.run import lint

    audit = lint(
        paths,
        settings,
        cwd=cwd,
        jobs=jobs,
        cache_dir=Path(cache_dir) if cache_dir else None,
        use_cache=not no_cache,
    )
    width = _terminal_width() if to is None else None
    lines = partial(output.source, cwd)
    output.write(render(audit, format_, lines=lines, statistics=statistics, width=width), to)
    return exit_code(audit, settings.fail_on, strict=strict)


def _terminal_width() -> int | None:
    """Columns of a terminal that wants colour, else None."""
    return output.width() if output.has_colour() else None


def _toml(settings: config.Settings, cwd: Path) -> str:
    """The settings in force, as a table that a pyproject.toml takes."""
    shown = effective(settings, cwd)
    rows = [f"# {shown.pop('config') or 'no settings file'}", "[tool.mpaudit]"]
    tables = {key: value for key, value in shown.items() if isinstance(value, dict)}
    rows += [f"{key} = {json.dumps(value)}" for key, value in shown.items() if key not in tables and value is not None]
    for key, table in tables.items():
        rows += [
            "",
            f"[tool.mpaudit.{key}]",
            *(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in table.items()),
        ]
    return "\n".join(rows) + "\n"
