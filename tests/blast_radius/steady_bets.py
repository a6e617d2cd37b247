"""Bets of a player that nothing is wrong with, one after the other, and how long each answer takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from schemas import codec
from schemas.events import WalletOutcome
from schemas.topics import OUTCOMES

ANSWER_MAX_S = 1.0
INTERVAL_S = 0.1
GIVE_UP_S = 20.0


class SteadyBets:
    """The waits for the answers, in seconds, in the order of the bets."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []
        self.unanswered: str | None = None
        self._answered = asyncio.Condition()

    async def note(self, wait_s: float | None, unanswered: str | None = None) -> None:
        """Note an answer, or that there is none."""
        async with self._answered:
            if wait_s is not None:
                self.waits_s.append(wait_s)
            self.unanswered = unanswered
            self._answered.notify_all()

    async def more(self, count: int) -> None:
        """Wait until that many more bets are answered, or one is not."""
        goal = len(self.waits_s) + count
        async with self._answered:
            await self._answered.wait_for(
                lambda: len(self.waits_s) >= goal or self.unanswered is not None
            )

    def assert_prompt(self) -> None:
        assert self.unanswered is None, self.unanswered
        assert max(self.waits_s) <= ANSWER_MAX_S, [round(wait_s, 2) for wait_s in self.waits_s]


@asynccontextmanager
async def steady_bets(
    runtime, partitions: int, append: Callable[[str], Awaitable[None]]
) -> AsyncIterator[SteadyBets]:
    """Append bets by `append`, each under a transaction id of its own, until the block is left.

    `partitions`: how many the topic of outcomes has.
    """
    bets = SteadyBets()
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        fetch_max_wait_ms=20,
        isolation_level="read_committed",
    )
    await consumer.start()
    topic = runtime.topic(OUTCOMES)
    tps = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer.assign(tps)
    await consumer.seek_to_end(*tps)
    for tp in tps:
        await consumer.position(tp)
    task = asyncio.create_task(_bet(bets, consumer, append))
    try:
        yield bets
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()


async def _bet(
    bets: SteadyBets, consumer: AIOKafkaConsumer, append: Callable[[str], Awaitable[None]]
) -> None:
    decode = codec.decoder(WalletOutcome)
    number = 0
    while True:
        number += 1
        tx_id = f"steady-{number}"
        began_s = time.monotonic()
        await append(tx_id)
        try:
            async with asyncio.timeout(GIVE_UP_S):
                async for record in consumer:
                    if decode(record.value).provider_tx_id == tx_id:
                        break
        except TimeoutError:
            await bets.note(None, f"{tx_id} has no answer after {GIVE_UP_S} s; {bets.waits_s}")
            return
        await bets.note(time.monotonic() - began_s)
        await asyncio.sleep(INTERVAL_S)
