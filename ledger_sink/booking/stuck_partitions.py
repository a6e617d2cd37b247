"""Booking around events that cannot be booked: their partitions wait, and the others go on.

What is of the event, and what of this process:

- An event whose schema or kind this release does not know, that the rules cannot decide, or that
  the tables cannot hold stays so in every worker of this release. All that is before it in its
  partition is booked; then the partition waits, with the claim of this worker.
- A fence, a hole, another log, tables that move, a send that fails for good, a bug outside of the
  rules end the process, as they could harm every partition.

A partition that waits goes on by a release that can book the event, or behind a quarantine that
two people have decided (`ledger_sink.rules.quarantine`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ledger_sink.booking.committer import Committer
from ledger_sink.rules.book import LogEvent
from ledger_sink.rules.journal import Quarantine
from ledger_sink.rules.quarantine import QuarantineSearch, quarantined_event
from ledger_sink.store.event_decoder import DecodedBatch
from ledger_sink.store.groups import Slice, UnbookableEvent
from ledger_sink.store.log_check import checksum
from runtime.kafka.batches import RecordBatch
from runtime.postgres.database import DataRefused
from schemas import codec
from schemas.errors import PartitionStuck, Rejected
from schemas.events import Position, WalletTransaction

logger = logging.getLogger(__name__)


class LogReader(Protocol):
    """Reads a partition of the log again, beside the intake."""

    def read_on(self, partition: int, from_offset: int) -> AsyncGenerator[Any, None]:
        """Yield the records from an offset up to the present end, or as many as a while allows.

        Raises Unavailable.
        """
        ...


@dataclass(slots=True)
class StuckRecord:
    """The record that a partition waits at, and how far its quarantine was searched for."""

    record: Any
    event: WalletTransaction | None
    detail: str
    search: QuarantineSearch
    searched_offset: int

    @property
    def source(self) -> Position:
        """Its place in the log."""
        return Position(self.record.topic, self.record.partition, self.record.offset)


class EventBatch:
    """The events of a batch, to be cut into slices at any place."""

    def __init__(self, decoded: DecodedBatch) -> None:
        self.batch = decoded.batch
        self.newer = decoded.newer
        self.events = [
            LogEvent(
                event, Position(record.topic, record.partition, record.offset), record.timestamp
            )
            for record, event in decoded.events
        ]

    def slice(self, first: int, end: int) -> Slice:
        """Return the events of the offsets `[first, end)`."""
        batch, events = self.batch, self.events
        records = batch.records
        if (first, end) != (batch.from_offset, batch.next_offset):
            events = [one for one in events if first <= one.source.offset < end]
            records = [record for record in records if first <= record.offset < end]
        last = records[-1] if records else None
        return Slice(
            batch.partition,
            first,
            end,
            events,
            last.timestamp if last else None,
            checksum(last.key, last.value) if last else None,
            records,
        )

    def stuck_at(self, offset: int, detail: str) -> StuckRecord:
        """Return the record of an offset as the one that its partition waits at."""
        [record] = [record for record in self.batch.records if record.offset == offset]
        event = next((one.event for one in self.events if one.source.offset == offset), None)
        source = Position(record.topic, record.partition, offset)
        search = QuarantineSearch(source, checksum(record.key, record.value))
        return StuckRecord(record, event, detail, search, offset + 1)


class PartitionBooking:
    """Books batches of this worker's partitions, and knows which of them are stuck and why."""

    def __init__(self, committer: Committer, log: LogReader) -> None:
        self._committer = committer
        self._log = log
        self._stuck: dict[int, StuckRecord] = {}
        self._reached: dict[int, tuple[RecordBatch, int]] = {}
        """By partition: a batch that is booked in part, and how far."""
        self._decode = codec.decoder(WalletTransaction)

    async def book(self, decoded: DecodedBatch) -> None:
        """Return once the whole batch is committed.

        After a retriable error the next call goes on behind what is booked. Raises PartitionStuck
        for an event that cannot be booked, once all before it is committed.
        """
        events = EventBatch(decoded)
        batch = events.batch
        start = self._booked_until(batch)
        known = self._stuck.get(batch.partition)
        if known is not None and not start <= known.record.offset < batch.next_offset:
            # Another worker has had the partition since.
            known = None
        while start < batch.next_offset:
            stuck = known or await self._book_to_fault(events, start)
            known = None
            if stuck is None:
                break
            self._stuck[batch.partition] = stuck
            start = await self._pass(events, stuck)
            self._note_reached(batch, start)
        self._stuck.pop(batch.partition, None)
        self._reached.pop(batch.partition, None)

    def _booked_until(self, batch: RecordBatch) -> int:
        batch_in_parts, offset = self._reached.get(batch.partition, (None, 0))
        return offset if batch_in_parts is batch else batch.from_offset

    def _note_reached(self, batch: RecordBatch, offset: int) -> None:
        self._reached[batch.partition] = (batch, offset)
        batch.mark_reached(offset)

    async def _book_to_fault(self, events: EventBatch, start: int) -> StuckRecord | None:
        """Book up to the first event that cannot be booked, and return it; None if there is none.

        Events of a newer release are among them.
        """
        newer = next((one for one in events.newer if one[0].offset >= start), None)
        end = events.batch.next_offset if newer is None else newer[0].offset
        try:
            await self._book_range(events, start, end)
        except UnbookableEvent as error:
            return events.stuck_at(error.source.offset, str(error))
        return None if newer is None else events.stuck_at(newer[0].offset, newer[1])

    async def _book_range(self, events: EventBatch, first: int, end: int) -> None:
        """Book the offsets `[first, end)`.

        Raises UnbookableEvent once all before it is booked. Where the database refuses a value and
        does not say whose, halves are booked, down to one event.
        """
        if first >= end:
            return
        slice_ = events.slice(first, end)
        try:
            await self._committer.submit(slice_, partial(self._note_reached, events.batch))
        except UnbookableEvent as error:
            first = max(first, self._booked_until(events.batch))
            await self._book_range(events, first, error.source.offset)
            raise
        except DataRefused as error:
            reached = max(first, self._booked_until(events.batch))
            if reached > first:
                await self._book_range(events, reached, end)
                return
            count = len(slice_.events)
            if count == 0:
                raise
            middle = slice_.events[count // 2].source
            if count == 1:
                await self._book_range(events, first, middle.offset)
                raise UnbookableEvent(middle, f"{slice_.events[0]}: {error}") from error
            await self._book_range(events, first, middle.offset)
            await self._book_range(events, middle.offset, end)

    async def _pass(self, events: EventBatch, stuck: StuckRecord) -> int:
        """Book a stuck record as quarantined, and return the offset behind it.

        Raises PartitionStuck until there is a quarantine.
        """
        source = stuck.source
        quarantine = await self._find_quarantine(stuck)
        if quarantine is None:
            place = f"{source.topic}-{source.partition}@{source.offset}"
            # Its beginning is shown where there is little room.
            message = (
                f"{stuck.detail}. The other partitions go on, and so does this one with a release "
                f"that can book it; else, two people: pitboss ledger quarantine {place}"
            )
            raise PartitionStuck(message)
        cut = events.slice(source.offset, source.offset + 1)
        booked = quarantined_event(source, stuck.record.timestamp, stuck.event, quarantine)
        slice_ = Slice(
            cut.partition,
            cut.from_offset,
            cut.next_offset,
            [booked],
            cut.last_timestamp_ms,
            cut.last_checksum,
        )
        try:
            await self._committer.submit(slice_)
        except (UnbookableEvent, DataRefused) as error:
            raise PartitionStuck(f"{booked}: its quarantine cannot be booked: {error}") from error
        logger.warning(
            "%s is quarantined: proposed by %s, approved by %s: %s",
            quarantine.record,
            quarantine.proposed_by,
            quarantine.approved_by,
            quarantine.reason,
        )
        return source.offset + 1

    async def _find_quarantine(self, stuck: StuckRecord) -> Quarantine | None:
        """Search the records behind a stuck one that were not searched before."""
        read_on = self._log.read_on(stuck.source.partition, stuck.searched_offset)
        async with aclosing(read_on) as records:
            async for record in records:
                stuck.searched_offset = record.offset + 1
                try:
                    event = self._decode(record.value or b"")
                except Rejected:
                    continue
                quarantine = stuck.search.observe(event)
                if quarantine is not None:
                    # Found again, should its commit fail.
                    stuck.searched_offset = record.offset
                    return quarantine
        return None
