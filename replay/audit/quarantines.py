"""The log as the ledger booked it: with what stands for records that two people quarantined.

Which records those are is in the log, where the approval lies. Whether it took effect is known to
the ledger alone: another release may have booked the record before the approval came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger_sink.rules.book import LogEvent
from ledger_sink.rules.quarantine import replace_quarantined
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
        checksum, timestamp = topics.log_records.get(place, (0, 0))
        replaced = replace_quarantined(log.get(partition, []), place, checksum, timestamp)
        if replaced is None:
            name = f"{log_topic}-{partition}@{offset}"
            unapproved.append(f"{name} is quarantined without an approval in the log")
        else:
            log[partition] = replaced
    return log, unapproved
