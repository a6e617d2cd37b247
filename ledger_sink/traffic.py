"""What the ledger has booked of each provider version, for a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger_sink.database import Database
from ledger_sink.statements import statements


class Traffic(NamedTuple):
    """Events of one provider version, and the last one: where its raw record is, and when it happened (epoch ms)."""

    events: int
    last_record: str
    last_at_ms: int


Version = tuple[str, str]


async def traffic_since(database: Database, since: Mapping[int, int]) -> dict[Version, Traffic]:
    """Events decided from an offset of each partition of the log on, by (provider, version). Raises Unavailable."""
    rows = await database.query(
        statements("traffic")["versions"], {"parts": list(since), "offsets": list(since.values())}
    )
    return {(provider, version): _traffic(events, last) for provider, version, events, last in rows}


def _traffic(events: int, last: str) -> Traffic:
    at_ms, _, place = last.partition(" ")
    return Traffic(events, place, int(at_ms))
