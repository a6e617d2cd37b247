"""The `pitboss` command: a group that imports a command's module only when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from pitboss.cli.client_log import CLIENT_LOG, write_library_logs_to
from pitboss.cli.files import file_failure
from pitboss.cli.suggestions import SuggestingGroup, narrow_options
from pitboss.lab_package import requiring_lab
from pitboss.settings import home_of, read_settings, read_values, read_worker_settings
from schemas.errors import PitbossError, Unavailable, UsageError

# Name → module:command, and its line in `pitboss --help`, in the order of that help. The help
# imports no command.
COMMANDS = {
    "up": ("pitboss.cli.stack:up", "Start Kafka and PostgreSQL in the background."),
    "down": ("pitboss.cli.stack:down", "Stop them; the data stays."),
    "status": ("pitboss.cli.stack:status", "Show whether they run, and where."),
    "doctor": ("pitboss.cli.stack:doctor", "Check what Pitboss needs on this machine."),
    "demo": ("pitboss.cli.demo:demo", "Run the main job end to end, with its checks."),
    "provision": (
        "pitboss.cli.provision:provision",
        "Create what is missing of database, tables and topics.",
    ),
    "run": ("pitboss.cli.run:run", "Run workers and restart them when they end."),
    "top": ("pitboss.cli.top:top", "Show the roles live: lag, rate, waits, ends."),
    "trace": ("pitboss.cli.trace:trace", "Draw the way of one event, from bytes to balance."),
    "metrics": ("pitboss.cli.metrics:metrics", "List the metrics that workers show."),
    "pause": ("pitboss.cli.pause:pause", "Pause the workers of a role."),
    "resume": ("pitboss.cli.pause:resume", "Resume the workers of a role."),
    "gateway": (
        "pitboss.cli.gateway:gateway",
        "Show what providers call, and make a call as one does.",
    ),
    "schemas": (
        "pitboss.cli.schemas:schemas",
        "Show and check the contracts of the topics.",
    ),
    "providers": (
        "pitboss.cli.providers:providers",
        "List providers' versions; explain messages; check and create adapters.",
    ),
    "topics": (
        "pitboss.cli.topics:topics",
        "Create and check topics, and show consumer lag.",
    ),
    "player": ("pitboss.cli.player:player", "Show, block, hold or limit a player."),
    "ledger": ("pitboss.cli.ledger:ledger", "Query, check and correct the ledger."),
    "dlt": ("pitboss.cli.dlt:dlt", "List, show, redrive and drop dead letters."),
    "alerts": ("pitboss.cli.alerts:alerts", "Show the detectors' findings, and explain them."),
    "fraud": ("pitboss.cli.fraud:fraud", "Show what detectors measure, and their score."),
    "replay": ("pitboss.cli.replay:replay", "Export, rebuild and check what the topics remember."),
    "archive": (
        "pitboss.cli.archive:archive",
        "Show, check and restore the archive of the topics.",
    ),
    "raw": ("pitboss.cli.raw:raw", "Read stored raw records again after an adapter's repair."),
    "rules": ("pitboss.cli.rules:rules", "Show the rules of the detectors."),
    "simulate": (
        "pitboss.cli.simulate:simulate",
        "Run the ledger on simulated servers full of faults.",
    ),
    "sandbox": ("pitboss.cli.sandbox:sandbox", "Play a seeded casino into the raw topics."),
    "bench": ("pitboss.cli.bench:bench", "Measure Pitboss against its peers."),
    "completion": (
        "pitboss.cli.completion:completion",
        "Print the completion script of bash, zsh or fish.",
    ),
}


class LazyGroup(SuggestingGroup):
    """Command group that imports a command's module on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        with requiring_lab(f"`pitboss {cmd_name}`"):
            command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=COMMANDS[name][1])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a PitbossError ends it with its message and exit code, not a traceback.

        So does a file that cannot be read or written.
        """
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            raise narrow_options(error) from error
        except PitbossError as error:
            _end(ctx, _missing_namespace(error) or error)
        except OSError as error:
            failure = file_failure(error)
            if failure is None:
                raise
            _end(ctx, failure)


def _missing_namespace(error: PitbossError) -> UsageError | None:
    """Return the error of a database that was never made, which seems not to answer; else None."""
    if not isinstance(error, Unavailable) or "database" not in str(error):
        return None
    from pitboss.embedded.databases import database_exists
    from pitboss.embedded.state import resolve_runtime

    try:
        runtime = resolve_runtime(read_settings())
        if database_exists(runtime):
            return None
    except PitbossError:
        return None
    whose = f"namespace {runtime.namespace}" if runtime.namespace else "this installation"
    return UsageError(
        f"{whose} is not provisioned, so it has no database {runtime.database}: check "
        "PITBOSS_NAMESPACE, or run `pitboss provision`"
    )


def _end(ctx: click.Context, error: PitbossError) -> NoReturn:
    click.echo(f"error: {error.code} {error}", err=True)
    ctx.exit(error.exit_code)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pitboss")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Turn provider events into settled balances and fraud alerts."""
    if ctx.invoked_subcommand == "doctor":
        return  # it reports settings that are wrong, as one check among others
    settings = read_worker_settings()
    write_library_logs_to(home_of(read_values()) / CLIENT_LOG)
    if settings.dialects_file is not None:
        from pitboss.setting_files import configure_dialects

        configure_dialects(settings)
    if settings.currencies_file is not None:
        from pitboss.setting_files import read_currencies
        from schemas.money import configure_currencies

        configure_currencies(read_currencies(settings))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `pitboss`."""
    cli.main(args=None if arguments is None else list(arguments), prog_name="pitboss")


if __name__ == "__main__":
    main()
