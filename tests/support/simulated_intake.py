"""A broker and a consumer with random faults, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Sequence

from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException

from runtime.kafka.intake.intake import Intake
from tests.support.simulated_consumer import SimulatedConsumer, message, to_tp

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


class Client(SimulatedConsumer):
    """The consumer of one life, with the faults that it will have."""

    def __init__(self, broker: Broker, faults: list[tuple[int, str]]) -> None:
        super().__init__(broker.logs, rng=broker.rng)
        self.broker, self.faults = broker, faults
        self.group_offsets = broker.committed
        self.tails = broker.ends
        self.tick_s = 0.01
        self.intake: Intake
        self.polls = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        self.give(*PARTITIONS)

    @property
    def _rng(self) -> random.Random:
        return self.broker.rng

    def _store(self, offsets) -> None:
        """Refuse sometimes, before or after the broker has stored it."""
        if self._rng.random() < 0.1:
            raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))
        assert {to_tp(place) for place in offsets} <= self.group_assignment
        self.broker.commit({to_tp(place): place.offset for place in offsets})
        if self._rng.random() < 0.1:
            raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))  # the answer was lost

    def _question(self, timeout: float) -> None:
        super()._question(timeout)
        self.thread.sleep(self._rng.choice([0, 0, 0.001, 0.02]))

    def _assign_group(self, tps) -> None:
        self.broker.let_others_work({*PARTITIONS} - {*tps})
        super()._assign_group(tps)

    def on_prefetch(self) -> None:
        self.polls += 1
        while self.faults and self.faults[0][0] <= self.polls:
            self.polls = 0
            self._misbehave(self.faults.pop(0)[1])

    def _misbehave(self, kind: str) -> None:
        held = sorted(self.started)
        tp = self._rng.choice(held) if held else None
        match kind:
            case "rebalance":
                self.revoke()
                self.give(*PARTITIONS)
            case "lend":
                self.revoke()
                self.give(*self._rng.sample(PARTITIONS, k=self._rng.randrange(3)))
                self.revoke()
                self.give(*PARTITIONS)
            case "lose" if self.group_assignment and self.is_member:
                self.lose()
                self.broker.let_others_work({*PARTITIONS})
                self.give(*PARTITIONS)
            case "pause":
                self.thread.loop.call_soon(self.intake.pause, "by an operator")
                wait_s = self._rng.choice([0.001, 0.01, 2])
                self.thread.loop.call_later(wait_s, self.intake.resume)
            case "damage" if tp is not None:
                self.fail_fetch(tp, KafkaError._BAD_MSG, skipped=self._rng.randrange(5))
            case "error" if tp is not None:
                self.fail_fetch(tp, KafkaError._TRANSPORT, skipped=self._rng.randrange(5))
            case "outdated" if tp is not None:
                self.errors.append(message(tp, 0, KafkaError._AUTO_OFFSET_RESET))
            case "drop" if tp is not None and self._may_drop(tp):
                self.to_lose[tp] = self._rng.randint(1, 4)
            case "question":
                self.question_errors.append(KafkaError._TIMED_OUT)
            case "stop" | "kill":
                self.thread.loop.call_soon(self.ended.set)

    def _may_drop(self, tp: TopicPartition) -> bool:
        # Only at a place without a gap: there, two answers that differ end the worker, as they should.
        now = self.intake._current
        expected = now.next_offset(tp)
        return (
            expected == self.started[tp]
            and expected in self.logs[tp]
            and not now.gaps.is_pending(tp)
            and not now._trailing.is_pending(tp, expected)
        )
