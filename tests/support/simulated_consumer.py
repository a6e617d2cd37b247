"""librdkafka's consumer as a thread sees it, played in lockstep with the event loop.

The consumer keeps to librdkafka's rules: callbacks run inside a poll, `consume` may serve one between two records, a
pause drops what is prefetched and is kept over assignments, a seek needs a partition that is started, the end of a log
is told once, an error stands between the records of its partition. Faults are chosen by the test, or by a generator.

The thread is real, but it runs only while the loop waits for it: a run is repeatable, and its time may be virtual.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence

from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Place

from runtime.kafka.intake import client as client_module
from runtime.kafka.intake.mailbox import Mailbox

QUEUED_MAX = 400


class LockstepThread:
    """A thread that runs until it sleeps, while the event loop waits."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._timer: asyncio.TimerHandle | None = None
        self.has_ended = False

    def start(self, target: Callable[[], None], name: str) -> None:
        def run() -> None:
            self._go.acquire()
            try:
                target()
            finally:
                self.has_ended = True
                self._back.release()

        threading.Thread(target=run, name=name, daemon=True).start()
        self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if not self.has_ended:
            self._timer = None
            self._go.release()
            self._back.acquire()

    def sleep(self, timeout_s: float) -> None:
        """In the thread: let the loop run, until so much time has passed or it wakes the thread."""
        self._timer = self.loop.call_later(timeout_s, self._resume)
        self._back.release()
        self._go.acquire()

    def wake(self) -> None:
        """In the loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.loop.call_soon(self._resume)


class LockstepMailbox(Mailbox):
    def __init__(self, thread: LockstepThread) -> None:
        super().__init__()
        self._thread, self._is_waited_at = thread, False

    def put(self, request) -> None:
        super().put(request)
        self._wake()

    def add_unread(self, records: int) -> None:
        super().add_unread(records)
        self._wake()

    def _wake(self) -> None:
        if self._is_waited_at:
            self._thread.wake()

    def wait(self, condition, timeout_s: float) -> bool:
        until_s = self._thread.loop.time() + timeout_s
        self._is_waited_at = True
        while not (is_met := condition()) and self._thread.loop.time() < until_s:
            self._thread.sleep(until_s - self._thread.loop.time())
        self._is_waited_at = False
        return is_met


def message(tp: TopicPartition, offset: int, error: int | None = None) -> Message:
    return Message(
        topic=tp.topic,
        partition=tp.partition,
        offset=offset,
        key=b"k",
        value=b"v",
        error=None if error is None else KafkaError(error, "as the test says"),
        timestamp=(1, 0),
    )


def to_tp(place: Place) -> TopicPartition:
    return TopicPartition(place.topic, place.partition)


class SimulatedConsumer:
    """A consumer over logs: the offsets of their records, and where they end."""

    def __init__(self, logs: dict[TopicPartition, list[int]], committed=None, rng=None) -> None:
        self.logs = logs
        self.group_offsets: dict[TopicPartition, int] = dict(committed or {})
        self.log_starts: dict[TopicPartition, int] = {}
        self.tails: dict[TopicPartition, int] = {}
        """Ends of logs whose last offsets hold no record."""
        self.rng: random.Random | None = rng
        self.tick_s = 0.002
        self.thread = LockstepThread()
        # What the test has seen.
        self.commits: list[dict[TopicPartition, int]] = []
        self.liveness_notes: list[str] = []
        self.seeks: list[tuple[TopicPartition, int]] = []
        self.fetches = 0
        self.pauses = 0
        self.is_closed = False
        # Faults.
        self.to_lose: dict[TopicPartition, int] = {}
        self.errors: deque[Message] = deque()
        """Handed out before anything else."""
        self.commit_errors: list[int] = []
        self.question_errors: list[int] = []
        self.is_flowing = True
        # The group.
        self._events: deque[Callable[[], None]] = deque()
        self.group_assignment: set[TopicPartition] = set()
        self.has_left = False
        """Whether the group was left on request; even a static member then gives its partitions up."""
        self.is_member = True
        """False from the moment when others may have the partitions."""
        # The client.
        self._queue: deque[tuple[TopicPartition, Message]] = deque()
        self.started: dict[TopicPartition, int] = {}
        """Where the next fetch of a partition begins."""
        self._begins: dict[TopicPartition, int] = {}
        self._consumed: dict[TopicPartition, int] = {}
        self._told_ends: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()

    def install(self, monkeypatch) -> None:
        """Let the next `ConsumerThread` use this consumer."""

        def new_consumer(options):
            self._on_commit = options["on_commit"]
            return self

        monkeypatch.setattr(client_module, "new_consumer", new_consumer)
        monkeypatch.setattr(client_module, "start_thread", self.thread.start)
        monkeypatch.setattr(client_module, "Mailbox", lambda: LockstepMailbox(self.thread))

    # What a test does to the group; it takes effect inside a poll.

    def give(self, *tps: TopicPartition) -> None:
        self._events.append(lambda: self._assign_group(tps))

    def revoke(self) -> None:
        self._events.append(self._revoke_group)

    def lose(self) -> None:
        self.is_member = False
        self._events.append(self._lose_group)

    async def rebalance(self, *tps: TopicPartition) -> None:
        self.revoke()
        self.give(*tps)
        await self.until_served()

    async def until_served(self) -> None:
        while self._events or self.is_serving:  # noqa: ASYNC110  # the thread sets no event
            await asyncio.sleep(self.tick_s)

    is_serving = False

    def _assign_group(self, tps: Sequence[TopicPartition]) -> None:
        self.group_assignment, self.is_member = {*tps}, True
        self._on_assign(self, [Place(*tp) for tp in tps])
        assert not self.started, "nothing may be read before the claim"

    def _revoke_group(self) -> None:
        self._drop_queued({*self.started})  # librdkafka pauses everything before
        self._on_revoke(self, [Place(*tp) for tp in self.group_assignment])
        assert not self.started
        self.group_assignment = set()

    def _lose_group(self) -> None:
        self._drop_queued({*self.started})
        self._on_lost(self, [Place(*tp) for tp in self.group_assignment])
        assert not self.started
        self.group_assignment = set()

    # confluent_kafka.Consumer.

    def list_topics(self, topic=None, timeout=-1) -> None:
        assert timeout > 0

    def subscribe(self, topics, on_assign=None, on_revoke=None, on_lost=None) -> None:
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        if self.has_left:  # as librdkafka: the group is joined anew once the old assignment is over
            self.has_left = False
            self._events.append(lambda: self._assign_group([*self.logs]))

    def unsubscribe(self) -> None:
        self.has_left = True
        if self.group_assignment:
            self._events.append(self._revoke_group)

    def poll(self, timeout: float = -1) -> Message | None:
        until_s = self.thread.loop.time() + timeout
        while True:
            self._serve()
            self._prefetch()
            if (found := self._pop()) is not None:
                return found
            left_s = until_s - self.thread.loop.time()
            if left_s <= 0:
                return None
            self.thread.sleep(min(left_s, self.tick_s))

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        assert timeout == 0
        found: list[Message] = []
        while len(found) < num_messages and (one := self._pop()) is not None:
            found.append(one)
            if self.rng is not None and self.rng.random() < 0.1:
                self._serve()
        return found

    def assign(self, partitions: list[Place]) -> None:
        assert all(place.offset >= 0 for place in partitions)
        self._forget()
        assert {to_tp(place) for place in partitions} <= self.group_assignment
        for place in partitions:
            self.started[to_tp(place)] = self._begins[to_tp(place)] = place.offset

    def unassign(self) -> None:
        self._forget()

    def seek(self, place: Place) -> None:
        tp = to_tp(place)
        if tp not in self.started:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.seeks.append((tp, place.offset))
        self._drop_queued({tp})
        self.started[tp] = self._begins[tp] = place.offset
        self._consumed.pop(tp, None)

    def pause(self, partitions: list[Place]) -> None:
        tps = {to_tp(place) for place in partitions}
        self.pauses += 1
        self.paused |= tps
        self._drop_queued(tps)
        for tp in tps & self.started.keys():
            self.started[tp] = self._consumed.get(tp, self._begins[tp])

    def resume(self, partitions: list[Place]) -> None:
        self.paused -= {to_tp(place) for place in partitions}

    def commit(self, offsets=None, asynchronous=True) -> list[Place] | None:
        error = self._refusal()
        if error is None:
            try:
                self._store(offsets)
            except KafkaException as raised:
                error = raised.args[0]
        if not asynchronous:
            if error is not None:
                raise KafkaException(error)
            return offsets
        self._events.append(lambda: self._on_commit(error, [] if error else offsets))
        return None

    def _refusal(self) -> KafkaError | None:
        if self.commit_errors:
            return KafkaError(self.commit_errors.pop())
        return None if self.is_member else KafkaError(KafkaError.UNKNOWN_MEMBER_ID)

    def _store(self, offsets: list[Place]) -> None:
        assert {to_tp(place) for place in offsets} <= self.group_assignment
        self.commits.append({to_tp(place): place.offset for place in offsets})
        self.liveness_notes += [place.metadata for place in offsets if place.metadata]
        self.group_offsets.update(self.commits[-1])

    def committed(self, partitions: list[Place], timeout=-1) -> list[Place]:
        self._question(timeout)
        return [
            Place(place.topic, place.partition, self.group_offsets.get(to_tp(place), -1001))
            for place in partitions
        ]

    def get_watermark_offsets(self, place: Place, timeout=-1, cached=True) -> tuple[int, int]:
        assert not cached
        self._question(timeout)
        return self.log_starts.get(to_tp(place), 0), self.end(to_tp(place))

    def _question(self, timeout: float) -> None:
        assert timeout > 0
        if self.question_errors:
            raise KafkaException(KafkaError(self.question_errors.pop()))

    def close(self) -> None:
        if self.group_assignment and not self.is_closed:
            (self._revoke_group if self.is_member else self._lose_group)()
        self.is_closed = True

    # What happens inside.

    def end(self, tp: TopicPartition) -> int:
        log = self.logs.get(tp, [])
        return max(log[-1] + 1 if log else 0, self.tails.get(tp, 0))

    def _serve(self) -> None:
        self.is_serving = True
        while self._events:
            self._events.popleft()()
        self.is_serving = False

    def _prefetch(self) -> None:
        self.on_prefetch()
        for tp in [*self.started]:
            is_due = self.rng is None or self.rng.random() < 0.7
            if self.is_flowing and is_due and tp not in self.paused:
                self._fetch(tp)

    def on_prefetch(self) -> None:
        """Do what the test wants before anything is fetched."""

    def _fetch(self, tp: TopicPartition) -> None:
        begin, end = self.started[tp], self.end(tp)
        if len(self._queue) >= QUEUED_MAX:
            return
        if not self.log_starts.get(tp, 0) <= begin <= end:
            self._queue.append((tp, message(tp, begin, KafkaError._AUTO_OFFSET_RESET)))
            del self.started[tp]
        elif begin < end:
            self.fetches += 1
            upto = end if self.rng is None else min(end, begin + self.rng.randint(1, 40))
            offsets = [offset for offset in self.logs.get(tp, ()) if begin <= offset < upto]
            if offsets:
                offsets = offsets[self.to_lose.pop(tp, 0) :]
            self._queue += [(tp, message(tp, offset)) for offset in offsets]
            self.started[tp] = upto
        elif self._told_ends.get(tp) != end:
            self._told_ends[tp] = end
            self._queue.append((tp, message(tp, end, KafkaError._PARTITION_EOF)))

    def fail_fetch(self, tp: TopicPartition, code: int, skipped: int) -> None:
        """Put an error behind what is queued of a partition, and go on behind some lost offsets."""
        if tp in self.started:
            self._queue.append((tp, message(tp, self.started[tp], code)))
            self.started[tp] = min(self.started[tp] + skipped, self.end(tp))

    def _pop(self) -> Message | None:
        if self.errors:
            return self.errors.popleft()
        if not self._queue:
            return None
        tp, found = self._queue.popleft()
        if found.error() is None:
            self._consumed[tp] = (found.offset() or 0) + 1
        return found

    def _drop_queued(self, tps: set[TopicPartition]) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0] not in tps)
        for tp in tps:
            self._told_ends.pop(tp, None)

    def _forget(self) -> None:
        self._drop_queued({*self.started})
        self._queue.clear()
        self.started.clear()
        self._begins.clear()
        self._consumed.clear()
