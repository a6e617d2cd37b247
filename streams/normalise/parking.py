"""Parking: the later records of a player wait behind a dead letter of his, so that a redrive keeps
their order.

It stands between the intake and the normaliser, for providers that it is switched on for. A batch
is sorted into what is read now and what waits. What begins to wait is committed to PostgreSQL
before the dead letter that it waits for is durable, so that nobody drops the letter and lets nobody
go on; what waits no more, only after the dead letters of what was read are, so that none of them
can be lost. A crash in between repeats the batch: every record is judged as of its own offset, so
the same ones wait, and what went on goes on once more under attempts that the ledger has heard of.

Who may make a player wait? Only a record that names him by its key and in its body, and whose
signature was found good before it was rejected: a stranger who sends rubbish in a player's name
stops nobody. And no jam outlives `Limits.age_max_ms` of the log's time, redriven or not.
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
"""What is wrong with the content of a message that is the provider's own.

Never a doubt about who sent it.
"""

READ: Final = "READ"
DROP: Final = "DROP"
EXPIRY: Final = "EXPIRY"


@dataclass(frozen=True)
class ParkSettings:
    """Where parked records are kept, and for which providers a rejection makes the player's later
    records wait.

    With no provider at all, what waits already goes on as it would, and nothing new begins to wait.
    """

    database_url: str = field(repr=False)
    providers: frozenset[str] = frozenset()
    limits: ParkLimits = field(default_factory=ParkLimits)


class HoldStore(Protocol):
    """The park table; see `runtime.dead_letters.park_store.ParkStore`."""

    async def load(self, topic: str, partition: int, from_offset: int) -> list[KeyHold]: ...
    async def waiting(self, topic: str, partition: int, jam: KeyHold) -> list[ParkedRecord]: ...
    async def save(
        self,
        topic: str,
        partition: int,
        jams: Sequence[KeyHold],
        parked: Sequence[tuple[KeyHold, RawRecord]],
        released: Sequence[int],
    ) -> None: ...


@dataclass
class BatchSplit:
    """What one batch came to: records with their items in the order in which they go out, and what
    to write down.
    """

    batch: RecordBatch
    holds: PartitionHolds
    results: list[tuple[RawRecord, list[ItemResult]]] = field(default_factory=list)
    new_holds: list[KeyHold] = field(default_factory=list)
    """As they began, whatever became of them in the batch: who repeats it has to find them so."""
    changed_holds: dict[int, KeyHold] = field(default_factory=dict)
    """As they are at the end of the batch."""
    parked: dict[int, tuple[KeyHold, RawRecord]] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)


class Parking:
    """Sorts the batches of all partitions of a worker."""

    def __init__(
        self,
        store: HoldStore,
        read: Callable[[RawRecord], list[ItemResult]],
        providers: frozenset[str],
        limits: ParkLimits,
    ) -> None:
        """`read` gives a record's items; `providers` are those whose rejections may make a player
        wait.
        """
        self._store = store
        self._read = read
        self._providers = providers
        self._limits = limits
        self._lanes: dict[TopicPartition, tuple[int, PartitionHolds]] = {}

    async def split(self, batch: RecordBatch) -> BatchSplit:
        """Read what may be read. Nothing is kept yet. Raises Unavailable."""
        # Taken away until `save_released`: after any failure the next try begins with what is
        # durable.
        assignment, lane = self._lanes.pop(batch.tp, (None, None))
        if lane is None or assignment != batch.assignment:
            stored = await self._store.load(batch.topic, batch.partition, batch.from_offset)
            lane = PartitionHolds(self._limits, stored)
        turn = BatchSplit(batch, lane)
        is_on = provider_of(batch.topic) in self._providers
        for record in batch.records:
            await self._take(turn, record, is_on=is_on)
        return turn

    async def save_parked(self, turn: BatchSplit) -> None:
        """Make durable who begins to wait: after the batch's events, before its dead letters.

        Raises Unavailable.
        """
        if turn.new_holds or turn.parked:
            batch = turn.batch
            await self._store.save(
                batch.topic, batch.partition, turn.new_holds, list(turn.parked.values()), ()
            )

    async def save_released(self, turn: BatchSplit) -> None:
        """Make durable what waits no more, once the batch's dead letters are.

        Raises Unavailable.
        """
        batch = turn.batch
        if turn.changed_holds or turn.released:
            await self._store.save(
                batch.topic, batch.partition, list(turn.changed_holds.values()), (), turn.released
            )
        turn.holds.forget_ended(batch.next_offset)
        self._lanes[batch.tp] = (batch.assignment, turn.holds)

    async def _take(self, turn: BatchSplit, record: RawRecord, *, is_on: bool) -> None:
        lane = turn.holds
        for old in lane.expired_holds(record):
            await self._release(turn, old, record, EXPIRY)
        fate, jam = lane.disposition(record)
        if jam is not None and fate in (Disposition.PARK, Disposition.FULL):
            self._hold(turn, jam, record, is_full=fate is Disposition.FULL)
            return
        items = self._read(record)
        turn.results.append((record, items))
        if jam is None:
            code = holding_code(record, items)
            if is_on and code is not None:
                begun = lane.begin(record, code)
                turn.new_holds.append(copy.copy(begun))
                turn.changed_holds[begun.from_offset] = begun
        elif fate is Disposition.DROP:
            await self._release(turn, jam, record, DROP)
        elif fate is Disposition.RELEASE:
            rejected = next((item for item in items if isinstance(item, RejectedItem)), None)
            if rejected is None:
                await self._release(turn, jam, record, READ)
            else:
                lane.move(jam, record.offset, record.offset, rejected.code.value)
                turn.changed_holds[jam.from_offset] = jam

    def _hold(self, turn: BatchSplit, jam: KeyHold, record: RawRecord, *, is_full: bool) -> None:
        if not is_full:
            turn.holds.park(jam, record)
            turn.parked[record.offset] = (jam, record)
            return
        turn.changed_holds[jam.from_offset] = jam
        detail = f"too much waits behind the dead letter at offset {jam.waits_for} already"
        item = RejectedItem(RejectCode.PARK_FULL, detail, None, jam.key.decode("utf-8", "replace"))
        turn.results.append((record, [item]))

    async def _release(self, turn: BatchSplit, jam: KeyHold, record: RawRecord, why: str) -> None:
        """Read what waited, in its order; the next one that cannot be read holds up the rest, but
        for an expiry.
        """
        topic, partition = record.topic, record.partition
        stored = await self._store.waiting(topic, partition, jam)
        waiting: dict[int, RawRecord] = {
            offset: held for offset, (owner, held) in turn.parked.items() if owner is jam
        }
        waiting = {**waiting, **{held.offset: held for held in stored}}
        behind = f"{topic}-{partition}@{jam.waits_for}".encode()
        turn.changed_holds[jam.from_offset] = jam
        for offset in sorted(waiting.keys() - set(turn.released)):
            held = waiting[offset]
            items = self._read(_late(held, behind))
            turn.results.append((held, items))
            turn.released.append(offset)
            jam.waiting -= 1
            jam.waiting_bytes -= len(held.value or b"")
            code = holding_code(held, items)
            if code is not None and why != EXPIRY:
                turn.holds.move(jam, offset, record.offset, code)
                return
        turn.holds.end(jam, record.offset, why)


def holding_code(record: RawRecord, items: Sequence[ItemResult]) -> str | None:
    """The code of a rejection behind which the player has to wait; None if he has not.

    A dialect names the player of what it rejects only after it found the signature good, and the
    key must name him too: else his other records are not the ones that stand behind this one.
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


def _late(record: RawRecord, behind: bytes) -> ParkedRecord:
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
