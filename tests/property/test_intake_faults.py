"""Whatever happens between two pieces: each record is handed out once and in order, and what is committed is durable.

The broker and librdkafka's rules are played, and so is time: a run of virtual minutes takes milliseconds, and a run in
which every task waits for another is a deadlock that is seen at once. The client's thread is real, in lockstep.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.agent_loop import process_batches
from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.batches import BatchChannel, RecordBatch
from runtime.kafka.intake import corrupt_records, mailbox
from runtime.kafka.intake import intake as intake_module
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.records import RawRecord
from runtime.security import BrokerAddress
from schemas.errors import Unavailable
from tests.support.examples import examples
from tests.support.simulated_intake import PARTITIONS, Broker, Client, VirtualLoop

PIECE, BATCH, AHEAD, UNREAD = 4, 16, 32, 24
PATIENCE_S = 300.0
"""Virtual: far more than any life takes."""


class Worker:
    """One life: an intake, an agent, and what must be true of all that it is handed."""

    def __init__(self, broker: Broker, client: Client, app, *, reads: bool) -> None:
        self.broker, self.client, self.rng, self.reads = broker, client, broker.rng, reads
        self.channel = BatchChannel(app)
        self.intake = Intake(
            IntakeSettings(
                BrokerAddress("127.0.0.1:1"),
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
        client.intake = self.intake
        self.nexts: dict[tuple[int, TopicPartition], int] = {}
        self.tried: dict[RecordBatch, list[int]] = {}

    def read(self, topic: str, records: Sequence[RawRecord]) -> list[int]:
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
            begin = self.broker.committed.get(tp, 0)
            if not self.client.is_member:
                begin = batch.from_offset  # others have gone on, and the intake does not know yet
            expected = self.nexts.get((batch.assignment, tp), begin)
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
                self.client.is_member = False  # what it would commit on its way out is not heard
                agent.cancel()
            ended.cancel()
            await self.intake.stop()
            agent.cancel()
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
    app = create_app(AppSettings("test", BrokerAddress("127.0.0.1:1")))
    to_come = [*faults]
    while True:
        client = Client(broker, to_come)
        worker = Worker(broker, client, app, reads=reads)
        is_killed = next((kind for _, kind in to_come if kind in ("stop", "kill")), "") == "kill"
        with pytest.MonkeyPatch.context() as patch:
            client.install(patch)
            patch.setattr(intake_module, "CHUNK_RECORDS", PIECE)
            patch.setattr(mailbox, "UNREAD_RECORDS_MAX", UNREAD)
            # A run may damage the same place more often than a log would survive.
            patch.setattr(corrupt_records, "TRIES", 1_000)
            await worker.live(is_killed=is_killed)
        if broker.is_through:
            break
    assert {tp: sorted(offsets) for tp, offsets in broker.durable.items() if offsets} == {
        tp: offsets for tp, offsets in broker.logs.items() if offsets
    }


KINDS = (
    "rebalance",
    "lend",
    "lose",
    "pause",
    "damage",
    "error",
    "outdated",
    "drop",
    "question",
    "stop",
    "kill",
)


@examples(150)
@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(0, 90), min_size=len(PARTITIONS), max_size=len(PARTITIONS)),
    faults=st.lists(st.tuples(st.integers(1, 12), st.sampled_from(KINDS)), max_size=8),
    reads=st.booleans(),
)
def test_nothing_between_two_pieces_loses_repeats_or_reorders_a_record(seed, sizes, faults, reads):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story(seed, sizes, faults, reads=reads))
