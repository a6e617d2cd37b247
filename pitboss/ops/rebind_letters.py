"""Dead letters and waiting records of a ledger that is bound to the log of another cluster.

They name offsets of raw topics, which may be other records' on the new cluster. What waits is
appended once more, by its bytes, and no longer waits; what was done and what has waited stays on
record under names that no topic has (`runtime.dead_letters.before_rebind`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec

from ledger_sink.store.database import LedgerDatabase
from pitboss.ops.dead_letter_reading import read_letters
from pitboss.ops.recovery_session import raw_topics
from pitboss.ops.topic_admin import dead_letter_topics
from pitboss.settings import Runtime
from replay.log.blocks import LogSource
from replay.recovery.raw_places import KnownRecord, RawPartition, find_changed
from replay.recovery.survey import SQL
from runtime.dead_letters.before_rebind import MARK
from runtime.dead_letters.database import escape_like
from runtime.dead_letters.headers import append_again_headers, format_position
from runtime.dead_letters.letters import Letter
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.kafka.topic_reader import partition_bounds
from schemas.events import Position

KNOWN_MAX: Final = 20
"""Records of each partition that are looked up, the last ones: a shift shows at each of them."""
_RECORDS_AT_ONCE: Final = 500


class RawReport(msgspec.Struct, frozen=True):
    """What a binding found of the raw topics. `BeforeRebind` is read from it."""

    changed: list[str]
    """Partitions, as in `topic-0`, whose records may have other offsets than before."""
    letters: dict[str, int]
    """By partition of a dead letter topic: up to where its letters are of before."""
    appended: int
    """Records that waited behind dead letters in them, and are appended once more."""


class WaitingRecord(msgspec.Struct, frozen=True):
    """A raw record that waits behind a dead letter."""

    topic: str
    partition: int
    offset: int
    waits_for: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    def outgoing(self, actor: str, reason: str) -> OutRecord:
        """Return the record as it is appended once more, late behind what it waited for."""
        behind = Position(self.topic, self.partition, self.waits_for)
        headers = append_again_headers(self.headers, behind, actor, reason)
        return self.key, self.value, headers, None


async def prepare_raw(
    runtime: Runtime,
    source: LogSource,
    database: LedgerDatabase,
    actor: str,
    begin: Callable[[str], None],
    *,
    dry_run: bool,
) -> RawReport:
    """Find the raw partitions whose offsets are others, and append what waits in them once more.

    Killed before the binding it can be run again: what is appended twice is a repeat. Raises
    SendFailed, Unavailable.
    """
    begin("comparing the raw records with what rows and dead letters name")
    where = {"prefix": escape_like(runtime.prefix) + "%"}
    letters: Sequence[Letter] = ()
    if not dry_run:
        # The index is of the topics of before; a dry run leaves it, and asks the rows alone.
        await database.query(SQL["forget_letters"], where)
        await database.query(SQL["forget_letter_positions"], where)
        letters = await _read_last_letters(runtime)
    waiting = [
        WaitingRecord(topic, part, offset, waits_for, key, body, _headers_of(headers))
        for topic, part, offset, waits_for, key, body, headers in await database.query(
            SQL["waiting_raw"], where
        )
    ]
    attempts = await database.query(SQL["known_attempts_of_raw"], where | {"most": KNOWN_MAX})
    partitions = {(topic, part) for topic, part in await database.query(SQL["named_places"], where)}
    partitions |= {(one.letter.source.topic, one.letter.source.partition) for one in letters}
    partitions |= {(topic, part) for topic, part, *_ in attempts}
    for name in raw_topics(runtime):
        held = source.bounds(name).items()
        partitions |= {(name, part) for part, (first, end) in held if first < end}
    known = [
        *(KnownRecord(topic, part, at, who.encode()) for topic, part, at, who in attempts),
        *(KnownRecord(one.topic, one.partition, one.offset, one.key, one.value) for one in waiting),
        *_known_of(letters),
    ]
    changed = find_changed(source, known, partitions)
    waiting = [one for one in waiting if (one.topic, one.partition) in changed]
    if waiting and not dry_run:
        begin("appending what waits behind dead letters once more")
        await _append_again(runtime, waiting, actor)
    names = sorted(f"{topic}-{partition}" for topic, partition in changed)
    return RawReport(names, {} if dry_run else await _ends_of_letters(runtime), len(waiting))


def _headers_of(packed: bytes) -> list[tuple[str, bytes | None]]:
    return msgspec.msgpack.decode(packed, type=list[tuple[str, bytes | None]])


async def _read_last_letters(runtime: Runtime) -> list[Letter]:
    """Return the last letters of each source partition, with their bytes."""
    found = await read_letters(runtime, lambda _: False)
    by_partition: dict[RawPartition, list[Letter]] = {}
    for one in found.letters:
        source = one.letter.source
        by_partition.setdefault((source.topic, source.partition), []).append(one)
    last = {
        one.letter.source
        for own in by_partition.values()
        for one in sorted(own, key=lambda one: one.letter.source.offset)[-KNOWN_MAX:]
    }
    whole = await read_letters(runtime, lambda letter: letter.source in last)
    others = [one for own in by_partition.values() for one in own[:1]]
    return [one for one in whole.letters if one.letter.source in last] + others


def _known_of(letters: Sequence[Letter]) -> list[KnownRecord]:
    return [
        KnownRecord(source.topic, source.partition, source.offset, one.letter.key, value)
        for one in letters
        for source, value in ((one.letter.source, one.letter.value),)
        if value is not None
    ]


async def _ends_of_letters(runtime: Runtime) -> dict[str, int]:
    topics = await dead_letter_topics(runtime.broker, runtime.namespace)
    bounds = await partition_bounds(runtime.broker, topics) if topics else {}
    return {f"{tp.topic}-{tp.partition}": end for tp, (_, end) in sorted(bounds.items())}


async def _append_again(runtime: Runtime, waiting: Sequence[WaitingRecord], actor: str) -> None:
    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss.rebind"))
    async with producer:
        for (topic, partition), own in groupby(waiting, lambda one: (one.topic, one.partition)):
            records = [
                one.outgoing(actor, f"waited at {format_position(place)}")
                for one in own
                for place in (Position(topic, partition, one.offset),)
            ]
            for first in range(0, len(records), _RECORDS_AT_ONCE):
                some = records[first : first + _RECORDS_AT_ONCE]
                await producer.send_batch(topic, partition, some)


async def move_rows(connection: Any, report: RawReport, number: int) -> None:
    """Keep what has waited in changed partitions under names of before, in a binding's transaction.

    Else a record of today would wait for a dead letter of then, or be taken for one that waits.
    """
    for name in report.changed:
        topic, _, partition = name.rpartition("-")
        where = {"topic": topic, "part": int(partition), "mark": f"{MARK}{number}"}
        await connection.execute(SQL["move_parked"], where)
        await connection.execute(SQL["move_holds"], where)
