"""A log in memory that answers as a broker does, for tests of what reads logs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from replay.log.blocks import Bounds, LogBlock, LogGap
from schemas import codec
from schemas.errors import UsageError
from schemas.events import WalletTransaction
from tests.support.ledger_events import bet, deposit, win

DAY_MS = 86_400_000
START_MS = 1_790_000_000_000
"""2026-09-21T14:13:20Z"""


@dataclass
class MemoryRecord:
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass
class MemoryLog:
    """Records by topic and partition; offsets may have gaps."""

    records: dict[str, dict[int, list[MemoryRecord]]]
    append_time: bool = False
    block_records: int = 100
    beginnings: dict[tuple[str, int], int] = field(default_factory=dict)
    reads: list[tuple[int, int, int]] = field(default_factory=list)

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        if topic not in self.records:
            raise UsageError(f"no topic {topic}")
        return {
            partition: (
                self.beginnings.get((topic, partition), 0),
                rows[-1].offset + 1 if rows else 0,
            )
            for partition, rows in self.records[topic].items()
        }

    def all_bounds(self, topics: Collection[str]) -> Mapping[str, Mapping[int, Bounds]]:
        return {topic: self.bounds(topic) for topic in topics}

    def first_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        return {
            partition: next((row.offset for row in rows if row.timestamp_ms >= at_ms), end)
            for partition, rows in self.records[topic].items()
            for end in [self.bounds(topic)[partition][1]]
        }

    def has_append_time(self, topic: str) -> bool:
        return self.append_time

    def read(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> Iterator[LogBlock]:
        self.reads.append((partition, from_offset, to_offset))
        if from_offset < self.beginnings.get((topic, partition), 0):
            raise LogGap(f"{topic}-{partition}@{from_offset}")
        rows = [
            row for row in self.records[topic][partition] if from_offset <= row.offset < to_offset
        ]
        for start in range(0, len(rows), self.block_records):
            chunk = rows[start : start + self.block_records]
            yield LogBlock(
                topic,
                partition,
                [row.offset for row in chunk],
                [row.timestamp_ms for row in chunk],
                [row.key for row in chunk],
                [row.value for row in chunk],
                {index: row.headers for index, row in enumerate(chunk) if row.headers},
            )


def transactions_log(
    topic: str, partitions: int, count: int, *, step_ms: int = 60_000
) -> MemoryLog:
    """Return a log of bets, wins and deposits, the same ones each time, some out of order in time."""
    encode = codec.encoder(WalletTransaction)
    records: dict[int, list[MemoryRecord]] = {number: [] for number in range(partitions)}
    for partition in range(partitions):
        for number in range(count):
            tx_id = f"{partition}-{number}"
            player = f"p-{partition}-{number % 7}"
            provider = ("hub88", "house", "pragmatic")[number % 3]
            event = (
                bet(tx_id, 7 * number % 1_000, player=player, provider=provider),
                win(
                    tx_id,
                    5 * number % 777,
                    f"{partition}-{number - 1}",
                    player=player,
                    provider=provider,
                ),
                deposit(tx_id, 10_000, player=player),
            )[number % 3]
            at_ms = START_MS + number * step_ms
            stamped = at_ms - (90_000 if number % 11 == 3 else 0)
            value = encode(
                WalletTransaction(
                    **{
                        name: getattr(event, name)
                        for name in WalletTransaction.__struct_fields__
                        if name not in {"occurred_at", "appended_at", "attempt"}
                    },
                    attempt=type(event.attempt)(
                        event.attempt.topic, 0, partition * count + number, 0
                    ),
                    occurred_at=at_ms - (number % 5) * 3_600_000,
                    appended_at=at_ms,
                )
            )
            # One offset of fifty has no record, as behind a compaction.
            records[partition].append(
                MemoryRecord(number + number // 50, stamped, player.encode(), value)
            )
    return MemoryLog({topic: records})
