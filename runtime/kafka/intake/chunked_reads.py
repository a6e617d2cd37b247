"""Records in pieces that a processor's cache can hold: each is unpacked, read and let go before the
next is unpacked.

A batch of two thousand records is some six megabytes of small objects. Unpacked as a whole and read
later, each of them comes from main memory twice; what is made of them is a fraction. So an agent
whose work begins with reading each record by itself gives its intake a reader. Reading has no
effects and raises nothing: what it says is acted on by the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from typing import Any, Final, TypeAlias

from aiokafka.structs import ConsumerRecord, TopicPartition

from runtime.kafka.batches import RecordBatch, join_batches

CHUNK_RECORDS: Final = 64
"""Some 0.2 MB of provider records, as objects, and what is made of them: a core's second-level
cache holds 0.5 to 2 MB today, code included, and shares it with its neighbour's. A piece itself
costs what one record costs.
"""

YIELD_RECORDS: Final = 250
"""Reading is all CPU; after so many records, some milliseconds, others get the event loop."""

Reader: TypeAlias = Callable[[str, Sequence[ConsumerRecord[Any, Any]]], Sized]
"""Makes something smaller of records of one topic, in their order; its length is how many they
were.
"""


def read_chunk(reader: Reader, piece: RecordBatch) -> RecordBatch:
    """The same batch with what the reader made of its records in their place."""
    return replace(piece, records=(), readings=(reader(piece.topic, piece.records),))


def join_chunks(pieces: Iterable[RecordBatch]) -> list[RecordBatch]:
    """One batch of each partition, and of each assignment, out of pieces in the order in which they
    were cut.
    """
    runs: dict[tuple[TopicPartition, int], list[RecordBatch]] = {}
    for piece in pieces:
        runs.setdefault((piece.tp, piece.assignment), []).append(piece)
    return [join_batches(run) for run in runs.values()]
