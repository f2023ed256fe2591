"""`mpaudit rule`."""

from __future__ import annotations

import click

from mpaudit import rulebook
from mpaudit.errors import UsageError


@click.command("rule")
@click.argument("word", metavar="[CODE|NAME]", required=False)
@click.option("--all", "every", is_flag=True, help="Every rule.")
@click.option("--format", "format_", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True)
def command(word: str | None, every: bool, format_: str) -> int:
    """Explain a rule, by its code or name."""
    if every == (word is not None):
        raise UsageError("name one rule, or give --all")
    rules = list(rulebook.rules().values()) if word is None else [rulebook.find(word)]
    if format_ == "markdown":
        click.echo("\n\n".join(rule.markdown.strip() for rule in rules))
        return 0
    import msgspec

    document = rules if every else rules[0]
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    return 0
