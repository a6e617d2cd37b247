"""Events that name no player find theirs through what they refer to: a notice its deposit, a refund its payment.

An event is parked in the database first. As soon as the ledger holds what it refers to, it is appended to the log
under that player's key; appended twice it is the same event, so a crash in between is harmless. What is not found
waits behind a barrier: first every raw record that was there at first sight must be normalised, then every record of
the log that was there after that must be booked. Only then is "not found" final, and then it is an event in the log
like any other: a replay never asks again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from psycopg.types.json import Jsonb

from ledger_sink.database import Database
from ledger_sink.statements import statements
from ledger_sink.store import CONSUMER as LEDGER
from schemas import codec
from schemas.errors import Fenced, InvariantBroken, OffsetHole
from schemas.events import WalletTransaction
from schemas.identity import referenced_event_id

CONSUMER = "resolve"
_LEDGER_SQL = statements("ledger")
_SQL = statements("resolver")

Ends = Mapping[str, int]
"""Offsets by "topic-partition"; a barrier is such a mapping that others have to reach."""

Append = Callable[[Sequence[tuple[bytes, bytes]]], Awaitable[None]]
"""Append (key, value) records to the log and return once the broker has them."""


class Progress(Protocol):
    """How far the raw topics reach, how far they are normalised, and how far the log reaches."""

    async def raw_ends(self) -> Ends: ...

    async def normalised(self) -> Ends: ...

    async def log_ends(self) -> Ends: ...


def has_passed(barrier: Ends, positions: Ends) -> bool:
    """Whether every partition has reached the barrier; one that nobody has a position for has not."""
    return all(end == 0 or positions.get(name, 0) >= end for name, end in barrier.items())


class Parked(msgspec.Struct, frozen=True):
    """An event without a player and its place on the unresolved topic."""

    offset: int
    event: WalletTransaction
    body: bytes


class Resolver:
    """Parks, matches, appends and finalises the events of its own partitions of the unresolved topic."""

    def __init__(
        self, database: Database, append: Append, progress: Progress, *, topic: str, log_topic: str, min_age_ms: int
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

    async def park(self, part: int, from_offset: int, next_offset: int, events: Sequence[Parked]) -> None:
        """Take a batch in, once: position and rows in one transaction. Raises Fenced, OffsetHole, Unavailable."""
        async with self._database.transaction() as connection:
            position = {"consumer": CONSUMER, "topic": self._topic, "parts": [part]}
            row = await (await connection.execute(_LEDGER_SQL["lock_positions"], position)).fetchone()
            stored = self._checked(part, from_offset, row)
            if next_offset <= stored:
                return
            fresh = [parked for parked in events if parked.offset >= stored]
            await connection.execute(_SQL["park"], _columns(part, fresh))
            moved = position | {
                "froms": [stored], "nexts": [next_offset], "epochs": [self.epochs[part]], "timestamps": [None],
                "checksums": [None],
            }  # fmt: skip
            await connection.execute(_LEDGER_SQL["advance_positions"], moved)

    def _checked(self, part: int, from_offset: int, row: tuple[int, int, int] | None) -> int:
        where = f"{self._topic}-{part}"
        if row is None:
            message = f"{where}: no position is claimed"
            raise InvariantBroken(message)
        _, stored, epoch = row
        if epoch != self.epochs.get(part):
            message = f"{where}: claimed by another worker (epoch {epoch}, ours {self.epochs.get(part)})"
            raise Fenced(message)
        if from_offset > stored:
            message = f"{where}@{stored}: the next batch begins at {from_offset}; nothing may be skipped"
            raise OffsetHole(message)
        return stored

    async def sweep(self) -> int:
        """Match what can be matched, append it, and look at the barriers of the rest; returns how many still wait."""
        parts = {"parts": sorted(self.epochs)}
        await self._database.query(_SQL["match"], parts)
        waiting = await self._database.query(_SQL["waiting"], parts | {"min_age_ms": self._min_age_ms})
        if waiting:
            await self._look_at_barriers(waiting, parts)
        await self._append_decided(parts)
        return len(waiting)

    async def _look_at_barriers(self, waiting: Sequence[Any], parts: Mapping[str, Any]) -> None:
        if any(raw_ends is None for _, _, raw_ends, *_ in waiting):
            await self._database.query(_SQL["set_raw_ends"], {**parts, "ends": Jsonb(await self._progress.raw_ends())})
        normalised = await self._progress.normalised()
        behind_raw = [
            row for row in waiting if row[2] is not None and row[3] is None and has_passed(row[2], normalised)
        ]
        if behind_raw:
            ends = Jsonb(await self._progress.log_ends())
            await self._database.query(_SQL["set_log_ends"], _places(behind_raw) | {"ends": ends})
        ready = [row for row in waiting if row[3] is not None and row[4] and not row[5]]
        if ready:
            await self._finalise(ready)

    async def _finalise(self, ready: Sequence[Any]) -> None:
        async with self._database.transaction() as connection:
            locked = await connection.execute(
                _SQL["lock_all_positions"], {"consumer": LEDGER, "topic": self._log_topic}
            )
            booked = {f"{self._log_topic}-{part}": offset for part, offset in await locked.fetchall()}
            passed = [row for row in ready if has_passed(row[3], booked)]
            if passed:
                await connection.execute(_SQL["finalise"], _places(passed))

    async def _append_decided(self, parts: Mapping[str, Any]) -> None:
        decided = await self._database.query(_SQL["unappended"], parts)
        if not decided:
            return
        await self._append([self._record(body, player_id) for _, _, body, player_id in decided])
        await self._database.query(_SQL["appended"], _places(decided))

    def _record(self, body: bytes, player_id: str | None) -> tuple[bytes, bytes]:
        event: WalletTransaction = self._decode(body)
        if player_id is None:
            return event.provider_tx_id.encode(), body
        return player_id.encode(), self._encode(msgspec.structs.replace(event, player_id=player_id))


def _columns(part: int, parked: Sequence[Parked]) -> dict[str, Any]:
    events = [row.event for row in parked]
    return {
        "parts": [part] * len(parked),
        "offsets": [row.offset for row in parked],
        "event_ids": [event.event_id for event in events],
        "references": [
            None if event.reference is None else referenced_event_id(event.brand, event.provider, event.reference)
            for event in events
        ],
        "bodies": [row.body for row in parked],
    }


def _places(rows: Sequence[Any]) -> dict[str, list[int]]:
    return {"parts": [row[0] for row in rows], "offsets": [row[1] for row in rows]}
