"""A reader of the outcomes: when the answer to each attempt arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.kafka.clients import start_client, stop_client
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import Attempt, WalletOutcome

_POLL_MS: Final = 200
"""How long a fetch without a record takes; one with a record returns at once."""


class OutcomeListener:
    """Reads a topic of outcomes from its beginning; the first arrival for an attempt counts."""

    def __init__(
        self,
        broker: BrokerAddress,
        clock: Callable[[], float],
        on_arrival: Callable[[Attempt, float], None] | None = None,
    ) -> None:
        """Prepare without connecting; `clock` gives the times of arrival."""
        self._broker = broker
        self._clock = clock
        self._on_arrival = on_arrival
        self._read = codec.decoder(WalletOutcome, ("attempt", "outcome"))
        self.arrived: dict[Attempt, float] = {}
        self.total = 0
        """Number of outcomes, repetitions included."""
        self.outcomes: Counter[str] = Counter()

    async def listen(self, partitions: Sequence[TopicPartition]) -> None:
        """Read until cancelled. Raises Unavailable if no broker answers at the start."""
        consumer = AIOKafkaConsumer(**self._broker.aiokafka_options(), enable_auto_commit=False)
        await start_client(consumer, self._broker)
        try:
            consumer.assign(list(partitions))
            await consumer.seek_to_beginning(*partitions)
            while True:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS)
                now = self._clock()
                for records in fetched.values():
                    for record in records:
                        self._note(record.value, now)
        finally:
            await stop_client(consumer)

    def _note(self, value: bytes, now: float) -> None:
        attempt, outcome = self._read(value)
        self.total += 1
        self.outcomes[outcome] += 1
        if attempt not in self.arrived:
            self.arrived[attempt] = now
            if self._on_arrival is not None:
                self._on_arrival(attempt, now)
