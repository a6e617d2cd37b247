"""The cost of the mapping and the Avro encoding alone: a normaliser in a loop, without Kafka, Faust
or asyncio.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Final

from aiokafka.structs import ConsumerRecord

from runtime.kafka.producer import OutRecord
from schemas.topics import raw_topic
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

_PASSES: Final = 5


def mapping_us_per_event(records: Sequence[OutRecord]) -> float:
    """CPU time in µs for a raw Hub88 record: the median of some passes, the first one not counted."""
    normaliser = Normaliser(DIALECTS, keyring={})
    inputs = [_as_consumed(record, offset) for offset, record in enumerate(records)]
    passes = []
    for _ in range(1 + _PASSES):
        began_s = time.process_time()
        outputs = [normaliser.normalise(record) for record in inputs]
        passes.append((time.process_time() - began_s) * 1e6 / len(inputs))
        assert all(isinstance(item, AcceptedTransaction) for items in outputs for item in items), (
            "a record was rejected"
        )
    return median(passes[1:])


def _as_consumed(record: OutRecord, offset: int) -> ConsumerRecord[bytes, bytes]:
    key, value, headers, _ = record
    return ConsumerRecord(
        topic=raw_topic("hub88"),
        partition=0,
        offset=offset,
        timestamp=int(dict(headers)["received-at"] or 0),
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=tuple(headers),
    )
