"""Records of several topics through the merges of the worker, for rules that need them together.

A rule of one player's records (D12, D19) sees the log and the player events of each partition
number, merged by event time. A rule with another key (D03, D08, D10) sees `risk.signals.v1`, where
the worker has written what such rules need, with how far each partition had come; so it is tried on
the very records that production judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from heapq import merge
from typing import Any, Final, NamedTuple, Protocol

from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.ordered import OrderedDetectors
from fraud_agents.detectors.repeats import RepeatFilter
from fraud_agents.detectors.shard import MERGED
from fraud_agents.detectors.signal_base import Scope
from replay.backtest.scoping import RuleSwitches, ScopedRule
from replay.log.blocks import LogBlock, LogSource
from schemas.events import FraudAlert, SignalKind
from schemas.topics import SIGNALS

_SLICE_RECORDS: Final = 8_192
"""Read of one topic before the next one's turn: each turn is a request of its own."""


class BacktestRecord(NamedTuple):
    """One record as the detectors of every rule see it."""

    topic: str
    offset: int
    append_ms: int
    event: Any
    is_repeat: bool
    """Whether an event with its id was there before."""
    is_event: bool
    """Whether it counts as one; a watermark does not."""


class RuleDetectors(Protocol):
    """The detectors of one rule over the records of one partition number."""

    def observe(self, record: BacktestRecord) -> Iterable[FraudAlert]:
        """Take in a record and return the alerts that it raises."""


class PlayerMerge:
    """One rule over both topics of a partition number."""

    def __init__(self, scoped: ScopedRule, partition: int) -> None:
        inputs = [(topic, partition) for topic in MERGED]
        self._merge = OrderedDetectors(scoped.rules, inputs, Scope.PLAYER, MERGED)
        # By number in place of a position: the merge changes them in the order of event time.
        sets = [rules for _, rules in scoped.switches]
        switches = [(offset, number) for number, (offset, _) in enumerate(scoped.switches)]
        self._merge.plan_switches(switches, sets.__getitem__)
        self._partition = partition

    def observe(self, record: BacktestRecord) -> list[FraudAlert]:
        """Take in a record of one of the topics."""
        source = (record.topic, self._partition)
        return self._merge.observe(record.event, source, record.offset, is_repeat=record.is_repeat)


class SignalMerge:
    """One rule over a partition of the signals; `count` partitions of each topic give them."""

    def __init__(self, scoped: ScopedRule, partition: int, count: int) -> None:
        self._detectors = GlobalDetectors(scoped.rules, partition, count)
        switch = partial(self._detectors.switch_rules, SIGNALS)
        self._switches = RuleSwitches(scoped, switch)

    def observe(self, record: BacktestRecord) -> list[FraudAlert]:
        """Take in a signal."""
        closed = self._switches.reach(record.offset)
        return closed + self._detectors.observe(SIGNALS, record.event, record.offset)


def merged_topics(detector_id: str) -> tuple[str, ...] | None:
    """Return the topics that a detector's merge reads; None for one that reads each by itself."""
    own = SIGNAL_DETECTORS.get(detector_id)
    if own is None:
        return None
    return MERGED if own.scope is Scope.PLAYER else (SIGNALS,)


DecodeBlock = Callable[[LogBlock, str], Iterable[tuple[int, int, Any]]]
"""Yields offset, append time and event of each readable record of a block of a topic."""


def read_merged(
    source: LogSource,
    prefix: str,
    partition: int,
    spans: Mapping[str, tuple[int, int]],
    decode: DecodeBlock,
) -> Iterator[BacktestRecord]:
    """Yield the records of a partition number, all topics in the order of their append times.

    `spans` are the offsets of each topic, from and to. Of records of one time, those of the earlier
    topic come first.
    """

    def read(rank: int, topic: str) -> Iterator[tuple[int, int, int, Any]]:
        begin, end = spans[topic]
        for start in range(begin, end, _SLICE_RECORDS):
            stop = min(end, start + _SLICE_RECORDS)
            for block in source.read(prefix + topic, partition, start, stop):
                for offset, append_ms, event in decode(block, topic):
                    yield append_ms, rank, offset, event

    topics = [*spans]
    is_new = {topic: _NewEvents() for topic in topics}
    streams = [read(rank, topic) for rank, topic in enumerate(topics)]
    # Append times of one partition may go back where producers set them; its own order stays.
    for append_ms, rank, offset, event in merge(*map(_monotone, streams), key=lambda row: row[:2]):
        topic = topics[rank]
        is_repeat, is_event = is_new[topic].look_at(topic, event)
        yield BacktestRecord(topic, offset, append_ms, event, is_repeat, is_event)


def _monotone(
    rows: Iterator[tuple[int, int, int, Any]],
) -> Iterator[tuple[int, int, int, Any]]:
    latest_ms = 0
    for append_ms, rank, offset, event in rows:
        latest_ms = max(latest_ms, append_ms)
        yield latest_ms, rank, offset, event


class _NewEvents:
    """Knows which records of one partition were there before, as the worker does."""

    def __init__(self) -> None:
        self._repeats = RepeatFilter()
        self._newest_ms = 0
        self._last: dict[tuple[str, int], int] = {}

    def look_at(self, topic: str, event: Any) -> tuple[bool, bool]:
        """Return whether a record is a repeat, and whether it counts as an event."""
        if topic == SIGNALS:
            place, offset = (event.source.topic, event.source.partition), event.source.offset
            is_event = event.kind == SignalKind.PARTIAL and offset > self._last.get(place, -1)
            if is_event:
                self._last[place] = offset
            return False, is_event
        self._newest_ms = max(self._newest_ms, event.occurred_at)
        return self._repeats.is_repeat(event.event_id, self._newest_ms), True
