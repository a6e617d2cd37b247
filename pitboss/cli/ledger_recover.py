"""`pitboss ledger recover`: the ledger after its database was restored to an earlier moment."""

from __future__ import annotations

import asyncio

import click

from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, show_rows
from pitboss.cli.option_types import FiniteFloat
from pitboss.cli.progress import StepProgress
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log, read_archive_settings
from pitboss.ops.rebind import check_no_archive, rebind
from pitboss.ops.recovery import RecoveryOptions, RecoveryReport, recover_to_log
from pitboss.ops.shared_settings import adopt_stored
from pitboss.setting_files import configure_dialects, read_currencies
from pitboss.settings import read_settings, read_worker_settings
from replay.recovery.outcomes import GivenAnswer
from schemas.errors import UsageError
from schemas.money import configure_currencies


@click.command()
@click.option("--to-log", is_flag=True, help="Book what the database lacks, up to the log's end.")
@click.option("--by", "actor", required=True, help="The acting person; kept with the report.")
@click.option(
    "--accept-differences",
    is_flag=True,
    help="Finish although answers that were given are others now.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Do it in a copy of the database, which is dropped, and change nothing.",
)
@click.option(
    "--wait",
    "wait_s",
    type=FiniteFloat(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the sessions of stopped workers to end.",
)
@click.option("--limit", default=1_000, show_default=True, help="How many differences to list.")
@json_option
def recover(*, to_log: bool, as_json: bool, **options: object) -> None:
    """Book again what a database lacks that was restored to an earlier moment.

    The log must be whole, and no worker of the ledger may run. What is booked is compared with the
    answers that were given (`wallet.outcomes.v1`), and each that is another one now is listed. Then
    the command exits with 1 and no worker starts, until it is run with --accept-differences. It can
    be interrupted and run again.
    """
    if not to_log:
        raise UsageError("say from what to recover: --to-log is the only way there is")
    worker = read_worker_settings()
    configure_currencies(read_currencies(worker))
    configure_dialects(worker)
    runtime = resolve_runtime(read_settings())
    asyncio.run(adopt_stored(runtime, worker))
    chosen = RecoveryOptions(**options)  # type: ignore[arg-type] # click checks the options
    with open_log(runtime, 0) as source, StepProgress() as progress:
        report = asyncio.run(
            recover_to_log(runtime, source, chosen, progress=progress.update, begin=progress.begin)
        )
    if as_json:
        print_json(report)
    else:
        _show(report)
    if not report.finished:
        raise SystemExit(1)


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
@json_option
def rebind_command(*, actor: str, dry_run: bool, wait_s: float, as_json: bool) -> None:
    """Bind the ledger to a mirror of its log on another cluster, whose offsets may be others.

    Every booked record that the mirror holds is found by its event and attempt, in its order. Where
    the offsets of the mirror are below those that the ledger's rows name already, what is not
    booked is appended once more behind them. Refuses a mirror that lacks booked records.
    """
    check_no_archive(read_archive_settings().target)
    runtime = resolve_runtime(read_settings())
    with open_log(runtime, 0) as source, StepProgress() as progress:
        report = asyncio.run(
            rebind(runtime, source, actor, dry_run=dry_run, wait_s=wait_s, begin=progress.begin)
        )
    if as_json:
        print_json(report)
        return
    table = screen.table("topic", "partition", "booked", "mirrored", "continues", "not booked")
    for one in report.partitions:
        numbers = (one.partition, one.booked, one.mirrored, one.position, one.unbooked)
        table.add_row(one.topic, *map(str, numbers))
    show_rows(table, "", report.partitions)
    click.echo(
        "nothing was changed"
        if dry_run
        else f"bound to {report.to_cluster}: run `pitboss ledger recover --to-log`, then start the"
        " workers"
    )


def _show(report: RecoveryReport) -> None:
    outcomes, parked = report.outcomes, report.parked
    click.echo(
        f"booked {report.events:,} events of {report.offsets:,} offsets in {report.took_s:.1f} s"
        + (f"; {report.unreadable:,} records are not events" if report.unreadable else "")
    )
    click.echo(
        f"events without a player: {parked.parked:,} parked again; {parked.resolved:,} resolved,"
        f" {parked.final:,} not found, {parked.waiting:,} wait"
    )
    click.echo(
        f"answers: {outcomes.same:,} as they were given, {outcomes.never_given:,} never given,"
        f" {outcomes.differing:,} others than were given"
    )
    for reason in report.stuck:
        click.echo(f"waits: {reason}")
    if outcomes.differing:
        table = screen.table(
            "what", "event", "player", "attempt", "given", "booked", "at", box=None
        )
        for one in outcomes.differences:
            attempt = one.attempt
            table.add_row(
                one.change,
                f"{one.provider} {one.operation} {one.provider_tx_id}",
                one.player_id or "",
                f"{attempt.topic}-{attempt.partition}@{attempt.offset}#{attempt.record_index}",
                _format_answer(one.given),
                "" if one.booked is None else _format_answer(one.booked),
                one.place or "",
            )
        show_rows(table, "", outcomes.differences)
    click.echo(_next_step(report))


def _format_answer(answer: GivenAnswer) -> str:
    balance = "" if answer.balance_minor is None else f" {answer.balance_minor} {answer.currency}"
    version = "" if answer.version is None else f" v{answer.version}"
    return f"{answer.outcome} {answer.reason}{balance}{version}"


def _next_step(report: RecoveryReport) -> str:
    if report.dry_run:
        return "nothing was changed: this was a copy"
    if report.finished:
        return "finished: start the workers, then run `pitboss ledger reconcile balances`"
    return (
        "not finished, and no worker of the ledger starts: look at what is listed, then run it"
        " again with --accept-differences"
    )
