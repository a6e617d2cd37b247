"""The `pitboss` command: a group that imports a command's module only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from pitboss.cli.client_log import CLIENT_LOG, write_library_logs_to
from pitboss.cli.files import file_failure
from pitboss.cli.lazy_group import CommandTable, LazyGroup
from pitboss.cli.suggestions import narrow_options
from pitboss.settings import home_of, read_settings, read_values, read_worker_settings
from schemas.errors import PitbossError, Unavailable, UsageError

COMMANDS: Final[CommandTable] = {
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


class MainGroup(LazyGroup):
    """The group of all commands, which ends with the exit code of the error that ends one."""

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
    cls=MainGroup,
    table=COMMANDS,
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
    """Run `pitboss`; without `arguments`, as the process that was started for it."""
    if arguments is None and sys.argv[1:2] == ["replay"]:
        from replay.log.pace import yield_processor

        yield_processor()
    cli.main(args=None if arguments is None else list(arguments), prog_name="pitboss")


if __name__ == "__main__":
    main()
