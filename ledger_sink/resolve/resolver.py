"""Events that name no player find theirs through what they refer to: a notice its deposit, a refund
its payment.

An event is parked in the database first. As soon as the ledger holds what it refers to, it is
appended to the log under that player's key; appended twice it is the same event, so a crash in
between is harmless. What is not found waits behind a barrier: first every raw record that was there
at first sight must be normalised, then every record of the log and of the unresolved topic that was
there after that must be booked or parked, and what it refers to must not itself be on its way from
the unresolved topic through the log. Only then is "not found" final, and then it is an event in the
log like any other: a replay never asks again.

No lock is needed for that. A position and the rows of its records are committed together, so
whoever reads a position first and looks for the rows afterwards sees all that the position stands
for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from psycopg.types.json import Jsonb

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from schemas import codec
from schemas.errors import Fenced, InvariantBroken, OffsetHole, Unavailable
from schemas.events import WalletTransaction
from schemas.identity import referenced_event_id

CONSUMER = "resolve"
_LEDGER_SQL = statements("ledger")
_SQL = statements("resolver")

EndOffsets = Mapping[str, int]
"""Offsets by "topic-partition"; a barrier is such a mapping that others have to reach."""

Append = Callable[[Sequence[tuple[bytes, bytes]]], Awaitable[None]]
"""Append (key, value) records to the log and return once the broker has them."""


class PipelineProgress(Protocol):
    """How far the raw topics reach, how far they are normalised, and how far the log reaches."""

    async def raw_ends(self) -> EndOffsets: ...

    async def normalised_offsets(self) -> EndOffsets: ...

    async def log_ends(self) -> EndOffsets: ...

    async def unresolved_ends(self) -> EndOffsets: ...


def has_passed(barrier: EndOffsets, positions: EndOffsets) -> bool:
    """Whether every partition has reached the barrier; one that nobody has a position for has not."""
    return all(end == 0 or positions.get(name, 0) >= end for name, end in barrier.items())


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event without a player and its place on the unresolved topic."""

    offset: int
    event: WalletTransaction
    body: bytes


class Resolver:
    """Parks, matches, appends and finalises the events of its own partitions of the unresolved
    topic.
    """

    def __init__(
        self,
        database: LedgerDatabase,
        append: Append,
        progress: PipelineProgress,
        *,
        topic: str,
        log_topic: str,
        min_age_ms: int,
    ) -> None:
        self._database = database
        self._append = append
        self._progress = progress
        self._topic = topic
        self._log_topic = log_topic
        self._min_age_ms = min_age_ms
        self._encode = codec.encoder(WalletTransaction)
        self._decode = codec.decoder(WalletTransaction)
        self.epochs: dict[int, int] = {}

    async def park(
        self,
        part: int,
        from_offset: int,
        next_offset: int,
        events: Sequence[ParkedEvent],
        last: tuple[int, int] | None = None,
    ) -> None:
        """Take a batch in, once: position and rows in one transaction. Raises Fenced, OffsetHole,
        Unavailable.

        `last` is time and checksum of the batch's last record, which tie the position to this very
        topic.
        """
        async with self._database.transaction() as connection:
            position = {"consumer": CONSUMER, "topic": self._topic, "parts": [part]}
            row = await (
                await connection.execute(_LEDGER_SQL["lock_positions"], position)
            ).fetchone()
            stored, epoch = self._check_position(part, from_offset, row)
            if next_offset <= stored:
                return
            fresh = [parked for parked in events if parked.offset >= stored]
            await connection.execute(_SQL["park"], _columns(part, fresh))
            timestamp_ms, checksum = last or (None, None)
            moved = position | {
                "froms": [stored],
                "nexts": [next_offset],
                "epochs": [epoch],
                "timestamps": [timestamp_ms],
                "checksums": [checksum],
            }
            await connection.execute(_LEDGER_SQL["advance_positions"], moved)

    def _check_position(
        self, part: int, from_offset: int, row: tuple[int, int, int] | None
    ) -> tuple[int, int]:
        where = f"{self._topic}-{part}"
        ours = self.epochs.get(part)
        if ours is None:
            message = f"{where}: let go while its batch waited for its turn"
            raise Unavailable(message)
        if row is None:
            message = f"{where}: no position is claimed"
            raise InvariantBroken(message)
        _, stored, epoch = row
        if epoch != ours:
            message = f"{where}: claimed by another worker (epoch {epoch}, ours {ours})"
            raise Fenced(message)
        if from_offset > stored:
            message = (
                f"{where}@{stored}: the next batch begins at {from_offset}; nothing may be skipped"
            )
            raise OffsetHole(message)
        return stored, epoch

    async def sweep(self) -> int:
        """Match what can be matched, append it, and look at the barriers of the rest; returns how
        many still wait.
        """
        parts = {"parts": sorted(self.epochs)}
        await self._database.query(_SQL["follow"], parts)
        await self._database.query(_SQL["match"], parts)
        waiting = await self._database.query(_SQL["waiting"], parts)
        if waiting:
            await self._raise_barrier({part: last for part, _, last in waiting if last is not None})
            await self._look_at_barriers(parts)
        if await self._append_decided(parts):
            await self._database.query(_SQL["drop_barriers"])
        return sum(count for _, count, _ in waiting)

    async def _raise_barrier(self, unseen: Mapping[int, int]) -> None:
        if unseen:
            ends = Jsonb(await self._progress.raw_ends())
            columns = {"ends": ends, "parts": list(unseen), "lasts": list(unseen.values())}
            await self._database.query(_SQL["raise_barrier"], columns)

    async def _look_at_barriers(self, parts: Mapping[str, Any]) -> None:
        barriers = await self._database.query(_SQL["open_barriers"], parts)
        if any(log_ends is None for _, _, log_ends in barriers):
            normalised = await self._progress.normalised_offsets()
            behind = [
                n
                for n, raw, log_ends in barriers
                if log_ends is None and has_passed(raw, normalised)
            ]
            if behind:
                ends = {**await self._progress.log_ends(), **await self._progress.unresolved_ends()}
                await self._database.query(
                    _SQL["set_log_ends"], {"barriers": behind, "ends": Jsonb(ends)}
                )
        if any(log_ends is not None for _, _, log_ends in barriers):
            topics = {"log": self._log_topic, "unresolved": self._topic}
            rows = await self._database.query(_SQL["positions"], topics)
            reached = {f"{topic}-{part}": offset for topic, part, offset in rows}
            passed = [
                n
                for n, _, log_ends in barriers
                if log_ends is not None and has_passed(log_ends, reached)
            ]
            if passed:
                await self._database.query(
                    _SQL["finalise"], {**parts, "barriers": passed, "min_age_ms": self._min_age_ms}
                )

    async def _append_decided(self, parts: Mapping[str, Any]) -> int:
        decided = await self._database.query(_SQL["unappended"], parts)
        if decided:
            await self._append([self._record(body, player_id) for _, _, body, player_id in decided])
            await self._database.query(_SQL["appended"], _places(decided))
        return len(decided)

    def _record(self, body: bytes, player_id: str | None) -> tuple[bytes, bytes]:
        event: WalletTransaction = self._decode(body)
        if player_id is None:
            return event.provider_tx_id.encode(), body
        return player_id.encode(), self._encode(msgspec.structs.replace(event, player_id=player_id))


def _columns(part: int, parked: Sequence[ParkedEvent]) -> dict[str, Any]:
    events = [row.event for row in parked]
    return {
        "parts": [part] * len(parked),
        "offsets": [row.offset for row in parked],
        "event_ids": [event.event_id for event in events],
        "references": [
            None
            if event.reference is None
            else referenced_event_id(event.brand, event.provider, event.reference)
            for event in events
        ],
        "bodies": [row.body for row in parked],
    }


def _places(rows: Sequence[Any]) -> dict[str, list[int]]:
    return {"parts": [row[0] for row in rows], "offsets": [row[1] for row in rows]}
