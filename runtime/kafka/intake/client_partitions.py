"""Partitions and offsets as confluent-kafka wants and returns them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import confluent_kafka
from aiokafka.structs import TopicPartition

Offsets: TypeAlias = Mapping[TopicPartition, int]
CommitOffsets: TypeAlias = Mapping[TopicPartition, tuple[int, str | None]]
"""Offsets, each with metadata for those who look at the group."""

logger = logging.getLogger(__name__)


def place(tp: TopicPartition, *details: Any) -> confluent_kafka.TopicPartition:
    """Return a partition, with an offset and metadata if they are given."""
    return confluent_kafka.TopicPartition(tp.topic, tp.partition, *details)


def to_client_partitions(
    places: Iterable[TopicPartition] | Offsets,
) -> list[confluent_kafka.TopicPartition]:
    """Return partitions, with the offsets if they are given."""
    if isinstance(places, Mapping):
        return [place(tp, offset) for tp, offset in places.items()]
    return [place(tp) for tp in places]


def with_metadata(offsets: CommitOffsets) -> list[confluent_kafka.TopicPartition]:
    """Return what is to be committed. The client takes a text as metadata, but not None."""
    return [
        place(tp, offset) if metadata is None else place(tp, offset, metadata)
        for tp, (offset, metadata) in offsets.items()
    ]


def is_refused(answer: confluent_kafka.TopicPartition) -> bool:
    """Return whether a commit was refused, and log it."""
    if answer.error is not None:
        place = f"{answer.topic}-{answer.partition}@{answer.offset}"
        logger.warning("not committed: %s: %s", place, answer.error.str())
    return answer.error is not None
