"""Parking: a player's later records wait behind a dead letter, so that a redrive keeps their order.

It works between the intake and the normaliser, for the providers for which it is switched on. A
batch is split into records that are read now and records that wait. The latter are committed to
PostgreSQL before the dead letter that they wait for is durable, so that no drop of the letter can
miss them. The end of a wait is committed only after the dead letters of the records that were read
are durable, so that none of them can be lost. A crash in between repeats the batch: every record is
evaluated as of its own offset, so the same records wait, and released ones are sent again under
attempts that the ledger knows.

Only a record that names the player by its key and in its body, and whose signature was found good
before it was rejected, makes a player wait: a stranger who sends invalid records in a player's name
cannot stop that player. And no hold outlives `ParkLimits.age_max_ms` of the log's time, redriven or
not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiokafka.structs import TopicPartition

from runtime.dead_letters.headers import PARKED_BEHIND
from runtime.dead_letters.key_holds import Disposition, KeyHold, ParkLimits, PartitionHolds
from runtime.dead_letters.park_store import ParkedRecord
from runtime.kafka.batches import RecordBatch
from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode
from schemas.topics import provider_of
from streams.normalise.mapping.normaliser import ItemResult, RejectedItem

HOLDING_CODES: Final = frozenset(
    {
        RejectCode.UNKNOWN_OPERATION,
        RejectCode.MISSING_FIELD,
        RejectCode.BAD_FIELD,
        RejectCode.BAD_AMOUNT,
        RejectCode.AMOUNT_SCALE,
        RejectCode.BAD_CURRENCY,
        RejectCode.BAD_TIME,
        RejectCode.BAD_CONTRACT,
    }
)
"""Rejections of the content of a message that its provider has sent; none that leaves its sender in
doubt.
"""

READ: Final = "READ"
DROP: Final = "DROP"
EXPIRY: Final = "EXPIRY"


class HoldStore(Protocol):
    """The park table; see `runtime.dead_letters.park_store.ParkStore`."""

    async def load(self, topic: str, partition: int, from_offset: int) -> list[KeyHold]:
        """Return the holds that can concern a record at `from_offset` or later."""
        ...

    async def waiting(self, topic: str, partition: int, hold: KeyHold) -> list[ParkedRecord]:
        """Return what waits in a hold, in the order of the raw partition."""
        ...

    async def save(
        self,
        topic: str,
        partition: int,
        holds: Sequence[KeyHold],
        parked: Sequence[tuple[KeyHold, RawRecord]],
        released: Sequence[int],
    ) -> None:
        """Save the results of a range of a partition in one transaction."""
        ...


@dataclass
class BatchSplit:
    """A batch split into what is read, in the order in which it goes out, and what waits."""

    batch: RecordBatch
    holds: PartitionHolds
    results: list[tuple[RawRecord, list[ItemResult]]] = field(default_factory=list)
    new_holds: list[KeyHold] = field(default_factory=list)
    """As they began, before any change by the batch: a repetition of the batch has to find them so.
    """
    changed_holds: dict[int, KeyHold] = field(default_factory=dict)
    """As they are at the end of the batch, by the offset that they began at."""
    parked: dict[int, tuple[KeyHold, RawRecord]] = field(default_factory=dict)
    """Records that begin to wait, by offset."""
    released: list[int] = field(default_factory=list)
    """Offsets of records that no longer wait."""


class Parking:
    """Splits the batches of all partitions of a worker."""

    def __init__(
        self,
        store: HoldStore,
        read: Callable[[RawRecord], list[ItemResult]],
        providers: frozenset[str],
        limits: ParkLimits,
    ) -> None:
        """Keep holds in `store`.

        `read` returns a record's items. Only rejections of `providers` may make a player wait.
        """
        self._store = store
        self._read = read
        self._providers = providers
        self._limits = limits
        self._holds: dict[TopicPartition, tuple[int, PartitionHolds]] = {}

    async def split(self, batch: RecordBatch) -> BatchSplit:
        """Read what may be read. Nothing is saved yet. Raises Unavailable."""
        # Removed until `save_released`: after any failure the next try begins with what is durable.
        assignment, holds = self._holds.pop(batch.tp, (None, None))
        if holds is None or assignment != batch.assignment:
            stored = await self._store.load(batch.topic, batch.partition, batch.from_offset)
            holds = PartitionHolds(self._limits, stored)
        split = BatchSplit(batch, holds)
        is_on = provider_of(batch.topic) in self._providers
        for record in batch.records:
            await self._take(split, record, is_on=is_on)
        return split

    async def save_parked(self, split: BatchSplit) -> None:
        """Make new waits durable: after the batch's events, before its dead letters.

        Raises Unavailable.
        """
        if split.new_holds or split.parked:
            batch, parked = split.batch, list(split.parked.values())
            await self._store.save(batch.topic, batch.partition, split.new_holds, parked, ())

    async def save_released(self, split: BatchSplit) -> None:
        """Make the ends of waits durable: after the batch's dead letters are.

        Raises Unavailable.
        """
        batch = split.batch
        if split.changed_holds or split.released:
            holds = list(split.changed_holds.values())
            await self._store.save(batch.topic, batch.partition, holds, (), split.released)
        split.holds.forget_ended(batch.next_offset)
        self._holds[batch.tp] = (batch.assignment, split.holds)

    async def _take(self, split: BatchSplit, record: RawRecord, *, is_on: bool) -> None:
        holds = split.holds
        for old in holds.expired_holds(record):
            await self._release(split, old, record, EXPIRY)
        disposition, hold = holds.disposition(record)
        if hold is not None and disposition in (Disposition.PARK, Disposition.FULL):
            self._park(split, hold, record, is_full=disposition is Disposition.FULL)
            return
        items = self._read(record)
        split.results.append((record, items))
        if hold is None:
            code = holding_code(record, items)
            if is_on and code is not None:
                new = holds.begin(record, code)
                split.new_holds.append(copy.copy(new))
                split.changed_holds[new.from_offset] = new
        elif disposition is Disposition.DROP:
            await self._release(split, hold, record, DROP)
        elif disposition is Disposition.RELEASE:
            rejected = next((item for item in items if isinstance(item, RejectedItem)), None)
            if rejected is None:
                await self._release(split, hold, record, READ)
            else:
                holds.move(hold, record.offset, record.offset, rejected.code.value)
                split.changed_holds[hold.from_offset] = hold

    def _park(self, split: BatchSplit, hold: KeyHold, record: RawRecord, *, is_full: bool) -> None:
        if not is_full:
            split.holds.park(hold, record)
            split.parked[record.offset] = (hold, record)
            return
        split.changed_holds[hold.from_offset] = hold
        detail = f"too much waits behind the dead letter at offset {hold.waits_for} already"
        player_id = hold.key.decode("utf-8", "replace")
        item = RejectedItem(RejectCode.PARK_FULL, detail, None, player_id)
        split.results.append((record, [item]))

    async def _release(self, split: BatchSplit, hold: KeyHold, record: RawRecord, why: str) -> None:
        """Read what waited, in its order.

        The next record that cannot be read holds up the rest, unless the hold expired.
        """
        topic, partition = record.topic, record.partition
        stored = await self._store.waiting(topic, partition, hold)
        waiting: dict[int, RawRecord] = {
            offset: parked for offset, (owner, parked) in split.parked.items() if owner is hold
        }
        waiting |= {parked.offset: parked for parked in stored}
        behind = f"{topic}-{partition}@{hold.waits_for}".encode()
        split.changed_holds[hold.from_offset] = hold
        for offset in sorted(waiting.keys() - set(split.released)):
            parked = waiting[offset]
            items = self._read(_with_parked_header(parked, behind))
            split.results.append((parked, items))
            split.released.append(offset)
            hold.waiting -= 1
            hold.waiting_bytes -= len(parked.value or b"")
            code = holding_code(parked, items)
            if code is not None and why != EXPIRY:
                split.holds.move(hold, offset, record.offset, code)
                return
        split.holds.end(hold, record.offset, why)


def holding_code(record: RawRecord, items: Sequence[ItemResult]) -> str | None:
    """Return the code of a rejection behind which the player has to wait; None if there is none.

    A dialect names the player of what it rejects only after it found the signature good. The key
    must name the player too: otherwise the player's other records are not the ones behind this one.
    """
    for item in items:
        if (
            isinstance(item, RejectedItem)
            and item.code in HOLDING_CODES
            and item.player_id is not None
            and item.player_id.encode() == record.key
        ):
            return item.code.value
    return None


def _with_parked_header(record: RawRecord, behind: bytes) -> ParkedRecord:
    headers = [*record.headers, (PARKED_BEHIND, behind)]
    return ParkedRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        headers,
    )
