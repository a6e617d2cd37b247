"""The two sides of `pitboss bench replay`, each a process pinned to one core.

Ours is `pitboss replay export` into a folder of Parquet files. The peer is what a person writes for
the same purpose: a confluent-kafka consumer, fastavro, and pyarrow's own way from rows to a table.
Both write zstd with amounts as DECIMAL(38, 18), and print one JSON line about themselves.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, TopicPartition

from replay.export.request import ExportRequest
from replay.export.run import export_to
from replay.log.broker import BrokerLog
from runtime.security import BrokerAddress
from schemas.registry import released_registry
from schemas.topics import TRANSACTIONS

_BATCH: Final = 8_192
_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.1
"""`consume` returns when it has a whole batch or this time is over."""


class SideRequest(msgspec.Struct, frozen=True):
    """What one side is to do: read every partition of a topic up to an offset, and write it."""

    side: str
    broker: BrokerAddress
    topic: str
    to_offset: int
    result: str


class SideResult(msgspec.Struct, frozen=True):
    """What one side did; the clock runs from the first connection to the last file."""

    events: int
    took_s: float
    cpu_s: float
    rss_mb: float
    bytes: int


def main(arguments: list[str]) -> None:
    """Run one side, pinned to a core, and print its result."""
    request = msgspec.json.decode(arguments[0], type=SideRequest)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    started_s, cpu_s = time.monotonic(), time.process_time()
    events = _export(request) if request.side == "ours" else _loop(request)
    took_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    result = Path(request.result)
    size = sum(file.stat().st_size for file in result.rglob("*.parquet"))
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(msgspec.to_builtins(SideResult(events, took_s, cpu_s, rss_mb, size))))


def _export(request: SideRequest) -> int:
    wanted = ExportRequest(TRANSACTIONS, to_offset=request.to_offset)
    with BrokerLog(request.broker) as source:
        return export_to(source, wanted, request.topic, Path(request.result)).rows


def _loop(request: SideRequest) -> int:
    consumer = Consumer(
        {
            **request.broker.librdkafka_options(),
            "group.id": "pitboss.bench.replay",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    schema = fastavro.parse_schema(released_registry().latest("wallet-transaction").json)
    result = Path(request.result)
    result.mkdir(parents=True)
    ends = _ends_of(consumer, request)
    consumer.assign([TopicPartition(request.topic, number, 0) for number in ends])
    left = sum(ends.values())
    with pq.ParquetWriter(result / "all.parquet", _peer_schema(), compression="zstd") as writer:
        while left:
            rows = []
            for message in consumer.consume(_BATCH, _POLL_S):
                number, offset, value = message.partition(), message.offset(), message.value()
                if number is None or offset is None or value is None or offset >= ends[number]:
                    continue
                rows.append(_to_row(value, schema) | {"_partition": number, "_offset": offset})
                if offset == ends[number] - 1:
                    consumer.pause([TopicPartition(request.topic, number)])
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, _peer_schema()))
                left -= len(rows)
    consumer.close()
    return sum(ends.values())


def _ends_of(consumer: Consumer, request: SideRequest) -> dict[int, int]:
    found = consumer.list_topics(request.topic, _TIMEOUT_S).topics[request.topic].partitions
    ends = {}
    for number in sorted(found):
        place = TopicPartition(request.topic, number)
        ends[number] = min(request.to_offset, consumer.get_watermark_offsets(place, _TIMEOUT_S)[1])
    return ends


def _to_row(value: bytes, schema: Any) -> dict[str, Any]:
    row: Any = fastavro.schemaless_reader(BytesIO(value[5:]), schema, None)
    for leg in row["legs"]:
        amount = leg["amount"]
        if amount is not None:
            leg["amount"] = Decimal(amount["unscaled"]).scaleb(-amount["scale"])
    return dict(row)


def _peer_schema() -> pa.Schema:
    """Return the columns of the peer: those of the schema that can be filled without more code."""
    text, whole = pa.string(), pa.int64()
    leg = pa.struct(
        [
            ("kind", text),
            ("amount", pa.decimal128(38, 18)),
            ("currency", text),
            ("is_free", pa.bool_()),
            ("campaign_id", text),
        ]
    )
    attempt = pa.struct(
        [("topic", text), ("partition", whole), ("offset", whole), ("record_index", whole)]
    )
    reference = pa.struct([("operation", text), ("tx_id", text)])
    texts = ("event_id", "brand", "provider", "provider_version", "region", "operation")
    return pa.schema(
        [
            *((name, text) for name in (*texts, "provider_tx_id")),
            ("attempt", attempt),
            ("player_id", text),
            ("legs", pa.list_(leg)),
            ("reference", reference),
            ("round_id", text),
            ("round_closed", pa.bool_()),
            ("game_id", text),
            ("occurred_at", whole),
            ("time_source", text),
            ("appended_at", whole),
            ("fingerprint", text),
            ("signature", text),
            ("decision_required", pa.bool_()),
            ("_partition", whole),
            ("_offset", whole),
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
