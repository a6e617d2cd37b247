"""Whatever happens between two pieces: each record is handed out once and in order, and what is committed is durable.

The broker and aiokafka's rules for positions are played, and so is time: a run of virtual minutes takes milliseconds,
and a run in which every task waits for another is a deadlock that is seen at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.kafka.agent_loop import process_batches
from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.batches import BatchChannel, RecordBatch
from runtime.kafka.intake import intake as intake_module
from runtime.kafka.intake import linger as gathering
from runtime.kafka.intake import start_offsets as starts
from runtime.kafka.intake.intake import Intake, IntakeSettings
from schemas.errors import Unavailable
from tests.support.simulated_intake import PARTITIONS, Broker, Client, VirtualLoop

PIECE, BATCH, AHEAD = 4, 16, 32
PATIENCE_S = 60.0
"""Virtual: far more than any life takes."""


class Worker:
    """One life: an intake, an agent, and what must be true of all that it is handed."""

    def __init__(self, broker: Broker, client: Client, app, *, reads: bool) -> None:
        self.broker, self.client, self.rng, self.reads = broker, client, broker.rng, reads
        self.channel = BatchChannel(app)
        self.intake = Intake(
            IntakeSettings(
                "127.0.0.1:1",
                "g",
                batch_records_max=BATCH,
                records_ahead_max=AHEAD,
                commit_interval_ms=10,
                drain_timeout_ms=50,
            ),
            self.channel,
            topics=["t"],
            reader=self.read if reads else None,
        )
        self.nexts: dict[tuple[int, TopicPartition], int] = {}
        self.tried: dict[RecordBatch, list[int]] = {}

    def read(self, topic: str, records: Sequence[ConsumerRecord]) -> list[int]:
        assert topic == "t"
        assert 0 < len(records) <= PIECE
        return [record.offset for record in records]

    async def handle(self, batch: RecordBatch) -> None:
        readings: Any = batch.readings  # by `read`
        offsets = [o for reading in readings for o in reading] + [r.offset for r in batch.records]
        tp = batch.tp
        if batch not in self.tried:
            self.tried[batch] = offsets
            assert self.intake.is_current(batch)
            expected = self.nexts.get((batch.assignment, tp), self.broker.committed.get(tp, 0))
            # Only what two fetches showed to be no record, behind all that was done, is left out (`trailing_offsets.py`).
            left_out = batch.from_offset - expected
            assert 0 <= left_out <= self.intake.gap_offsets, (
                f"{batch} begins elsewhere than at {expected}"
            )
            assert not self.broker.records(tp, expected, batch.from_offset)
            self.nexts[batch.assignment, tp] = batch.next_offset
            assert offsets == self.broker.records(tp, batch.from_offset, batch.next_offset)
            assert batch.count == len(offsets) > 0
            assert not (batch.records if self.reads else batch.readings)
            assert batch.count <= BATCH
            assert self.intake._current._progress[tp].unfinished_records <= AHEAD
        assert offsets == self.tried[batch], "a batch that is tried again is the same"
        await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.03, 0.2]))
        self.broker.durable[tp].update(
            self.rng.sample(offsets, k=self.rng.randint(0, len(offsets)))
        )
        if self.rng.random() < 0.2:
            raise Unavailable("the database is down")
        self.broker.durable[tp].update(offsets)

    async def live(self, *, is_killed: bool) -> None:
        """Until all is done and committed, or the client was told to end it; then stop, or just vanish."""
        agent = asyncio.ensure_future(
            process_batches(self.intake, self.batches(), self.handle, records_max=BATCH)
        )
        await self.intake.start()
        ended = asyncio.ensure_future(self.client.ended.wait())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (
                    ended.done() or agent.done() or self.intake.crashed or self.broker.is_through
                ):
                    await asyncio.wait(
                        [ended, agent], timeout=0.05, return_when=asyncio.FIRST_COMPLETED
                    )
            if self.intake.crash_reason:
                raise self.intake.crash_reason
        finally:
            if agent.done():
                agent.result()
            if is_killed:
                self.client.generation += 1  # what it would commit on its way out is not heard
                agent.cancel()
            ended.cancel()
            await self.intake.stop()
            for task in [agent, *self.client.tasks]:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await agent

    async def batches(self):
        while True:
            yield await self.channel.queue.get()


async def story(
    seed: int, sizes: Sequence[int], faults: list[tuple[int, str]], *, reads: bool
) -> None:
    rng = random.Random(seed)
    broker = Broker(rng, sizes)
    app = create_app(AppSettings("test", "127.0.0.1:1"))
    to_come = [*faults]
    while True:
        client = Client(broker, to_come)
        worker = Worker(broker, client, app, reads=reads)
        is_killed = next((kind for _, kind in to_come if kind in ("stop", "kill")), "") == "kill"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(intake_module, "new_consumer", lambda _, client=client: client)
            patch.setattr(starts, "query_group_offsets", client.query_group)
            patch.setattr(intake_module, "CHUNK_RECORDS", PIECE)
            patch.setattr(
                gathering, "LINGER_S_PER_RECORD", gathering.LINGER_MAX_S
            )  # behind few records, too
            await worker.live(is_killed=is_killed)
        if broker.is_through:
            break
    assert {tp: sorted(offsets) for tp, offsets in broker.durable.items() if offsets} == {
        tp: offsets for tp, offsets in broker.logs.items() if offsets
    }


KINDS = ("rebalance", "lend", "pause", "corrupt", "error", "lose", "question", "stop", "kill")


@settings(max_examples=150)
@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(0, 90), min_size=len(PARTITIONS), max_size=len(PARTITIONS)),
    faults=st.lists(st.tuples(st.integers(1, 12), st.sampled_from(KINDS)), max_size=8),
    reads=st.booleans(),
)
def test_nothing_between_two_pieces_loses_repeats_or_reorders_a_record(seed, sizes, faults, reads):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story(seed, sizes, faults, reads=reads))
