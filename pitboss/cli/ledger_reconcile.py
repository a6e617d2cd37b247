"""`pitboss ledger reconcile`: compare the ledger with its topics and with providers' statements."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from ledger_sink.queries.report import bounds_of
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, read_ledger, show_rows
from pitboss.cli.option_types import period_options
from pitboss.cli.progress import show_waiting
from pitboss.cli.suggestions import STORED_PROVIDER, SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.periods import check_period
from pitboss.settings import read_settings
from runtime.postgres.roles import Role
from schemas.errors import UsageError

_SHOWN_MAX = 100


@click.group(cls=SuggestingGroup)
def reconcile() -> None:
    """Compare the ledger with its topics, and with a provider's statement."""


@reconcile.command()
@click.option(
    "--republish",
    "is_repair",
    is_flag=True,
    help="Publish again what is missing, older or different.",
)
@click.option(
    "--dry-run", is_flag=True, help="With --republish: only print what would be published."
)
@json_option
def balances(*, is_repair: bool, dry_run: bool, as_json: bool) -> None:
    """Compare every wallet with the last record of its key on the topic of balances."""
    from pitboss.ops.reconcile import reconcile_balances, republish_balances

    runtime = resolve_runtime(read_settings())

    async def read(database: LedgerDatabase) -> tuple[BalanceReport, int]:
        if is_repair and not dry_run:
            return await republish_balances(runtime, database)
        return await reconcile_balances(runtime, database), 0

    with show_waiting("comparing the wallets with their topic"):
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
            f"{report.compared} wallets agree with the topic",
            report.faults,
            as_numbers=(2, 3),
        )
    click.echo(
        f"{report.compared} wallets compared, {report.in_flight} in flight,"
        f" {len(report.faults)} differ" + (f", {sent} published again" if is_repair else ""),
        err=True,
    )
    if report.faults:
        raise SystemExit(1)


@reconcile.command()
@json_option
def offsets(*, as_json: bool) -> None:
    """Check that each source offset has its entry, repeat, parking or dead letter.

    Reads every topic and table whole.
    """
    from pitboss.ops.reconcile import reconcile_offsets

    runtime = resolve_runtime(read_settings())
    with show_waiting("reading every topic and table"):
        check = read_ledger(
            runtime, lambda database: reconcile_offsets(runtime, database), Role.AUDITOR
        )
    if as_json:
        print_json(msgspec.to_builtins(check))
    else:
        verdict = "every offset is accounted for" if check.holds else "NOT accounted for"
        click.echo(f"{verdict}: {check.detail}")
    if not check.holds:
        click.echo(
            "records of the last seconds may be in flight: run it again before you investigate",
            err=True,
        )
        raise SystemExit(1)


@reconcile.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--provider", required=True, type=STORED_PROVIDER, help="The provider of the statement."
)
@click.option("--brand", default="default", show_default=True)
@click.option(
    "--csv/--native",
    "is_csv",
    default=True,
    help="A CSV, or a file that the provider's adapter reads (camt).",
)
@period_options(formerly_since="--from")
@json_option
def statement(
    *,
    file: Path,
    provider: str,
    brand: str,
    is_csv: bool,
    since_ms: int | None,
    until_ms: int | None,
    as_json: bool,
) -> None:
    """Compare a provider's statement with the ledger: missing, extra and different items.

    With --since or --until, events of that period which the statement lacks are reported, too.
    """
    check_period(since_ms, until_ms)
    lines = _csv(file, provider, brand) if is_csv else _native(file, provider, brand)
    has_period = since_ms is not None or until_ms is not None
    from_ms, to_ms = bounds_of(since_ms, until_ms)

    async def read(database: LedgerDatabase) -> list[StatementFault]:
        booked = await read_booked_events(database, [line.event_id for line in lines])
        moved = []
        if has_period:
            moved = await read_moved_events(
                database,
                provider=provider,
                brand=brand,
                operations=sorted({line.operation for line in lines}),
                from_ms=from_ms,
                until_ms=to_ms,
            )
        return compare_statement(lines, booked, moved)

    with show_waiting("comparing the statement with the ledger"):
        found = read_ledger(resolve_runtime(read_settings()), read)
    if as_json:
        print_json({"lines": len(lines), "faults": msgspec.to_builtins(found)})
    else:
        _show_statement_faults(found, line_count=len(lines))
    click.echo(f"{len(lines)} lines, {len(found)} faults", err=True)
    if found:
        raise SystemExit(1)


def _show_statement_faults(found: Sequence[StatementFault], *, line_count: int) -> None:
    table = screen.table(
        "what", "transaction", "statement", "ledger", "event", whole=("event",), box=None
    )
    for fault in found[:_SHOWN_MAX]:
        transaction = f"{fault.operation} {fault.provider_tx_id}"
        table.add_row(fault.what, transaction, fault.statement, fault.ledger, fault.event_id)
    show_rows(table, f"all {line_count} lines agree with the ledger", found)


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
            f"{provider!r} has no adapter: `pitboss providers list` names those with one"
        )
    at_ms = time.time_ns() // 1_000_000
    lines, unread = parse_native_statement(
        file.read_bytes(), DIALECTS[provider], provider=provider, brand=brand, at_ms=at_ms
    )
    for item in unread:
        where = "" if item.record_index is None else f", item {item.record_index}"
        click.echo(f"unreadable: {file}{where}: {item.code} {item.detail}", err=True)
    if unread:
        raise UsageError(
            f"{len(unread)} items of {file} cannot be read, so a comparison of the rest would prove"
            " nothing"
        )
    return lines
