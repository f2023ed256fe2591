"""What a session says while it runs, on standard error: a bar on a terminal, a line per run elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mpaudit.audit import without
from mpaudit.render import escaped
from mpaudit.runtime.session import Changed, Ended, Estimated, Event, Started, Stepped, Watch


@contextmanager
def shown() -> Iterator[Watch]:
    """A watcher of a session, for the time of the session."""
    if not sys.stderr.isatty():
        yield plain(lambda line: click.echo(line, err=True))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[steps]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        say = plain(lambda line: console.print(escape(line)))
        task = bar.add_task("", total=None, steps="")

        def watch(event: Event) -> None:
            if isinstance(event, Started):
                left = "" if event.left_s is None else f", {duration(event.left_s)} left"
                name = f"run {event.number} of {event.total}: {event.planned.plan.run}{left}"
                bar.reset(task, total=None, description=escape(name), steps="starting")
            elif isinstance(event, Stepped):
                steps = f"step {event.steps} of {event.total}"
                bar.update(task, total=event.total, completed=event.steps, steps=steps)
            elif isinstance(event, Ended | Changed | Estimated):
                say(event)

        yield watch


def plain(say: Callable[[str], None]) -> Watch:
    """A watcher that says a line for each run and for what changes."""

    def watch(event: Event) -> None:
        if isinstance(event, Ended):
            record = event.done.record
            left = f", {duration(event.left_s)} left" if event.left_s else ""
            sentence = without(Path.cwd(), record.sentence)
            say(escaped(f"{record.plan.run}: {sentence} in {duration(record.wall_s)}{left}"))
        elif isinstance(event, Changed):
            say(escaped(event.note))
        elif isinstance(event, Estimated):
            say(f"the whole plan of {event.runs} runs takes about {duration(event.total_s)}")

    return watch


def duration(seconds: float) -> str:
    """«8 s», «3 min 20 s», «2 h 5 min»."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
