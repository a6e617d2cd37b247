"""Offsets that hold nothing: a log goes on behind the offsets that the ledger's rows name already.

The records are those of an aborted transaction, which no reader of committed records sees.
"""

from __future__ import annotations

import time
import uuid
from typing import Final

from confluent_kafka import KafkaException, Producer

from replay.archive.restore import PartitionSender
from replay.log.blocks import LogSource
from runtime.security import BrokerAddress
from schemas.errors import SendFailed, Unavailable

_RECORDS_PER_TRANSACTION: Final = 200_000
_ANSWER_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.05


def continue_behind(
    broker: BrokerAddress,
    source: LogSource,
    topic: str,
    partition: int,
    first: int,
    behind: int,
) -> int:
    """Append the records from `first` on again, at offsets from `behind` on; return the first one.

    They keep their order, bytes and times. Raises SendFailed, Unavailable, LogGap.
    """
    begin, end = source.bounds(topic)[partition]
    start = end
    if end < behind:
        pad(broker, topic, partition, behind - end)
        start = _await_end(source, topic, partition, behind)
    PartitionSender(broker, topic, partition).send_all(
        source.read(topic, partition, max(begin, first), end), is_exact=False
    )
    return start


def _await_end(source: LogSource, topic: str, partition: int, behind: int) -> int:
    """Return where the log ends once the aborted offsets count.

    The broker answers an abort before it has written the markers, and until then readers of
    committed records see the log's end before the transaction. Raises Unavailable.
    """
    deadline_s = time.monotonic() + _ANSWER_TIMEOUT_S
    while (end := source.bounds(topic)[partition][1]) < behind:
        if time.monotonic() > deadline_s:
            raise Unavailable(
                f"{topic}-{partition}: the broker has not ended the aborted transaction up to"
                f" {behind} within {_ANSWER_TIMEOUT_S:.0f} s: run the command again"
            )
        time.sleep(_POLL_S)
    return end


def pad(broker: BrokerAddress, topic: str, partition: int, count: int) -> None:
    """Append `count` offsets that hold nothing, or one more. Raises SendFailed."""
    producer = Producer(
        {
            **broker.librdkafka_options(),
            "client.id": "pitboss.rebind",
            "transactional.id": f"pitboss.rebind.{uuid.uuid4()}",
            "compression.type": "lz4",
            "linger.ms": 50,
            "queue.buffering.max.messages": 2 * _RECORDS_PER_TRANSACTION,
            "enable.metrics.push": False,
        }
    )
    try:
        producer.init_transactions(_ANSWER_TIMEOUT_S)
        while count > 0:
            some = min(count, _RECORDS_PER_TRANSACTION)
            producer.begin_transaction()
            for _ in range(some):
                producer.produce(topic, value=b"", partition=partition)
            # An abort drops what is not sent yet.
            if producer.flush(_ANSWER_TIMEOUT_S):
                raise SendFailed(f"{topic}-{partition}: the broker takes no records")
            producer.abort_transaction(_ANSWER_TIMEOUT_S)
            count -= some + 1
    except KafkaException as error:
        raise SendFailed(f"{topic}-{partition}: {error}") from error
