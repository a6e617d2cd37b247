"""Finding the player of events that name none: by the deposit of a notice, the payment of a refund.

An event is parked in the database first. As soon as the ledger holds the event that it refers to,
it is appended to the log under that player's key; appended twice it is the same event, so a crash
in between is harmless. An event without a match waits for a barrier. First every raw record that
was there when the barrier was raised must be normalised. Then every record of the log and of the
unresolved topic that was there after that must be booked or parked, and the event that it refers to
must not itself be on its way from the unresolved topic through the log. Only then is "not found"
final, and the event is appended to the log like any other: a replay does not repeat the search.

No lock is needed for that. A position and the rows of its records are committed together, so a
query that reads a position first and the rows afterwards sees all rows that the position covers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from psycopg.types.json import Jsonb

from ledger_sink.resolve import barriers
from ledger_sink.resolve.barriers import (
    Bounds,
    EndOffsets,
    LostPartitions,
    OpenBarrier,
    describe_wait,
    has_passed,
    relevant_ends,
    short_of,
)
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from ledger_sink.store.transaction import check_position
from runtime.telemetry.traces import TRACEPARENT
from schemas import codec
from schemas.errors import PitbossError
from schemas.events import WalletTransaction
from schemas.identity import referenced_event_id

WARN_EVERY_S = 60.0

logger = logging.getLogger(__name__)

CONSUMER = "resolve"
"""The resolver's rows in `stream_position`."""

_LEDGER_SQL = statements("ledger")
_SQL = statements("resolver")

TracedRecord = tuple[bytes, bytes, Sequence[tuple[str, bytes | None]]]
"""Key, value and headers of an event whose record belongs to a trace."""

Append = Callable[[Sequence[tuple[bytes, bytes] | TracedRecord]], Awaitable[None]]
"""Appends (key, value) records, some with headers, to the log.

Returns once the broker has them.
"""

Places = Sequence[tuple[int, int]]
"""Partitions and offsets of the unresolved topic."""

ReadParents = Callable[[Places], Awaitable[Mapping[tuple[int, int], bytes]]]
"""Reads the `traceparent` of records of the unresolved topic, as far as they are there."""

PARENTS_MAX = 100_000
"""Traces of parked events that are kept in memory; of more, the oldest are forgotten, and their
events go on in a trace of their own."""


class PipelineProgress(Protocol):
    """Offsets of the raw topics, their normalisation, the log and the unresolved topic."""

    async def raw_ends(self) -> EndOffsets:
        """Return the ends of the raw topics' partitions."""
        ...

    async def raw_bounds(self, topics: Collection[str]) -> Bounds:
        """Return the first offsets and ends of the partitions of those topics that exist."""
        ...

    async def normalised_offsets(self) -> EndOffsets:
        """Return the offsets up to which the raw topics are normalised."""
        ...

    async def log_ends(self) -> EndOffsets:
        """Return the ends of the log's partitions."""
        ...

    async def unresolved_ends(self) -> EndOffsets:
        """Return the ends of the unresolved topic's partitions."""
        ...


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event without a player, and its offset on the unresolved topic."""

    offset: int
    event: WalletTransaction
    body: bytes
    traceparent: bytes | None = None
    """Of its record on the unresolved topic."""


class Resolver:
    """Parks, matches, appends and finalises the events of its unresolved partitions."""

    def __init__(
        self,
        database: LedgerDatabase,
        append: Append,
        progress: PipelineProgress,
        *,
        topic: str,
        log_topic: str,
        min_age_ms: int,
        read_parents: ReadParents | None = None,
    ) -> None:
        """Prepare, without connecting; "not found" is final `min_age_ms` after parking.

        `read_parents` is asked for traces of what an earlier worker has parked.
        """
        self._read_parents = read_parents
        self._database = database
        self._append = append
        self._progress = progress
        self._topic = topic
        self._log_topic = log_topic
        self._min_age_ms = min_age_ms
        self._encode = codec.encoder(WalletTransaction)
        self._decode = codec.decoder(WalletTransaction)
        self._lost = LostPartitions()
        self._gone: set[str] = set()
        """Raw partitions whose waited for records are gone, by the last look."""
        self._looked_s = self._warned_s = float("-inf")
        self._parents: dict[tuple[int, int], bytes] = {}
        """The `traceparent` of parked events that have one, by partition and offset."""
        self._parked_from: dict[int, int] = {}
        """The first offset that this worker has parked of each partition that it holds."""
        self.epochs: dict[int, int] = {}
        """The epoch under which each of our partitions was claimed."""
        self.has_work = asyncio.Event()
        """Set while events may wait: those that no sweep has seen, and those that it has left."""

    async def park(
        self,
        partition: int,
        from_offset: int,
        next_offset: int,
        events: Sequence[ParkedEvent],
        last: tuple[int, int] | None = None,
    ) -> None:
        """Store a batch, once: position and rows in one transaction.

        `last` is time and checksum of the batch's last record, which tie the position to this very
        topic. Raises Fenced, OffsetHole, Unavailable.
        """
        async with self._database.transaction() as connection:
            position = {"consumer": CONSUMER, "topic": self._topic, "parts": [partition]}
            cursor = await connection.execute(_LEDGER_SQL["lock_positions"], position)
            row = await cursor.fetchone()
            stored, epoch = check_position(
                f"{self._topic}-{partition}",
                from_offset,
                None if row is None else (row[1], row[2]),
                self.epochs.get(partition),
            )
            if next_offset <= stored:
                return
            fresh = [parked for parked in events if parked.offset >= stored]
            await connection.execute(_SQL["park"], _columns(partition, fresh))
            timestamp_ms, checksum = last or (None, None)
            moved = {
                **position,
                "froms": [stored],
                "nexts": [next_offset],
                "epochs": [epoch],
                "timestamps": [timestamp_ms],
                "checksums": [checksum],
            }
            await connection.execute(_LEDGER_SQL["advance_positions"], moved)
        self._parked_from.setdefault(partition, stored)
        self._keep_parents(partition, fresh)
        if fresh:
            self.has_work.set()

    def _keep_parents(self, partition: int, parked: Sequence[ParkedEvent]) -> None:
        for one in parked:
            if one.traceparent is not None:
                self._parents[partition, one.offset] = one.traceparent
        while len(self._parents) > PARENTS_MAX:
            del self._parents[next(iter(self._parents))]

    def take_over(self, epochs: Mapping[int, int]) -> None:
        """Add claimed partitions, whose events may be waiting already."""
        self.epochs.update(epochs)
        for partition in epochs:
            self._parked_from.pop(partition, None)
        self.has_work.set()

    async def sweep(self) -> int:
        """Match and append what can be matched, and check the barriers of the rest.

        Returns how many events still wait. Raises Unavailable.
        """
        # What is parked from here on may be seen by none of the statements below.
        self.has_work.clear()
        try:
            waiting, appended = await self._sweep_once()
        except BaseException:
            self.has_work.set()
            raise
        if waiting or appended:
            self.has_work.set()
        return waiting

    async def _sweep_once(self) -> tuple[int, int]:
        """Return how many events still wait, and how many were appended."""
        ours = {"parts": sorted(self.epochs)}
        async with self._database.transaction() as connection:
            async with connection.pipeline():  # one round trip
                await connection.execute(_SQL["follow"], ours)
                await connection.execute(_SQL["match"], ours)
                waits = await connection.execute(_SQL["waiting"], ours)
                decides = await connection.execute(_SQL["unappended"], ours)
            waiting, decided = await waits.fetchall(), await decides.fetchall()
        if waiting:
            await self._raise_barriers(waiting)
            await self._check_barriers(ours)
            decided = await self._database.query(_SQL["unappended"], ours)
        if appended := await self._append_decided(decided):
            await self._database.query(_SQL["drop_barriers"])
        return sum(count for _, _, count, _ in waiting), appended

    async def _raise_barriers(self, waiting: Sequence[Any]) -> None:
        """Raise one barrier a provider for what waits without: per partition, up to an offset."""
        lasts: dict[str | None, dict[int, int]] = defaultdict(dict)
        for partition, provider, _, last in waiting:
            if last is not None:
                lasts[provider][partition] = last
        if not lasts:
            return
        ends = await self._progress.raw_ends()
        for provider, offsets in lasts.items():
            columns = {
                "provider": provider,
                "ends": Jsonb(relevant_ends(ends, provider)),
                "parts": list(offsets),
                "lasts": list(offsets.values()),
            }
            await self._database.query(_SQL["raise_barrier"], columns)

    async def _check_barriers(self, ours: Mapping[str, Any]) -> None:
        """Set the second stage of barriers whose first is passed; finalise the events past both."""
        rows = await self._database.query(_SQL["open_barriers"], ours)
        found = [OpenBarrier(*row) for row in rows]
        first = [barrier for barrier in found if barrier.log_ends is None]
        normalised = await self._progress.normalised_offsets() if first else {}
        gone = await self._gone_partitions(first, normalised)
        if ready := [one.id for one in first if short_of(one.raw_ends, normalised).keys() <= gone]:
            ends = {**await self._progress.log_ends(), **await self._progress.unresolved_ends()}
            columns = {"barriers": ready, "ends": Jsonb(ends)}
            await self._database.query(_SQL["set_log_ends"], columns)
        booked: dict[str, int] = {}
        if len(first) < len(found):
            booked = await self._booked_offsets()
            passed = [
                barrier.id
                for barrier in found
                if barrier.log_ends is not None and has_passed(barrier.log_ends, booked)
            ]
            if passed:
                final = {**ours, "barriers": passed, "min_age_ms": self._min_age_ms}
                await self._database.query(_SQL["finalise"], final)
        self._warn_of_old(found, normalised, booked)

    async def _booked_offsets(self) -> dict[str, int]:
        topics = {"log": self._log_topic, "unresolved": self._topic}
        rows = await self._database.query(_SQL["positions"], topics)
        return {f"{topic}-{partition}": offset for topic, partition, offset in rows}

    async def _gone_partitions(
        self, waiting: Sequence[OpenBarrier], normalised: EndOffsets
    ) -> set[str]:
        """Return the partitions of barriers that no normaliser can reach any more."""
        waited_for: dict[str, int] = {}
        for barrier in waiting:
            for name, end in short_of(barrier.raw_ends, normalised).items():
                waited_for[name] = max(end, waited_for.get(name, 0))
        if not waited_for:
            return set()
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s >= barriers.LOOK_EVERY_S:
            self._looked_s = now_s
            topics = {name.rpartition("-")[0] for name in waited_for}
            bounds = await self._progress.raw_bounds(topics)
            before = self._gone
            self._gone = self._lost.observe(now_s, waited_for, bounds)
            for name in sorted(self._gone - before):
                logger.warning(
                    "%s: the records up to %d that events without a player waited for are gone, so"
                    " they wait for it no longer",
                    name,
                    waited_for[name],
                )
        return self._gone

    def _warn_of_old(
        self, found: Sequence[OpenBarrier], normalised: EndOffsets, booked: EndOffsets
    ) -> None:
        old = [barrier for barrier in found if barrier.age_s >= barriers.OLD_AFTER_S]
        if not old or asyncio.get_running_loop().time() - self._warned_s < WARN_EVERY_S:
            return
        self._warned_s = asyncio.get_running_loop().time()
        for barrier in old:
            logger.warning("%s", describe_wait(barrier, barrier.waits_for(normalised, booked)))

    async def _append_decided(self, rows: Sequence[Any]) -> int:
        """Append events that are resolved or final, mark them, and return their number."""
        if rows:
            await self._recall_parents(rows)
            await self._append([self._traced_record(*row) for row in rows])
            await self._database.query(_SQL["appended"], _row_keys(rows))
            for partition, offset, _, _ in rows:
                self._parents.pop((partition, offset), None)
        return len(rows)

    async def _recall_parents(self, rows: Sequence[Any]) -> None:
        """Read the traces of what was parked before this worker held its partition."""
        first = self._parked_from
        old = [(row[0], row[1]) for row in rows if row[1] < first.get(row[0], row[1] + 1)]
        if self._read_parents is None or not old:
            return
        try:
            self._parents |= await self._read_parents(old)
        except PitbossError as error:
            logger.warning("%d events go on without their traces: %s", len(old), error)

    def _traced_record(
        self, partition: int, offset: int, body: bytes, player_id: str | None
    ) -> tuple[bytes, bytes] | TracedRecord:
        record = self._record(body, player_id)
        parent = self._parents.get((partition, offset))
        return record if parent is None else (*record, ((TRACEPARENT, parent),))

    def _record(self, body: bytes, player_id: str | None) -> tuple[bytes, bytes]:
        event: WalletTransaction = self._decode(body)
        if player_id is None:
            return event.provider_tx_id.encode(), body
        resolved = msgspec.structs.replace(event, player_id=player_id)
        return player_id.encode(), self._encode(resolved)


def _columns(partition: int, parked: Sequence[ParkedEvent]) -> dict[str, Any]:
    events = [row.event for row in parked]
    return {
        "parts": [partition] * len(parked),
        "offsets": [row.offset for row in parked],
        "event_ids": [event.event_id for event in events],
        "references": [_reference_id(event) for event in events],
        "bodies": [row.body for row in parked],
        "providers": [event.provider for event in events],
    }


def _reference_id(event: WalletTransaction) -> str | None:
    if event.reference is None:
        return None
    return referenced_event_id(event.brand, event.provider, event.reference)


def _row_keys(rows: Sequence[Any]) -> dict[str, list[int]]:
    return {"parts": [row[0] for row in rows], "offsets": [row[1] for row in rows]}
