"""The dead letters of an installation and what was done about them, read again each time."""

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
    """Every case and open hold of a namespace.

    `foreign_records` counts records on dead letter topics that are not dead letters of ours.
    """

    cases: list[DeadLetterCase]
    holds: list[OpenHold] = field(default_factory=list)
    foreign_records: int = 0

    @property
    def waiting(self) -> dict[Position, int]:
        """Number of records that wait behind each dead letter that holds others up."""
        return {
            Position(hold.topic, hold.partition, hold.waits_for): hold.waiting
            for hold in self.holds
        }


async def load_snapshot(
    runtime: Runtime, wants_bytes: Callable[[DeadLetter], bool]
) -> DeadLetterSnapshot:
    """Read every case of the namespace.

    Only the letters that `wants_bytes` selects keep their bytes, so that a million letters fit into
    memory. Raises Unavailable, and UsageError where the namespace was never provisioned.
    """
    letters, foreign_records = await _read_letters(runtime, wants_bytes)
    actions = ActionStore(runtime.database_url, APPLICATION, role=Role.READER)
    try:
        cases = collect_cases(letters, await actions.by_source(runtime.prefix))
    finally:
        await actions.close()
    return DeadLetterSnapshot(cases, await open_holds(runtime), foreign_records)


async def open_holds(runtime: Runtime) -> list[OpenHold]:
    """Return the players whose records wait, longest first. Raises Unavailable and UsageError."""
    parked = ParkStore(runtime.database_url, APPLICATION, role=Role.READER)
    try:
        return await parked.open_holds(runtime.prefix)
    finally:
        await parked.close()


@asynccontextmanager
async def open_redriver(
    runtime: Runtime, actor: str, reason: str, wants_bytes: Callable[[DeadLetter], bool]
) -> AsyncIterator[tuple[DeadLetterSnapshot, Redriver]]:
    """Provide a snapshot and a redriver for it, while no other process redrives or drops.

    Raises as `load_snapshot` does.
    """
    servers = runtime.bootstrap_servers
    actions = ActionStore(runtime.database_url, APPLICATION)
    producer = BatchProducer(
        ProducerSettings(servers, APPLICATION, batch_bytes_max=APPEND_BYTES_MAX)
    )

    async def append(source: Position, outgoing: OutgoingRecord) -> Position:
        sent = await producer.send(
            source.topic,
            outgoing.key,
            outgoing.value,
            outgoing.headers,
            partition=source.partition,
        )
        return Position(source.topic, source.partition, sent.offset)

    async def read_source(source: Position) -> OutgoingRecord | None:
        topic, partition, offset = source.topic, source.partition, source.offset
        try:
            [record] = await read_records(servers, topic, partition, offset, offset, None)
        except (UsageError, ValueError):  # deleted by its topic's retention, or by compaction
            return None
        return OutgoingRecord(record.key, record.value, list(record.headers))

    try:
        async with actions.exclusive_lock():
            snapshot = await load_snapshot(runtime, wants_bytes)
            await producer.start()
            yield (
                snapshot,
                Redriver(actions, append, read_source, actor, reason, snapshot.waiting),
            )
    finally:
        await producer.stop()
        await actions.close()


async def _read_letters(
    runtime: Runtime, wants_bytes: Callable[[DeadLetter], bool]
) -> tuple[list[Letter], int]:
    topics = await dead_letter_topics(runtime.bootstrap_servers, runtime.namespace)
    decode = codec.decoder(DeadLetter)
    letters: list[Letter] = []
    foreign_records = 0
    if not topics:
        return letters, foreign_records
    async for record in read_topics(runtime.bootstrap_servers, topics):
        try:
            letter = decode(record.value)
        except Rejected:
            foreign_records += 1
            continue
        if not wants_bytes(letter):
            letter = replace(letter, value=None, headers=[])
        position = Position(record.topic, record.partition, record.offset)
        letters.append(Letter(position, letter))
    return letters, foreign_records
