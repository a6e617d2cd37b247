"""Numbers of booked events by provider version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements

ProviderVersion = tuple[str, str]
"""Provider and version."""


class VersionTraffic(NamedTuple):
    """Events of one provider version, and the last one's raw record and time (epoch ms)."""

    events: int
    last_record: str
    last_at_ms: int


async def traffic_since(
    database: LedgerDatabase, since: Mapping[int, int]
) -> dict[ProviderVersion, VersionTraffic]:
    """Return the events decided from an offset of each partition of the log on, by version.

    Raises Unavailable.
    """
    counts: dict[ProviderVersion, VersionTraffic] = {}
    for partition, first in since.items():
        columns = {"part": partition, "first": first}
        rows = await database.query(statements("traffic")["versions"], columns)
        for provider, version, events, last in rows:
            add_traffic(counts, (provider, version), _traffic(events, last))
    return counts


def add_traffic(
    counts: dict[ProviderVersion, VersionTraffic],
    version: ProviderVersion,
    traffic: VersionTraffic,
) -> None:
    """Count further events of a version, and keep the later of the two last events."""
    before = counts.get(version, traffic)
    last = max(before, traffic, key=lambda one: one.last_at_ms)
    events = traffic.events + (before.events if version in counts else 0)
    counts[version] = VersionTraffic(events, last.last_record, last.last_at_ms)


def _traffic(events: int, last: str) -> VersionTraffic:
    at_ms, _, record = last.partition(" ")
    return VersionTraffic(events, record, int(at_ms))
