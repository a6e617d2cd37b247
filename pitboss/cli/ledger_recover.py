"""`pitboss ledger recover`: the ledger after its database was restored to an earlier moment."""

from __future__ import annotations

import asyncio

import click

from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, show_rows
from pitboss.cli.option_types import FiniteFloat
from pitboss.cli.progress import StepProgress
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.recovery import (
    RecoveryOptions,
    RecoveryReport,
    RecoverySpeed,
    recover_to_log,
)
from pitboss.ops.shared_settings import adopt_stored
from pitboss.setting_files import configure_dialects, read_currencies
from pitboss.settings import WorkerSettings, read_settings, read_worker_settings
from replay.recovery.held import HeldCounts, HoldRules
from replay.recovery.outcomes import GivenAnswer
from runtime.dead_letters.key_holds import ParkLimits
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
    worker = asyncio.run(adopt_stored(runtime, worker))
    holds = _hold_rules(worker)
    chosen = RecoveryOptions(**options, holds=holds)  # type: ignore[arg-type] # click checks them
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


def _hold_rules(worker: WorkerSettings) -> HoldRules | None:
    """Return by what the normaliser parks records; None where it does not."""
    if worker.park_providers is None:
        return None
    limits = ParkLimits(worker.park_records_max, age_max_ms=worker.park_age_max_ms)
    return HoldRules(worker.park_providers, limits)


def _show(report: RecoveryReport) -> None:
    outcomes, parked = report.outcomes, report.parked
    click.echo(
        f"booked {report.events:,} events of {report.offsets:,} offsets in {report.took_s:.1f} s"
        + _format_speed(report.rebooking)
        + (f"; {report.unreadable:,} records are not events" if report.unreadable else "")
    )
    click.echo(
        f"events without a player: {parked.parked:,} parked again; {parked.resolved:,} resolved,"
        f" {parked.final:,} not found, {parked.waiting:,} wait"
    )
    if report.held is not None:
        _show_held(report.held)
    click.echo(
        f"answers: {outcomes.same:,} as they were given, {outcomes.never_given:,} never given,"
        f" {outcomes.differing:,} others than were given"
        f" ({report.lost:,} of them to what the log does not hold: that is lost)"
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


def _format_speed(speed: RecoverySpeed) -> str:
    if speed.events_per_s is None or speed.cpu_s_per_million is None:
        return ""
    return (
        f", at {speed.events_per_s:,.0f} a second and {speed.cpu_s_per_million:,.0f} CPU s a"
        " million"
    )


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


def _show_held(held: HeldCounts) -> None:
    click.echo(
        f"records behind dead letters: {held.read:,} read again, {held.parked:,}"
        f" had to wait, {held.released:,} were released since"
    )
    if held.unplaced:
        click.echo(
            f"{held.unplaced:,} dead letters are of before the rebind: what waited"
            " behind them is not parked again. Compare the players' records with the ledger",
            err=True,
        )
