"""D01, bet velocity: more bets of one player in any 60 consecutive seconds than a person can place.

Key: brand and player. Counted: distinct events of the log with a BET leg, whether the ledger
refuses them later or not, since a refused bet was still sent. One alert an episode. What to
consider before blaming a player: slots that report every line as a bet, tables with many chips in
one round, autoplay, several tables at once. A provider that sends late after an outage raises no
false alert as long as it sends its own times: bets older than the provider's tolerance, whose times
the normaliser had to move, are counted as late and not checked.
"""

from __future__ import annotations

from sys import intern
from typing import Final

import msgspec

from fraud_agents.detectors.evidence import even_sample, evidence_of
from fraud_agents.detectors.observation import Observation, has_clamped_time
from fraud_agents.rules import Rule
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
from schemas.events import FraudAlert, Kind, Leg, OffsetRange
from schemas.identity import alert_id
from schemas.topics import TRANSACTIONS

SAMPLE_EVENTS_MAX: Final = 50
STATE_VERSION: Final = 1

_BET: Final = Kind.BET.value
# Bounds of caches: names come from outside, and their number is unknown.
_SHARED_LABELS_MAX: Final = 65_536
_BRANDS_MAX: Final = 1_024


class Episode(msgspec.Struct, array_like=True):
    """A period of too many bets, alerted once.

    `busy_ms`: the last event time in a window above the closing level.
    """

    alert_id: str
    busy_ms: int


class D01State(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot of the detector; episodes in the order of their opening."""

    version: int
    windows: KeyedState
    episodes: dict[str, Episode]


def _has_bet(legs: list[Leg]) -> bool:
    for leg in legs:  # noqa: SIM110 - any() makes a generator for every record of the log
        if leg.kind == _BET:
            return True
    return False


class BetVelocity:
    """D01 over one partition of the log."""

    def __init__(self, rule: Rule, partition: int) -> None:
        self.rule = rule
        self._partition = partition
        self._windows = KeyedWindows(rule.window_spec(), rule.idle_ms)
        self._episodes: dict[str, Episode] = {}
        self._key_prefixes: dict[str, str] = {}
        self._labels: dict[Label, Label] = {}

    def observe(self, event: Observation, offset: int) -> FraudAlert | None:
        """Count one record of the log; return an alert if it opens an episode."""
        event_id, brand, provider, region, player_id, legs, game_id, at_ms, _, _ = event
        windows = self._windows
        if at_ms > windows.watermark_ms:
            for idle in windows.advance(at_ms):
                self._episodes.pop(idle, None)
        if player_id is None or not _has_bet(legs):
            return None
        key = (self._key_prefixes.get(brand) or self._key_prefix(brand)) + player_id
        window = windows.touch(key)
        if has_clamped_time(event):
            window.late += 1
            return None
        label: Label = (provider, game_id or "", region)
        shared = self._labels.get(label) or self._share(label)
        if window.add(at_ms, event_id, offset, shared) is not Arrival.COUNTED:
            return None
        if self._episodes and self._goes_on(key, window, at_ms):
            return None
        span = window.peak(at_ms, self.rule.threshold)
        return None if span is None else self._open(key, player_id, window, span, at_ms)

    def _goes_on(self, key: str, window: SlidingWindow, at_ms: int) -> bool:
        episode = self._episodes.get(key)
        if episode is None:
            return False
        if at_ms > episode.busy_ms + self.rule.cooldown_ms:
            del self._episodes[key]
            return False
        if at_ms > episode.busy_ms and window.peak(at_ms, self.rule.close_below) is not None:
            episode.busy_ms = at_ms
        return True

    def _open(
        self, key: str, player_id: str, window: SlidingWindow, span: Span, at_ms: int
    ) -> FraudAlert:
        rule = self.rule
        events = list(window.contributions(span.start_ms, span.end_ms))
        offsets = [event.offset for event in events]
        episode_start = events[0].at_ms
        alert = alert_id(rule.rule_id, rule.version, key, episode_start)
        self._episodes[key] = Episode(alert, at_ms)
        return FraudAlert(
            alert_id=alert,
            rule_id=rule.rule_id,
            rule_version=rule.version,
            severity=rule.severity,
            key=key,
            player_id=player_id,
            title=f"{span.size} bets within {rule.window_ms // 1_000} s by player {player_id}",
            episode_start=episode_start,
            window_start=span.start_ms,
            window_end=span.end_ms,
            observed=span.size,
            threshold=rule.threshold,
            unit=rule.unit,
            occurred_at=at_ms,
            # The unqualified name: a replay in another namespace raises the same alert.
            sources=[OffsetRange(TRANSACTIONS, self._partition, min(offsets), max(offsets))],
            sample_event_ids=even_sample([event.event_id for event in events], SAMPLE_EVENTS_MAX),
            evidence=evidence_of(rule, window, events),
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
        provider, game_id, region = label
        shared = (intern(provider), game_id, intern(region))
        self._labels[shared] = shared
        return shared

    def contributions(self, key: str, start_ms: int, end_ms: int) -> list[Contribution]:
        """Return the retained events of a key in [start_ms, end_ms), by event time."""
        window = self._windows.get(key)
        return [] if window is None else list(window.contributions(start_ms, end_ms))

    def state(self) -> bytes:
        """Return windows, watermark and open episodes as bytes."""
        return msgspec.msgpack.encode(
            D01State(STATE_VERSION, dump_windows(self._windows), self._episodes)
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""
        saved = msgspec.msgpack.decode(state, type=D01State)
        if saved.version != STATE_VERSION:
            raise ValueError(
                f"state version {saved.version} of D01; this program reads {STATE_VERSION}"
            )
        restore_windows(self._windows, saved.windows)
        self._episodes = dict(saved.episodes)
