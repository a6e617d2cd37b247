"""The stretch of the log that a restored database lacks, booked by the production code.

What the ledger stepped over by a quarantine it steps over again, at the same record. Where the live
ledger would wait at a record, its partition stops here too, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import LogEvent
from ledger_sink.rules.journal import Quarantine
from ledger_sink.rules.quarantine import QuarantineSearch, quarantined_event
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice, UnbookableEvent
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.reading import collect_read_set
from replay.log.blocks import LogSource
from replay.recovery.order import OrderedLog, OrderedRecord
from runtime.postgres.database import DataRefused
from schemas import codec
from schemas.errors import InvariantBroken, Rejected
from schemas.events import Position, WalletTransaction
from schemas.policies import LedgerPolicy

EVENTS_PER_GROUP_MAX: Final = 2_000

ShowRecords = Callable[[int, int], None]
"""Takes how many offsets are booked, and how many there are."""
ObserveEvent = Callable[[WalletTransaction], None]


@dataclass
class RebookedStretch:
    """What was booked again."""

    starts: dict[int, int]
    ends: dict[int, int]
    """Behind the last booked record, by partition."""
    events: int = 0
    unreadable: int = 0
    """Records that are not events: dead letters before, too."""
    stuck: dict[int, str] = field(default_factory=dict)
    """Partitions that wait at a record, with the reason."""


@dataclass
class _Piece:
    """What of one partition waits for the next transaction."""

    from_offset: int
    next_offset: int
    events: list[LogEvent] = field(default_factory=list)
    ties: list[tuple[int, int, int]] = field(default_factory=list)
    """Offset, time and checksum of each record, events or not."""


class Rebooking:
    """Books a stretch of the log; another try goes on where the last one ended."""

    def __init__(
        self,
        database: LedgerDatabase,
        policies: Mapping[str, LedgerPolicy],
        source: LogSource,
        topic: str,
    ) -> None:
        """Prepare; nothing is claimed or read before `run`."""
        self._ledger = PostgresLedger(database, policies, topic=topic)
        self._policies = policies
        self._source = source
        self._topic = topic
        self._decode = codec.decoder(WalletTransaction)
        self._pieces: dict[int, _Piece] = {}
        self._records: dict[Position, OrderedRecord] = {}
        """Of the events that wait for the next transaction."""
        self._result = RebookedStretch({}, {})

    async def run(
        self,
        ends: Mapping[int, int],
        *,
        progress: ShowRecords = lambda _, __: None,
        observe: ObserveEvent = lambda _: None,
    ) -> RebookedStretch:
        """Book every partition up to its end; `observe` takes each event of the stretch.

        The partitions are claimed first, so that a worker that was believed gone writes nothing
        more. Raises LogGap, Unavailable, and as `PostgresLedger.commit_group`.
        """
        claims = await claim_positions(self._ledger.database, sorted(ends), topic=self._topic)
        self._ledger.epochs.update({number: claim.epoch for number, claim in claims.items()})
        starts = {number: claim.next_offset for number, claim in claims.items() if number in ends}
        result = self._result = RebookedStretch(starts, dict(starts))
        total = sum(max(0, ends[number] - starts[number]) for number in starts)
        for record in OrderedLog(self._source, self._topic, starts, ends):
            if record.event is not None:
                observe(record.event)
            await self._take(record)
            progress(sum(result.ends[number] - starts[number] for number in starts), total)
        for number, end in ends.items():
            # Behind the last record there may be markers of transactions.
            if number not in result.stuck and self._reached(number) < end:
                self._piece(number).next_offset = end
        await self._commit()
        progress(total, total)
        return result

    def _reached(self, partition: int) -> int:
        piece = self._pieces.get(partition)
        return self._result.ends[partition] if piece is None else piece.next_offset

    def _piece(self, partition: int) -> _Piece:
        piece = self._pieces.get(partition)
        if piece is None:
            reached = self._result.ends[partition]
            piece = self._pieces[partition] = _Piece(reached, reached)
        return piece

    async def _take(self, record: OrderedRecord) -> None:
        """Add a record to the next transaction; one that crosses partitions has one of its own."""
        partition = record.source.partition
        if partition in self._result.stuck:
            return
        event = self._log_event(record)
        if partition in self._result.stuck:
            return
        crosses = event is not None and self._crosses(event)
        if crosses:
            await self._commit()
        piece = self._piece(partition)
        piece.next_offset = record.source.offset + 1
        piece.ties.append((record.source.offset, record.timestamp_ms, record.checksum))
        if event is None:
            self._result.unreadable += 1
        else:
            piece.events.append(event)
            self._records[record.source] = record
        if crosses or len(self._records) >= EVENTS_PER_GROUP_MAX:
            await self._commit()

    def _crosses(self, event: LogEvent) -> bool:
        return event.event.player_id is None or (
            collect_read_set([event], self._policies).crosses_partitions
        )

    def _log_event(self, record: OrderedRecord) -> LogEvent | None:
        if record.event is not None:
            return LogEvent(record.event, record.source, record.timestamp_ms)
        return None if record.newer is None else self._step_over(record, record.newer)

    async def _commit(self) -> None:
        while self._pieces:
            slices = [_to_slice(number, piece) for number, piece in self._pieces.items()]
            try:
                await self._ledger.commit_group(slices)
            except UnbookableEvent as error:
                self._replace(error.source, str(error))
                continue
            except DataRefused as error:
                await self._commit_singly(error)
                continue
            self._note_committed(slices)

    async def _commit_singly(self, error: DataRefused) -> None:
        """Commit one event alone: the database does not say which one it refuses."""
        number, piece = next((n, one) for n, one in self._pieces.items() if one.events)
        first = piece.events[0].source
        alone = replace(piece, next_offset=first.offset + 1, events=piece.events[:1])
        try:
            await self._ledger.commit_group([_to_slice(number, alone)])
        except (DataRefused, UnbookableEvent):
            self._replace(first, str(error))
            return
        self._result.ends[number] = alone.next_offset
        self._result.events += 1
        self._records.pop(first, None)
        piece.from_offset = alone.next_offset
        del piece.events[0]

    def _note_committed(self, slices: Iterable[Slice]) -> None:
        for slice_ in slices:
            self._result.ends[slice_.partition] = slice_.next_offset
            self._result.events += len(slice_.events)
        self._pieces.clear()
        self._records.clear()

    def _replace(self, source: Position, detail: str) -> None:
        """Put the quarantine in the place of an event, or stop its partition before it."""
        piece = self._pieces[source.partition]
        if any(one.source == source and one.quarantine is not None for one in piece.events):
            raise InvariantBroken(f"{detail}: its quarantine cannot be booked")
        booked = self._step_over(self._records[source], detail)
        if booked is not None:
            piece.events = [booked if one.source == source else one for one in piece.events]
            return
        piece.events = [one for one in piece.events if one.source.offset < source.offset]
        piece.next_offset = source.offset
        if piece.next_offset == piece.from_offset:
            del self._pieces[source.partition]

    def _step_over(self, record: OrderedRecord, detail: str) -> LogEvent | None:
        """Return what is booked for a quarantined record; else note why its partition stops."""
        source = record.source
        quarantine = self._find_quarantine(record)
        if quarantine is not None:
            return quarantined_event(source, record.timestamp_ms, record.event, quarantine)
        self._result.stuck[source.partition] = (
            f"{source.topic}-{source.partition}@{source.offset}: {detail}"
        )
        return None

    def _find_quarantine(self, record: OrderedRecord) -> Quarantine | None:
        source = record.source
        search = QuarantineSearch(source, record.checksum)
        end = self._source.bounds(self._topic)[source.partition][1]
        for block in self._source.read(self._topic, source.partition, source.offset + 1, end):
            for value in block.values:
                try:
                    quarantine = search.observe(self._decode(value or b""))
                except Rejected:
                    continue
                if quarantine is not None:
                    return quarantine
        return None


def _to_slice(partition: int, piece: _Piece) -> Slice:
    kept = [tie for tie in piece.ties if tie[0] < piece.next_offset]
    timestamp_ms, crc = kept[-1][1:] if kept else (None, None)
    return Slice(partition, piece.from_offset, piece.next_offset, piece.events, timestamp_ms, crc)
