"""All that is decided from one partition number of the watched topics: pure.

Detectors over one topic see its records as they come. Those over the log and the player events see
both merged by event time. For the detectors with other keys than the player, each record gives a
partial signal; those of all partitions are read together elsewhere (`global_signals.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from fraud_agents.detectors.global_signals import (
    GLOBAL_KINDS,
    LateAfter,
    late_signal,
    partial_signal,
    watermark_signal,
)
from fraud_agents.detectors.ordered import GRACE_MS, OrderedDetectors, judged_offset_of
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.rule_set import RuleSet, rule_set_of
from fraud_agents.rules import Rule
from fraud_agents.signals import Signal, signals_of
from schemas.events import FraudAlert, PlayerEvent, RiskSignal, WalletTransaction
from schemas.heartbeats import Watched, is_heartbeat, player_heartbeat
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, TRANSACTIONS

WATCHED: Final = (TRANSACTIONS, PLAYER_EVENTS, GAME_RESULTS)
MERGED: Final = (PLAYER_EVENTS, TRANSACTIONS)
"""Topics with the player as their key: a player's records have one partition number in both. Of
records of one time, what is known of the player comes before what they do."""
IDLE_MS: Final = 1_000
"""How far a topic without records may be behind the others, in event time, before that is said,
where no signal waits for it."""
WATERMARK_STEP_MS: Final = 500
"""Least difference of two watermarks of a partition on `risk.signals.v1`, where no signal waits for
the second one."""


class InputState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a topic's partition; one of them holds the merge that it belongs to."""

    single: bytes
    sent_ms: int
    merged: bytes = b""


class Announcement(NamedTuple):
    """What says how far a topic's partition has come: to the detectors over all, and to its own."""

    signal: RiskSignal | None
    heartbeat: PlayerEvent | None


class ShardDetectors:
    """The detectors over the partitions of one number, of the topics that are there.

    `rules` may differ by topic: each topic changes them at an offset of its own.
    """

    def __init__(
        self, rules: Iterable[Rule] | RuleSet | Mapping[str, RuleSet], partition: int
    ) -> None:
        by_topic = (
            rules if isinstance(rules, Mapping) else dict.fromkeys(WATCHED, rule_set_of(rules))
        )
        first = next(iter(by_topic.values()))
        self.partition = partition
        self.single = {
            topic: PartitionDetectors(by_topic.get(topic, first), partition, topic)
            for topic in WATCHED
        }
        self._late: list[Signal] = []
        self.merged = self._make_merged(by_topic.get(TRANSACTIONS, first))
        self._sent_ms = dict.fromkeys(WATCHED, 0)
        self._newest: tuple[WalletTransaction, int] | None = None
        self._signals: list[RiskSignal] = []

    def _make_merged(self, rules: RuleSet) -> OrderedDetectors:
        inputs = [(topic, self.partition) for topic in MERGED]
        return OrderedDetectors(rules, inputs, Scope.PLAYER, MERGED, self._late.append)

    def rule_set_of(self, topic: str) -> str:
        """Return the name of the rules in force over a topic."""
        return self.single[topic].rule_set

    def may_stop(self, alert: FraudAlert) -> bool:
        """Return whether an alert may block or hold its player, by its rule and its handling."""
        own = self.single[TRANSACTIONS]
        return own.may_stop(alert) or self.merged.may_stop(alert)

    def observe(self, topic: str, event: Watched, offset: int) -> list[FraudAlert]:
        """Take in a record of a topic, each offset once and in the order of its partition."""
        own = self.single[topic]
        if isinstance(event, WalletTransaction) and event.occurred_at > own.watermark_ms:
            self._newest = (event, offset)
        alerts = own.observe(event, offset)
        if topic in MERGED:
            source = (topic, self.partition)
            alerts += self.merged.observe(event, source, offset, is_repeat=own.is_repeat)
        if not own.is_repeat and not is_heartbeat(event):
            self._collect(topic, event, offset, own.watermark_ms)
        return alerts

    def _collect(self, topic: str, event: Watched, offset: int, newest_ms: int) -> None:
        signals = signals_of(event, topic, self.partition, offset, GLOBAL_KINDS[topic])
        # Decided here, where every record of the partition is seen.
        if event.occurred_at < newest_ms - GRACE_MS:
            if missed := [*self._late, *signals]:
                self._signals.append(late_signal(missed[0], event.provider, LateAfter.NEWEST))
            self._late.clear()
            return
        self._signals += [partial_signal(signal, event.provider) for signal in signals]

    def take_signals(self, topic: str, next_offset: int) -> list[RiskSignal]:
        """Return the partial signals since the last call, and how far the topic has come.

        To be called after a batch of records of the topic, which ends before `next_offset`.
        """
        newest_ms = self.single[topic].watermark_ms
        if self._signals or newest_ms >= self._sent_ms[topic] + WATERMARK_STEP_MS:
            self._sent_ms[topic] = newest_ms
            place = (topic, self.partition, max(0, next_offset - 1))
            self._signals.append(watermark_signal(place, newest_ms))
        signals, self._signals = self._signals, []
        return signals

    def newest_ms(self, topic: str) -> int:
        """Return the newest event time of a topic; 0 before its first record."""
        return self.single[topic].watermark_ms

    def heartbeat(self) -> PlayerEvent | None:
        """Return a heartbeat for player events that are idle; None while the log waits for none.

        It waits for one where it is far ahead, or where a signal could be shown but for them. To be
        written to their partition only if all of it has been read.
        """
        if self._newest is None:
            return None
        event, offset = self._newest
        events_ms, release_ms = self.newest_ms(PLAYER_EVENTS), self.merged.next_release_ms
        holds_back = release_ms is not None and events_ms < release_ms <= event.occurred_at
        if event.occurred_at < events_ms + IDLE_MS and not holds_back:
            return None
        return player_heartbeat(event, f"{TRANSACTIONS}-{self.partition}@{offset}")

    def is_waited_for(
        self, topic: str, newest_ms: int, releases: Collection[int] | None = ()
    ) -> bool:
        """Return whether a topic is to be announced, where others have come to `newest_ms`.

        It is where it is far behind, or where a signal waits for it: one of `releases` is the event
        time that it has to come to. None is for a worker that does not know what waits; it
        announces in the steps of the watermarks. Player events are also if the log waits for them.
        """
        if topic == PLAYER_EVENTS and self.heartbeat() is not None:
            return True
        step_ms = WATERMARK_STEP_MS if releases is None else IDLE_MS
        if newest_ms >= max(self.newest_ms(topic), self._sent_ms[topic]) + step_ms:
            return True
        return self._holds_back(topic, newest_ms, releases)

    def _holds_back(self, topic: str, newest_ms: int, releases: Collection[int] | None) -> bool:
        """Return whether a signal waits until it is announced that a topic is at `newest_ms`."""
        sent_ms = self._sent_ms[topic]
        return any(sent_ms < release_ms <= newest_ms for release_ms in releases or ())

    def announce(
        self,
        topic: str,
        next_offset: int,
        newest_ms: int,
        releases: Collection[int] | None = (),
        *,
        is_idle: bool = True,
    ) -> Announcement:
        """Return what to write of a topic that `is_waited_for`; the signal is written first.

        `is_idle` is whether all of its partition has been read, to `next_offset`. Else it can say
        no more than its own newest event time, and only where a signal waits for that.
        """
        if not is_idle:
            newest_ms = self.newest_ms(topic)
        beat = self.heartbeat() if is_idle and topic == PLAYER_EVENTS else None
        is_due = self._holds_back(topic, newest_ms, releases)
        if is_idle and beat is None:  # a heartbeat gives a watermark of its own, when it is read
            is_due = self.is_waited_for(topic, newest_ms, releases)
        if not is_due:
            return Announcement(None, beat)
        self._sent_ms[topic] = newest_ms
        place = (topic, self.partition, max(0, next_offset - 1))
        return Announcement(watermark_signal(place, newest_ms), beat)

    def switch_rules(self, topic: str, rules: RuleSet) -> list[FraudAlert]:
        """Go on under other rules over a topic; return the ends of alerts that are not raised."""
        return self.single[topic].switch_rules(rules)

    def plan_switches(
        self, switches: Sequence[tuple[int, int]], rule_set_at: Callable[[int], RuleSet]
    ) -> None:
        """Have the merge change rules at offsets of the log: see `OrderedDetectors`."""
        self.merged.plan_switches(switches, rule_set_at)

    def states(self) -> dict[str, bytes]:
        """Return a snapshot by topic, of one moment; equal states give equal bytes."""
        # A topic without a record is not saved; a merge of nothing need not be.
        has_log = self.single[TRANSACTIONS].watermark_ms > 0
        holder = TRANSACTIONS if has_log else PLAYER_EVENTS
        return {
            topic: msgspec.msgpack.encode(
                InputState(
                    own.state(),
                    self._sent_ms[topic],
                    self.merged.state() if topic == holder else b"",
                )
            )
            for topic, own in self.single.items()
        }

    def restore(
        self, states: Mapping[str, bytes], rules_of_log: Callable[[int], RuleSet] | None = None
    ) -> None:
        """Take over snapshots by topic, before any record; a topic may be missing.

        `rules_of_log` gives the rules that were in force at an offset of the log: the merge is
        behind it. Raises ValueError for bytes that are not snapshots.
        """
        for topic, state in states.items():
            saved = msgspec.msgpack.decode(state, type=InputState)
            self.single[topic].restore(saved.single)
            self._sent_ms[topic] = saved.sent_ms
            if saved.merged:
                if rules_of_log is not None:
                    self.merged = self._make_merged(rules_of_log(judged_offset_of(saved.merged)))
                self.merged.restore(saved.merged)
