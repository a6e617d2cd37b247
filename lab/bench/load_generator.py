"""Bets in flight: sends raw records, and notes when each outcome comes back.

The same generator loads ours and the peers. It is cheap, since it shares the machine with what it
measures: records are made before, an outcome is matched by its key alone (a player has few bets in
flight, and they come back in order), and its value is read after the measurement.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Self

from lab.bench.processes import BenchFailed
from lab.load.pacing import Timetable, send_on_time
from runtime.kafka.producer import BatchProducer, OutRecord
from runtime.security import BrokerAddress

RETURN_WITHIN_S: Final = 60.0
"""Workers start, join their group and claim within it; later, a call that takes longer is lost."""

RECEIVED_AT: Final = "received-at"
CHECK_S: Final = 0.05
_POLL_S: Final = 0.2
_MESSAGES_MAX: Final = 1_000
_METADATA_TIMEOUT_S: Final = 10.0


class Call(NamedTuple):
    """One bet that came back; times in ns since the epoch."""

    key: bytes
    sent_ns: int
    arrived_ns: int

    @property
    def took_ms(self) -> float:
        """Time from the send to the arrival."""
        return (self.arrived_ns - self.sent_ns) / 1e6


OnArrival = Callable[[int, list[Any]], None]
"""Called in the event loop with the time of arrival and the messages of librdkafka."""


class OutcomeStream:
    """Reads what is appended to a topic from now on, in a thread, with librdkafka.

    aiokafka would spend on its fetches what ours and the peers are to be measured with.
    """

    def __init__(self, broker: BrokerAddress, topic: str, on_arrival: OnArrival) -> None:
        """Prepare without connecting."""
        self._broker = broker
        self._topic = topic
        self._on_arrival = on_arrival
        self._is_over = threading.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._consumer = await loop.run_in_executor(None, self._connect)
        self._thread = threading.Thread(target=self._poll, args=(loop,), daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over.set()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._consumer.close()

    def _connect(self) -> Any:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {
                **self._broker.librdkafka_options(),
                "group.id": "pitboss-bench-outcomes",  # librdkafka wants one; it is never joined
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
            }
        )
        metadata = consumer.list_topics(self._topic, timeout=_METADATA_TIMEOUT_S)
        partitions = [
            TopicPartition(self._topic, number)
            for number in metadata.topics[self._topic].partitions
        ]
        for partition in partitions:
            partition.offset = consumer.get_watermark_offsets(partition, _METADATA_TIMEOUT_S)[1]
        consumer.assign(partitions)
        return consumer

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._is_over.is_set():
            first = self._consumer.poll(_POLL_S)
            if first is None:
                continue
            # `consume` would wait for so many: the first one is enough, with what is there by now.
            rest = self._consumer.consume(_MESSAGES_MAX, 0)
            now_ns = time.time_ns()
            messages = [message for message in (first, *rest) if message.error() is None]
            loop.call_soon_threadsafe(self._on_arrival, now_ns, messages)


class LoadGenerator:
    """Sends records to a raw topic; use it in an `async with` statement."""

    def __init__(
        self,
        broker: BrokerAddress,
        producer: BatchProducer,
        raw: str,
        outcomes: str,
        check: Callable[[], None],
        *,
        stamps_receipt: bool = False,
    ) -> None:
        """Prepare without connecting.

        `check` raises where a measured process has ended. With `stamps_receipt` a record that is
        sent was received at that very moment, by its header; else when it was signed.
        """
        self._stamps_receipt = stamps_receipt
        self._producer = producer
        self._raw = raw
        self._check = check
        self._stream = OutcomeStream(broker, outcomes, self._take)
        self._records: Iterator[OutRecord] = iter(())
        self._waiting: dict[bytes, deque[int]] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self._refills = False
        self._failure: BaseException | None = None
        self.calls: list[Call] = []
        """Bets that came back, in the order of their arrival."""
        self.values: list[bytes] = []
        """Values of their outcomes, to be read after the measurement."""
        self.unexpected = 0
        """Outcomes of no call in flight: repetitions."""

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._refills = False
        for send in self._sends:
            send.cancel()
        await self._stream.__aexit__(*failure)

    @property
    def in_flight(self) -> int:
        """Number of calls that have not come back."""
        return sum(map(len, self._waiting.values()))

    def start_loop(self, in_flight: int, records: Iterator[OutRecord]) -> None:
        """Send so many records, and from then on the next one for each that comes back.

        The loop ends with its records, or by `drain`.
        """
        self._records = records
        self._refills = True
        self._send_next(in_flight)

    @property
    def is_exhausted(self) -> bool:
        """Whether the loop ran out of records."""
        return not self._refills

    async def send_at_rate(
        self,
        rate: float,
        records: Sequence[OutRecord],
        report: Callable[[int], None] | None = None,
    ) -> None:
        """Send records as they fall due, whatever has become of earlier ones.

        `report` is called with how many were sent.
        """

        async def send(first: int, after: int) -> None:
            self._check()
            await self._send(self._raw, self._note_sent(records[first:after]))

        await send_on_time(Timetable(rate, time.monotonic()), len(records), send, report)

    async def send_all(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Send records to a topic at once, and wait until all have come back."""
        await self._send(topic, self._note_sent(records))
        await self.drain()

    async def drain(self) -> None:
        """Send no more, and wait until every call has come back. Raises BenchFailed if not."""
        self._refills = False
        deadline_s = time.monotonic() + RETURN_WITHIN_S
        while self.in_flight:
            await self._pause()
            if time.monotonic() > deadline_s:
                raise BenchFailed(f"{self.in_flight} calls did not come back from {self._raw}")

    async def await_first(self) -> None:
        """Wait until a call comes back, which takes as long as the workers need to start."""
        before, deadline_s = len(self.calls), time.monotonic() + RETURN_WITHIN_S
        while len(self.calls) == before:
            await self._pause()
            if time.monotonic() > deadline_s:
                raise BenchFailed(
                    f"nothing came back from {self._raw} within {RETURN_WITHIN_S:g} s"
                )

    async def run_for(self, seconds: float) -> None:
        """Let the loop run, at most until its records are used up; raise where a process ended."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not self.is_exhausted:
            await asyncio.sleep(min(left_s, CHECK_S))
            self._raise_failure()

    async def _pause(self) -> None:
        await asyncio.sleep(CHECK_S)
        self._raise_failure()

    def _raise_failure(self) -> None:
        self._check()
        if self._failure is not None:
            raise self._failure

    def _take(self, now_ns: int, messages: list[Any]) -> None:
        came_back = 0
        for message in messages:
            key = message.key()
            sent = self._waiting.get(key)
            if not sent:
                self.unexpected += 1
                continue
            self.calls.append(Call(key, sent.popleft(), now_ns))
            self.values.append(message.value())
            came_back += 1
        if self._refills and came_back:
            self._send_next(came_back)

    def _send_next(self, count: int) -> None:
        records = list(islice(self._records, count))
        self._refills = len(records) == count
        if records:
            send = asyncio.ensure_future(self._send(self._raw, self._note_sent(records)))
            self._sends.add(send)
            send.add_done_callback(self._end_send)

    def _end_send(self, send: asyncio.Task[None]) -> None:
        self._sends.discard(send)
        if not send.cancelled() and send.exception() is not None:
            self._failure = send.exception()

    def _note_sent(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        now_ns = time.time_ns()
        for record in records:
            assert record[0] is not None, "a record needs a key, by which its outcome is known"
            self._waiting.setdefault(record[0], deque()).append(now_ns)
        if self._stamps_receipt:
            return [stamp_receipt(record, now_ns // 1_000_000) for record in records]
        return records

    async def _send(self, topic: str, records: Sequence[OutRecord]) -> None:
        await self._producer.send_keyed(topic, records)


def stamp_receipt(record: OutRecord, received_ms: int) -> OutRecord:
    """Return a raw record as its connector would have received it at this time."""
    key, value, headers, timestamp = record
    others = [header for header in headers if header[0] != RECEIVED_AT]
    return key, value, [*others, (RECEIVED_AT, b"%d" % received_ms)], timestamp
