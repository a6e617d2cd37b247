"""Raw records that wait behind a dead letter of their key, after a restore: parked again.

They are rows of the database that was restored, while the normaliser's group has passed them: it
would never read them again. Which records wait follows from the raw log and from what was rejected
then. So the stretch is split once more by the normaliser's own rules, with the dead letters in the
place of the adapter, which may have been repaired since. Nothing is sent: events are in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from replay.log.blocks import LogBlock, LogSource
from replay.raw.comparison import RawPlace, records_of
from runtime.dead_letters.key_holds import ParkLimits
from runtime.kafka.batches import RecordBatch
from runtime.kafka.records import RawRecord
from schemas import codec
from schemas.errors import RejectCode, Rejected
from schemas.events import DeadLetter, WalletTransaction
from streams.normalise.mapping.normaliser import ItemResult, RejectedItem
from streams.normalise.parking import HoldStore, Parking

_MARGIN_MS: Final = 600_000
"""Before the restored moment: what is parked twice is there once."""
_ASSIGNMENT: Final = 1


class HeldCounts(msgspec.Struct):
    """Raw records behind the restored moment, as they were split again."""

    read: int = 0
    parked: int = 0
    """Found to wait when they came; some of them were released since, or had never been lost."""
    released: int = 0
    unplaced: int = 0
    """Records with dead letters of before a rebind: what waits behind them cannot be found."""


def restored_ms(source: LogSource, log_topic: str, starts: Mapping[int, int]) -> int | None:
    """Return from when on raw records may be parked that the database has lost; None for never.

    `starts` are the positions of the restored database. A raw record is in the log later than it
    was appended: by as much as the last booked ones were, and a margin.
    """
    decode = codec.decoder(WalletTransaction)
    last_ms, late_ms = None, 0
    for partition, (begin, end) in source.bounds(log_topic).items():
        start = starts.get(partition, 0)
        if not begin < start <= end:
            continue
        for block in source.read(log_topic, partition, start - 1, start):
            for timestamp_ms, event in _events(decode, block):
                last_ms = max(last_ms or 0, timestamp_ms)
                late_ms = max(late_ms, timestamp_ms - event.appended_at)
    return None if last_ms is None else max(0, last_ms - late_ms - _MARGIN_MS)


def _events(decode: Any, block: LogBlock) -> Iterator[tuple[int, WalletTransaction]]:
    for timestamp_ms, value in zip(block.timestamps_ms, block.values, strict=True):
        try:
            yield timestamp_ms, decode(value or b"")
        except Rejected:
            continue


class HoldRules(msgspec.Struct, frozen=True):
    """What the normaliser's workers are set to: by them it follows which records wait."""

    providers: frozenset[str]
    """Those whose rejections may make a player wait."""
    limits: ParkLimits


class RejectedThen:
    """Reads a raw record as the normaliser did then, as far as holds look at it: its rejections."""

    def __init__(self, letters: Iterable[DeadLetter]) -> None:
        """Take the dead letters of the normaliser; their bytes are not needed."""
        self._items: dict[RawPlace, list[ItemResult]] = {}
        for letter in letters:
            source = letter.source
            place = source.topic, source.partition, source.offset
            item = RejectedItem(
                _code_of(letter), letter.detail, letter.record_index, letter.player_id
            )
            self._items.setdefault(place, []).append(item)

    def __call__(self, record: RawRecord) -> list[ItemResult]:
        """Return the rejections of a record; nothing of what it was accepted as."""
        return self._items.get((record.topic, record.partition, record.offset), [])


def _code_of(letter: DeadLetter) -> RejectCode:
    """Return a letter's code; of one that is unknown here, a code that holds up no player."""
    try:
        return RejectCode(letter.code)
    except ValueError:
        return RejectCode.MALFORMED


async def park_again(
    store: HoldStore,
    read: RejectedThen,
    rules: HoldRules,
    source: LogSource,
    ends: Mapping[str, Mapping[int, int]],
    since_ms: int | None,
) -> HeldCounts:
    """Park what waits, by topic and partition up to what the normaliser has read.

    `since_ms` is of `restored_ms`; None is from the beginning. Raises LogGap, Unavailable.
    """
    counts = HeldCounts()
    for topic, partitions in ends.items():
        bounds = source.bounds(topic)
        firsts = {} if since_ms is None else source.first_at(topic, since_ms)
        parking = Parking(store, read, rules.providers, rules.limits)
        for partition, end in partitions.items():
            first = max(bounds[partition][0], firsts.get(partition, 0))
            for block in source.read(topic, partition, first, end):
                await _split(parking, block, counts)
    return counts


async def _split(parking: Parking, block: LogBlock, counts: HeldCounts) -> None:
    # A record whose headers no client can decode begins no hold and waits behind none.
    records = [one for one in records_of(block) if one is not None]
    if not records:
        return
    batch = RecordBatch(
        block.topic,
        block.partition,
        records[0].offset,
        records[-1].offset + 1,
        records,
        _ASSIGNMENT,
    )
    split = await parking.split(batch)
    await parking.save_parked(split)
    await parking.save_released(split)
    counts.read += len(records)
    counts.parked += len(split.parked)
    counts.released += len(split.released)
