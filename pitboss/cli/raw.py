"""`pitboss raw`: what stored raw records mean to the installed adapters."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from pitboss.cli import screen
from pitboss.cli.ledger_queries import format_money, json_option, print_json, show_rows
from pitboss.cli.operator_commands import DEFAULT_BRAND, submit_and_print
from pitboss.cli.option_types import FiniteFloat, period_options, rate_option
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.missing_events import AppendedRecords, append_missing, records_of
from pitboss.ops.periods import check_period
from pitboss.ops.raw_replay import RawReplay, proposal_event, replay_raw
from pitboss.ops.shared_settings import adopt_stored
from pitboss.setting_files import configure_dialects, read_currencies, read_keyring
from pitboss.settings import Runtime, read_settings, read_worker_settings
from replay.raw.comparison import RawPlace, StoredRecord
from runtime.dead_letters.headers import format_position
from schemas.errors import UsageError, suggest
from schemas.events import WalletTransaction
from schemas.money import configure_currencies
from streams.providers.registry import DIALECTS


@click.group(cls=SuggestingGroup)
def raw() -> None:
    """Read stored raw records again, as after the repair of an adapter."""


@raw.command("replay")
@click.option("--provider", required=True, help="The provider whose adapter was repaired.")
@period_options(of="time of the raw records")
@click.option("--by", "actor", help="Who proposes the corrections; not with --dry-run.")
@click.option("--reason", help="Kept in the log with each proposal; not with --dry-run.")
@click.option("--dry-run", is_flag=True, help="Only show what differs and what would be proposed.")
@click.option(
    "--wait",
    "wait_s",
    default=10.0,
    show_default=True,
    type=FiniteFloat(0),
    help="Seconds to wait for the ledger with each proposal.",
)
@rate_option
@json_option
def replay_command(
    *,
    provider: str,
    since_ms: int | None,
    until_ms: int | None,
    actor: str | None,
    reason: str | None,
    dry_run: bool,
    wait_s: float,
    rate: float,
    as_json: bool,
) -> None:
    """Compare raw records, read by the installed adapter, with the events that were made of them.

    Shows events that would be others now, those that are missing and those too many. The raw
    records of missing ones are appended again, as dead letters are redriven: facts are booked,
    decisions are refused as expired. What the others did to players' cash is proposed as an
    adjustment for each event, which a second person approves (`pitboss ledger approve`). Answers
    stand: a bet that was refused stays refused. Run again, it appends and proposes only what is
    neither booked, proposed nor corrected.
    """
    if not dry_run and (actor is None or reason is None):
        raise UsageError(
            "proposals need a person and a reason: give --by and --reason, or --dry-run"
        )
    if provider not in DIALECTS:
        raise UsageError(f"{provider!r} is not a provider{suggest(provider, DIALECTS)}")
    check_period(since_ms, until_ms)
    period = since_ms or 0, time.time_ns() // 1_000_000 if until_ms is None else until_ms
    runtime = resolve_runtime(read_settings())
    found, originals = _compare(runtime, provider, period, rate)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if dry_run:
        return
    if found.missing:
        appending = append_missing(
            runtime, found.missing, originals, actor or "", reason or "", wait_s=wait_s
        )
        _show_appended(asyncio.run(appending), as_json=as_json)
        # What is proposed is worked out with these events in the ledger.
        found, _ = _compare(runtime, provider, period, rate)
    for one in found.corrections():
        event = proposal_event(one, actor or "", reason or "")
        submit_and_print(
            event, brand=one.brand or DEFAULT_BRAND, wait_s=wait_s, dry_run=False, as_json=as_json
        )


Found = tuple[RawReplay, dict[RawPlace, StoredRecord]]


def _compare(runtime: Runtime, provider: str, period: tuple[int, int], rate: float) -> Found:
    with open_log(runtime, rate) as source, StepProgress() as progress:
        return asyncio.run(_replay(runtime, source, provider, period, progress))


def _show_appended(done: AppendedRecords, *, as_json: bool) -> None:
    """Print what was appended. Ends with 1 where the ledger has not decided all of it yet."""
    if as_json:
        print_json(done)
    else:
        outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(done.outcomes.items()))
        click.echo(
            f"{len(done.appended):,} records appended again with {done.events:,} missing events:"
            f" {outcomes or 'none decided yet'}"
        )
        for one in done.not_appended:
            click.echo(f"not appended: {format_position(one.source)}: {one.detail}")
    if done.undecided:
        click.echo(
            f"{done.undecided:,} events are not decided yet: nothing is proposed before; run the"
            " command again when `pitboss topics lag` shows no lag",
            err=True,
        )
        raise SystemExit(1)


async def _replay(
    runtime: Runtime, source: Any, provider: str, period: tuple[int, int], progress: StepProgress
) -> Found:
    worker = read_worker_settings()
    configure_currencies(read_currencies(worker))
    configure_dialects(worker)
    shared = await adopt_stored(runtime, worker)
    return await replay_raw(
        runtime,
        source,
        provider,
        period,
        keyring=read_keyring(worker),
        brands=shared.brands,
        dialects=DIALECTS,
        begin=progress.begin,
    )


def _show(found: RawReplay) -> None:
    click.echo(
        f"{found.records:,} raw records of {found.provider}: {found.events:,} events,"
        f" {found.rejected:,} items rejected; {len(found.differences):,} differ from the log"
    )
    table = screen.table("attempt", "what", "event", "in the log", "now", box=None)
    for one in found.differences:
        attempt, event = one.attempt, one.stored or one.again
        assert event is not None
        table.add_row(
            f"{attempt.topic}-{attempt.partition}@{attempt.offset}#{attempt.record_index}",
            f"{one.finding} {', '.join(one.fields)}".strip(),
            f"{event.operation} {event.provider_tx_id}",
            _format_event(one.stored),
            _format_event(one.again),
        )
    if found.differences:
        show_rows(table, "", found.differences)
    if found.missing:
        click.echo(
            f"{len(found.missing):,} events are not in the log under their identity:"
            f" {len(records_of(found.missing)):,} records are to be appended again"
        )
    for player in found.players:
        if player.unexplained is not None:
            click.echo(f"nothing is proposed for {player.player_id}: {player.unexplained}")
        for move in player.unproposed:
            click.echo(
                f"for a person: {move.player_id}, event {move.event_id}: bonus"
                f" {format_money(move.bonus_minor, move.currency)}, held"
                f" {format_money(move.held_minor, move.currency)}"
            )
        for correction in player.corrections:
            is_proposed = correction.is_proposed
            state = "waits for its second person" if is_proposed else "to be proposed"
            amount = format_money(correction.amount_minor, correction.currency)
            click.echo(
                f"{correction.player_id}: {amount} for {correction.operation}"
                f" {correction.provider_tx_id} ({state}, {correction.id})"
            )
    if not any(player.corrections for player in found.players):
        click.echo("nothing to propose")


def _format_event(event: WalletTransaction | None) -> str:
    if event is None:
        return ""
    legs = [
        f"{leg.kind}"
        + (
            ""
            if leg.amount is None
            else f" {leg.amount.unscaled}e-{leg.amount.scale} {leg.currency}"
        )
        for leg in event.legs
    ]
    return f"{event.player_id or 'without a player'}: {' + '.join(legs)}"
