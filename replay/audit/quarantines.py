"""The log as the ledger booked it: with what stands for records that two people quarantined.

Which records those are is in the log, where the approval lies. Whether it took effect is known to
the ledger alone: another release may have booked the record before the approval came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger_sink.rules.book import LogEvent
from ledger_sink.rules.journal import Quarantine
from ledger_sink.rules.quarantine import QuarantineSearch, quarantined_event
from replay.audit.evidence import TableEvidence, TopicEvidence
from schemas.events import Position


def booked_log(
    log_topic: str, topics: TopicEvidence, tables: TableEvidence
) -> tuple[Mapping[int, Sequence[LogEvent]], list[str]]:
    """Return the log with its quarantined records replaced, and those that lack an approval."""
    log = {partition: list(events) for partition, events in topics.log.items()}
    unapproved = []
    for partition, offset in sorted(tables.quarantined):
        place = Position(log_topic, partition, offset)
        events = log.get(partition, [])
        found = _find_quarantine(place, topics, events)
        if found is None:
            name = f"{log_topic}-{partition}@{offset}"
            unapproved.append(f"{name} is quarantined without an approval in the log")
            continue
        own = next((one for one in events if one.source == place), None)
        if own is None:
            booked = quarantined_event(place, topics.newer_records[place], None, found)
        else:
            booked = quarantined_event(place, own.logged_at or 0, own.event, found)
        others = [one for one in events if one.source != place]
        log[partition] = sorted([*others, booked], key=lambda one: one.source.offset)
    return log, unapproved


def _find_quarantine(
    place: Position, topics: TopicEvidence, events: Sequence[LogEvent]
) -> Quarantine | None:
    checksum = topics.log_checksums.get(place)
    if checksum is None:
        return None
    search = QuarantineSearch(place, checksum)
    for one in events:
        if one.source.offset > place.offset:
            quarantine = search.observe(one.event)
            if quarantine is not None:
                return quarantine
    return None
