"""The peer of `pitboss bench latency --closed`: the two hops of a bet without what we do in them.

Hop 1 reads the raw topics and appends each record to the log, by its key. Hop 2 reads the log,
inserts the records that are there in one statement, which is one commit, and then appends an
outcome for each. Each is a process: librdkafka in, aiokafka's ready batches out, PostgreSQL with
`synchronous_commit=on`. Nothing is decoded or checked, acknowledgements are not waited for, and a
crash may lose records: this is the floor under a pipeline of this shape, not a pipeline.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import psycopg
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer

from runtime.kafka.partitioner import partition_for
from runtime.security import BrokerAddress

_POLL_S: Final = 0.2
_MESSAGES_MAX: Final = 1_000

CREATE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS bare_hop (
    partition int, "offset" bigint, key text, value bytea, PRIMARY KEY (partition, "offset")
)
"""
_INSERT: Final = """
INSERT INTO bare_hop
SELECT * FROM unnest(%b::int[], %b::bigint[], %b::text[], %b::bytea[])
ON CONFLICT DO NOTHING
"""


class BareHopSettings(msgspec.Struct, frozen=True):
    """The one argument of this process, as JSON."""

    broker: BrokerAddress
    group: str
    sources: list[str]
    sink: str
    database_url: str | None = None
    """None for hop 1; hop 2 commits there before it sends."""


class BareHop:
    """One hop: a thread reads, the event loop commits and sends."""

    def __init__(self, settings: BareHopSettings) -> None:
        self._settings = settings
        self._inbox: list[Any] = []
        self._has_more = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_over = threading.Event()

    async def run(self) -> None:
        """Pass records on until the process is ended."""
        settings = self._settings
        producer = AIOKafkaProducer(
            **settings.broker.aiokafka_options(),
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
        )
        await producer.start()
        connection = None
        if settings.database_url is not None:
            connection = await psycopg.AsyncConnection.connect(
                settings.database_url, autocommit=True
            )
            await connection.execute("SET synchronous_commit = on")
            await connection.execute(CREATE_TABLE)
        partitions = len(await producer.partitions_for(settings.sink))
        loop = asyncio.get_running_loop()
        reader = threading.Thread(target=self._read, args=(loop,))
        reader.start()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        while True:
            await self._has_more.wait()
            if self._is_over.is_set():
                break
            self._has_more.clear()
            messages, self._inbox = self._inbox, []
            if self._failure is not None:
                raise self._failure
            if connection is not None:
                await _commit(connection, messages)
            await self._send(producer, partitions, messages)
        await producer.stop()

    def _end(self) -> None:
        self._is_over.set()
        self._has_more.set()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        consumer = Consumer(
            {
                **self._settings.broker.librdkafka_options(),
                "group.id": self._settings.group,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "auto.commit.interval.ms": 1_000,
                "fetch.wait.max.ms": 100,
            }
        )
        consumer.subscribe(self._settings.sources)
        while not self._is_over.is_set():
            first = consumer.poll(_POLL_S)
            if first is not None:
                messages = [first, *consumer.consume(_MESSAGES_MAX, 0)]
                loop.call_soon_threadsafe(self._take, messages)
        consumer.close()  # leaves the group: the next run need not wait for this member

    def _take(self, messages: list[Any]) -> None:
        self._inbox += [message for message in messages if message.error() is None]
        self._has_more.set()

    async def _send(
        self, producer: AIOKafkaProducer, partitions: int, messages: Sequence[Any]
    ) -> None:
        groups: defaultdict[int, Any] = defaultdict(producer.create_batch)
        for message in messages:
            key, value = message.key(), message.value()
            batch = groups[partition_for(key, partitions)]
            assert batch.append(timestamp=None, key=key, value=value) is not None, "a full batch"
        for partition, batch in groups.items():
            acknowledged = await producer.send_batch(
                batch, self._settings.sink, partition=partition
            )
            acknowledged.add_done_callback(self._note_failure)

    def _note_failure(self, acknowledged: asyncio.Future[Any]) -> None:
        if not acknowledged.cancelled() and acknowledged.exception() is not None:
            self._failure = acknowledged.exception()
            self._has_more.set()


async def _commit(connection: psycopg.AsyncConnection[Any], messages: Sequence[Any]) -> None:
    await connection.execute(
        _INSERT,
        (
            [message.partition() for message in messages],
            [message.offset() for message in messages],
            [message.key().decode() for message in messages],
            [message.value() for message in messages],
        ),
        prepare=True,
    )


def main(argument: str) -> None:
    """Run a hop until it is terminated."""
    asyncio.run(_main(msgspec.json.decode(argument, type=BareHopSettings)))


async def _main(settings: BareHopSettings) -> None:
    await BareHop(settings).run()


if __name__ == "__main__":
    main(sys.argv[1])
