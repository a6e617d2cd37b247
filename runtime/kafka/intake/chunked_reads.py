"""Reading records in chunks that a processor's cache can hold (ADR 10).

A batch of two thousand records is some six megabytes of small objects. If it is decoded as a whole
and read later, each object comes from main memory twice, while what is made of the records is a
fraction of that size. So an agent that begins by reading each record by itself gives its intake a
reader: each chunk is decoded, read and released before the next one is decoded.

A reader has no effects and raises nothing; the agent acts on what it returns. It may be called for
records that are never handled, or are read again after a rebalance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from typing import Final, TypeAlias

from aiokafka.structs import TopicPartition

from runtime.kafka.batches import RecordBatch, join_batches
from runtime.kafka.records import RawRecord

CHUNK_RECORDS: Final = 64
"""Some 0.2 MB of provider records as objects, with what is made of them.

A core's second-level cache holds 0.5 to 2 MB today, code included, and shares it with its
neighbour's. A chunk itself costs what one record costs."""

YIELD_RECORDS: Final = 250
"""Reading is all CPU: after so many records, some milliseconds, other tasks get the event loop."""

Reader: TypeAlias = Callable[[str, Sequence[RawRecord]], Sized]
"""Converts records of one topic to something smaller, in their order; its length is their number.
"""


def read_chunk(reader: Reader, chunk: RecordBatch) -> RecordBatch:
    """Return the batch with what the reader made of its records in their place."""
    return replace(chunk, records=(), readings=(reader(chunk.topic, chunk.records),))


def join_chunks(chunks: Iterable[RecordBatch]) -> list[RecordBatch]:
    """Join chunks, in the order in which they were fetched, to one batch a partition.

    Chunks of two assignments are never joined.
    """
    runs: dict[tuple[TopicPartition, int], list[RecordBatch]] = {}
    for chunk in chunks:
        runs.setdefault((chunk.tp, chunk.assignment), []).append(chunk)
    return [join_batches(run) for run in runs.values()]
