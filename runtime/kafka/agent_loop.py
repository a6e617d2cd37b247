"""The loop of an agent: partitions side by side, each in order, and no error is swallowed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeAlias

from aiokafka.structs import TopicPartition

from runtime.kafka.batches import RecordBatch, join_batches
from runtime.kafka.intake.intake import Intake
from runtime.kafka.tasks import Backoff
from schemas.errors import PitbossError

Handle: TypeAlias = Callable[[RecordBatch], Awaitable[None]]
"""Makes the effects of a batch durable.

It does so as a whole or not at all, or so that a repetition changes nothing. After a retriable
PitbossError it is called again with the same batch; any other error ends the process. It handles
Rejected itself: it sends the record to the dead letter topic and continues.
"""

BatchObserver: TypeAlias = Callable[[RecordBatch, float, str], None]
"""Takes a batch, the seconds that its handling took, and the code of the error that it ended with.

The code is empty where its effects are durable.
"""

logger = logging.getLogger(__name__)


async def process_batches(
    intake: Intake,
    reads: AsyncIterable[Sequence[RecordBatch]],
    handle: Handle,
    *,
    concurrency_max: int | None = None,
    records_max: int = 2_000,
    observe: BatchObserver | None = None,
) -> None:
    """Handle every batch until cancelled: one at a time of a partition, partitions side by side.

    What was read together is begun together, before anything else gets the event loop: then one
    transaction and one produce request can serve all of it.

    At most `concurrency_max` partitions are handled at the same time. Batches that arrive while the
    one before is in progress are joined into one of at most `records_max` records, so that work
    with a cost per batch does not fall further behind. Raises what `handle` raised and is not
    retriable.
    """
    slots = asyncio.Semaphore(concurrency_max) if concurrency_max else nullcontext()
    queues: dict[TopicPartition, deque[RecordBatch]] = {}

    async def work_off(tp: TopicPartition) -> None:
        queue = queues[tp]
        while queue:
            await _process(intake, queue, records_max, handle, slots, observe)
        del queues[tp]

    try:
        async with asyncio.TaskGroup() as tasks:
            async for batches in reads:
                for batch in batches:
                    if (queue := queues.get(batch.tp)) is None:
                        queues[batch.tp] = deque([batch])
                        tasks.create_task(work_off(batch.tp))
                    else:
                        queue.append(batch)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _process(
    intake: Intake,
    queue: deque[RecordBatch],
    records_max: int,
    handle: Handle,
    slots: AbstractAsyncContextManager[None],
    observe: BatchObserver | None,
) -> None:
    backoff, batch = Backoff(), None
    while True:
        async with slots:
            batch = batch or take_batch(queue, records_max)
            if not intake.begin(batch):
                return  # stale: the present owner of the partition repeats it
            waiting, code, began_s = None, "", time.perf_counter()
            try:
                await handle(batch)
                batch.mark_done()
            except PitbossError as error:
                if not error.retriable:
                    raise
                code, waiting = error.code, f"{error.code}: {error}"
                # Later tries are not logged as warnings: the watchdog reports what is waited for.
                level = logging.DEBUG if backoff.tries else logging.WARNING
                logger.log(level, "%s is tried again: %s", batch, error)
            finally:
                intake.end(batch, waiting=waiting)
            if observe is not None:
                observe(batch, time.perf_counter() - began_s, code)
        if waiting is None:
            return
        await asyncio.sleep(backoff.next_s())


def take_batch(queue: deque[RecordBatch], records_max: int) -> RecordBatch:
    """Take the first batch, joined with those that follow it without a gap while they fit."""
    taken = [queue.popleft()]
    count = taken[0].count
    while queue:
        last, following = taken[-1], queue[0]
        count += following.count
        is_next = following.from_offset == last.next_offset
        follows = is_next and following.assignment == last.assignment
        if not follows or count > records_max:
            break
        taken.append(queue.popleft())
    return join_batches(taken)
