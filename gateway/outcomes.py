"""The reader of the outcomes: every partition, from the end as it was before the first append.

Each gateway process reads all of them, since an answer comes back by the player's partition of
another topic. Of an outcome only the attempt is decoded until it is known to be waited for here.
librdkafka's consumer runs in a thread of its own, which costs a fraction of aiokafka's with many
partitions; one hop takes all records that are ready to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from mode import Service

from runtime.connection_faults import unreachable_broker
from runtime.kafka.intake.client_errors import is_transient
from runtime.security import BrokerAddress
from schemas.errors import Fatal, Unavailable

_LOG = logging.getLogger(__name__)
_LIBRARY_LOG = logging.getLogger("librdkafka")

CONNECT_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.2
TAKEN_AT_ONCE_MAX: Final = 1_000


class OutcomeReader(Service):
    """Service that hands the values of `wallet.outcomes.v1` to a function of the event loop."""

    def __init__(
        self,
        broker: BrokerAddress,
        client_id: str,
        topic: str,
        deliver: Callable[[Sequence[bytes]], None],
        **kwargs: Any,
    ) -> None:
        """Prepare to read `topic`, without connecting."""
        super().__init__(**kwargs)
        self._options: Final[dict[str, str | int | bool]] = {
            **broker.librdkafka_options(),
            "client.id": client_id,
            "group.id": client_id,  # required by the client; it joins no group and commits nothing
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 500,
            "fetch.queue.backoff.ms": 10,
            "reconnect.backoff.max.ms": 1_000,
            "enable.metrics.push": False,
        }
        self._broker = broker
        self._topic = topic
        self._deliver = deliver
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    async def on_start(self) -> None:
        """Find the ends, and read from there on. Raises Unavailable without broker or topic."""
        self._loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="outcomes", daemon=True
        )
        self._thread.start()
        await started

    async def on_stop(self) -> None:
        """End the thread."""
        self._is_closing.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self, started: asyncio.Future[None]) -> None:
        consumer = Consumer(self._options, logger=_LIBRARY_LOG)
        try:
            try:
                consumer.assign(self._find_ends(consumer))
            except (KafkaException, Unavailable) as error:
                self._call(_fail, started, self._describe(error))
                return
            self._call(_succeed, started)
            while not self._is_closing.is_set():
                self._take(consumer)
        except Exception as error:  # noqa: BLE001 - without outcomes no call can be answered
            self._call(self._end, error)
        finally:
            consumer.close()

    def _find_ends(self, consumer: Consumer) -> list[TopicPartition]:
        metadata = consumer.list_topics(self._topic, timeout=CONNECT_TIMEOUT_S)
        numbers = metadata.topics[self._topic].partitions
        if not numbers:
            raise Unavailable(f"the topic {self._topic} does not exist: run `pitboss provision`")
        ends = []
        for number in sorted(numbers):
            place = TopicPartition(self._topic, number)
            _, end = consumer.get_watermark_offsets(place, timeout=CONNECT_TIMEOUT_S)
            ends.append(TopicPartition(self._topic, number, end))
        return ends

    def _take(self, consumer: Consumer) -> None:
        first = consumer.poll(POLL_S)
        if first is None:
            return
        messages = [first, *consumer.consume(TAKEN_AT_ONCE_MAX, timeout=0)]
        values = [value for message in messages if (value := _value_of(message)) is not None]
        if values:
            self._call(self._deliver, values)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _end(self, error: BaseException) -> None:
        self.add_future(self.crash(Fatal(f"{self._topic} cannot be read: {error}")))

    def _describe(self, error: BaseException) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        return unreachable_broker(self._broker, error)


def _value_of(message: Message) -> bytes | None:
    error = message.error()
    if error is None:
        return message.value()
    if not is_transient(error):
        raise KafkaException(error)
    _LOG.warning("%s: %s", message.topic(), error.str())
    return None


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
