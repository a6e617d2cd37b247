"""How an agent works: partitions side by side, each in its order, and no error leaves the loop unnoticed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeAlias

from aiokafka.structs import TopicPartition

from schemas.errors import PitbossError
from streams.kafka.backoff import Backoff
from streams.kafka.batches import RecordBatch
from streams.kafka.intake import Intake

Handle: TypeAlias = Callable[[RecordBatch], Awaitable[None]]
"""Makes the effects of a batch durable, whole or not at all or so that doing it again changes nothing.

What it may raise: a retriable PitbossError, and it is called again with the same batch; anything else, and the process
ends. Rejected is its own business: it buries the record and goes on.
"""

logger = logging.getLogger(__name__)


async def process_batches(
    intake: Intake, batches: AsyncIterable[RecordBatch], handle: Handle, *, at_once: int | None = None
) -> None:
    """Handle every batch until cancelled: one at a time of a partition, and of all at most `at_once`.

    Raises what `handle` raised that cannot be tried again.
    """
    turns = asyncio.Semaphore(at_once) if at_once else nullcontext()
    lanes: dict[TopicPartition, deque[RecordBatch]] = {}

    async def work_off(tp: TopicPartition) -> None:
        lane = lanes[tp]
        while lane:
            await _process(intake, lane[0], handle, turns)
            lane.popleft()
        del lanes[tp]

    try:
        async with asyncio.TaskGroup() as tasks:
            async for batch in batches:
                if (lane := lanes.get(batch.tp)) is None:
                    lanes[batch.tp] = deque([batch])
                    tasks.create_task(work_off(batch.tp))
                else:
                    lane.append(batch)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _process(
    intake: Intake, batch: RecordBatch, handle: Handle, turns: AbstractAsyncContextManager[None]
) -> None:
    backoff = Backoff()
    while True:
        async with turns:
            if not intake.begin(batch):
                return  # stale: whoever has the partition now repeats it
            waiting: str | None = None
            try:
                await handle(batch)
                batch.done()
            except PitbossError as error:
                if not error.retriable:
                    raise
                waiting = f"{error.code}: {error}"
                logger.warning("%s is tried again: %s", batch, error)
            finally:
                intake.end(batch, waiting=waiting)
        if waiting is None:
            return
        await asyncio.sleep(backoff.next_s())
