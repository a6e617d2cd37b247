"""Whatever happens between two pieces: each record is handed out once and in order, and what is committed is durable.

The broker and aiokafka's rules for positions are played, and so is time: a run of virtual minutes takes milliseconds,
and a run in which everybody waits for somebody is a deadlock that is seen at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import Unavailable
from streams.kafka import gathering
from streams.kafka import intake as intake_module
from streams.kafka.app import AppSettings, create_app
from streams.kafka.batches import BatchChannel, RecordBatch
from streams.kafka.intake import Intake, IntakeSettings
from streams.kafka.lanes import process_batches

PARTITIONS = [TopicPartition("t", n) for n in range(3)]
PIECE, BATCH, AHEAD = 4, 16, 32
PATIENCE_S = 60.0
"""Virtual: far more than any life takes."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time goes on only when nobody has anything to do, and then by a leap."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready:
            assert self._scheduled, "everybody waits, and for nothing that will come"
            self.now_s = max(self.now_s, self._scheduled[0]._when)
        super()._run_once()


@dataclass
class Answer:
    """What the client holds of a partition: fetched from `next` on, up to `end`."""

    next: int
    end: int
    error: Exception | None = None


class Broker:
    """The logs, what the group has committed, and what is durable of each record's effects."""

    def __init__(self, rng: random.Random, sizes: Sequence[int]) -> None:
        self.rng = rng
        self.ends = dict(zip(PARTITIONS, sizes, strict=True))
        # The other offsets are markers, or compacted.
        self.logs = {tp: sorted(rng.sample(range(end), k=end * 4 // 5)) for tp, end in self.ends.items()}
        self.committed = {tp: 0 for tp in PARTITIONS if rng.random() < 0.5}
        self.durable: dict[TopicPartition, set[int]] = defaultdict(set)

    def records(self, tp: TopicPartition, start: int, end: int) -> list[int]:
        return [offset for offset in self.logs[tp] if start <= offset < end]

    def commit(self, offsets: dict[TopicPartition, int]) -> None:
        for tp, offset in offsets.items():
            missing = {*self.records(tp, 0, offset)} - self.durable[tp]
            assert not missing, f"committed {tp} up to {offset} without {sorted(missing)}"
            assert offset >= self.committed.get(tp, 0)
        self.committed.update(offsets)

    def others_work(self, partitions: set[TopicPartition]) -> None:
        """Another worker has these partitions for a while."""
        for tp in partitions:
            start = self.committed.get(tp, 0)
            end = self.rng.randint(start, min(start + 5, self.ends[tp]))
            self.durable[tp].update(self.records(tp, start, end))
            self.commit({tp: end})

    @property
    def is_through(self) -> bool:
        return not any(self.records(tp, self.committed.get(tp, 0), end) for tp, end in self.ends.items())


class Client:
    """aiokafka as the intake sees it: what is fetched moves the position, whether or not it arrives."""

    def __init__(self, broker: Broker, faults: list[tuple[int, str]]) -> None:
        self.broker, self.rng, self.faults = broker, broker.rng, faults
        self.listener: Intake
        self.assigned: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int | None] = {}
        self.answers: dict[TopicPartition, Answer] = {}
        self.settled = asyncio.Event()
        self.connection = asyncio.Lock()
        self.generation = 0
        self.is_stopped = False
        self.to_lose = 0
        self.to_corrupt = False
        self.question_fails = False
        self.fetches = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.is_stopped = True

    def subscribe(self, topics=(), pattern=None, listener=None) -> None:
        self.listener = listener
        self.beside(self.rebalance())

    def beside(self, act) -> None:
        task = asyncio.ensure_future(act)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    async def rebalance(self, wanted: Sequence[TopicPartition] = PARTITIONS) -> None:
        if self.generation and not self.settled.is_set():
            return
        self.settled.clear()
        await self.listener.on_partitions_revoked(self.assigned)
        self.generation += 1
        self.answers.clear()
        self.assigned = {*wanted}
        self.positions = dict.fromkeys(wanted)
        self.broker.others_work({*PARTITIONS} - self.assigned)
        self.listener.on_partitions_assigned(self.assigned)
        self.settled.set()

    async def lend(self) -> None:
        """Some partitions go to another worker, and come back."""
        await self.rebalance(self.rng.sample(PARTITIONS, k=self.rng.randrange(3)))
        await asyncio.sleep(self.rng.choice([0, 0.003, 0.3]))
        await self.rebalance()

    async def pause(self) -> None:
        self.listener.pause("by an operator")
        await asyncio.sleep(self.rng.choice([0, 0.01]))
        self.listener.resume()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        assert tp in self.assigned
        self.positions[tp] = offset
        self.answers.pop(tp, None)

    async def position(self, tp: TopicPartition) -> int:
        if tp not in self.assigned:
            raise IllegalStateError(tp)
        while (position := self.positions[tp]) is None:
            await self.a_while()
        return position

    async def committed(self, tp: TopicPartition) -> int | None:
        await self.a_while()
        return self.broker.committed.get(tp)

    async def beginning_offsets(self, tps) -> dict[TopicPartition, int]:
        await self.a_while()
        if self.question_fails:
            self.question_fails = False
            raise KafkaTimeoutError
        return dict.fromkeys(tps, 0)

    async def commit(self, offsets) -> None:
        generation = self.generation
        async with self.connection:  # requests are answered in their order
            await self.a_while()
            if generation != self.generation or self.rng.random() < 0.1:
                raise CommitFailedError
            if not offsets.keys() <= self.assigned:
                raise IllegalStateError(offsets)
            self.broker.commit(offsets)
            if self.rng.random() < 0.1:
                raise CommitFailedError  # the answer was lost
            await self.a_while()

    async def a_while(self) -> None:
        await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.02]))

    def misbehave(self) -> None:
        self.fetches += 1
        while self.faults and self.faults[0][0] <= self.fetches:
            self.fetches = 0
            match self.faults.pop(0)[1]:
                case "rebalance":
                    self.beside(self.rebalance())
                case "lend":
                    self.beside(self.lend())
                case "pause":
                    self.beside(self.pause())
                case "corrupt":
                    self.to_corrupt = True
                case "error" if self.assigned and (tp := self.rng.choice(sorted(self.assigned))) not in self.answers:
                    self.answers[tp] = Answer(0, 0, CorruptRecordException())
                case "lose":
                    self.to_lose = self.rng.randint(1, 4)
                case "question":
                    self.question_fails = True
                case "stop" | "kill":
                    self.ended.set()

    def prefetch(self) -> None:
        for tp in self.rng.sample(sorted(self.assigned), k=len(self.assigned)):
            position = self.positions[tp]
            if tp in self.answers or self.rng.random() < 0.2:
                continue
            if position is None:  # the client looks for one itself, where the intake is not faster
                position = self.positions[tp] = self.broker.committed.get(tp)
                if position is None:
                    self.answers[tp] = Answer(0, 0, NoOffsetForPartitionError(tp))
                    continue
            if position < self.broker.ends[tp]:
                self.answers[tp] = Answer(position, min(position + self.rng.randint(1, 40), self.broker.ends[tp]))

    async def getmany(self, *tps, timeout_ms=0, max_records=None) -> dict[TopicPartition, list[ConsumerRecord]]:
        if self.is_stopped:
            raise ConsumerStoppedError
        self.misbehave()
        if self.rng.random() < 0.3:
            await self.a_while()
        waits = [timeout_ms / 1000] if timeout_ms else []
        while True:
            while not self.settled.is_set():
                await self.settled.wait()
                await self.a_while()  # the intake may be faster to begin than whoever waits here
            self.prefetch()
            if (found := self.drained(tps, max_records)) or not waits:
                return found
            await asyncio.sleep(waits.pop())

    def drained(self, tps, left: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        for tp, answer in [*self.answers.items()]:
            if tp not in tps or not left:
                continue
            if answer.error is not None:
                if found:
                    return found
                del self.answers[tp]
                raise answer.error
            if answer.next != self.positions[tp]:
                del self.answers[tp]
                continue
            offsets = self.broker.records(tp, answer.next, answer.end)[:left]
            is_all = len(offsets) < left
            self.positions[tp] = answer.next = answer.end if is_all else offsets[-1] + 1
            if is_all:
                del self.answers[tp]
            # Only at a place without a gap: there, two answers that differ end the worker, as they should.
            now = self.listener._now
            if len(offsets) > self.to_lose > 0 and now.expected(tp) == offsets[0] and tp not in now.holes._seen:
                offsets, self.to_lose = offsets[self.to_lose :], 0
            if offsets:
                found[tp] = [
                    ConsumerRecord(tp.topic, tp.partition, o, 0, 0, None, None, None, 0, 0, ()) for o in offsets
                ]
                left -= len(offsets)
        if self.to_corrupt and found:
            self.to_corrupt = False
            raise CorruptRecordException
        return found


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
        offsets = [o for reading in batch.readings for o in reading] + [r.offset for r in batch.records]
        tp = batch.tp
        if batch not in self.tried:
            self.tried[batch] = offsets
            assert self.intake.is_current(batch)
            expected = self.nexts.get((batch.assignment, tp), self.broker.committed.get(tp, 0))
            assert batch.from_offset == expected, f"{batch} begins elsewhere than at {expected}"
            self.nexts[batch.assignment, tp] = batch.next_offset
            assert offsets == self.broker.records(tp, batch.from_offset, batch.next_offset)
            assert batch.count == len(offsets) > 0
            assert not (batch.records if self.reads else batch.readings)
            assert batch.count <= BATCH
            assert self.intake._now._progress[tp].unfinished_records <= AHEAD
        assert offsets == self.tried[batch], "a batch that is tried again is the same"
        await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.03, 0.2]))
        self.broker.durable[tp].update(self.rng.sample(offsets, k=self.rng.randint(0, len(offsets))))
        if self.rng.random() < 0.2:
            raise Unavailable("the database is down")
        self.broker.durable[tp].update(offsets)

    async def live(self, *, is_killed: bool) -> None:
        """Until all is done and committed, or the client was told to end it; then stop, or just vanish."""
        agent = asyncio.ensure_future(process_batches(self.intake, self.batches(), self.handle, records_max=BATCH))
        await self.intake.start()
        ended = asyncio.ensure_future(self.client.ended.wait())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (ended.done() or agent.done() or self.intake.crashed or self.broker.is_through):
                    await asyncio.wait([ended, agent], timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
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


async def story(seed: int, sizes: Sequence[int], faults: list[tuple[int, str]], *, reads: bool) -> None:
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
            patch.setattr(intake_module, "PIECE_RECORDS", PIECE)
            patch.setattr(gathering, "WAIT_S_PER_RECORD", gathering.WAIT_MAX_S)  # behind few records, too
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
