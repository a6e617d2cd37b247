"""What the ledger has booked of each provider version, for a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger_sink.store.database import Database
from ledger_sink.store.statements import statements

Version = tuple[str, str]
"""Provider and version."""


class Traffic(NamedTuple):
    """Events of one provider version, and the last one: where its raw record is, and when it happened (epoch ms)."""

    events: int
    last_record: str
    last_at_ms: int


async def traffic_since(database: Database, since: Mapping[int, int]) -> dict[Version, Traffic]:
    """Events decided from an offset of each partition of the log on, by (provider, version). Raises Unavailable."""
    counted: dict[Version, Traffic] = {}
    for part, first in since.items():
        rows = await database.query(statements("traffic")["versions"], {"part": part, "first": first})
        for provider, version, events, last in rows:
            add(counted, (provider, version), _traffic(events, last))
    return counted


def add(counted: dict[Version, Traffic], version: Version, traffic: Traffic) -> None:
    """Count further events of a version; the later of two last ones stays."""
    before = counted.get(version, traffic)
    last = max(before, traffic, key=lambda one: one.last_at_ms)
    events = traffic.events + (before.events if version in counted else 0)
    counted[version] = Traffic(events, last.last_record, last.last_at_ms)


def _traffic(events: int, last: str) -> Traffic:
    at_ms, _, place = last.partition(" ")
    return Traffic(events, place, int(at_ms))
