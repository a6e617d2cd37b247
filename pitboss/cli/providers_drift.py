"""`pitboss providers drift`: differences between providers' payloads and their declared schemas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from pitboss.cli import screen
from pitboss.cli.option_types import period_options
from pitboss.cli.suggestions import PROVIDER
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.periods import check_period, is_within
from pitboss.settings import read_settings
from schemas.events import SchemaDrift

_COLUMNS = (
    "first seen (UTC)",
    "provider",
    "version",
    "message",
    "what",
    "where",
    "detail",
    "record",
    "refused",
)


@click.command("drift")
@click.option(
    "--provider", "providers", multiple=True, type=PROVIDER, help="Only of this provider."
)
@period_options(of="time of the first occurrence")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the examples.")
def drift_command(
    providers: tuple[str, ...], since_ms: int | None, until_ms: int | None, as_json: bool
) -> None:
    """List each way in which payloads differ from their declared schema, by first occurrence."""
    from pitboss.integration_log.drift_log import read_drift

    check_period(since_ms, until_ms)
    runtime = resolve_runtime(read_settings())
    read = asyncio.run(read_drift(runtime, from_ms=since_ms or 0, providers=frozenset(providers)))
    found = [drift for drift in read if is_within(drift.seen_at, since_ms, until_ms)]
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    if found:
        _show(found)
    click.echo("1 shape" if len(found) == 1 else f"{len(found)} shapes", err=True)


def _show(found: Sequence[SchemaDrift]) -> None:
    table = screen.table(*_COLUMNS, box=None, pad_edge=False)
    for drift in found:
        at = datetime.fromtimestamp(drift.seen_at // 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
        source = f"{drift.source.topic}-{drift.source.partition}@{drift.source.offset}"
        columns = (
            drift.provider,
            drift.provider_version,
            drift.event,
            drift.what,
            drift.path,
            drift.detail,
            source,
        )
        table.add_row(at, *columns, drift.rejected or "")
    screen.show(table)
