"""The topic of rule changes as a worker follows it, and the ends of the partitions watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from fraud_agents.rule_book import RuleBook
from fraud_agents.rules import Rule
from runtime.kafka.topic_follower import TopicFollower
from runtime.security import BrokerAddress
from schemas import codec
from schemas.errors import Rejected, Unavailable
from schemas.rule_changes import RuleChange
from schemas.topics import qualified_name

Place: TypeAlias = tuple[str, int]
"""Topic, as the catalogue names it, and partition."""

POLL_MS: Final = 250
"""Part of the time to an alert of the detectors over several partitions, which each poll lets go
on; while signals wait, it writes a record of every partition that is idle."""
LAST_RECORDS: Final = 32
REACH_S: Final = 30.0
"""A marker's position is in the topic before the marker is written, so it is read at once."""


class RuleSource(Protocol):
    """What the agent needs of the rules: the book as read so far, and where the log ends."""

    book: RuleBook

    async def reach(self, position: int) -> None:
        """Wait until the topic's end at the start, and `position`, are read.

        Raises Unavailable.
        """

    async def end_offsets(self, places: Collection[Place]) -> Mapping[Place, int]:
        """Return the ends of partitions: no record at or behind one was ever judged.

        Raises Unavailable.
        """

    async def last_values(self, place: Place) -> Sequence[bytes]:
        """Return the values of a partition's last records, at most `LAST_RECORDS` of them.

        Raises Unavailable.
        """


class ReleaseRules:
    """The rules of the release alone, which do not change while the process runs."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.book = RuleBook(rules)

    async def reach(self, position: int) -> None:
        """Do nothing: there is nothing to read."""

    async def end_offsets(self, places: Collection[Place]) -> Mapping[Place, int]:
        """Return the topics' starts, where the rules of the release begin."""
        return dict.fromkeys(places, 0)

    async def last_values(self, place: Place) -> Sequence[bytes]:
        """Return nothing: no topic is read."""
        del place
        return ()


@dataclass
class _LastRecords:
    """The last records of a partition, while they are fetched."""

    tp: TopicPartition
    end: int
    values: list[bytes] = field(default_factory=list)


class RuleFeed(TopicFollower):
    """The changes of the rules, read in no group by every worker, and followed for ever."""

    subject = "changes of rules"

    def __init__(
        self,
        broker: BrokerAddress,
        topic: str,
        namespace: str,
        rules: Sequence[Rule],
    ) -> None:
        super().__init__(broker, topic, "fraud.rules")
        self.book = RuleBook(rules)
        self.on_poll: Callable[[], Awaitable[None]] | None = None
        """Called after each poll of the topic; it has to be cheap where nothing changed."""
        self._namespace = namespace
        self._is_read = asyncio.Event()
        self._moved = asyncio.Event()
        self._consumer: AIOKafkaConsumer | None = None
        self._last: tuple[TopicPartition, int, Sequence[bytes]] | None = None
        """A partition, an end of it, and the values of the records before that end."""
        self._coming: _LastRecords | None = None
        self._decode = codec.decoder(RuleChange)

    async def reach(self, position: int) -> None:
        """Wait until the topic's end at the start, and `position`, are read."""
        try:
            async with asyncio.timeout(REACH_S):
                await self._is_read.wait()
                while self.book.position < position:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise Unavailable(
                f"{self._topic} is not read up to {position} within {REACH_S:g} s, but to "
                f"{self.book.position}"
            ) from None

    async def end_offsets(self, places: Collection[Place]) -> Mapping[Place, int]:
        """Return the ends of partitions, of one question to the broker."""
        tps = {
            TopicPartition(qualified_name(topic, self._namespace), partition): (topic, partition)
            for topic, partition in places
        }
        consumer = self._consumer
        if consumer is None:
            raise Unavailable(f"{self._topic} is not being read")
        try:
            ends = await consumer.end_offsets([*tps])
        except KafkaError as error:
            raise Unavailable(f"the broker does not state ends of logs: {error!r}") from error
        return {tps[tp]: int(end) for tp, end in ends.items()}

    async def last_values(self, place: Place) -> Sequence[bytes]:
        """Return the values of a partition's last records; to be called by `on_poll` only.

        The broker is asked for records only where its end is another one than before, and they come
        with a later poll: until then the values of the end before are returned.
        """
        end = (await self.end_offsets([place]))[place]
        tp = TopicPartition(qualified_name(place[0], self._namespace), place[1])
        if self._coming is None and (self._last is None or self._last[:2] != (tp, end)):
            if end:
                self._ask_for_last(tp, end)
            else:
                self._last = tp, end, ()
        if self._coming is not None:
            await self._take_last(self._coming)
        return self._last[2] if self._last is not None and self._last[0] == tp else ()

    def _ask_for_last(self, tp: TopicPartition, end: int) -> None:
        consumer = self._consumer
        assert consumer is not None
        changes = TopicPartition(self._topic, 0)
        if tp not in consumer.assignment():
            consumer.assign([changes, tp])
            consumer.seek(changes, self.book.position)
        consumer.seek(tp, max(0, end - LAST_RECORDS))
        consumer.resume(tp)
        self._coming = _LastRecords(tp, end)

    async def _take_last(self, coming: _LastRecords) -> None:
        """Take what has come, without waiting.

        The fetch under way may be one of the changes alone, which the broker answers after seconds;
        the client sends no other before.
        """
        consumer = self._consumer
        assert consumer is not None
        try:
            fetched = await consumer.getmany(coming.tp, timeout_ms=0)
            coming.values += (record.value or b"" for record in fetched.get(coming.tp, ()))
            if await consumer.position(coming.tp) < coming.end:
                return
            consumer.pause(coming.tp)
        except KafkaError as error:
            self._coming = None
            raise Unavailable(
                f"the broker does not deliver the end of {coming.tp}: {error!r}"
            ) from error
        self._last = coming.tp, coming.end, coming.values[-LAST_RECORDS:]
        self._coming = None

    def lose_consumer(self) -> None:
        """Note that the broker cannot be asked now."""
        self._consumer = self._last = self._coming = None

    def take_as_empty(self) -> None:
        """Go on with the rules of the release where the topic does not exist."""
        if not self._is_read.is_set():
            self.log.warning(
                "the rules of the release apply: topic %s does not exist; "
                "`pitboss topics create` makes it",
                self._topic,
            )
            self._is_read.set()

    async def follow(self, consumer: AIOKafkaConsumer) -> None:
        """Read the changes from where the book stands on, until stopped."""
        tp = TopicPartition(self._topic, 0)
        if self._topic not in await consumer.topics():
            raise UnknownTopicOrPartitionError
        consumer.assign([tp])
        consumer.seek(tp, self.book.position)
        self._consumer = consumer
        end = (await consumer.end_offsets([tp]))[tp]
        while not self.should_stop:
            self._fold(await consumer.getmany(tp, timeout_ms=POLL_MS))
            if await consumer.position(tp) < end:
                continue
            self._is_read.set()
            if self.on_poll is not None:
                await self.on_poll()

    def _fold(self, fetched: Mapping[Any, Iterable[Any]]) -> None:
        for records in fetched.values():
            for record in records:
                place = f"{record.topic}-{record.partition}@{record.offset}"
                try:
                    change = self._decode(record.value or b"")
                except Rejected as error:
                    self.log.warning("%s: not a change of rules, skipped: %s", place, error)
                    self.book.skip(record.offset)
                    continue
                reason = self.book.apply(change, record.offset)
                if reason is not None:
                    self.log.warning("%s: refused: %s", place, reason)
        self._moved.set()
