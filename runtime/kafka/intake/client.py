"""librdkafka's consumer, in a thread of its own, as the event loop sees it.

One thread makes every call on the consumer. The event loop sends it requests (`assign`, `seek`,
`pause`, `resume`, `commit`, questions), and it calls the loop's `Listener` with what comes, in the
order in which it came. Neither waits for the other, with one exception: a revocation waits in the
thread, for a bounded time, until the loop has finished the work in progress.

- A record reaches the loop by one hop between threads. The thread sleeps inside `poll`, without
  Python's lock, returns with the first record, takes what else is ready, and hands it over in one
  call. `consume` is not used to wait: it returns only when it is full or its time is over.
- Requests are served between two polls. Nothing wakes a poll, so it is short.
- The consumer must be polled although the loop has no room: callbacks run inside the poll, and a
  member that does not poll is expelled. So after a while without room, all partitions are paused.
  A pause drops what the client has prefetched, so a short wait does not cause one. After a resume
  alone it might take the client a second to fetch again; a seek to the same place wakes it.

What the thread hands over is marked twice. `assignment` counts the revocations: what was fetched
before one is stale. `stream` is the number of the `assign` or `seek` from which the records come:
what was fetched before it is outdated, although the assignment is the same.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import confluent_kafka
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from runtime.connection_faults import unreachable_broker
from runtime.kafka.intake.client_errors import END_OF_LOG, is_transient
from runtime.kafka.intake.client_partitions import (
    CommitOffsets,
    Offsets,
    is_refused,
    place,
    to_client_partitions,
    with_metadata,
)
from runtime.kafka.intake.consumer import MEMBER_GRACE_MS, IntakeSettings, consumer_options
from runtime.kafka.intake.listener import Fetch, Listener
from runtime.kafka.intake.mailbox import Mailbox, Request
from schemas.errors import Unavailable

T = TypeVar("T")

POLL_S: Final = 0.05
"""How long a request waits at most for the end of a poll that finds nothing."""

FULL_POLL_S: Final = 0.5
"""How often the consumer is polled while the loop has no room."""

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 5.0

logger = logging.getLogger(__name__)
library_logger = logging.getLogger("librdkafka")


class ConsumerThread:
    """The consumer and its thread. `step` and all below it run in that thread only."""

    def __init__(
        self,
        settings: IntakeSettings,
        listener: Listener,
        *,
        topics: Collection[str] = (),
        pattern: str | None = None,
    ) -> None:
        """Prepare to read topics, by names or by a pattern (POSIX, anchored), without a thread."""
        self._settings = settings
        self._listener = listener
        self._subscription = [pattern] if pattern is not None else sorted(topics)
        self._mailbox = Mailbox()
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._is_closing = False
        # Of the thread.
        self._consumer: Consumer
        self._assignment = 0
        self._assigned: dict[tuple[str, int], TopicPartition] = {}
        self._streams: dict[TopicPartition, int] = {}
        """The stream of each partition that is read; none of one that waits for a request."""
        self._behind: dict[TopicPartition, int] = {}
        """Offset behind what was handed over of each partition."""
        self._paused: set[TopicPartition] = set()
        self._is_all_paused = False
        self._is_committing = False

    # For the event loop.

    async def start(self) -> None:
        """Start the thread, connect and subscribe. Raises Unavailable if no broker answers."""
        started: asyncio.Future[None] = self._loop.create_future()
        start_thread(partial(self.run, started), f"consumer of {self._settings.group}")
        await started

    async def close(self) -> None:
        """Give up all partitions, which calls the listener, and leave the group.

        A static member does not leave: its partitions move when its session has timed out.
        """
        self._mailbox.put(self._close)
        await asyncio.wait([self._ended])

    def assign(self, assignment: int, starts: Offsets, stream: int) -> None:
        """Read all partitions of an assignment from these offsets on, as `stream`."""
        self._request(assignment, partial(self._assign, starts, stream))

    def seek(self, assignment: int, tp: TopicPartition, offset: int, stream: int) -> None:
        """Read a partition anew from an offset on, as `stream`."""
        self._request(assignment, partial(self._seek, tp, offset, stream))

    def pause(self, assignment: int, partitions: Collection[TopicPartition]) -> None:
        """Fetch nothing of these partitions; what has been handed over stays."""
        self._request(assignment, partial(self._pause, partitions))

    def resume(self, assignment: int, partitions: Collection[TopicPartition]) -> None:
        """Fetch these partitions again, from behind what was handed over of them."""
        self._request(assignment, partial(self._resume, partitions))

    def commit(self, assignment: int, offsets: CommitOffsets) -> None:
        """Commit offsets; the listener hears of those that the group has accepted.

        While an earlier commit is not answered, nothing is done: a later one holds more.
        """
        self._request(assignment, partial(self._commit, offsets))

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return what the group has committed; partitions without a commit are left out.

        Raises Unavailable where the broker does not say.
        """
        return await self._ask(partial(self._committed, partitions))

    async def log_bounds(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return the earliest offset and the end of each log. Raises Unavailable."""
        return await self._ask(partial(self._log_bounds, partitions))

    @property
    def is_full(self) -> bool:
        """Whether nothing is fetched because the loop has taken too little."""
        return self._mailbox.is_full

    def take(self, records: int) -> None:
        """Make room for so many records: the loop has taken them, or has dropped them."""
        self._mailbox.add_unread(-records)

    def rejoin(self) -> None:
        """Leave the group and join it again: a static member that only joins gets what it had."""
        self._mailbox.put(self._rejoin)

    def _request(self, assignment: int, act: Request) -> None:
        self._mailbox.put(lambda: act() if assignment == self._assignment else None)

    async def _ask(self, question: Callable[[], T]) -> T:
        answer: asyncio.Future[T] = self._loop.create_future()

        def ask() -> None:
            try:
                self._call(_resolve, answer, question())
            except KafkaException as error:
                message = f"the broker at {self._settings.broker} does not answer"
                self._call(_reject, answer, Unavailable(f"{message}: {error.args[0].str()}"))
            except Unavailable as error:
                self._call(_reject, answer, error)

        self._mailbox.put(ask)
        try:
            await asyncio.wait([answer, self._ended], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            answer.add_done_callback(_ignore)
            raise
        if not answer.done():
            raise Unavailable("the consumer was closed before it had asked")
        return answer.result()

    # The thread.

    def run(self, started: asyncio.Future[None]) -> None:
        """Connect, serve until the end, and close; the whole life of the thread."""
        try:
            self._consumer = self._new_consumer()
        except Exception as error:  # noqa: BLE001  # raised by `start`
            self._call(_reject, started, error)
            return
        self._call(_resolve, started, None)
        try:
            while not self._is_closing:
                self.step()
        except Exception as error:  # noqa: BLE001  # the loop decides what it means
            self._call(self._listener.on_failed, error)
        try:
            self._consumer.close()
        except Exception as error:  # noqa: BLE001  # a callback's; the thread comes to its end
            logger.warning("the consumer was not closed in order: %r", error)
        self._call(_resolve, self._ended, None)

    def _new_consumer(self) -> Consumer:
        options = consumer_options(self._settings)
        consumer = new_consumer(
            {**options, "on_commit": self._on_commit, "error_cb": self._on_error}
        )
        try:
            consumer.list_topics(timeout=CONNECT_TIMEOUT_S)
        except KafkaException as error:
            with suppress(KafkaException):  # the same again, as of a refused login
                consumer.close()
            raise unreachable_broker(self._settings.broker, error.args[0].str()) from error
        self._subscribe(consumer)
        return consumer

    def _subscribe(self, consumer: Consumer) -> None:
        consumer.subscribe(
            self._subscription,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def step(self) -> None:
        """Serve the requests that are there, then wait for records or for room."""
        for request in self._mailbox.take():
            request()
        if self._is_closing:
            return
        if not self._mailbox.is_full:
            self._pause_all(to_pause=False)
            self._poll(POLL_S)
        elif not self._mailbox.wait_for_room(FULL_POLL_S):
            self._pause_all(to_pause=True)
            self._poll(0)

    def _poll(self, timeout_s: float) -> None:
        assignment = self._assignment
        first = self._consumer.poll(timeout_s)
        if first is None:
            return
        messages = [first, *self._consumer.consume(max(1, self._mailbox.room), 0)]
        if assignment != self._assignment:
            return  # a callback has ended the assignment that they are from
        fetches = self._to_fetches(messages)
        for fetch in fetches:
            if fetch.messages:
                self._behind[fetch.tp] = (fetch.messages[-1].offset() or 0) + 1
        if fetches:
            self._mailbox.add_unread(sum(len(fetch.messages) for fetch in fetches))
            self._call(self._listener.on_fetched, assignment, fetches)

    def _to_fetches(self, messages: Iterable[Message]) -> list[Fetch]:
        fetches: dict[TopicPartition, Fetch] = {}
        topic: str | None = None
        partition: int | None = None
        fetch: Fetch | None = None
        for message in messages:
            if message.partition() != partition or message.topic() != topic:
                topic, partition = message.topic(), message.partition()
                fetch = self._fetch_of(topic, partition, fetches)
            if (error := message.error()) is not None:
                self._note_error(message, error, fetch)
                if fetch is not None and fetch.error is not None:
                    fetch = None  # what comes behind an error is left out
            elif fetch is not None:
                fetch.messages.append(message)
                fetch.end_offset = None
        return [*fetches.values()]

    def _fetch_of(
        self, topic: str | None, partition: int | None, fetches: dict[TopicPartition, Fetch]
    ) -> Fetch | None:
        tp = self._assigned.get((topic or "", -1 if partition is None else partition))
        stream = None if tp is None else self._streams.get(tp)
        if tp is None or stream is None:
            return None
        return fetches.setdefault(tp, Fetch(tp, stream))

    def _note_error(self, message: Message, error: KafkaError, fetch: Fetch | None) -> None:
        if error.code() == END_OF_LOG:
            if fetch is not None:
                fetch.end_offset = message.offset()
        elif fetch is not None:
            fetch.error = error
            del self._streams[fetch.tp]
        elif (message.topic(), message.partition()) not in self._assigned:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        """Raise an error of the group or the connection, if the same cannot succeed later."""
        if not is_transient(error):
            raise KafkaException(error)
        library_logger.warning("%s [%s] %s", error.name(), self._settings.group, error.str())

    # Callbacks of the consumer, inside of a poll or of its close.

    def _on_assign(
        self, consumer: Consumer, partitions: list[confluent_kafka.TopicPartition]
    ) -> None:
        consumer.assign([])  # or reading begins before the positions are claimed
        tps = [TopicPartition(each.topic, each.partition) for each in partitions]
        self._assigned = {(tp.topic, tp.partition): tp for tp in tps}
        self._call(self._listener.on_assigned, self._assignment, frozenset(tps))

    def _on_revoke(self, consumer: Consumer, _: list[confluent_kafka.TopicPartition]) -> None:
        offsets = self._await_drain()
        if offsets:
            try:
                for each in consumer.commit(offsets=with_metadata(offsets), asynchronous=False):
                    is_refused(each)
            except KafkaException as error:
                # The next owner repeats what was finished since the last commit.
                logger.warning("not committed: %s", error.args[0].str())
        self._end_assignment(consumer, is_lost=False)

    def _on_lost(self, consumer: Consumer, _: list[confluent_kafka.TopicPartition]) -> None:
        self._end_assignment(consumer, is_lost=True)

    def _await_drain(self) -> CommitOffsets:
        answers: list[CommitOffsets] = []

        def answer(offsets: CommitOffsets) -> None:
            answers.append(offsets)
            self._mailbox.put(lambda: None)

        self._call(self._listener.on_revoking, answer)
        timeout_ms = self._settings.drain_timeout_ms + MEMBER_GRACE_MS * 2 // 3
        if not self._mailbox.wait(lambda: bool(answers), timeout_ms / 1000):
            logger.warning("the event loop has not answered for %d ms: not committed", timeout_ms)
            return {}
        return answers[0]

    def _end_assignment(self, consumer: Consumer, *, is_lost: bool) -> None:
        consumer.unassign()
        self._assignment += 1
        self._assigned.clear()
        self._streams.clear()
        self._paused.clear()
        self._is_all_paused = False
        self._call(partial(self._listener.on_revoked, self._assignment, is_lost=is_lost))

    def _on_commit(
        self, error: KafkaError | None, answers: list[confluent_kafka.TopicPartition]
    ) -> None:
        self._is_committing = False
        if error is not None:
            # A rebalance came in between, or the coordinator is away: the next commit repeats it.
            logger.warning("not committed: %s", error.str())
            return
        accepted = {
            TopicPartition(each.topic, each.partition): each.offset
            for each in answers
            if not is_refused(each)
        }
        self._call(self._listener.on_committed, self._assignment, accepted)

    # Requests.

    def _rejoin(self) -> None:
        self._consumer.unsubscribe()
        self._subscribe(self._consumer)

    def _close(self) -> None:
        self._is_closing = True

    def _assign(self, starts: Offsets, stream: int) -> None:
        # The client keeps the pause of a partition over assignments.
        self._consumer.resume(to_client_partitions(starts))
        self._consumer.assign(to_client_partitions(starts))
        self._streams, self._behind = dict.fromkeys(starts, stream), dict(starts)
        self._paused.clear()
        self._is_all_paused = False

    def _seek(self, tp: TopicPartition, offset: int, stream: int) -> None:
        self._streams[tp], self._behind[tp] = stream, offset
        self._resume([tp])

    def _pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)
        self._consumer.pause(to_client_partitions(partitions))

    def _resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)
        if not self._is_all_paused:
            self._go_on(partitions)

    def _pause_all(self, *, to_pause: bool) -> None:
        if to_pause == self._is_all_paused:
            return
        self._is_all_paused = to_pause
        partitions = [tp for tp in self._streams if tp not in self._paused]
        if to_pause:
            self._consumer.pause(to_client_partitions(partitions))
        else:
            self._go_on(partitions)

    def _go_on(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch partitions from behind what was handed over, whether or not they are paused."""
        self._consumer.resume(to_client_partitions(partitions))
        for tp in partitions:
            try:
                self._consumer.seek(place(tp, self._behind[tp]))
            except KafkaException as error:
                self._streams.pop(tp, None)
                self._call(self._listener.on_seek_failed, self._assignment, tp, error.args[0])

    def _commit(self, offsets: CommitOffsets) -> None:
        if self._is_committing:
            return
        try:
            self._consumer.commit(offsets=with_metadata(offsets), asynchronous=True)
        except KafkaException as error:
            logger.warning("not committed: %s", error.args[0].str())
        else:
            self._is_committing = True

    def _committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        places = to_client_partitions(partitions)
        answers = self._consumer.committed(places, timeout=ANSWER_TIMEOUT_S)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {
            TopicPartition(each.topic, each.partition): each.offset
            for each in answers
            if each.offset >= 0
        }

    def _log_bounds(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        give_up_s = time.monotonic() + ANSWER_TIMEOUT_S
        bounds = {}
        for tp in partitions:
            left_s = max(0.0, give_up_s - time.monotonic())
            answer = self._consumer.get_watermark_offsets(place(tp), timeout=left_s, cached=False)
            if answer is None:
                raise Unavailable(f"the broker does not say what {tp.topic}-{tp.partition} holds")
            bounds[tp] = answer
        return bounds

    def _call(self, act: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(act, *args)


def start_thread(target: Callable[[], None], name: str) -> None:
    """Start a thread that does not keep the process from ending."""
    threading.Thread(target=target, name=name, daemon=True).start()


def new_consumer(options: Mapping[str, object]) -> Consumer:
    """Return a consumer that is not subscribed, and logs as `librdkafka`."""
    return Consumer(dict(options), logger=library_logger)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _reject(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _ignore(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()  # or the loop would report it as forgotten
