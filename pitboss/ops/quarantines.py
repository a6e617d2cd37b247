"""A record of the log as the people see it who may quarantine it."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count

from aiokafka.structs import TopicPartition

from ledger_sink.booking.settings import GROUP
from ledger_sink.rules.quarantine import QuarantineSearch
from ledger_sink.store.log_check import checksum
from pitboss.ops.topic_admin import admin_client, partition_counts
from pitboss.settings import Runtime
from runtime.dead_letters.headers import format_position
from runtime.kafka.broker_queries import fetch_group_offsets
from runtime.kafka.partition_reader import KafkaLogReader
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.errors import Rejected, UsageError
from schemas.events import Position, WalletTransaction


@dataclass(frozen=True)
class QuarantineProposal:
    """A proposal in the log that a record is quarantined."""

    actor: str
    reason: str
    brand: str
    place: str


@dataclass(frozen=True)
class QuarantineCase:
    """A record of the log, what was proposed about it, and whether the ledger is behind it."""

    record: str
    """Its place and checksum."""
    partitions: int
    """Of the log."""
    is_passed: bool
    proposals: list[QuarantineProposal]


async def read_case(runtime: Runtime, place: Position) -> QuarantineCase:
    """Read a record of the log and the proposals behind it.

    Raises UsageError where no record lies, Unavailable.
    """
    counts = await partition_counts(runtime.broker, f"^{place.topic}$")
    partitions = counts.get(place.topic, 0)
    if place.partition >= partitions:
        raise UsageError(f"the log has no partition {place.topic}-{place.partition}")
    name, proposals = await _read_proposals(runtime, place)
    tp = TopicPartition(place.topic, place.partition)
    async with admin_client(runtime.broker) as admin:
        offsets = await fetch_group_offsets(admin, runtime.group(GROUP), [tp])
    return QuarantineCase(name, partitions, (offsets[tp] or 0) > place.offset, proposals)


async def _read_proposals(
    runtime: Runtime, place: Position
) -> tuple[str, list[QuarantineProposal]]:
    reader = KafkaLogReader(runtime.broker, place.topic)
    decode, search = codec.decoder(WalletTransaction), None
    found: list[QuarantineProposal] = []
    next_offset, last_offset = place.offset, -1
    while next_offset > last_offset:
        last_offset = next_offset
        async with aclosing(reader.read_on(place.partition, next_offset)) as records:
            async for record in records:
                next_offset = record.offset + 1
                if search is None:
                    if record.offset != place.offset:
                        raise UsageError(f"no record lies at {format_position(place)}")
                    search = QuarantineSearch(place, checksum(record.key, record.value))
                    continue
                try:
                    event = decode(record.value or b"")
                except Rejected:
                    continue
                known = len(search.proposals)
                search.observe(event)
                if len(search.proposals) > known and event.cause is not None:
                    cause, at = event.cause, Position(place.topic, place.partition, record.offset)
                    proposal = QuarantineProposal(
                        cause.actor or "", cause.reason or "", event.brand, format_position(at)
                    )
                    found.append(proposal)
    if search is None:
        raise UsageError(f"no record lies at {format_position(place)}")
    return search.record, found


def step_id(record: str, operation: str, actor: str, place: Position, partitions: int) -> str:
    """Return the id of a step, the same for the same person.

    It is the key of the step's record, so it is one of the partition that the step is about.
    """
    target = uuid.uuid5(uuid.NAMESPACE_URL, f"{operation} {record} {actor}")
    return next(
        text
        for text in (f"{target}-{n}" for n in count())
        if partition_for(text.encode(), partitions) == place.partition
    )
