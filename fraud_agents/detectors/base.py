"""What the keyed detectors share: state by key, timers in event time, and the life of an alert.

A detector remembers a state for each key for as long as its rule says, in event time of the
partition. Timers fire when the partition's watermark reaches them. An alert is opened once for each
episode of a key and a reason; further findings are part of it and publish an update only when it is
graver or twice as large, so a flood of findings costs a handful of records. It is closed when the
episode has been quiet for the cool-down.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from typing import Any, ClassVar, Final, Generic, TypeVar

import msgspec

from fraud_agents.detectors.evidence import even_sample
from fraud_agents.rules import SEVERITIES, Rule, Severity
from schemas.events import AlertStatus, FraudAlert, OffsetRange, WalletTransaction
from schemas.identity import alert_id
from schemas.topics import TRANSACTIONS

S = TypeVar("S", bound=msgspec.Struct)

SAMPLE_EVENTS_MAX: Final = 50
STATE_VERSION: Final = 1
NEVER: Final = 2**62
RESULT: Final = "RESULT"
"""The kind of every game result, beside the kinds of legs and the types of player events."""

_CLOSE: Final = "close"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector has found, before it is part of an alert.

    `observed` and `exposed_minor` are of the whole episode, unless `adds`: then they are added to
    what the episode has.
    """

    reason: str
    severity: Severity
    title: str
    player_id: str | None
    at_ms: int
    window: tuple[int, int]
    observed: int
    threshold: int
    unit: str
    offsets: Sequence[int] = ()
    """Offsets of the detector's own partition; `places` for records of any."""
    places: Sequence[tuple[str, int, int]] = ()
    event_ids: Sequence[str]
    evidence: dict[str, str]
    exposed_minor: int | None = None
    currency: str | None = None
    adds: bool = False
    key_suffix: str = ""
    """Distinguishes several subjects of one key, such as rounds; part of the alert's key."""


class OpenCase(msgspec.Struct, array_like=True):
    """An open alert: its last record, what it has come to since, and when it was last busy."""

    alert: FraudAlert
    busy_ms: int
    observed: int
    exposed_minor: int | None


@lru_cache(maxsize=65_536)
def escape_key(*parts: str) -> str:
    """Join the parts of a key; a part may contain the sign between them."""
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def player_of(key: str) -> str:
    """Return the player of a key of brand and player."""
    return key.split(":")[1].replace("%3A", ":").replace("%25", "%")


class KeyedDetector(Generic[S]):
    """Base of the detectors that keep a state for each key. Subclasses give `find`."""

    kinds: ClassVar[frozenset[str] | None]
    """The detector sees the events that have a leg of one of these kinds."""
    topic: ClassVar[str] = TRANSACTIONS
    sees_repeats: ClassVar[bool] = False
    state_type: ClassVar[type[Any]]

    def __init__(self, rule: Rule, partition: int) -> None:
        self.rule = rule
        self.partition = partition
        self.watermark_ms = 0
        self.key = ""  # of the event that is being looked at
        self._states: OrderedDict[str, tuple[int, S]] = OrderedDict()
        self._cases: dict[str, OpenCase] = {}
        self._timers: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._states)

    # --- to be given by the detector ---------------------------------------------------------

    def key_of(self, event: Any) -> str | None:
        """Return the key of an event; None for one that the detector does not look at."""
        player_id: str | None = event.player_id
        return None if player_id is None else escape_key(event.brand, player_id)

    def find(self, state: S, event: Any, offset: int) -> Iterable[Finding]:
        """Take in an event of `key` and yield what it completes."""
        raise NotImplementedError

    def find_due(self, key: str, state: S, tag: str, due_ms: int) -> Iterable[Finding]:
        """Yield what a timer of `schedule` finds when it is due."""
        del key, state, tag, due_ms
        return ()

    def retain(self, state: S) -> bool:
        """Return whether an idle key is remembered all the same; drop what of it is out of date."""
        del state
        return False

    def note_forgotten(self, key: str, state: S) -> None:
        """Take in that an idle key is not remembered any more."""

    # --- for the partition -------------------------------------------------------------------

    def observe(self, event: Any, offset: int) -> list[FraudAlert]:
        """Take in the record at `offset`; each offset once, in the order of the log."""
        key = self.key_of(event)
        if key is None:
            return []
        self.key = key
        alerts: list[FraudAlert] = []
        for finding in self.find(self._touch(key), event, offset):
            alert = self._report(key, finding)
            if alert is not None:
                alerts.append(alert)
        return alerts

    @property
    def next_due_ms(self) -> int:
        """Event time of the first timer."""
        return self._timers[0][0] if self._timers else NEVER

    def advance(self, watermark_ms: int) -> list[FraudAlert]:
        """Raise the watermark: fire what is due, then forget keys that are idle."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        alerts: list[FraudAlert] = []
        while self._timers and self._timers[0][0] <= self.watermark_ms:
            due_ms, key, tag = heappop(self._timers)
            alerts += self._fire(key, tag, due_ms)
        while self._states:
            key, (touched_ms, state) = next(iter(self._states.items()))
            if touched_ms + self.rule.idle_ms >= self.watermark_ms:
                break
            del self._states[key]
            if self.retain(state):
                self._states[key] = (self.watermark_ms, state)
            else:
                self.note_forgotten(key, state)
        return alerts

    def schedule(self, key: str, tag: str, due_ms: int) -> None:
        """Have `find_due` called when the watermark reaches `due_ms`."""
        heappush(self._timers, (due_ms, key, tag))

    def _touch(self, key: str) -> S:
        held = self._states.get(key)
        state: S = self.state_type() if held is None else held[1]
        self._states[key] = (self.watermark_ms, state)
        self._states.move_to_end(key)
        return state

    def _fire(self, key: str, tag: str, due_ms: int) -> Iterable[FraudAlert]:
        if tag.startswith(_CLOSE):
            closed = self._close_if_quiet(key, due_ms)
            return () if closed is None else (closed,)
        held = self._states.get(key)
        if held is None:
            return ()
        found = self.find_due(key, held[1], tag, due_ms)
        return [alert for finding in found if (alert := self._report(key, finding)) is not None]

    # --- the life of an alert ----------------------------------------------------------------

    def _report(self, key: str, finding: Finding) -> FraudAlert | None:
        name = escape_key(key, finding.reason, finding.key_suffix)
        case = self._cases.get(name)
        if case is None or finding.at_ms > case.busy_ms + self.rule.cooldown_ms:
            alert = self._open(key, finding)
            self._cases[name] = OpenCase(
                alert, finding.at_ms, finding.observed, finding.exposed_minor
            )
            heappush(self._timers, (finding.at_ms + self.rule.cooldown_ms, name, _CLOSE))
            return alert
        case.busy_ms = max(case.busy_ms, finding.at_ms)
        self._grow(case, finding)
        if not _is_news(case, finding):
            return None
        case.alert = self._update(case, finding)
        return case.alert

    def _open(self, key: str, finding: Finding) -> FraudAlert:
        rule = self.rule
        alert_key = key if not finding.key_suffix else f"{key}:{finding.key_suffix}"
        identity = f"{alert_key}|{finding.reason}" if finding.reason else alert_key
        return FraudAlert(
            alert_id=alert_id(rule.rule_id, rule.version, identity, finding.at_ms),
            rule_id=rule.rule_id,
            rule_version=rule.version,
            severity=finding.severity,
            key=alert_key,
            player_id=finding.player_id,
            title=finding.title,
            episode_start=finding.at_ms,
            window_start=finding.window[0],
            window_end=finding.window[1],
            observed=finding.observed,
            threshold=finding.threshold,
            unit=finding.unit,
            occurred_at=finding.at_ms,
            sources=self._sources_of(finding),
            sample_event_ids=even_sample(finding.event_ids, SAMPLE_EVENTS_MAX),
            evidence={"rule_digest": rule.digest, **finding.evidence},
            reason=finding.reason,
            exposed_minor=finding.exposed_minor,
            currency=finding.currency,
        )

    def _sources_of(self, finding: Finding, old: Sequence[OffsetRange] = ()) -> list[OffsetRange]:
        """Return the ranges of a finding and of `old` together, one for each partition."""
        bounds = {(one.topic, one.partition): [one.first_offset, one.last_offset] for one in old}
        own = [(self.topic, self.partition, offset) for offset in finding.offsets]
        for topic, partition, offset in (*own, *finding.places):
            bounds.setdefault((topic, partition), []).append(offset)
        return [
            OffsetRange(topic, partition, min(offsets), max(offsets))
            for (topic, partition), offsets in sorted(bounds.items())
        ]

    def _grow(self, case: OpenCase, finding: Finding) -> None:
        if finding.adds:
            case.observed += finding.observed
            case.exposed_minor = (case.exposed_minor or 0) + (finding.exposed_minor or 0)
            return
        case.observed = max(case.observed, finding.observed)
        if finding.exposed_minor is not None:
            case.exposed_minor = max(case.exposed_minor or 0, finding.exposed_minor)

    def _update(self, case: OpenCase, finding: Finding) -> FraudAlert:
        old = case.alert
        samples = list(dict.fromkeys([*old.sample_event_ids, *finding.event_ids]))
        return msgspec.structs.replace(
            old,
            severity=max(old.severity, finding.severity, key=SEVERITIES.index),
            title=finding.title,
            window_end=max(old.window_end, finding.window[1]),
            observed=case.observed,
            threshold=finding.threshold,
            occurred_at=finding.at_ms,
            sources=self._sources_of(finding, old.sources),
            sample_event_ids=even_sample(samples, SAMPLE_EVENTS_MAX),
            evidence={**old.evidence, **finding.evidence},
            status=AlertStatus.UPDATED.value,
            revision=old.revision + 1,
            exposed_minor=case.exposed_minor,
        )

    def _close_if_quiet(self, name: str, due_ms: int) -> FraudAlert | None:
        case = self._cases.get(name)
        if case is None:
            return None
        quiet_ms = case.busy_ms + self.rule.cooldown_ms
        if quiet_ms > due_ms:
            heappush(self._timers, (quiet_ms, name, _CLOSE))
            return None
        del self._cases[name]
        return _closing_of(case, due_ms)

    def close_cases(self, is_kept: Callable[[FraudAlert], bool]) -> list[FraudAlert]:
        """Forget the open alerts that are not kept, and return the records that close them."""
        over = [name for name, case in self._cases.items() if not is_kept(case.alert)]
        return [_closing_of(self._cases.pop(name), self.watermark_ms) for name in over]

    # --- snapshots ---------------------------------------------------------------------------

    def state(self) -> bytes:
        """Return everything that future answers depend on; equal states give equal bytes."""
        return msgspec.msgpack.encode(
            (
                STATE_VERSION,
                self.watermark_ms,
                [(key, touched_ms, state) for key, (touched_ms, state) in self._states.items()],
                self._cases,
                sorted(self._timers),
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""
        shape = tuple[
            int,
            int,
            list[tuple[str, int, self.state_type]],  # type: ignore[name-defined] # by subclass
            dict[str, OpenCase],
            list[tuple[int, str, str]],
        ]
        version, watermark_ms, states, cases, timers = msgspec.msgpack.decode(state, type=shape)
        if version != STATE_VERSION:
            raise ValueError(
                f"state version {version} of {self.rule.rule_id}; this program reads "
                f"{STATE_VERSION}"
            )
        self.watermark_ms = watermark_ms
        self._states = OrderedDict((key, (touched_ms, own)) for key, touched_ms, own in states)
        self._cases, self._timers = cases, timers


def _closing_of(case: OpenCase, at_ms: int) -> FraudAlert:
    return msgspec.structs.replace(
        case.alert,
        status=AlertStatus.CLOSED.value,
        revision=case.alert.revision + 1,
        observed=case.observed,
        exposed_minor=case.exposed_minor,
        occurred_at=at_ms,
    )


def _is_news(case: OpenCase, finding: Finding) -> bool:
    """Return whether the alert has become graver, or twice as large as last published."""
    old = case.alert
    return (
        SEVERITIES.index(finding.severity) > SEVERITIES.index(old.severity)
        or case.observed >= 2 * max(1, old.observed)
        or (case.exposed_minor or 0) >= 2 * (old.exposed_minor or 0) > 0
    )


def has_kind(event: WalletTransaction, kind: str) -> bool:
    """Return whether an event has a leg of a kind."""
    for leg in event.legs:  # noqa: SIM110 - any() makes a generator for every record of the log
        if leg.kind == kind:
            return True
    return False
