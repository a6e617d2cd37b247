"""`pitboss providers list`: every provider version, its days to retirement and its traffic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import click
import orjson

from ledger_sink.queries.traffic import VersionTraffic
from pitboss.cli import screen
from pitboss.embedded.state import NoStack, resolve_runtime
from pitboss.setting_files import list_dialect_settings
from pitboss.settings import read_settings
from schemas.errors import PitbossError
from streams.providers.registry import DIALECTS
from streams.providers.retirement import format_warnings
from streams.providers.versions import VersionRow

_COLUMNS = (
    "provider",
    "version",
    "state",
    "retires_on",
    "days_to_retirement",
    "events_24h",
    "last_sample",
)


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List state, days to retirement, events of the last day and the last of them, by version.

    Without running servers the last two are left out. A version that retires within 30 days and
    still has traffic gives a warning.
    """
    now_ms = time.time_ns() // 1_000_000
    today = datetime.fromtimestamp(now_ms // 1000, tz=UTC).date()
    traffic = _traffic(now_ms)
    rows = describe_versions(DIALECTS.rows, traffic, today)
    if as_json:
        click.echo(orjson.dumps(rows))
    else:
        _show(rows)
        for line in list_dialect_settings(DIALECTS.overrides):
            click.echo(f"of this installation: {line}")
    events = {version: one.events for version, one in (traffic or {}).items()}
    for warning in format_warnings(DIALECTS.rows, events, today):
        click.echo(f"warning: {warning}", err=True)


def describe_versions(
    rows: Sequence[VersionRow],
    traffic: Mapping[tuple[str, str], VersionTraffic] | None,
    today: date,
) -> list[dict[str, Any]]:
    """Return one object per version; `last_sample` is of the last day.

    `traffic` is None if it is not known.
    """
    return [
        _describe_version(row, traffic, today)
        for row in sorted(rows, key=lambda row: (row.provider, row.version))
    ]


def _describe_version(
    row: VersionRow, traffic: Mapping[tuple[str, str], VersionTraffic] | None, today: date
) -> dict[str, Any]:
    seen = None if traffic is None else traffic.get((row.provider, row.version))
    return {
        "provider": row.provider,
        "version": row.version,
        "state": row.state.value,
        "announced_on": row.announced_on,
        "live_on": row.live_on,
        "deprecated_on": row.deprecated_on,
        "retires_on": row.retires_on,
        "days_to_retirement": row.days_to_retirement(today),
        "events_24h": None if traffic is None else seen.events if seen is not None else 0,
        "last_sample": None
        if seen is None
        else {"record": seen.last_record, "at": _text(seen.last_at_ms)},
        "adapter": row.adapter,
        "settings": DIALECTS.overrides.get(row.provider, {}),
        "source": row.source,
    }


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _traffic(now_ms: int) -> dict[tuple[str, str], VersionTraffic] | None:
    try:
        runtime = resolve_runtime(read_settings())
    except NoStack as error:
        click.echo(f"no traffic: {error}", err=True)
        return None
    from pitboss.ops.provider_traffic import read_daily_traffic

    try:
        return asyncio.run(read_daily_traffic(runtime, now_ms))
    except PitbossError as error:
        # The list is useful without traffic, above all while a server is down.
        click.echo(f"no traffic: {error.code} {error}", err=True)
        return None


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    table = screen.table(*_COLUMNS)
    for row in rows:
        sample = row["last_sample"]
        shown = {**row, "last_sample": sample and f"{sample['at']} {sample['record']}"}
        table.add_row(*["" if shown[column] is None else str(shown[column]) for column in _COLUMNS])
    for column in ("days_to_retirement", "events_24h"):
        table.columns[_COLUMNS.index(column)].justify = "right"
    screen.show(table)
