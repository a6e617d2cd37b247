"""`pitboss ledger reconcile`: the ledger against its topics and what providers say.

Exit code 1 if they differ.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from ledger_sink.proof.reconcile import (
    BalanceReport,
    StatementFault,
    StatementLine,
    compare_statement,
    read_booked_events,
    read_moved_events,
)
from ledger_sink.queries.report import ALWAYS_MS
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, read_ledger, show_rows
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.periods import parse_instant_ms
from pitboss.settings import read_settings
from runtime.postgres.roles import Role
from schemas.errors import UsageError

_SHOWN_MAX = 100


@click.group()
def reconcile() -> None:
    """The ledger against its topics, and against what a provider says."""


@reconcile.command()
@click.option(
    "--republish", "mend", is_flag=True, help="Publish again what is missing, older or different."
)
@click.option("--dry-run", is_flag=True, help="With --republish: only say what would be published.")
@json_option
def balances(*, mend: bool, dry_run: bool, as_json: bool) -> None:
    """Every wallet against the last record of its key on the topic of balances."""
    from pitboss.ops.reconcile import reconcile_balances, republish_balances

    runtime = resolve_runtime(read_settings())

    async def read(database: LedgerDatabase) -> tuple[BalanceReport, int]:
        if mend and not dry_run:
            return await republish_balances(runtime, database)
        return await reconcile_balances(runtime, database), 0

    report, sent = read_ledger(runtime, read, Role.AUDITOR)
    if as_json:
        print_json({**msgspec.to_builtins(report), "republished": sent})
    else:
        table = screen.table(
            "wallet", "what", "ledger's version", "topic's version", whole=("wallet",), box=None
        )
        for fault in report.faults[:_SHOWN_MAX]:
            versions = (fault.ledger_version, fault.topic_version)
            table.add_row(
                fault.key,
                fault.what,
                *["" if version is None else str(version) for version in versions],
            )
        show_rows(
            table,
            f"{report.compared} wallets are on the topic as they are",
            report.faults,
            as_numbers=(2, 3),
        )
    click.echo(
        f"{report.compared} wallets compared, {report.in_flight} on their way, {len(report.faults)} differ"
        + (f", {sent} published again" if mend else ""),
        err=True,
    )
    if report.faults:
        raise SystemExit(1)


@reconcile.command()
@json_option
def offsets(*, as_json: bool) -> None:
    """Each source offset has its entry, repeat, parking or dead letter: reads every topic and table
    whole.
    """
    from pitboss.ops.reconcile import reconcile_offsets

    runtime = resolve_runtime(read_settings())
    check = read_ledger(
        runtime, lambda database: reconcile_offsets(runtime, database), Role.AUDITOR
    )
    if as_json:
        print_json(msgspec.to_builtins(check))
    else:
        click.echo(
            f"{'every offset is accounted for' if check.holds else 'NOT accounted for'}: {check.detail}"
        )
    if not check.holds:
        click.echo(
            "what came within the last seconds may be on its way: run it again before you search",
            err=True,
        )
        raise SystemExit(1)


@reconcile.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", required=True, help="Whose statement it is.")
@click.option("--brand", default="default", show_default=True)
@click.option(
    "--csv/--native",
    "is_csv",
    default=True,
    help="A CSV, or a file that the provider's adapter reads (camt).",
)
@click.option(
    "--from",
    "from_text",
    help="RFC 3339; with --until: also look for what the statement does not have.",
)
@click.option("--until", "until_text", help="RFC 3339; up to here by event time, not included.")
@json_option
def statement(
    *,
    file: Path,
    provider: str,
    brand: str,
    is_csv: bool,
    from_text: str | None,
    until_text: str | None,
    as_json: bool,
) -> None:
    """A provider's own statement against what is booked of it: missing, extra and different items."""
    lines = _csv(file, provider, brand) if is_csv else _native(file, provider, brand)
    span = None
    if from_text or until_text:
        span = (
            parse_instant_ms(from_text) if from_text else ALWAYS_MS[0],
            parse_instant_ms(until_text) if until_text else ALWAYS_MS[1],
        )

    async def read(database: LedgerDatabase) -> list[StatementFault]:
        booked = await read_booked_events(database, [line.event_id for line in lines])
        operations = sorted({line.operation for line in lines})
        moved = []
        if span is not None:
            moved = await read_moved_events(
                database,
                provider=provider,
                brand=brand,
                operations=operations,
                from_ms=span[0],
                until_ms=span[1],
            )
        return compare_statement(lines, booked, moved)

    found = read_ledger(resolve_runtime(read_settings()), read)
    if as_json:
        print_json({"lines": len(lines), "faults": msgspec.to_builtins(found)})
    else:
        table = screen.table(
            "what", "transaction", "statement", "ledger", "event", whole=("event",), box=None
        )
        for fault in found[:_SHOWN_MAX]:
            table.add_row(
                fault.what,
                f"{fault.operation} {fault.provider_tx_id}",
                fault.statement,
                fault.ledger,
                fault.event_id,
            )
        show_rows(table, f"all {len(lines)} lines are booked as they say", found)
    click.echo(f"{len(lines)} lines, {len(found)} faults", err=True)
    if found:
        raise SystemExit(1)


def _csv(file: Path, provider: str, brand: str) -> list[StatementLine]:
    from pitboss.ops.reconcile import parse_csv_statement

    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8: {error}") from error
    return list(parse_csv_statement(text, provider=provider, brand=brand))


def _native(file: Path, provider: str, brand: str) -> list[StatementLine]:
    from pitboss.ops.reconcile import parse_native_statement
    from streams.providers.registry import DIALECTS

    if provider not in DIALECTS:
        raise UsageError(
            f"there is no adapter for {provider!r}: `pitboss providers list` names them"
        )
    at_ms = time.time_ns() // 1_000_000
    lines, unread = parse_native_statement(
        file.read_bytes(), DIALECTS[provider], provider=provider, brand=brand, at_ms=at_ms
    )
    for item in unread:
        where = "" if item.record_index is None else f", item {item.record_index}"
        click.echo(f"unread: {file}{where}: {item.code} {item.detail}", err=True)
    if unread:
        raise UsageError(
            f"{len(unread)} items of {file} cannot be read, so the rest would prove nothing"
        )
    return lines
