"""What the ledger has booked of each provider version, for a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements

ProviderVersion = tuple[str, str]
"""Provider and version."""


class VersionTraffic(NamedTuple):
    """Events of one provider version, and the last one: where its raw record is, and when it
    happened (epoch ms).
    """

    events: int
    last_record: str
    last_at_ms: int


async def traffic_since(
    database: LedgerDatabase, since: Mapping[int, int]
) -> dict[ProviderVersion, VersionTraffic]:
    """Events decided from an offset of each partition of the log on, by (provider, version).

    Raises Unavailable.
    """
    counted: dict[ProviderVersion, VersionTraffic] = {}
    for part, first in since.items():
        rows = await database.query(
            statements("traffic")["versions"], {"part": part, "first": first}
        )
        for provider, version, events, last in rows:
            add_traffic(counted, (provider, version), _traffic(events, last))
    return counted


def add_traffic(
    counted: dict[ProviderVersion, VersionTraffic],
    version: ProviderVersion,
    traffic: VersionTraffic,
) -> None:
    """Count further events of a version; the later of two last ones stays."""
    before = counted.get(version, traffic)
    last = max(before, traffic, key=lambda one: one.last_at_ms)
    events = traffic.events + (before.events if version in counted else 0)
    counted[version] = VersionTraffic(events, last.last_record, last.last_at_ms)


def _traffic(events: int, last: str) -> VersionTraffic:
    at_ms, _, place = last.partition(" ")
    return VersionTraffic(events, place, int(at_ms))
