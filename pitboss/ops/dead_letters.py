"""Dead letters of an installation: read anew from their topics each time, beside what the database
says was done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from fraud_agents.alerts import read_records
from pitboss.ops.topic_admin import dead_letter_topics
from pitboss.settings import Runtime
from runtime.dead_letters.actions import ActionStore
from runtime.dead_letters.letters import DeadLetterCase, Letter, collect_cases
from runtime.dead_letters.park_store import OpenHold, ParkStore
from runtime.dead_letters.redrive import APPEND_BYTES_MAX, OutgoingRecord, Redriver
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from runtime.postgres.roles import Role
from schemas import codec
from schemas.errors import Rejected, UsageError
from schemas.events import DeadLetter, Position

APPLICATION = "pitboss.dlt"


@dataclass
class DeadLetterSnapshot:
    """What there is.

    `strays` counts records on dead letter topics that are no dead letters of ours.
    """

    cases: list[DeadLetterCase]
    holds: list[OpenHold] = field(default_factory=list)
    foreign_records: int = 0

    @property
    def waiting(self) -> dict[Position, int]:
        """The dead letters that hold others up, with how many."""
        return {Position(b.topic, b.partition, b.waits_for): b.waiting for b in self.holds}


async def load_snapshot(
    runtime: Runtime, wants_bytes: Callable[[DeadLetter], bool]
) -> DeadLetterSnapshot:
    """Every case of the namespace. The bytes of the others are let go, so that a million letters
    fit into memory.

    Raises Unavailable, and UsageError where the namespace was never provisioned.
    """
    letters, strays = await _read_letters(runtime, wants_bytes)
    actions = ActionStore(runtime.database_url, APPLICATION, role=Role.READER)
    parked = ParkStore(runtime.database_url, APPLICATION, role=Role.READER)
    try:
        return DeadLetterSnapshot(
            collect_cases(letters, await actions.by_source(runtime.prefix)),
            await parked.open_holds(runtime.prefix),
            strays,
        )
    finally:
        await actions.close()
        await parked.close()


async def open_holds(runtime: Runtime) -> list[OpenHold]:
    """Whose records wait, longest first. Raises Unavailable, UsageError."""
    parked = ParkStore(runtime.database_url, APPLICATION, role=Role.READER)
    try:
        return await parked.open_holds(runtime.prefix)
    finally:
        await parked.close()


@asynccontextmanager
async def open_redriver(
    runtime: Runtime, actor: str, reason: str, wants_bytes: Callable[[DeadLetter], bool]
) -> AsyncIterator[tuple[DeadLetterSnapshot, Redriver]]:
    """What there is, and a redriver for it, while nobody else redrives or drops.

    Raises as `find` does.
    """
    actions = ActionStore(runtime.database_url, APPLICATION)
    producer = BatchProducer(
        ProducerSettings(runtime.bootstrap_servers, APPLICATION, batch_bytes_max=APPEND_BYTES_MAX)
    )

    async def append(source: Position, outgoing: OutgoingRecord) -> Position:
        sent = await producer.send(
            source.topic, outgoing.key, outgoing.value, outgoing.headers, partition=source.partition
        )
        return Position(source.topic, source.partition, sent.offset)

    async def read_source(source: Position) -> OutgoingRecord | None:
        try:
            [record] = await read_records(
                runtime.bootstrap_servers,
                source.topic,
                source.partition,
                source.offset,
                source.offset,
                None,
            )
        except (UsageError, ValueError):  # deleted by its topic's retention, or by compaction
            return None
        return OutgoingRecord(record.key, record.value, list(record.headers))

    try:
        async with actions.exclusive_lock():
            found = await load_snapshot(runtime, wants_bytes)
            await producer.start()
            yield found, Redriver(actions, append, read_source, actor, reason, found.waiting)
    finally:
        await producer.stop()
        await actions.close()


async def _read_letters(
    runtime: Runtime, wants_bytes: Callable[[DeadLetter], bool]
) -> tuple[list[Letter], int]:
    topics = await dead_letter_topics(runtime.bootstrap_servers, runtime.namespace)
    decode = codec.decoder(DeadLetter)
    letters: list[Letter] = []
    strays = 0
    if not topics:
        return letters, strays
    async for record in read_topics(runtime.bootstrap_servers, topics):
        try:
            letter = decode(record.value)
        except Rejected:
            strays += 1
            continue
        if not wants_bytes(letter):
            letter = replace(letter, value=None, headers=[])
        letters.append(Letter(Position(record.topic, record.partition, record.offset), letter))
    return letters, strays
