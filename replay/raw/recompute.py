"""The content of each event of the log, computed again from its raw record.

The log keeps what a raw record does not have: the order of events, the verdict about a signature,
checked once by the keys of its day, and the player whom the resolver found. All else is what the
installed adapter makes of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from replay.log.blocks import LogGap, LogSource
from replay.raw.comparison import RawPlace, StoredRecord, records_of
from schemas.errors import UsageError
from schemas.events import WalletTransaction
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.normalise.mapping.renormalise import (
    EventComparison,
    EventFinding,
    RenormalisedRecord,
    compare_record,
    renormalise,
)

EXAMPLES: Final = 100
"""Of each list; the counts are of all."""
_WINDOW_RECORDS: Final = 2_048
_WINDOWS: Final = 4
_LATE_MS: Final = 60_000
"""A raw record is in the log after it was appended; later than this, it is missing there."""


class RawWithoutTwin(msgspec.Struct, frozen=True):
    """A raw record of which the log has less than the installed adapter makes of it."""

    place: str
    record_index: int | None
    event_id: str | None
    """The event that the log does not have; None for what the adapter rejects, too."""
    reason: str


class Recomputation(msgspec.Struct):
    """What came of computing the events of a log again."""

    recomputed: int = 0
    """Events that were computed from their raw records."""
    changed: int = 0
    surplus: int = 0
    """Events that the installed adapter does not make: they are not booked again."""
    without_raw: int = 0
    """Events whose raw record is gone, or was never on a topic: booked as the log has them."""
    differences: list[EventComparison] = []
    gone: list[str] = []
    without_twin: int = 0
    twinless: list[RawWithoutTwin] = []


class RawWindows:
    """Raw records by place, read in windows: the log names them nearly in their order."""

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._windows: dict[tuple[str, int, int], dict[int, StoredRecord]] = {}
        self._ends: dict[str, Mapping[int, tuple[int, int]]] = {}

    def record(self, place: RawPlace) -> StoredRecord | None:
        """Return a raw record; None where neither broker nor archive have it."""
        topic, partition, offset = place
        key = (topic, partition, offset // _WINDOW_RECORDS)
        window = self._windows.get(key)
        if window is None:
            while len(self._windows) >= _WINDOWS * max(1, len(self._ends)):
                self._windows.pop(next(iter(self._windows)))
            window = self._windows[key] = self._read(*key)
        return window.get(offset)

    def _read(self, topic: str, partition: int, number: int) -> dict[int, StoredRecord]:
        if topic not in self._ends:
            try:
                self._ends[topic] = self._source.bounds(topic)
            except UsageError:
                self._ends[topic] = {}
        begin, end = self._ends[topic].get(partition, (0, 0))
        start = max(begin, number * _WINDOW_RECORDS)
        stop = min(end, (number + 1) * _WINDOW_RECORDS)
        found: dict[int, StoredRecord] = {}
        if start >= stop:
            return found
        try:
            for block in self._source.read(topic, partition, start, stop):
                found |= {one.offset: one for one in records_of(block) if one is not None}
        except LogGap:
            pass  # what is missing has no record, and is named where it is looked for
        return found


class EventRecomputer:
    """Puts the installed adapter's events in the places of the log's."""

    def __init__(self, source: LogSource, normaliser: Normaliser) -> None:
        """Take the log and a normaliser without keys: verdicts about signatures are the log's."""
        self._windows = RawWindows(source)
        self._normaliser = normaliser
        self._last: RenormalisedRecord | None = None
        self.seen: dict[RawPlace, set[int]] = {}
        """Indexes of the items of each raw record that the log has events of."""
        self.result = Recomputation()

    def recompute(self, stored: WalletTransaction) -> WalletTransaction | None:
        """Return an event as its raw record means it now; None where it does not mean it."""
        attempt, result = stored.attempt, self.result
        place = (attempt.topic, attempt.partition, attempt.offset)
        self.seen.setdefault(place, set()).add(attempt.record_index)
        again = self._read(place)
        if again is None:
            result.without_raw += 1
            if len(result.gone) < EXAMPLES:
                result.gone.append(_format_place(place))
            return stored
        [one] = [each for each in compare_record(again, [stored]) if each.stored is not None]
        if one.again is None:
            result.surplus += 1
        else:
            result.recomputed += 1
            result.changed += one.finding is EventFinding.CHANGED
        if one.finding is not EventFinding.SAME and len(result.differences) < EXAMPLES:
            result.differences.append(one)
        return None if one.again is None else _with_verdicts(one.again, stored)

    def _read(self, place: RawPlace) -> RenormalisedRecord | None:
        last = self._last
        if last is None or (last.topic, last.partition, last.offset) != place:
            record = self._windows.record(place)
            self._last = last = None if record is None else renormalise(self._normaliser, record)
        return last


def _with_verdicts(again: WalletTransaction, stored: WalletTransaction) -> WalletTransaction:
    """Return a recomputed event with what only the log knows."""
    group = again.group
    if group is not None and stored.group is not None:
        verdicts = {one.event_id: one.signature for one in stored.group.members}
        members = [
            replace(member, signature=verdicts.get(member.event_id, member.signature))
            for member in group.members
        ]
        group = replace(group, members=members)
    return replace(
        again,
        signature=stored.signature,
        player_id=again.player_id or stored.player_id,
        attempt=stored.attempt,
        group=group,
    )


def find_without_twin(
    source: LogSource,
    normaliser: Normaliser,
    topics: Collection[str],
    seen: Mapping[RawPlace, Collection[int]],
    until_ms: int,
    begin: Callable[[str], None] = lambda _: None,
) -> Iterator[RawWithoutTwin]:
    """Yield raw records appended before a moment of which the log lacks an event.

    `seen` are the items that the log, or the unresolved topic, has events of. A record in its last
    minute may be on its way. Raises Unavailable; what is gone from a topic is passed over.
    """
    for topic in topics:
        try:
            bounds = source.bounds(topic)
        except UsageError:
            continue  # of a provider that this installation does not have
        begin(f"looking for raw records without an event: {topic}")
        ends = source.first_at(topic, until_ms - _LATE_MS)
        for partition, (first, _) in bounds.items():
            for block in source.read(topic, partition, first, ends[partition]):
                for record in records_of(block):
                    if record is not None:
                        yield from _without_twin(normaliser, record, seen)


def _without_twin(
    normaliser: Normaliser, record: StoredRecord, seen: Mapping[RawPlace, Collection[int]]
) -> Iterator[RawWithoutTwin]:
    place = (record.topic, record.partition, record.offset)
    known = seen.get(place, ())
    for item in normaliser.normalise(record):
        if isinstance(item, AcceptedTransaction):
            index = item.transaction.attempt.record_index
            if index not in known:
                event_id, reason = item.transaction.event_id, "the log has no such event"
                yield RawWithoutTwin(_format_place(place), index, event_id, reason)
        elif isinstance(item, RejectedItem) and item.record_index not in known:
            reason = f"{item.code}: {item.detail}"
            yield RawWithoutTwin(_format_place(place), item.record_index, None, reason)


def _format_place(place: RawPlace) -> str:
    topic, partition, offset = place
    return f"{topic}-{partition}@{offset}"
