"""The `pitboss` command: a group that imports a subcommand's module only when that subcommand is called."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from schemas.errors import PitbossError

# Name → "module:attribute". One line a command; the order is that of `pitboss --help`.
COMMANDS = {
    "up": "pitboss.cli.stack:up",
    "down": "pitboss.cli.stack:down",
    "status": "pitboss.cli.stack:status",
    "doctor": "pitboss.cli.stack:doctor",
}

# Shown by `pitboss --help` without importing anything.
SUMMARIES = {
    "up": "Start Kafka and PostgreSQL in the background.",
    "down": "Stop them; the data stays.",
    "status": "Whether they run, and where.",
    "doctor": "Check what Pitboss needs on this machine.",
}


class LazyGroup(click.Group):
    """A group whose commands are named in a table and imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = [(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours ends it with its message and exit code, not with a traceback."""
        try:
            return super().invoke(ctx)
        except PitbossError as error:
            click.echo(f"error: {error.code} {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="pitboss")
def cli() -> None:
    """Provider events in, settled balances and fraud alerts out."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `pitboss`."""
    cli.main(args=None if arguments is None else list(arguments), prog_name="pitboss")
