"""The dead letters of an installation and what was done about them: from the index and behind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from fraud_agents.alerts import read_records
from pitboss.ops.dead_letter_reading import read_letters
from pitboss.ops.topic_admin import admin_client
from pitboss.settings import Runtime
from runtime.dead_letters.actions import ActionStore
from runtime.dead_letters.before_rebind import BeforeRebind, topic_today
from runtime.dead_letters.letters import Action, CaseState, DeadLetterCase, collect_cases
from runtime.dead_letters.park_store import OpenHold, ParkStore
from runtime.dead_letters.redrive import APPEND_BYTES_MAX, OutgoingRecord, Redriver
from runtime.dead_letters.sink import UNSIGNED_CODES
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.postgres.roles import Role
from schemas.errors import UsageError
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
    actions = ActionStore(runtime.database_url, APPLICATION, role=Role.READER)
    try:
        earlier = await actions.before_rebind()
        done: Mapping[Position, Sequence[Action]] = await actions.by_source(runtime.prefix)
    finally:
        await actions.close()
    if earlier is None:
        found = await read_letters(runtime, wants_bytes)
        letters = found.letters
    else:
        found = await read_letters(runtime, partial(_wants_either, earlier, wants_bytes))
        letters, done = earlier.mark_letters(found.letters), earlier.mark_actions(done)
    cases = collect_cases(letters, done)
    return DeadLetterSnapshot(cases, await open_holds(runtime), found.foreign_records)


def _wants_either(
    earlier: BeforeRebind, wants_bytes: Callable[[DeadLetter], bool], letter: DeadLetter
) -> bool:
    """Return whether the bytes of a letter are wanted, whichever log its source is of."""
    marked = msgspec.structs.replace(letter, source=earlier.mark(letter.source))
    return wants_bytes(letter) or wants_bytes(marked)


async def read_before_rebind(runtime: Runtime) -> BeforeRebind | None:
    """Return what the last rebind left of the raw topics before it; None without a rebind."""
    actions = ActionStore(runtime.database_url, APPLICATION, role=Role.READER)
    try:
        return await actions.before_rebind()
    finally:
        await actions.close()


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
    servers = runtime.broker
    actions = ActionStore(runtime.database_url, APPLICATION)
    producer = BatchProducer(
        ProducerSettings(servers, APPLICATION, batch_bytes_max=APPEND_BYTES_MAX)
    )

    async def append(source: Position, outgoing: OutgoingRecord) -> Position:
        topic = topic_today(source.topic)
        sent = await producer.send(
            topic,
            outgoing.key,
            outgoing.value,
            outgoing.headers,
            partition=source.partition,
        )
        return Position(topic, source.partition, sent.offset)

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


@dataclass(frozen=True)
class TrimmedLetters:
    """What is deleted of a dead letter topic: the letters before `before_offset`."""

    topic: str
    partition: int
    before_offset: int
    letters: int


async def trim_letters(
    runtime: Runtime, older_than_ms: int, *, dry_run: bool = False
) -> list[TrimmedLetters]:
    """Delete old letters from the beginnings of their topics, up to the first that must stay.

    These stay: a letter that is younger, by the time of its source record; an open one, unless its
    signature was never good; one behind which others wait. Raises as `load_snapshot` does.
    """
    snapshot = await load_snapshot(runtime, lambda _: False)
    until_ms = time.time_ns() // 1_000_000 - older_than_ms
    waiting = snapshot.waiting
    found: dict[TopicPartition, list[tuple[int, bool]]] = {}
    for case in snapshot.cases:
        is_open = case.state is CaseState.OPEN and not UNSIGNED_CODES.issuperset(case.codes)
        for one in case.letters:
            stays = one.letter.source_timestamp > until_ms or is_open or case.source in waiting
            tp = TopicPartition(one.position.topic, one.position.partition)
            found.setdefault(tp, []).append((one.position.offset, stays))
    trimmed = []
    for tp, letters in sorted(found.items()):
        kept = min((offset for offset, stays in letters if stays), default=None)
        cut = 1 + max(offset for offset, _ in letters) if kept is None else kept
        if count := sum(offset < cut for offset, _ in letters):
            trimmed.append(TrimmedLetters(tp.topic, tp.partition, cut, count))
    if trimmed and not dry_run:
        async with admin_client(runtime.broker) as admin:
            cuts = {TopicPartition(one.topic, one.partition): one.before_offset for one in trimmed}
            await admin.delete_records({tp: RecordsToDelete(cut) for tp, cut in cuts.items()})
    return trimmed
