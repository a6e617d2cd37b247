"""The ledger's recorded batches, booked again with the production code in the recorded order.

The log is read in windows of each partition, so the memory does not grow with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import LogEvent
from ledger_sink.rules.journal import Quarantine
from ledger_sink.rules.quarantine import QuarantineSearch, quarantined_event
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.log_check import checksum
from ledger_sink.store.migrate import migrate
from replay.audit.rerun import group_slices
from replay.log.blocks import Bounds, LogBlock, LogSource
from runtime.postgres.statements import statements_of
from schemas import codec
from schemas.errors import InvariantBroken, Rejected, UsageError
from schemas.events import Position, WalletTransaction
from schemas.policies import LedgerPolicy
from schemas.registry import UnknownSchema

SQL: Final = statements_of("replay.ledger", "comparison")
_WINDOW_RECORDS: Final = 4_096

Recompute = Callable[[WalletTransaction], WalletTransaction | None]
"""Returns what is booked in an event's place; None for nothing."""

ShowBatches = Callable[[int, int], None]
"""Takes how many batches are booked, and how many there are."""


class LedgerPrefix(msgspec.Struct, frozen=True):
    """The recorded batches up to a moment: the state that the ledger had after the last of them."""

    batches: list[tuple[int, int, int]]
    """Partition, from and next offset, in the order of their commits."""
    last_sequence: int
    """Of the last batch; 0 without one."""
    ends: dict[int, int]
    """Offset behind the last booked record, by partition."""
    quarantined: set[tuple[int, int]] = set()
    """Places of records that two people quarantined, and behind which the ledger went on."""


@dataclass(frozen=True)
class RebuildCounts:
    """What was booked again."""

    batches: int
    events: int
    unreadable: int
    """Records that are not events: dead letters of the live ledger, too."""


async def read_prefix(
    database: LedgerDatabase, topic: str, cuts: Mapping[int, int] | None
) -> LedgerPrefix:
    """Return the batches up to the last one with a record before a moment.

    `cuts` are each partition's first offset at or after that moment; None means now. Raises
    InvariantBroken where a partition's batches do not follow each other.
    """
    rows = await database.query(SQL["batches"])
    wanted = [
        index
        for index, (_, partition, begin, _) in enumerate(rows)
        if cuts is None or begin < cuts.get(partition, 0)
    ]
    rows = rows[: wanted[-1] + 1] if wanted else []
    ends: dict[int, int] = {}
    for _, partition, begin, end in rows:
        if ends.get(partition, begin) != begin:
            raise InvariantBroken(
                f"{topic}-{partition}@{begin}: the batch before it ends at {ends[partition]}"
            )
        ends[partition] = end
    batches = [(partition, begin, end) for _, partition, begin, end in rows]
    quarantined = {
        (partition, offset)
        for partition, offset in await database.query(SQL["quarantined"])
        if offset < ends.get(partition, 0)
    }
    return LedgerPrefix(batches, rows[-1][0] if rows else 0, ends, quarantined)


async def rebuild_ledger(
    database_url: str,
    source: LogSource,
    topic: str,
    prefix: LedgerPrefix,
    policies: Mapping[str, LedgerPolicy],
    progress: ShowBatches = lambda _, __: None,
    recompute: Recompute | None = None,
) -> RebuildCounts:
    """Book a prefix of the log into an empty database; `topic` is the log's name on the broker.

    With `recompute`, what it returns is booked in the place of each event.

    Raises UsageError for a database that is not empty, LogGap where the log no longer reaches back,
    InvariantBroken for an event of a newer release.
    """
    migrate(database_url)
    database = LedgerDatabase(database_url, "pitboss.replay")
    ledger = PostgresLedger(database, policies, topic=topic)
    reader = WindowReader(source, topic, prefix.ends, prefix.quarantined, recompute)
    try:
        [(entries,)] = await database.query(SQL["entries"])
        if entries:
            raise UsageError(f"the database to rebuild into already holds {entries} entries")
        claims = await claim_positions(database, sorted(prefix.ends), topic=topic)
        ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
        done = 0
        for group in group_slices(reader.slices(prefix.batches)):
            await ledger.commit_group(group)
            done += len(group)
            progress(done, len(prefix.batches))
    finally:
        await database.close()
    return RebuildCounts(done, reader.events, reader.unreadable)


class WindowReader:
    """Reads the events of batches in any order of partitions, a window of each at a time."""

    def __init__(
        self,
        source: LogSource,
        topic: str,
        ends: Mapping[int, int],
        quarantined: Collection[tuple[int, int]] = (),
        recompute: Recompute | None = None,
    ) -> None:
        self._recompute = recompute
        self._source = source
        self._topic = topic
        self._ends = ends
        self._quarantined = quarantined
        self._waiting: dict[int, deque[LogEvent]] = {}
        self._reached: dict[int, int] = {}
        self._decode = codec.decoder(WalletTransaction)
        self.events = 0
        self.unreadable = 0

    def slices(self, batches: Sequence[tuple[int, int, int]]) -> Iterator[Slice]:
        """Yield the batches with their events."""
        for partition, begin, end in batches:
            yield Slice(partition, begin, end, self._take(partition, begin, end))

    def _take(self, partition: int, begin: int, end: int) -> list[LogEvent]:
        waiting = self._waiting.setdefault(partition, deque())
        reached = self._reached.setdefault(partition, begin)
        while reached < end:
            # To the batch's end at least: a batch is a transaction, and was in memory before.
            window = (reached, min(self._ends[partition], max(end, reached + _WINDOW_RECORDS)))
            waiting.extend(self._read(partition, window))
            reached = self._reached[partition] = window[1]
        taken = []
        while waiting and waiting[0].source.offset < end:
            taken.append(waiting.popleft())
        self.events += len(taken)
        return taken

    def _read(self, partition: int, window: Bounds) -> Iterator[LogEvent]:
        # Read to its end first: a quarantine is searched for with the same source.
        for block in [*self._source.read(self._topic, partition, *window)]:
            for index, offset in enumerate(block.offsets):
                place = Position(self._topic, partition, offset)
                if (partition, offset) in self._quarantined:
                    yield self._quarantined_event(place, block, index)
                    continue
                event = self._event(place, block.values[index])
                if event is not None and self._recompute is not None:
                    event = self._recompute(event)
                if event is not None:
                    yield LogEvent(event, place, block.timestamps_ms[index])

    def _event(self, place: Position, value: Any) -> WalletTransaction | None:
        try:
            return self._decode(value)
        except UnknownSchema as error:
            raise InvariantBroken(
                f"{place.topic}-{place.partition}@{place.offset}: {error}: rebuild with the "
                "release that wrote it, or a later one"
            ) from error
        except Rejected:
            self.unreadable += 1
            return None

    def _quarantined_event(self, place: Position, block: LogBlock, index: int) -> LogEvent:
        """Return what the ledger booked in the place of a quarantined record.

        The approval lies behind it in its partition. Raises InvariantBroken where it does not.
        """
        search = QuarantineSearch(place, checksum(block.keys[index], block.values[index]))
        end = self._source.bounds(self._topic)[place.partition][1]
        for later in self._source.read(self._topic, place.partition, place.offset + 1, end):
            for value in later.values:
                quarantine = self._observe(search, value)
                if quarantine is not None:
                    return quarantined_event(
                        place,
                        block.timestamps_ms[index],
                        self._readable(block.values[index]),
                        quarantine,
                    )
        raise InvariantBroken(
            f"{place.topic}-{place.partition}@{place.offset} is quarantined without an approval in "
            "the log"
        )

    def _observe(self, search: QuarantineSearch, value: Any) -> Quarantine | None:
        event = self._readable(value)
        return None if event is None else search.observe(event)

    def _readable(self, value: Any) -> WalletTransaction | None:
        try:
            return self._decode(value)
        except Rejected:
            return None
