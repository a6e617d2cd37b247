"""D01, bet velocity: more bets of one player in any 60 consecutive seconds than a person can place.

Key: brand and player. Counted: distinct events of the log with a BET leg, whether the ledger
refuses them later or not, since a refused bet was still sent: the log does not know yet.
`pitboss alerts explain` joins the ledger's outcomes and tells the refused ones apart, by reason.
The money exposed is the stakes of these bets, in their currency if it is one, else in euro cents;
the evidence has the stakes of each.
One alert an episode. What to consider before blaming a player: slots that report every line as a
bet, tables with many chips in one round, autoplay, several tables at once. A provider that sends
late after an outage raises no false alert as long as it sends its own times: bets older than the
provider's tolerance, whose times the normaliser had to move, are counted as late and not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from sys import intern
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import NEVER, SAMPLE_EVENTS_MAX
from fraud_agents.detectors.evidence import even_sample, evidence_of, stakes_by_currency
from fraud_agents.detectors.observation import has_clamped_time
from fraud_agents.features import stake_of, sum_currencies
from fraud_agents.rules import Limit, Rule
from fraud_agents.windows import (
    Arrival,
    Contribution,
    KeyedState,
    KeyedWindows,
    Label,
    SlidingWindow,
    Span,
    dump_windows,
    restore_windows,
)
from schemas.events import AlertStatus, FraudAlert, OffsetRange, WalletTransaction
from schemas.identity import alert_id
from schemas.topics import TRANSACTIONS

STATE_VERSION: Final = 4

VERSION_1: Final = Rule(
    rule_id="D01",
    version=1,
    severity="hold",
    threshold=500,
    unit="bets",
    window_ms=60_000,
    grace_ms=120_000,
    dedup_horizon_ms=180_000,
    close_below=400,
    cooldown_ms=300_000,
    idle_ms=600_000,
    reason=(
        "500 bets a minute is 20 times the 24 rounds a minute that Great Britain's 2.5 s slot "
        "cycle allows (UKGC RTS, since 2021-10-31) and 40 times the 12 of Germany's 5 s (GlueStV "
        "22a): nobody at one game gets there by hand. Grace: a worker that was killed has "
        "caught up within 30 s; four times that. Dedup horizon: window and grace together, the "
        "least with which no window can hold one event twice. Close below 400: a steady 500 a "
        "minute varies by 22 (Poisson), so 400 is 4.5 deviations away and does not flap. "
        "Cool-down 5 min: at most 12 alerts an hour a player, whose money is on hold all the "
        "while. Idle 10 min: twice the cool-down. What a key sends after such a pause is judged "
        "by itself; longer would keep in memory, and in every snapshot, players who have left."
    ),
)
"""Before the warning and its wider closing level; its alerts can still be explained."""

RULE: Final = msgspec.structs.replace(
    VERSION_1,
    version=2,
    close_below=96,
    title="Bet velocity",
    reason=(
        "500 bets a minute is 20 times the 24 rounds a minute that Great Britain's 2.5 s slot "
        "cycle allows (UKGC RTS, since 2021-10-31) and 40 times the 12 of Germany's 5 s (GlueStV "
        "22a): at one game no person gets there. 120 is five times the former: a person at five "
        "games, or a machine that is careful, so a person looks. Grace: a worker that was killed "
        "has caught up within 30 s; four times that. Dedup horizon: window and grace together, the "
        "least with which no window can hold one event twice. Close below 96: a steady 120 a "
        "minute varies by 11 (Poisson), so 96 is 2.2 deviations away. "
        "Cool-down 5 min: at most 12 alerts an hour a player, whose money is on hold all the "
        "while. Idle 10 min: twice the cool-down. What a key sends after such a pause is judged "
        "by itself; longer would keep in memory, and in every snapshot, players who have left."
    ),
    limits={"warn": Limit(120, "bets", "our default: five times the fastest legal slot cycle")},
)

REOPENED: Final = "reopened"
"""Evidence of an alert that was closed before a provider that lags behind had sent all its bets."""

# Bounds of caches: names come from outside, and their number is unknown.
_SHARED_LABELS_MAX: Final = 65_536
_BRANDS_MAX: Final = 1_024


class Episode(msgspec.Struct, array_like=True):
    """A period of too many bets, one alert: its last record.

    `busy_ms`: the last event time in a window above the closing level. `quiet_ms`: the alert is
    closed when the log's event time gets here; a provider that lags behind the others by an hour
    has bets that are an hour old. An alert that is closed and becomes busy again goes on.
    """

    alert: FraudAlert
    busy_ms: int
    quiet_ms: int

    @property
    def is_closed(self) -> bool:
        """Whether the last record is the one that closed it."""
        return self.alert.status == AlertStatus.CLOSED


class D01State(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot of the detector; episodes in the order of their opening, timers sorted."""

    version: int
    windows: KeyedState
    episodes: dict[str, Episode]
    timers: list[tuple[int, str]]


class BetVelocity:
    """D01 over one partition of the log.

    An alert opens for review at the rule's limit `warn`, where it has one, and rises to the rule's
    severity at the threshold.
    """

    kinds: ClassVar[frozenset[str] | None] = None  # every record moves the watermark
    topic: ClassVar[str] = TRANSACTIONS
    sees_repeats: ClassVar[bool] = True  # counted in the evidence

    def __init__(self, rule: Rule, partition: int) -> None:
        self.rule = rule
        self.watermark_ms = 0
        self._partition = partition
        self._windows = KeyedWindows(rule.window_spec(), rule.idle_ms)
        self._episodes: dict[str, Episode] = {}
        self._timers: list[tuple[int, str]] = []
        self._key_prefixes: dict[str, str] = {}
        self._labels: dict[Label, Label] = {}
        self._opens_at = min([rule.threshold, *(one.value for one in rule.limits.values())])

    def observe(self, event: WalletTransaction, offset: int) -> Sequence[FraudAlert]:
        """Count one record of the log; return an alert that it opens or raises."""
        windows, at_ms = self._windows, event.occurred_at
        if at_ms > windows.watermark_ms:
            for idle in windows.advance(at_ms):
                self._episodes.pop(idle, None)
        player_id = event.player_id
        if player_id is None or (stake := stake_of(event)) is None:
            return ()
        brand = event.brand
        key = (self._key_prefixes.get(brand) or self._key_prefix(brand)) + player_id
        window = windows.touch(key)
        if has_clamped_time(event):
            window.late += 1
            return ()
        minor, currency = stake
        label: Label = (event.provider, event.game_id or "", event.region, currency or "")
        shared = self._labels.get(label) or self._share(label)
        if window.add(at_ms, event.event_id, offset, shared, minor) is not Arrival.COUNTED:
            return ()
        episode = self._episodes.get(key) if self._episodes else None
        if episode is not None and at_ms <= episode.busy_ms + self.rule.cooldown_ms:
            return self._continue(key, episode, window, at_ms)
        span = window.peak(at_ms, self._opens_at)
        alerts: list[FraudAlert] = []
        if episode is not None:
            del self._episodes[key]
            if not episode.is_closed:
                alerts.append(_closed(episode.alert, at_ms))
        if span is not None:
            alerts.append(self._open(key, player_id, window, span, at_ms))
        return alerts

    @property
    def next_due_ms(self) -> int:
        """Event time at which the first episode may be over."""
        return self._timers[0][0] if self._timers else NEVER

    def advance(self, watermark_ms: int) -> Sequence[FraudAlert]:
        """Close the alerts that have been quiet for the cool-down, in the log's event time."""
        closed: list[FraudAlert] = []
        while self._timers and self._timers[0][0] <= watermark_ms:
            due_ms, key = heappop(self._timers)
            episode = self._episodes.get(key)
            if episode is None or episode.is_closed:
                continue
            if episode.quiet_ms > due_ms:
                heappush(self._timers, (episode.quiet_ms, key))
                continue
            episode.alert = _closed(episode.alert, due_ms)
            closed.append(episode.alert)
        return closed

    def close_cases(self, is_kept: Callable[[FraudAlert], bool]) -> Sequence[FraudAlert]:
        """Forget the open alerts that are not kept, and return the records that close them."""
        over = [key for key, episode in self._episodes.items() if not is_kept(episode.alert)]
        dropped = [self._episodes.pop(key) for key in over]
        at_ms = self._windows.watermark_ms
        return [_closed(one.alert, at_ms) for one in dropped if not one.is_closed]

    def _continue(
        self, key: str, episode: Episode, window: SlidingWindow, at_ms: int
    ) -> Sequence[FraudAlert]:
        is_busy = at_ms > episode.busy_ms and window.peak(at_ms, self.rule.close_below) is not None
        if is_busy:
            self._keep_busy(key, episode, at_ms)
        before = episode.alert
        has_reached = before.threshold == self.rule.threshold
        span = None if has_reached else window.peak(at_ms, self.rule.threshold)
        if span is not None:
            assert before.player_id is not None
            whole = self._alert(key, before.player_id, window, span, at_ms)
            episode.alert = msgspec.structs.replace(
                whole,
                alert_id=before.alert_id,
                episode_start=before.episode_start,
                status=AlertStatus.UPDATED.value,
                revision=before.revision + 1,
            )
        elif is_busy and episode.is_closed:
            episode.alert = msgspec.structs.replace(
                before,
                status=AlertStatus.UPDATED.value,
                revision=before.revision + 1,
                occurred_at=at_ms,
            )
        if episode.alert is before:
            return ()
        if before.status == AlertStatus.CLOSED:
            evidence = {**episode.alert.evidence, REOPENED: "true"}
            episode.alert = msgspec.structs.replace(episode.alert, evidence=evidence)
            self._keep_busy(key, episode, max(episode.busy_ms, at_ms), is_new=True)
        return (episode.alert,)

    def _keep_busy(self, key: str, episode: Episode, at_ms: int, *, is_new: bool = False) -> None:
        episode.busy_ms = at_ms
        episode.quiet_ms = self._windows.watermark_ms + self.rule.cooldown_ms
        if is_new:
            heappush(self._timers, (episode.quiet_ms, key))

    def _open(
        self, key: str, player_id: str, window: SlidingWindow, span: Span, at_ms: int
    ) -> FraudAlert:
        alert = self._alert(key, player_id, window, span, at_ms)
        self._episodes[key] = episode = Episode(alert, at_ms, 0)
        self._keep_busy(key, episode, at_ms, is_new=True)
        return alert

    def _alert(
        self, key: str, player_id: str, window: SlidingWindow, span: Span, at_ms: int
    ) -> FraudAlert:
        rule = self.rule
        events = list(window.contributions(span.start_ms, span.end_ms))
        offsets = [event.offset for event in events]
        episode_start = events[0].at_ms
        exposed_minor, currency = sum_currencies(stakes_by_currency(events))
        is_warning = span.size < rule.threshold
        return FraudAlert(
            alert_id=alert_id(rule.rule_id, rule.version, key, episode_start),
            rule_id=rule.rule_id,
            rule_version=rule.version,
            severity="review" if is_warning else rule.severity,
            key=key,
            player_id=player_id,
            title=f"{span.size} bets within {rule.window_ms // 1_000} s by player {player_id}",
            episode_start=episode_start,
            window_start=span.start_ms,
            window_end=span.end_ms,
            observed=span.size,
            threshold=self._opens_at if is_warning else rule.threshold,
            unit=rule.unit,
            occurred_at=at_ms,
            # The unqualified name: a replay in another namespace raises the same alert.
            sources=[OffsetRange(TRANSACTIONS, self._partition, min(offsets), max(offsets))],
            sample_event_ids=even_sample([event.event_id for event in events], SAMPLE_EVENTS_MAX),
            evidence=evidence_of(rule, window, events),
            exposed_minor=exposed_minor,
            currency=currency,
        )

    def _key_prefix(self, brand: str) -> str:
        # Escaped, so that brand "a" with player "b:c" and brand "a:b" with player "c" are two keys.
        if len(self._key_prefixes) >= _BRANDS_MAX:
            self._key_prefixes.clear()
        prefix = brand.replace("%", "%25").replace(":", "%3A") + ":"
        self._key_prefixes[brand] = prefix
        return prefix

    def _share(self, label: Label) -> Label:
        if len(self._labels) >= _SHARED_LABELS_MAX:
            self._labels.clear()  # only sharing is lost: equal labels stay equal
        provider, game_id, region, currency = label
        shared = (intern(provider), game_id, intern(region), intern(currency))
        self._labels[shared] = shared
        return shared

    def contributions(self, key: str, start_ms: int, end_ms: int) -> list[Contribution]:
        """Return the retained events of a key in [start_ms, end_ms), by event time."""
        window = self._windows.get(key)
        return [] if window is None else list(window.contributions(start_ms, end_ms))

    def state(self) -> bytes:
        """Return windows, watermark and open episodes as bytes."""
        return msgspec.msgpack.encode(
            D01State(
                STATE_VERSION, dump_windows(self._windows), self._episodes, sorted(self._timers)
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""
        saved = msgspec.msgpack.decode(state, type=D01State)
        if saved.version != STATE_VERSION:
            raise ValueError(
                f"state version {saved.version} of D01; this program reads {STATE_VERSION}"
            )
        restore_windows(self._windows, saved.windows)
        self._episodes, self._timers = dict(saved.episodes), list(saved.timers)


def _closed(alert: FraudAlert, at_ms: int) -> FraudAlert:
    return msgspec.structs.replace(
        alert, status=AlertStatus.CLOSED.value, revision=alert.revision + 1, occurred_at=at_ms
    )
