"""Detectors with other keys than the player, over the partial signals of every partition: pure.

The signals are records of `risk.signals.v1` under one key, so of one partition: the order in which
they were written there is recorded. Each says where it comes from. A signal that was written again
after a restart is known by its place, and how far each partition has come is a signal as well. The
detectors see the signals in the order of event time. Signals of the normaliser need no merge, and
are seen as they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.ordered import OrderedDetectors
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.rule_set import RuleSet, rule_set_of
from fraud_agents.rules import Rule
from fraud_agents.signals import RESULT, Signal
from fraud_agents.windows import InputId
from schemas import codec
from schemas.errors import Rejected
from schemas.events import FraudAlert, Kind, Position, RiskSignal, SignalKind
from schemas.identity import signal_id
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS

STATE_VERSION: Final = 2
SIGNAL_KEY: Final = b"fraud.detect"
"""Key of all partial signals and watermarks."""

TOPIC_SETS: Final = tuple(
    sorted({one.topics for one in SIGNAL_DETECTORS.values() if one.scope is Scope.ALL})
)
"""Topics that are merged together: a detector waits for no topic that it does not read."""


def _kinds_of(topic: str) -> frozenset[str]:
    own = [
        one.signals
        for one in SIGNAL_DETECTORS.values()
        if one.scope is Scope.ALL and topic in one.topics
    ]
    wanted = frozenset[str]().union(*own)
    of_log = {kind.value for kind in Kind}
    if topic == TRANSACTIONS:
        return wanted & of_log
    return wanted & {RESULT} if topic == GAME_RESULTS else wanted - of_log - {RESULT}


GLOBAL_KINDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {topic: _kinds_of(topic) for topic in (TRANSACTIONS, PLAYER_EVENTS, GAME_RESULTS)}
)
"""Kinds of partial signals by topic. A record gives one at most."""

_DETECTED: Final = frozenset({SignalKind.PARTIAL.value, SignalKind.WATERMARK.value})
_OWN: Final = ("signal", "event_id", "region", "minor", "currency")
_PREFIX: Final = "own."


def partial_signal(signal: Signal, provider: str) -> RiskSignal:
    """Return the record of a signal."""
    source = Position(*signal.place)
    own = (signal.kind, signal.event_id, signal.region, str(signal.minor), signal.currency or "")
    attributes = dict(zip(_OWN, own, strict=True))
    attributes |= {_PREFIX + name: text for name, text in signal.attributes.items()}
    return RiskSignal(
        signal_id=signal_id(SignalKind.PARTIAL, source, None),
        kind=SignalKind.PARTIAL.value,
        provider=provider,
        brand=signal.brand,
        source=source,
        record_index=None,
        player_id=signal.player_id,
        occurred_at=signal.at_ms,
        attributes=attributes,
    )


def watermark_signal(place: tuple[str, int, int], newest_ms: int) -> RiskSignal:
    """Return the record which says that a partition has come to an event time."""
    source = Position(*place)
    return RiskSignal(
        signal_id=signal_id(SignalKind.WATERMARK, source, None),
        kind=SignalKind.WATERMARK.value,
        provider="",
        brand="",
        source=source,
        record_index=None,
        player_id=None,
        occurred_at=newest_ms,
        attributes={},
    )


class LateAfter(StrEnum):
    """Whether a record is behind its partition's newest one, or behind what was said of it."""

    NEWEST = "newest"
    IDLE = "idle"


def late_signal(signal: Signal, provider: str, after: LateAfter) -> RiskSignal:
    """Return the record which says that detectors over several partitions did not see another.

    It names the player, the event and its place: one that matters can be looked at by hand.
    """
    source = Position(*signal.place)
    return RiskSignal(
        signal_id=signal_id(SignalKind.LATE, source, None),
        kind=SignalKind.LATE.value,
        provider=provider,
        brand=signal.brand,
        source=source,
        record_index=None,
        player_id=signal.player_id,
        occurred_at=signal.at_ms,
        attributes={"event_id": signal.event_id, "after": after.value},
    )


def read_partial(record: RiskSignal) -> Signal | None:
    """Return the signal of a record that `partial_signal` made; None of another one."""
    own, source = record.attributes, record.source
    if not all(name in own for name in _OWN) or not own["minor"].lstrip("-").isdecimal():
        return None
    return Signal(
        record.occurred_at,
        own["signal"],
        record.brand,
        record.player_id or "",
        own["region"],
        own["event_id"],
        source.topic,
        source.partition,
        source.offset,
        int(own["minor"]),
        own["currency"] or None,
        {
            name.removeprefix(_PREFIX): text
            for name, text in own.items()
            if name.startswith(_PREFIX)
        },
    )


def newest_signal_ms(values: Iterable[bytes]) -> int:
    """Return the newest event time of records of `risk.signals.v1`; 0 where none is readable."""
    decode, newest_ms = codec.decoder(RiskSignal), 0
    for value in values:
        with suppress(Rejected):
            record = decode(value)
            if record.kind in _DETECTED:
                newest_ms = max(newest_ms, record.occurred_at)
    return newest_ms


class GlobalState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot: the merges by their topics, the last offset of each input, and what needs none."""

    version: int
    merges: list[bytes]
    seen: dict[str, dict[int, int]]
    arriving: bytes = b""


class GlobalDetectors:
    """The detectors over one partition of `risk.signals.v1`.

    `count` is the number of partitions of each watched topic: the merges wait for all of them.
    """

    def __init__(self, rules: Iterable[Rule] | RuleSet, partition: int, count: int) -> None:
        self.partition = partition
        self._rules = rule_set_of(rules)
        self._count = count
        self._late: list[Signal] = []
        self._signals: list[RiskSignal] = []
        self._merges = [
            OrderedDetectors(
                self._rules,
                [(topic, number) for topic in topics for number in range(count)],
                Scope.ALL,
                topics,
                self._late.append,
            )
            for topics in TOPIC_SETS
        ]
        self._seen: dict[str, dict[int, int]] = {}
        self._arriving = PartitionDetectors(self._rules, partition, SIGNALS)

    def rule_set_of(self, topic: str) -> str:
        """Return the name of the rules in force."""
        del topic
        return self._rules.name

    def may_stop(self, alert: FraudAlert) -> bool:
        """Return whether an alert may block or hold its player, by its rule and its handling."""
        return self._merges[0].may_stop(alert)

    def observe(self, topic: str, record: RiskSignal, offset: int) -> list[FraudAlert]:
        """Take in a record, each offset once and in order.

        A partial signal that is not readable, or of a partition beyond `count`, is skipped.
        """
        del topic
        alerts = self._arriving.observe(record, offset)
        return alerts + self._merge(record)

    def _merge(self, record: RiskSignal) -> list[FraudAlert]:
        source: InputId = (record.source.topic, record.source.partition)
        if source[1] >= self._count:
            return []
        merges = [
            one for one, topics in zip(self._merges, TOPIC_SETS, strict=True) if source[0] in topics
        ]
        alerts: list[FraudAlert] = []
        if record.kind == SignalKind.WATERMARK:
            for merge in merges:
                alerts += merge.beat(source, record.occurred_at)
        elif record.kind == SignalKind.PARTIAL and self._is_new(source, record.source.offset):
            signal = read_partial(record)
            for merge in merges:
                if signal is not None and signal.kind in merge.kinds:
                    alerts += merge.take(signal)
            if self._late:  # for each merge that would have seen it
                self._signals.append(late_signal(self._late[0], record.provider, LateAfter.IDLE))
                self._late.clear()
        return alerts

    def _is_new(self, source: InputId, offset: int) -> bool:
        """Return whether a partition's record is behind those before; remember it.

        After a restart a worker writes signals again, in their order.
        """
        own = self._seen.setdefault(source[0], {})
        if offset <= own.get(source[1], -1):
            return False
        own[source[1]] = offset
        return True

    def releases(self, topic: str, newest_ms: int) -> list[int]:
        """Return for what event times of a topic's partitions signals wait that could be shown.

        Where all inputs come to these, nothing waits any more that `newest_ms` has passed.
        """
        found = [
            merge.last_release_ms(newest_ms)
            for merge, topics in zip(self._merges, TOPIC_SETS, strict=True)
            if topic in topics
        ]
        return [release_ms for release_ms in found if release_ms is not None]

    @property
    def newest_read_ms(self) -> int:
        """The newest event time that the signals say of any partition; 0 before the first."""
        return max([0, *(merge.newest_ms for merge in self._merges)])

    def newest_ms(self, topic: str) -> int:
        """Return 0: nothing waits for the time of this topic."""
        del topic
        return 0

    def take_signals(self, topic: str, next_offset: int) -> list[RiskSignal]:
        """Return which partial signals came too late, since the last call."""
        del topic, next_offset
        signals, self._signals = self._signals, []
        return signals

    def plan_switches(
        self, switches: Sequence[tuple[int, int]], rule_set_at: Callable[[int], RuleSet]
    ) -> None:
        """Do nothing: rules change at offsets of the signals."""

    def switch_rules(self, topic: str, rules: RuleSet) -> list[FraudAlert]:
        """Go on under other rules; return the ends of alerts that their rules no longer raise."""
        del topic
        self._rules = rules
        merged = [alert for merge in self._merges for alert in merge.switch_rules(rules)]
        return merged + self._arriving.switch_rules(rules)

    def states(self) -> dict[str, bytes]:
        """Return a snapshot by topic; equal states give equal bytes."""
        merges = [merge.state() for merge in self._merges]
        seen = {topic: dict(sorted(own.items())) for topic, own in sorted(self._seen.items())}
        state = GlobalState(STATE_VERSION, merges, seen, self._arriving.state())
        return {SIGNALS: msgspec.msgpack.encode(state)}

    def restore(
        self, states: Mapping[str, bytes], rules_of_log: Callable[[int], RuleSet] | None = None
    ) -> None:
        """Take over a snapshot, before any record. Raises ValueError for one of another format."""
        del rules_of_log
        if (state := states.get(SIGNALS)) is None:
            return
        saved = msgspec.msgpack.decode(state, type=GlobalState)
        if saved.version != STATE_VERSION:
            raise ValueError(f"state version {saved.version}; this program reads {STATE_VERSION}")
        for merge, own in zip(self._merges, saved.merges, strict=True):
            merge.restore(own)
        self._seen = saved.seen
        self._arriving.restore(saved.arriving)
