"""`pitboss replay ledger`: the ledger as of a moment, rebuilt from the log and compared."""

from __future__ import annotations

import asyncio

import click

from pitboss.cli import screen
from pitboss.cli.ledger_queries import format_money, json_option, print_json, show_rows
from pitboss.cli.option_types import TIME, rate_option
from pitboss.cli.progress import StepProgress
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.ledger_replay import LedgerReplay, RawReading, replay_ledger_to
from pitboss.ops.periods import ACCEPTED_TIMES, format_time
from pitboss.ops.shared_settings import adopt_stored
from pitboss.setting_files import configure_dialects, read_currencies, read_keyring
from pitboss.settings import Runtime, read_settings, read_worker_settings
from replay.raw.recompute import Recomputation
from schemas.money import configure_currencies
from schemas.topics import raw_topic
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.registry import DIALECTS


@click.command("ledger")
@click.option("--to", "at_ms", type=TIME, help=f"As of this time, UTC: {ACCEPTED_TIMES}; else now.")
@click.option("--keep", is_flag=True, help="Keep the database of the rebuilt ledger.")
@click.option(
    "--from-raw", is_flag=True, help="Compute each event again from its raw record, first."
)
@rate_option
@json_option
def ledger_command(
    *, at_ms: int | None, keep: bool, from_raw: bool, rate: float, as_json: bool
) -> None:
    """Rebuild the ledger from the log, as of a time, and compare it with the live one.

    The production code books the recorded batches in their recorded order into a database of its
    own. Up to the last batch with a record before the time, every entry, repeat, transfer and
    closing must be equal, and every wallet and player's state that has not changed since. Exits
    with 1 where a row differs; it is listed with the event behind it.

    With --from-raw the events have the content that the installed adapters make of their raw
    records. Order, verdicts about signatures and players found later are the log's. Raw records of
    which the log lacks an event are listed.
    """
    runtime = resolve_runtime(read_settings())
    raw = _read_raw_settings(runtime) if from_raw else None
    with open_log(runtime, rate) as source, StepProgress() as progress:
        replay = asyncio.run(
            replay_ledger_to(
                runtime,
                source,
                at_ms,
                keep=keep,
                progress=progress.update,
                begin=progress.begin,
                raw=raw,
            )
        )
    if as_json:
        print_json(replay)
    else:
        _show(replay)
    if not replay.identical:
        raise SystemExit(1)


def _read_raw_settings(runtime: Runtime) -> RawReading:
    worker = read_worker_settings()
    configure_currencies(read_currencies(worker))
    configure_dialects(worker)
    brands = asyncio.run(adopt_stored(runtime, worker)).brands
    topics = [runtime.topic(raw_topic(provider)) for provider in sorted(DIALECTS)]
    without_keys = Normaliser(DIALECTS, {}, brands=brands)
    return RawReading(
        without_keys, Normaliser(DIALECTS, read_keyring(worker), brands=brands), topics
    )


def _show_recomputation(found: Recomputation) -> None:
    click.echo(
        f"from raw: {found.recomputed:,} events computed again, {found.changed:,} changed, "
        f"{found.surplus:,} not made any more, {found.without_raw:,} without their raw record"
    )
    for one in found.differences:
        attempt = one.attempt
        where = f"{attempt.topic}-{attempt.partition}@{attempt.offset}#{attempt.record_index}"
        click.echo(f"  {where}: {one.finding} {', '.join(one.fields)}".rstrip())
    for place in found.gone:
        click.echo(f"  {place}: the raw record is gone")
    click.echo(f"raw records of which the log lacks an event: {found.without_twin:,}")
    for raw in found.twinless:
        index = "" if raw.record_index is None else f"#{raw.record_index}"
        click.echo(f"  {raw.place}{index}: {raw.reason}")


def _show(replay: LedgerReplay) -> None:
    at = "now" if replay.at_ms is None else format_time(replay.at_ms)
    rows = ", ".join(f"{count:,} of {name}" for name, count in replay.comparison.rows.items())
    click.echo(f"as of {at}: {replay.batches:,} batches, {replay.events:,} events; rows: {rows}")
    for total in replay.totals:
        parts = [
            f"{name} {format_money(int(minor), total.currency)}"
            for name, minor in (
                ("cash", total.cash_minor),
                ("bonus", total.bonus_minor),
                ("held", total.held_minor),
            )
        ]
        click.echo(f"  {total.wallets:,} wallets: {', '.join(parts)}")
    if replay.from_raw is not None:
        _show_recomputation(replay.from_raw)
    if replay.database is not None:
        click.echo(f"the rebuilt ledger is in the database {replay.database}")
    if replay.comparison.months_away:
        months = ", ".join(map(str, replay.comparison.months_away))
        click.echo(f"transfers not compared, their months were moved away: {months}")
    if replay.identical:
        click.echo("identical: every row is the live ledger's")
        return
    click.echo(f"different: {replay.comparison.differing:,} rows")
    table = screen.table("table", "row", "column", "live", "rebuilt", "booked from", box=None)
    lines = []
    for one in replay.comparison.differences:
        live, rebuilt = one.live or {}, one.rebuilt or {}
        key = " ".join(str(value) for value in one.key.values() if value is not None)
        place = "" if one.place is None else f"{one.place[0]}@{one.place[1]}"
        for column in one.columns or ["(the row)"]:
            cells = (
                str(live.get(column, "there" if one.live else "missing")),
                str(rebuilt.get(column, "there" if one.rebuilt else "missing")),
            )
            lines.append(one)
            table.add_row(one.table, key, column, *cells, place)
    show_rows(table, "", lines)
