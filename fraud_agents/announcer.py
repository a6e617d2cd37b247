"""Announcements of a fraud worker: how far partitions have come that others wait for.

Detectors over several partitions show a signal when all of their inputs have passed it by the
grace. An idle partition passes nothing by itself, and one that is read says how far it is in steps.
So at each poll the worker writes for both what lets the next waiting signal out. What it writes are
records, which a replay reads: the clock only decides when.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from fraud_agents.detectors.global_signals import SIGNAL_KEY, GlobalDetectors, newest_signal_ms
from fraud_agents.detectors.shard import WATCHED, ShardDetectors
from fraud_agents.owned import OwnedShard
from fraud_agents.rule_feed import RuleSource
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer
from schemas import codec
from schemas.errors import Unavailable
from schemas.events import PlayerEvent
from schemas.topics import PLAYER_EVENTS, SIGNALS

ELSEWHERE_S: Final = 1.0
"""A worker whose partitions are all idle asks this often how far the others have come."""
ELSEWHERE_MOVING_S: Final = 0.2
"""The same while the others go on: less than the time between two polls."""

logger = logging.getLogger(__name__)


class Announcer:
    """Writes the announcements of the partitions that a worker owns, when it is polled.

    `names` are those of the watched topics on the broker; `signals` is where watermarks go, by
    `send`, which writes what a shard has to send.
    """

    def __init__(
        self,
        source: RuleSource,
        producer: BatchProducer,
        names: Mapping[str, str],
        signals: str,
        send: Callable[[OwnedShard], Awaitable[None]],
    ) -> None:
        self._source = source
        self._producer = producer
        self._names = names
        self._signals = signals
        self._send = send
        self._newest_ms = 0
        """Newest event time of any record, as far as this worker knows."""
        self._look_elsewhere_at_s = 0.0

    async def announce(self, shards: Sequence[OwnedShard]) -> None:
        """Announce the partitions that hold a signal back, or that are idle and far behind.

        While the broker is away nothing is announced: a later poll does it.
        """
        try:
            progress = await self._find_progress(shards)
            behind = [
                (owned, owned.detectors, topics)
                for owned in shards
                if isinstance(owned.detectors, ShardDetectors)
                if (topics := progress.topics_behind(owned.detectors, owned.inputs))
            ]
            if not behind:
                return
            ends = await self._source.end_offsets(
                [
                    (topic, detectors.partition)
                    for _, detectors, topics in behind
                    for topic in topics
                ]
            )
            await asyncio.gather(
                *(
                    self._announce(
                        owned,
                        detectors,
                        {topic: ends[topic, detectors.partition] for topic in topics},
                        progress,
                    )
                    for owned, detectors, topics in behind
                )
            )
        except Unavailable as error:
            logger.debug("not announced how far partitions have come: %s", error)

    async def _find_progress(self, shards: Sequence[OwnedShard]) -> _Progress:
        reader = await self._find_reader(shards)
        own_ms = max((one.newest_ms for one in shards), default=0)
        if reader is None:
            newest_ms = await self._look_elsewhere(own_ms) if shards else own_ms
            return _Progress(newest_ms, dict.fromkeys(WATCHED))
        newest_ms = max(own_ms, reader.newest_read_ms)
        return _Progress(newest_ms, {one: reader.releases(one, newest_ms) for one in WATCHED})

    async def _find_reader(self, shards: Sequence[OwnedShard]) -> GlobalDetectors | None:
        """Return the detectors over all partial signals; None where another worker has them."""
        own = [one.detectors for one in shards if isinstance(one.detectors, GlobalDetectors)]
        if not own:
            return None
        partition = partition_for(SIGNAL_KEY, await self._producer.partition_count(self._signals))
        return next((one for one in own if one.partition == partition), None)

    async def _look_elsewhere(self, own_ms: int) -> int:
        """Return the newest event time: of this worker's records, or of all where it reads none.

        Another worker may have all the partitions that are not idle. What it reads shows in the
        signals.
        """
        now_s = asyncio.get_running_loop().time()
        if own_ms > self._newest_ms:
            self._newest_ms = own_ms
            self._look_elsewhere_at_s = now_s + ELSEWHERE_S
        elif now_s >= self._look_elsewhere_at_s:
            self._look_elsewhere_at_s = now_s + ELSEWHERE_S
            count = await self._producer.partition_count(self._signals)
            place = (SIGNALS, partition_for(SIGNAL_KEY, count))
            found_ms = newest_signal_ms(await self._source.last_values(place))
            if found_ms > self._newest_ms:
                self._newest_ms = found_ms
                self._look_elsewhere_at_s = now_s + ELSEWHERE_MOVING_S
        return self._newest_ms

    async def _announce(
        self,
        owned: OwnedShard,
        detectors: ShardDetectors,
        ends: Mapping[str, int],
        progress: _Progress,
    ) -> None:
        """Announce topics of a shard, whose partitions end at `ends`."""
        beat = None
        async with owned.lock:
            for topic, end_offset in ends.items():
                next_offset = max(0, owned.inputs[topic].next_offset)
                announced = detectors.announce(
                    topic,
                    next_offset,
                    progress.newest_ms,
                    progress.releases[topic],
                    is_idle=end_offset <= next_offset,
                )
                beat = announced.heartbeat or beat
                owned.add_signals([announced.signal] if announced.signal else ())
            await self._send(owned)
            if beat is not None:
                record = (None, codec.encoder(PlayerEvent)(beat), (), None)
                name = self._names[PLAYER_EVENTS]
                await self._producer.send_batch(name, detectors.partition, [record])


class _Progress(NamedTuple):
    """How far any partition has come, as far as a worker knows, and what waits for others."""

    newest_ms: int
    releases: Mapping[str, Sequence[int] | None]
    """See `GlobalDetectors.releases`, by topic; None where another worker has them."""

    def topics_behind(self, detectors: ShardDetectors, topics: Iterable[str]) -> list[str]:
        """Return the topics of a shard that are to be announced, if they are idle."""
        return [
            topic
            for topic in topics
            if detectors.is_waited_for(topic, self.newest_ms, self.releases[topic])
        ]
