"""Whether the raw records of another cluster have the offsets that rows and letters name.

A mirror keeps the order of a partition and not its offsets; an archive that is played back keeps
both. Nothing maps raw offsets, so what is known of some records decides about their partition: it
is as it was only if each of them lies where it is named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec

from replay.log.blocks import Bounds, LogGap, LogSource
from schemas.errors import UsageError

RawPartition: TypeAlias = tuple[str, int]
"""A topic as on the broker, and the number of a partition."""


class KnownRecord(msgspec.Struct, frozen=True):
    """What is known of a record of the earlier topics; of some only the key."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = None


def find_changed(
    source: LogSource, known: Iterable[KnownRecord], partitions: Collection[RawPartition]
) -> set[RawPartition]:
    """Return the partitions of which not every known record lies where it is named.

    One without a known record that is still there is among them. Raises Unavailable.
    """
    bounds = {topic: _bounds(source, topic) for topic in {topic for topic, _ in partitions}}
    shown: dict[RawPartition, bool] = {}
    for one in known:
        place = one.topic, one.partition
        begin, end = bounds.get(one.topic, {}).get(one.partition, (0, 0))
        if one.offset < begin:
            continue  # deleted since: that shows nothing
        is_there = one.offset < end and _lies_there(source, one)
        shown[place] = shown.get(place, True) and is_there
    return {place for place in partitions if not shown.get(place, False)}


def _bounds(source: LogSource, topic: str) -> Mapping[int, Bounds]:
    try:
        return source.bounds(topic)
    except UsageError:  # the new cluster has no such topic
        return {}


def _lies_there(source: LogSource, one: KnownRecord) -> bool:
    try:
        blocks = [*source.read(one.topic, one.partition, one.offset, one.offset + 1)]
    except LogGap:
        return False
    found = [
        (key, value)
        for block in blocks
        for key, value in zip(block.keys, block.values, strict=True)
    ]
    if one.value is None:
        return [key for key, _ in found] == [one.key]
    return found == [(one.key, one.value)]
