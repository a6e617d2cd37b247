"""The `pitboss` command: a group that imports a subcommand's module only when that subcommand is
called.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from pitboss.cli.files import file_failure
from pitboss.settings import read_worker_settings
from schemas.errors import PitbossError

# Name → where it is, and what `pitboss --help` says of it without importing it. In the order of
# that help.
COMMANDS = {
    "up": ("pitboss.cli.stack:up", "Start Kafka and PostgreSQL in the background."),
    "down": ("pitboss.cli.stack:down", "Stop them; the data stays."),
    "status": ("pitboss.cli.stack:status", "Whether they run, and where."),
    "doctor": ("pitboss.cli.stack:doctor", "Check what Pitboss needs on this machine."),
    "demo": ("pitboss.cli.demo:demo", "The main job end to end, with its checks."),
    "provision": (
        "pitboss.cli.provision:provision",
        "Create what is missing of database, tables and topics.",
    ),
    "run": ("pitboss.cli.run:run", "Run workers and start them again when they end."),
    "schemas": (
        "pitboss.cli.schemas:schemas",
        "The contracts of the topics, and whether they may be released.",
    ),
    "providers": (
        "pitboss.cli.providers:providers",
        "Providers, their versions and their adapters.",
    ),
    "topics": (
        "pitboss.cli.topics:topics",
        "Create and check topics, and see how far readers are behind.",
    ),
    "player": ("pitboss.cli.player:player", "One player: balances, blocks, holds and limits."),
    "ledger": ("pitboss.cli.ledger:ledger", "The ledger's tables."),
    "dlt": ("pitboss.cli.dlt:dlt", "What could not be used: list, show, redrive, drop."),
    "alerts": ("pitboss.cli.alerts:alerts", "What the detectors found, and why."),
    "simulate": (
        "pitboss.cli.simulate:simulate",
        "Prove the ledger in a simulated world full of faults.",
    ),
    "sandbox": ("pitboss.cli.sandbox:sandbox", "Play a seeded casino into the raw topics."),
    "bench": ("pitboss.cli.bench:bench", "Measure Pitboss against its peers."),
}


class LazyGroup(click.Group):
    """A group whose commands are named in a table and imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours ends it with its message and exit code, not with a
        traceback.

        So does a file of the operator's that cannot be read or written.
        """
        try:
            return super().invoke(ctx)
        except PitbossError as error:
            _end(ctx, error)
        except OSError as error:
            failure = file_failure(error)
            if failure is None:
                raise
            _end(ctx, failure)


def _end(ctx: click.Context, error: PitbossError) -> NoReturn:
    click.echo(f"error: {error.code} {error}", err=True)
    ctx.exit(error.exit_code)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pitboss")
def cli() -> None:
    """Provider events in, settled balances and fraud alerts out."""
    if (settings := read_worker_settings()).currencies_file is not None:
        from pitboss.settings import read_currencies
        from schemas.money import configure_currencies

        configure_currencies(read_currencies(settings))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `pitboss`."""
    cli.main(args=None if arguments is None else list(arguments), prog_name="pitboss")


if __name__ == "__main__":
    main()
