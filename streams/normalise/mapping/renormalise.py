"""Stored raw records read again by the installed adapter, and compared with the events of the log.

Pure: who calls it reads the topics. The comparison is that of what a raw record means: fields that
say when, by which release and how well it was checked are not compared (`NOT_COMPARED`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from runtime.kafka.records import RawRecord
from schemas.events import Attempt, Group, WalletTransaction
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem

NOT_COMPARED: Final = frozenset(
    {"attempt", "provider_version", "signature", "fingerprint", "fingerprint_version"}
)
"""Fields in which the same event may differ from itself.

An attempt is a place; a repaired adapter may have another version; a signature is checked once, by
the keys of its day; a fingerprint follows from fields that are compared.
"""


class EventFinding(StrEnum):
    """What a comparison says about one event of a raw record."""

    SAME = "SAME"
    CHANGED = "CHANGED"  # the installed adapter means another event
    MISSING = "MISSING"  # the installed adapter makes an event that the log does not have
    SURPLUS = "SURPLUS"  # the log has an event that the installed adapter does not make


class RenormalisedRecord(msgspec.Struct, frozen=True):
    """A raw record as the installed adapter reads it: its transactions, and what it rejects."""

    topic: str
    partition: int
    offset: int
    events: list[WalletTransaction]
    rejected: list[RejectedItem]


class EventComparison(msgspec.Struct, frozen=True):
    """One event of a raw record: as the log has it, and as the installed adapter makes it."""

    attempt: Attempt
    finding: EventFinding
    stored: WalletTransaction | None
    again: WalletTransaction | None
    fields: tuple[str, ...] = ()
    """The fields that differ, of a changed event."""


def renormalise(normaliser: Normaliser, record: RawRecord) -> RenormalisedRecord:
    """Read a raw record again. Raises nothing, whatever the bytes.

    Events that no ledger books (of players, of markets) are left out.
    """
    events, rejected = [], []
    for item in normaliser.normalise(record):
        if isinstance(item, AcceptedTransaction):
            events.append(item.transaction)
        elif isinstance(item, RejectedItem):
            rejected.append(item)
    return RenormalisedRecord(record.topic, record.partition, record.offset, events, rejected)


def compare_record(
    again: RenormalisedRecord, stored: Iterable[WalletTransaction]
) -> list[EventComparison]:
    """Compare a raw record's events with those of the log that name it as their attempt.

    Events of one identity are compared first; what is left is paired by the place in the record, so
    that an event whose identity the adapter has changed is one changed event and not two. The log
    may hold copies of an event, appended again after a crash: the first one counts.
    """
    left: dict[tuple[str, int], WalletTransaction] = {}
    for event in stored:
        left.setdefault((event.event_id, event.attempt.record_index), event)
    pairs: list[tuple[WalletTransaction | None, WalletTransaction | None]] = []
    unmatched = list(again.events)
    for is_same in (_is_same, _has_same_id, _has_same_index):
        still = []
        for event in unmatched:
            key = next((key for key in left if is_same(event, key)), None)
            if key is None:
                still.append(event)
            else:
                pairs.append((left.pop(key), event))
        unmatched = still
    pairs += [(None, event) for event in unmatched]
    pairs += [(event, None) for event in left.values()]
    return sorted((_compare(*pair) for pair in pairs), key=_place)


def differing_fields(stored: WalletTransaction, again: WalletTransaction) -> tuple[str, ...]:
    """Return the compared fields in which two events differ, in the order of the contract.

    A player whom the resolver has found later is not a difference.
    """
    found = []
    for name in WalletTransaction.__struct_fields__:
        if name in NOT_COMPARED or getattr(stored, name) == getattr(again, name):
            continue
        if name == "group" and _bare(stored.group) == _bare(again.group):
            continue
        if name == "player_id" and again.player_id is None:
            continue
        found.append(name)
    return tuple(found)


def _bare(group: Group | None) -> Group | None:
    """Return a group without the fields of its members that are not compared."""
    if group is None:
        return None
    members = [replace(member, signature="", fingerprint="") for member in group.members]
    return replace(group, members=members)


def differences(comparisons: Iterable[EventComparison]) -> list[EventComparison]:
    """Return the comparisons that found another event, a missing one or a surplus one."""
    return [one for one in comparisons if one.finding is not EventFinding.SAME]


def _compare(stored: WalletTransaction | None, again: WalletTransaction | None) -> EventComparison:
    if stored is None:
        assert again is not None
        return EventComparison(again.attempt, EventFinding.MISSING, None, again)
    if again is None:
        return EventComparison(stored.attempt, EventFinding.SURPLUS, stored, None)
    fields = differing_fields(stored, again)
    finding = EventFinding.CHANGED if fields else EventFinding.SAME
    return EventComparison(again.attempt, finding, stored, again, fields)


def _is_same(event: WalletTransaction, key: tuple[str, int]) -> bool:
    return (event.event_id, event.attempt.record_index) == key


def _has_same_id(event: WalletTransaction, key: tuple[str, int]) -> bool:
    return event.event_id == key[0]


def _has_same_index(event: WalletTransaction, key: tuple[str, int]) -> bool:
    return event.attempt.record_index == key[1]


def _place(comparison: EventComparison) -> tuple[int, int, int]:
    attempt = comparison.attempt
    return attempt.partition, attempt.offset, attempt.record_index
