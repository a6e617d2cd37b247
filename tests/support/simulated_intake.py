"""A broker and a client with aiokafka's rules for positions and random faults, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition

from runtime.kafka.intake.intake import Intake

PARTITIONS = [TopicPartition("t", n) for n in range(3)]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop whose time jumps to the next timer when no task is ready."""

    now_s = 0.0
    # Attributes of asyncio's loops that its stubs do not declare.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready:
            assert self._scheduled, "every task waits, and no timer is set"
            self.now_s = max(self.now_s, self._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]  # the stubs do not declare it


@dataclass
class Answer:
    """Records that the client has fetched of a partition: from `next` up to `end`."""

    next: int
    end: int
    error: Exception | None = None


class Broker:
    """The logs, the group's committed offsets, and the records whose effects are durable."""

    def __init__(self, rng: random.Random, sizes: Sequence[int]) -> None:
        self.rng = rng
        self.ends = dict(zip(PARTITIONS, sizes, strict=True))
        # The other offsets are markers, or compacted.
        self.logs = {
            tp: sorted(rng.sample(range(end), k=end * 4 // 5)) for tp, end in self.ends.items()
        }
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

    def let_others_work(self, partitions: set[TopicPartition]) -> None:
        """Another worker has these partitions for a while."""
        for tp in partitions:
            start = self.committed.get(tp, 0)
            end = self.rng.randint(start, min(start + 5, self.ends[tp]))
            self.durable[tp].update(self.records(tp, start, end))
            self.commit({tp: end})

    @property
    def is_through(self) -> bool:
        return not any(
            self.records(tp, self.committed.get(tp, 0), end) for tp, end in self.ends.items()
        )


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
        self.run_beside(self.rebalance())

    def run_beside(self, act) -> None:
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
        self.broker.let_others_work({*PARTITIONS} - self.assigned)
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
            await self.sleep_briefly()
        return position

    async def committed(self, tp: TopicPartition) -> int | None:
        await self.sleep_briefly()
        return self.broker.committed.get(tp)

    async def query_group(self, bootstrap_servers, group, tps) -> dict[TopicPartition, int | None]:
        await self.sleep_briefly()
        return {tp: self.broker.committed.get(tp) for tp in tps}

    async def beginning_offsets(self, tps) -> dict[TopicPartition, int]:
        await self.sleep_briefly()
        if self.question_fails:
            self.question_fails = False
            raise KafkaTimeoutError
        return dict.fromkeys(tps, 0)

    async def commit(self, offsets) -> None:
        generation = self.generation
        async with self.connection:  # requests are answered in their order
            await self.sleep_briefly()
            if generation != self.generation or self.rng.random() < 0.1:
                raise CommitFailedError
            if not offsets.keys() <= self.assigned:
                raise IllegalStateError(offsets)
            # A liveness note stands beside the offset.
            self.broker.commit(
                {tp: one if isinstance(one, int) else one[0] for tp, one in offsets.items()}
            )
            if self.rng.random() < 0.1:
                raise CommitFailedError  # the answer was lost
            await self.sleep_briefly()

    async def sleep_briefly(self) -> None:
        await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.02]))

    def misbehave(self) -> None:
        self.fetches += 1
        while self.faults and self.faults[0][0] <= self.fetches:
            self.fetches = 0
            match self.faults.pop(0)[1]:
                case "rebalance":
                    self.run_beside(self.rebalance())
                case "lend":
                    self.run_beside(self.lend())
                case "pause":
                    self.run_beside(self.pause())
                case "corrupt":
                    self.to_corrupt = True
                case "error" if (
                    self.assigned
                    and (tp := self.rng.choice(sorted(self.assigned))) not in self.answers
                ):
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
                self.answers[tp] = Answer(
                    position, min(position + self.rng.randint(1, 40), self.broker.ends[tp])
                )

    async def getmany(
        self, *tps, timeout_ms=0, max_records=None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        if self.is_stopped:
            raise ConsumerStoppedError
        self.misbehave()
        if self.rng.random() < 0.3:
            await self.sleep_briefly()
        waits = [timeout_ms / 1000] if timeout_ms else []
        while True:
            while not self.settled.is_set():
                await self.settled.wait()
                # The intake may start faster than the task that waits here.
                await self.sleep_briefly()
            self.prefetch()
            if (found := self.drain(tps, max_records)) or not waits:
                return found
            await asyncio.sleep(waits.pop())

    def drain(self, tps, left: int) -> dict[TopicPartition, list[ConsumerRecord]]:
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
            now = self.listener._current
            is_compared = now.gaps.is_pending(tp) or now._trailing.is_pending(
                tp, now.next_offset(tp)
            )
            if offsets and self.to_lose and now.next_offset(tp) == offsets[0] and not is_compared:
                offsets, self.to_lose = offsets[self.to_lose :], 0
            if offsets:
                found[tp] = [
                    ConsumerRecord(tp.topic, tp.partition, o, 0, 0, None, None, None, 0, 0, ())
                    for o in offsets
                ]
                left -= len(offsets)
        if self.to_corrupt and found:
            self.to_corrupt = False
            raise CorruptRecordException
        return found
