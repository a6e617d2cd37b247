"""`pitboss providers drift`: in which ways the providers' payloads differ from what they declared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from pitboss.cli import screen
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.periods import parse_since_ms
from pitboss.settings import read_settings
from schemas.errors import UsageError
from schemas.events import SchemaDrift
from streams.providers.registry import DIALECTS

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
@click.option("--provider", "providers", multiple=True, help="Only of this provider.")
@click.option("--since", help="Only what was first seen since: 7d, 24h, or a time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the examples.")
def drift_command(providers: tuple[str, ...], since: str | None, as_json: bool) -> None:
    """Each way in which payloads differ from their declared schema, once, by when it was first
    seen.
    """
    from pitboss.integration_log.drift_log import read_drift

    unknown = set(providers) - set(DIALECTS)
    if unknown:
        raise UsageError(
            f"there is no provider {', '.join(sorted(unknown))}: providers are {', '.join(sorted(DIALECTS))}"
        )
    from_ms = 0 if since is None else parse_since_ms(since, time.time_ns() // 1_000_000)
    runtime = resolve_runtime(read_settings())
    found = asyncio.run(read_drift(runtime, from_ms=from_ms, providers=frozenset(providers)))
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
        said = (
            drift.provider,
            drift.provider_version,
            drift.event,
            drift.what,
            drift.path,
            drift.detail,
            source,
        )
        table.add_row(at, *said, drift.rejected or "")
    screen.show(table)
