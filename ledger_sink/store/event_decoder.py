"""Records of our own topics as events.

A record that is not an event goes to the dead letter topic. An event of a newer release is never
skipped: it may be money, and its partition waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.batches import RecordBatch
from schemas import codec
from schemas.errors import Rejected
from schemas.events import WalletTransaction
from schemas.registry import UnknownSchema, describe_newer

_RECORDS_PER_TURN: Final = 100
"""About 1 ms of decoding; then the task of the connection runs, which other partitions wait for."""


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """The records of a batch that are events, and those that only a newer release can read."""

    batch: RecordBatch
    events: Sequence[tuple[Any, WalletTransaction]]
    newer: Sequence[tuple[Any, str]]
    """With a detail that names the place."""


class EventDecoder:
    """Decodes the batches of one topic."""

    def __init__(self, dead_letters: KafkaDeadLetterSink) -> None:
        self._dead_letters = dead_letters
        self._decode = codec.decoder(WalletTransaction)
        self._rejected_batches: dict[int, RecordBatch] = {}

    async def decode_batch(self, batch: RecordBatch) -> DecodedBatch:
        """Decode the records that are events, after rejecting the others. Raises SendFailed."""
        events: list[tuple[Any, WalletTransaction]] = []
        newer: list[tuple[Any, str]] = []
        rejections: list[Rejection] = []
        for start in range(0, len(batch.records), _RECORDS_PER_TURN):
            if start:
                await asyncio.sleep(0)
            records = batch.records[start : start + _RECORDS_PER_TURN]
            _decode_records(records, self._decode, events, newer, rejections)
        # The records of a batch that is tried again were rejected at the first try.
        if rejections and self._rejected_batches.get(batch.partition) is not batch:
            await self._dead_letters.publish_all(rejections)
            self._rejected_batches[batch.partition] = batch
        return DecodedBatch(batch, events, newer)


def _decode_records(
    records: Sequence[Any],
    decode: Callable[[bytes], WalletTransaction],
    events: list[tuple[Any, WalletTransaction]],
    newer: list[tuple[Any, str]],
    rejections: list[Rejection],
) -> None:
    for record in records:
        try:
            events.append((record, decode(record.value or b"")))
        except UnknownSchema as error:
            place = f"{record.topic}-{record.partition}@{record.offset}"
            if detail := describe_newer(error, place):
                newer.append((record, detail))
                continue
            rejections.append(Rejection(record, error.reason, error.detail))
        except Rejected as error:
            rejections.append(Rejection(record, error.reason, error.detail))
