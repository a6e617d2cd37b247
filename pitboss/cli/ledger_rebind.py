"""`pitboss ledger rebind`: the ledger goes on from the log of another cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, show_rows
from pitboss.cli.option_types import FiniteFloat
from pitboss.cli.progress import StepProgress
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log, read_archive_settings
from pitboss.ops.opening_balances import OpeningOptions, rebind_with_openings
from pitboss.ops.rebind import RebindReport, check_no_archive, rebind
from pitboss.ops.shared_settings import adopt_stored
from pitboss.setting_files import configure_dialects, read_currencies, read_keyring
from pitboss.settings import read_settings, read_worker_settings
from schemas.errors import UsageError
from schemas.money import configure_currencies

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("rebind")
@click.option("--by", "actor", required=True, help="The acting person; kept with the report.")
@click.option("--dry-run", is_flag=True, help="Only compare, and change nothing.")
@click.option(
    "--wait",
    "wait_s",
    type=FiniteFloat(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the sessions of stopped workers to end.",
)
@click.option(
    "--opening-balances",
    "is_opening",
    is_flag=True,
    help="Without a mirror: the new log is empty, and begins with every balance.",
)
@click.option(
    "--seal-key",
    type=_FILE,
    help="With --opening-balances: private key of the sealer, which signs their proof.",
)
@click.option(
    "--checkpoints",
    type=_FILE,
    help="With --opening-balances: checkpoints that were kept; the seals must be those they name.",
)
@click.option("--reason", help="With --opening-balances: kept in each event.")
@json_option
def rebind_command(
    *,
    actor: str,
    dry_run: bool,
    wait_s: float,
    is_opening: bool,
    seal_key: Path | None,
    checkpoints: Path | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Bind the ledger to a log on another cluster: a mirror of its own, or an empty one.

    Every booked record that a mirror holds is found by its event and attempt, in its order. Where
    the offsets of the mirror are below those that the ledger's rows name already, what is not
    booked is appended once more behind them. Refuses a mirror that lacks booked records.

    With --opening-balances the log must be empty. It begins with a signed event for each wallet,
    which states its balance and names a signed checkpoint; the tables must be as they were sealed.
    """
    check_no_archive(read_archive_settings().target)
    if not is_opening:
        if seal_key or checkpoints or reason:
            raise UsageError("--seal-key, --checkpoints and --reason go with --opening-balances")
        report = _rebind(actor, dry_run=dry_run, wait_s=wait_s)
    elif seal_key is None or reason is None:
        raise UsageError("opening balances need their proof and a reason: --seal-key and --reason")
    else:
        options = OpeningOptions(
            actor, reason, seal_key, checkpoints=checkpoints, dry_run=dry_run, wait_s=wait_s
        )
        report = _rebind_with_openings(options)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _rebind(actor: str, *, dry_run: bool, wait_s: float) -> RebindReport:
    runtime = resolve_runtime(read_settings())
    with open_log(runtime, 0) as source, StepProgress() as progress:
        return asyncio.run(
            rebind(runtime, source, actor, dry_run=dry_run, wait_s=wait_s, begin=progress.begin)
        )


def _rebind_with_openings(options: OpeningOptions) -> RebindReport:
    worker = read_worker_settings()
    configure_currencies(read_currencies(worker))
    configure_dialects(worker)
    runtime = resolve_runtime(read_settings())
    brands = asyncio.run(adopt_stored(runtime, worker)).brands
    with open_log(runtime, 0) as source, StepProgress() as progress:
        return asyncio.run(
            rebind_with_openings(
                runtime, source, options, read_keyring(worker), brands, progress.begin
            )
        )


def _show(report: RebindReport) -> None:
    table = screen.table("topic", "partition", "booked", "mirrored", "continues", "not booked")
    for one in report.partitions:
        numbers = (one.partition, one.booked, one.mirrored, one.position, one.unbooked)
        table.add_row(one.topic, *map(str, numbers))
    show_rows(table, "", report.partitions)
    opening = report.opening
    if opening is not None:
        proof = "" if opening.digest is None else f", proved by checkpoint {opening.digest}"
        click.echo(
            f"{opening.wallets:,} balances{proof}; {opening.unsealed:,} offsets were not sealed yet"
        )
    if report.raw is not None and report.raw.changed:
        click.echo(
            f"{len(report.raw.changed):,} raw partitions have other offsets: their dead letters are"
            f" listed as of before, and {report.raw.appended:,} records that waited behind some"
            f" {'would be' if report.dry_run else 'are'} appended once more"
        )
    if report.dry_run:
        click.echo("nothing was changed")
    elif opening is None:
        click.echo(
            f"bound to {report.to_cluster}: run `pitboss ledger recover --to-log`, then start the"
            " workers"
        )
    else:
        click.echo(
            f"bound to {report.to_cluster}: start the workers, then run `pitboss ledger reconcile"
            " balances --republish`"
        )
