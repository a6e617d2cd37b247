"""How an agent works: partitions side by side, each in its order, and no error leaves the loop
unnoticed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeAlias

from aiokafka.structs import TopicPartition

from runtime.kafka.backoff import Backoff
from runtime.kafka.batches import RecordBatch, join_batches
from runtime.kafka.intake.intake import Intake
from schemas.errors import PitbossError

Handle: TypeAlias = Callable[[RecordBatch], Awaitable[None]]
"""Makes the effects of a batch durable, whole or not at all or so that doing it again changes
nothing.

What it may raise: a retriable PitbossError, and it is called again with the same batch; anything
else, and the process ends. Rejected is its own business: it buries the record and goes on.
"""

logger = logging.getLogger(__name__)


async def process_batches(
    intake: Intake,
    batches: AsyncIterable[RecordBatch],
    handle: Handle,
    *,
    concurrency_max: int | None = None,
    records_max: int = 2_000,
) -> None:
    """Handle every batch until cancelled: one at a time of a partition, and of all at most
    `concurrency_max`.

    What arrived while the batch before was in work is handled as one batch of at most `records_max`
    records: work that costs per batch falls behind no further. Raises what `handle` raised that
    cannot be tried again.
    """
    turns = asyncio.Semaphore(concurrency_max) if concurrency_max else nullcontext()
    lanes: dict[TopicPartition, deque[RecordBatch]] = {}

    async def work_off(tp: TopicPartition) -> None:
        lane = lanes[tp]
        while lane:
            await _process(intake, lane, records_max, handle, turns)
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
    intake: Intake,
    lane: deque[RecordBatch],
    records_max: int,
    handle: Handle,
    turns: AbstractAsyncContextManager[None],
) -> None:
    backoff, batch = Backoff(), None
    while True:
        async with turns:
            batch = batch or take_batch(lane, records_max)
            if not intake.begin(batch):
                return  # stale: whoever has the partition now repeats it
            waiting: str | None = None
            try:
                await handle(batch)
                batch.mark_done()
            except PitbossError as error:
                if not error.retriable:
                    raise
                waiting = f"{error.code}: {error}"
                # The watchdog goes on saying what is waited for.
                logger.log(
                    logging.DEBUG if backoff.tries else logging.WARNING,
                    "%s is tried again: %s",
                    batch,
                    error,
                )
            finally:
                intake.end(batch, waiting=waiting)
        if waiting is None:
            return
        await asyncio.sleep(backoff.next_s())


def take_batch(lane: deque[RecordBatch], records_max: int) -> RecordBatch:
    """Take the first batch off a lane, and those that follow it without a gap while they fit."""
    taken = [lane.popleft()]
    count = taken[0].count
    while lane:
        last, following = taken[-1], lane[0]
        count += following.count
        follows = (
            following.assignment == last.assignment and following.from_offset == last.next_offset
        )
        if not follows or count > records_max:
            break
        taken.append(lane.popleft())
    return join_batches(taken)
