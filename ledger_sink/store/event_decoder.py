"""Records of our own topics as events: what is no event of ours is buried, what we cannot read yet
stops the worker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.batches import RecordBatch
from schemas import codec
from schemas.errors import InvariantBroken, Rejected
from schemas.events import WalletTransaction
from schemas.registry import UnknownSchema

_RECORDS_AT_ONCE: Final = 100
"""About 1 ms of decoding; then the connection, which other partitions' rows are waiting to go
through, has its turn.
"""


class EventDecoder:
    """Reads the batches of one topic."""

    def __init__(self, dead_letters: KafkaDeadLetterSink) -> None:
        self._dead_letters = dead_letters
        self._decode = codec.decoder(WalletTransaction)
        self._buried: dict[int, RecordBatch] = {}

    async def decode_batch(self, batch: RecordBatch) -> list[tuple[Any, WalletTransaction]]:
        """The records that are events, each with its event, once the rest is in its grave.

        Raises SendFailed, and InvariantBroken for an event of a newer release: it may be money, and
        money is never skipped.
        """
        events: list[tuple[Any, WalletTransaction]] = []
        burials: list[Rejection] = []
        for start in range(0, len(batch.records), _RECORDS_AT_ONCE):
            _sort(batch.records[start : start + _RECORDS_AT_ONCE], self._decode, events, burials)
            await asyncio.sleep(0)
        # A batch that is tried again, as often as an outage takes, has been buried from before.
        if burials and self._buried.get(batch.partition) is not batch:
            await self._dead_letters.publish_all(burials)
            self._buried[batch.partition] = batch
        return events


def _sort(
    records: Sequence[Any],
    decode: Callable[[bytes], WalletTransaction],
    events: list[tuple[Any, WalletTransaction]],
    burials: list[Rejection],
) -> None:
    for record in records:
        try:
            events.append((record, decode(record.value or b"")))
        except UnknownSchema as error:
            if error.schema_id in _our_schema_ids():
                message = (
                    f"{record.topic}-{record.partition}@{record.offset} was written under schema id {error.schema_id},"
                    " which a newer release must have: upgrade this worker"
                )
                raise InvariantBroken(message) from error
            burials.append(Rejection(record, error.reason, error.detail))
        except Rejected as error:
            burials.append(Rejection(record, error.reason, error.detail))


@cache
def _our_schema_ids() -> range:
    first, last = json.loads(
        files("schemas").joinpath("avro", "ids.lock.json").read_text(encoding="utf-8")
    )["range"]
    return range(first, last + 1)
