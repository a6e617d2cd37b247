"""Reading a stretch of one partition beside the intake: without a group, and without a trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from runtime.kafka.clients import start_client, stop_client
from runtime.security import BrokerAddress
from schemas.errors import Unavailable

READ_MAX_S: Final = 5.0
"""Of one read: well below the time after which a try counts as one that hangs."""

_RECORDS_PER_TURN: Final = 500
_POLL_MS: Final = 200
_ANSWER_TIMEOUT_S: Final = 10.0


class KafkaLogReader:
    """Reads the partitions of one topic, each from any place on."""

    def __init__(self, broker: BrokerAddress, topic: str) -> None:
        """Prepare without connecting: each read has a connection of its own."""
        self._broker = broker
        self._topic = topic

    async def read_on(self, partition: int, from_offset: int) -> AsyncGenerator[Any, None]:
        """Yield the committed records from an offset up to the present end.

        It stops early after `READ_MAX_S`; the caller reads on later. Raises Unavailable.
        """
        servers, give_up_s = self._broker, time.monotonic() + READ_MAX_S
        tp = TopicPartition(self._topic, partition)
        consumer = AIOKafkaConsumer(
            **servers.aiokafka_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        try:
            await start_client(consumer, servers)
            consumer.assign([tp])
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                end = (await consumer.end_offsets([tp]))[tp]
            consumer.seek(tp, from_offset)
            while from_offset < end and time.monotonic() < give_up_s:
                fetched = await consumer.getmany(
                    tp, timeout_ms=_POLL_MS, max_records=_RECORDS_PER_TURN
                )
                for record in fetched.get(tp, ()):
                    if record.offset < end:
                        yield record
                from_offset = await consumer.position(tp)
                await asyncio.sleep(0)
        except (KafkaError, TimeoutError) as error:
            place = f"{self._topic}-{partition}@{from_offset}"
            raise Unavailable(f"the broker does not deliver {place}: {error!r}") from error
        finally:
            await stop_client(consumer)
