"""The raw records of a period, read again by the installed adapter and compared with the log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ledger_sink.rules.book import LogEvent
from replay.log.blocks import LogBlock, LogSource, RecordHeaders
from replay.recovery.order import OrderedLog
from schemas import codec
from schemas.errors import Rejected
from schemas.events import WalletTransaction
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.mapping.renormalise import (
    EventComparison,
    EventFinding,
    RenormalisedRecord,
    compare_record,
    differences,
    renormalise,
)

_BEFORE_MS: Final = 60_000
"""An event is in the log after its raw record; clocks of brokers differ by less than this."""

RawPlace = tuple[str, int, int]
"""Topic, partition and offset of a raw record."""


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """A raw record as broker or archive hold it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


@dataclass
class RawComparison:
    """What the records of a period mean now, and how that differs from the log."""

    records: int = 0
    unreadable: int = 0
    """Records whose headers no client can decode: dead letters then, and not read again here."""
    events: int = 0
    """What the installed adapter makes of them."""
    rejected: int = 0
    """Items that it rejects."""
    found: list[EventComparison] = field(default_factory=list)
    """Only what differs, in the order of the raw topic."""
    originals: dict[RawPlace, StoredRecord] = field(default_factory=dict)
    """The records behind the differences."""
    known: set[str] = field(default_factory=set)
    """Ids of events of these records that the log has, under whatever attempt."""


def read_records(
    source: LogSource, topic: str, since_ms: int, until_ms: int
) -> Iterator[StoredRecord | None]:
    """Yield the records of `[since, until)`; None for one that cannot be decoded.

    Raises LogGap where neither broker nor archive hold them, Unavailable, UsageError.
    """
    firsts, nexts = source.first_at(topic, since_ms), source.first_at(topic, until_ms)
    for partition in sorted(firsts):
        for block in source.read(topic, partition, firsts[partition], nexts[partition]):
            yield from records_of(block)


def records_of(block: LogBlock) -> Iterator[StoredRecord | None]:
    """Yield the records of a block; None for one whose headers cannot be decoded."""
    for index, offset in enumerate(block.offsets):
        if offset in block.unreadable_headers:
            yield None
            continue
        yield StoredRecord(
            block.topic,
            block.partition,
            offset,
            block.timestamps_ms[index],
            block.keys[index],
            block.values[index],
            block.headers.get(index, ()),
        )


def compare_period(
    source: LogSource,
    normaliser: Normaliser,
    raw_topic: str,
    event_topics: Collection[str],
    since_ms: int,
    until_ms: int,
) -> RawComparison:
    """Compare the raw records of a period with the events on the log and the unresolved topic.

    Records that no event was made of then, such as dead letters, are missing events if the adapter
    reads them now. An event that another attempt has brought, as a retry or a redrive, is not
    missing. Raises as `read_records`.
    """
    result = RawComparison()
    again: dict[RawPlace, RenormalisedRecord] = {}
    for record in read_records(source, raw_topic, since_ms, until_ms):
        result.records += 1
        if record is None:
            result.unreadable += 1
            continue
        read = renormalise(normaliser, record)
        result.events += len(read.events)
        result.rejected += len(read.rejected)
        place = (record.topic, record.partition, record.offset)
        again[place] = read
        result.originals[place] = record
    stored, result.known = _read_stored(source, event_topics, again, since_ms)
    for place, read in again.items():
        differing = [
            one
            for one in differences(compare_record(read, stored.get(place, ())))
            if not (one.finding is EventFinding.MISSING and _is_known(one, result.known))
        ]
        result.found += differing
        if not differing:
            del result.originals[place]
    return result


def _read_stored(
    source: LogSource,
    topics: Collection[str],
    wanted: Mapping[RawPlace, RenormalisedRecord],
    since_ms: int,
) -> tuple[dict[RawPlace, list[WalletTransaction]], set[str]]:
    """Return the events of the log that name one of these raw records as their attempt.

    And the ids of those that these records mean now, whatever their attempt is.
    """
    decode: Any = codec.decoder(WalletTransaction)
    meant = {event.event_id for read in wanted.values() for event in read.events}
    known: set[str] = set()
    found: dict[RawPlace, list[WalletTransaction]] = {}
    for topic in topics:
        ends = {partition: end for partition, (_, end) in source.bounds(topic).items()}
        for partition, first in source.first_at(topic, max(0, since_ms - _BEFORE_MS)).items():
            for block in source.read(topic, partition, first, ends[partition]):
                for value in block.values:
                    try:
                        event = decode(value or b"")
                    except Rejected:
                        continue
                    attempt = event.attempt
                    place = (attempt.topic, attempt.partition, attempt.offset)
                    if place in wanted:
                        found.setdefault(place, []).append(event)
                    if event.event_id in meant:
                        known.add(event.event_id)
    return found, known


def _is_known(one: EventComparison, known: Collection[str]) -> bool:
    return one.again is not None and one.again.event_id in known


def read_players(
    source: LogSource, topic: str, players: Collection[str]
) -> tuple[dict[str, list[LogEvent]], dict[int, int]]:
    """Return each player's events in the log, with those that concern every player, and its ends.

    Acts of the house without a player, such as limits, are among each player's. Raises LogGap where
    neither broker nor archive hold the log from its beginning, Unavailable.
    """
    bounds = source.bounds(topic)
    ends = {partition: end for partition, (_, end) in bounds.items()}
    found: dict[str, list[LogEvent]] = {player: [] for player in players}
    for record in OrderedLog(source, topic, dict.fromkeys(bounds, 0), ends):
        event = record.event
        if event is None:
            continue
        log_event = LogEvent(event, record.source, record.timestamp_ms)
        if event.player_id is None:
            for events in found.values():
                events.append(log_event)
        elif event.player_id in found:
            found[event.player_id].append(log_event)
    return found, ends
