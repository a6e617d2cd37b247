"""D03, affiliate burst: deposits that one affiliate's players make, or that are made up for it.

Key: brand and affiliate, as the registration of each player names it; it is known until a player
was neither registered nor paid in for a year. Counted in 10 minutes and in
24 hours: money that no payment provider confirmed, deposits against the usual number of the same
hour of the week, the share that is not confirmed, the share of one amount. `unconfirmed` is the
exposure cap: whatever else the detector does, an affiliate's unconfirmed money is blocked once it
is above it.

The alert about the affiliate is the case: it names no player to stop, and lists those concerned.
Each of them has an alert of their own, which stops them: who has unconfirmed money, who paid the
one amount, or for a burst all who deposited in it; at once for all of the window, and later at the
deposit that makes them one of them.

False-positive traps: a campaign or payday (the usual number of that hour of the week, and different
amounts), a few deposits of one size (`shared_deposits`), an affiliate with few deposits
(`share_deposits`), players without an affiliate (not looked at).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from sys import intern
from types import MappingProxyType
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, escape_key
from fraud_agents.detectors.player_memory import PlayerMemory
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.features import (
    commonest_share_percent,
    count_events,
    exceeds_percent,
    reference_minor,
    sum_values,
)
from fraud_agents.rules import Limit, Rule, Severity, make_rule
from fraud_agents.signals import OPENED, Signal
from fraud_agents.windows import Arrival, EventWindow, ExactSpec, WindowEntry
from schemas.events import FraudAlert, Kind, SignatureVerdict
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_WEEK_HOURS: Final = 7 * 24
PLAYERS_NAMED_MAX: Final = 50
"""Players that the case lists; all of those concerned have alerts of their own."""

RULE: Final = make_rule(
    "D03",
    "hold",
    1,
    "affiliates",
    _DAY_MS,
    title="Affiliate burst",
    idle_ms=60 * _DAY_MS,
    limits={
        "unconfirmed": Limit(180_000, "EUR cents", "our default: USD 2,000", "above"),
        "deposits": Limit(20, "deposits in 10 min", "our default", "above"),
        "usual": Limit(6, "times the usual 10 min of the same hour of the week", "our default"),
        "share": Limit(5, "% not confirmed in 24 h", "our default", "above"),
        "share_deposits": Limit(10, "deposits in 24 h", "our default"),
        "one_amount": Limit(50, "% of one amount in 24 h", "our default", "above"),
        "shared_deposits": Limit(20, "deposits in 24 h", "ours: fewer are alike by accident"),
    },
    words={"providers": ["adyen", "stripe", "camt"], "unsigned": ["camt"]},
    reason=(
        "Affiliates are paid for players who deposit, so they have a reason to make them up. No "
        "public source has a number; these are ours, to be set by back-test."
    ),
)


class AffiliateState(msgspec.Struct, array_like=True):
    """Deposits of one affiliate's players, and the usual number for each hour of the week."""

    deposits: EventWindow = msgspec.field(default_factory=EventWindow)
    unconfirmed: EventWindow = msgspec.field(default_factory=EventWindow)
    usual_thousandths: dict[int, int] = {}
    hour: int = 0
    hour_count: int = 0


class AffiliateBurst(SignalDetector[AffiliateState]):
    """D03 over the log and the player events of every partition."""

    scope: ClassVar[Scope] = Scope.ALL
    topics: ClassVar[tuple[str, ...]] = (PLAYER_EVENTS, TRANSACTIONS)
    signals: ClassVar[frozenset[str]] = frozenset({Kind.DEPOSIT.value, PlayerFact.REGISTERED.value})
    state_type = AffiliateState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        self._affiliates: PlayerMemory[str] = PlayerMemory()
        self._spec = ExactSpec(rule.grace_ms, rule.dedup_horizon_ms, capacity=10_000)

    def key_of(self, event: Signal) -> str | None:
        """Return the affiliate of a deposit's player; note that of a registration."""
        player = escape_key(event.brand, event.player_id)
        if event.kind == PlayerFact.REGISTERED:
            affiliate = event.attributes.get("affiliate", "")
            if affiliate:
                self._affiliates.put(player, self.watermark_ms, intern(affiliate))
            return None
        known = self._affiliates.see(player, self.watermark_ms)
        return None if known is None else escape_key(event.brand, "affiliate", known)

    def find(self, state: AffiliateState, event: Signal, offset: int) -> Iterator[Finding]:
        """Count a deposit and compare."""
        del offset
        amount = reference_minor(event.minor, event.currency) or 0
        label = f"{event.minor} {event.currency}"
        entry = WindowEntry(
            event.at_ms, event.offset, event.event_id, amount, label, event.player_id
        )
        if state.deposits.add(entry, self._spec) is not Arrival.COUNTED:
            return
        self._count_hour(state, event.at_ms)
        if not self._is_confirmed(event):
            state.unconfirmed.add(entry, self._spec)
            unconfirmed = state.unconfirmed.ending(event.at_ms, _DAY_MS)
            if sum_values(unconfirmed) > self.rule.limit("unconfirmed"):
                yield from self._report_all(event, "UNCONFIRMED", unconfirmed, severity="block")
        recent = state.deposits.ending(event.at_ms, 10 * _MINUTE_MS)
        if count_events(recent) > self._most_usual(state, event.at_ms):
            yield from self._report_all(event, "DEPOSITS", recent)
        yield from self._find_shares(state, event)

    def _find_shares(self, state: AffiliateState, event: Signal) -> Iterator[Finding]:
        day = state.deposits.ending(event.at_ms, _DAY_MS)
        unconfirmed = state.unconfirmed.ending(event.at_ms, _DAY_MS)
        if count_events(day) >= self.rule.limit("share_deposits") and exceeds_percent(
            count_events(unconfirmed), count_events(day), self.rule.limit("share")
        ):
            yield from self._report_all(event, "SHARE_UNCONFIRMED", day, unconfirmed)
        is_many = count_events(day) >= self.rule.limit("shared_deposits")
        if is_many and commonest_share_percent(day) > self.rule.limit("one_amount"):
            [(amount, _)] = Counter(entry.label for entry in day).most_common(1)
            same = [entry for entry in day if entry.label == amount]
            yield from self._report_all(event, "ONE_AMOUNT", day, same)

    def _is_confirmed(self, event: Signal) -> bool:
        provider = event.attributes["provider"]
        is_signed = (
            event.attributes["signature"] == SignatureVerdict.VALID
            or provider in self.rule.words["unsigned"]
        )
        is_known = provider in self.rule.words["providers"]
        return is_known and is_signed and event.attributes["reference"] == OPENED

    def _count_hour(self, state: AffiliateState, at_ms: int) -> None:
        hour = at_ms // _HOUR_MS
        if hour > state.hour:
            place, usual = state.hour % _WEEK_HOURS, state.usual_thousandths
            if state.hour_count:
                counted = 1_000 * state.hour_count
                usual[place] = (3 * usual.get(place, counted) + counted) // 4
            state.hour, state.hour_count = hour, 0
        state.hour_count += 1

    def _most_usual(self, state: AffiliateState, at_ms: int) -> int:
        """Return how many deposits of 10 minutes raise nothing."""
        usual = state.usual_thousandths.get(at_ms // _HOUR_MS % _WEEK_HOURS, 0)
        return max(self.rule.limit("deposits"), self.rule.limit("usual") * usual // 6_000)

    def _report_all(
        self,
        event: Signal,
        reason: str,
        window: Sequence[WindowEntry],
        concerned: Sequence[WindowEntry] | None = None,
        severity: Severity | None = None,
    ) -> Iterator[Finding]:
        """Yield the case, and for each player concerned who has no alert yet the one that stops.

        `concerned` are the deposits of these players; None for all of the window.
        """
        severity = severity or self.rule.severity
        by_player: dict[str, list[WindowEntry]] = {}
        for entry in window if concerned is None else concerned:
            by_player.setdefault(entry.subject, []).append(entry)
        players = {
            "players_concerned": str(len(by_player)),
            "players": msgspec.json.encode([*by_player][:PLAYERS_NAMED_MAX]).decode(),
        }
        title = f"{count_events(window)} deposits of one affiliate: {reason}"
        yield self._finding(event, reason, window, severity, title=title, evidence=players)
        if severity not in ("hold", "block") or not self.rule.stops_player:
            return
        for player_id, own in by_player.items():
            has_alert = escape_key(self.key, reason, escape_key(player_id)) in self._cases
            if player_id == event.player_id or not has_alert:
                title = f"Deposits of an affiliate whose deposits raised an alert: {reason}"
                yield self._finding(event, reason, own, severity, title=title, player_id=player_id)

    def _finding(
        self,
        event: Signal,
        reason: str,
        window: Sequence[WindowEntry],
        severity: Severity,
        *,
        title: str,
        player_id: str | None = None,
        evidence: Mapping[str, str] = MappingProxyType({}),
    ) -> Finding:
        return Finding(
            reason=reason,
            severity=severity,
            title=title,
            player_id=player_id,
            key_suffix="" if player_id is None else escape_key(player_id),
            at_ms=event.at_ms,
            window=(window[0].at_ms, event.at_ms),
            observed=count_events(window),
            threshold=self.rule.threshold,
            unit="deposits",
            places=[event.place],
            event_ids=[entry.event_id for entry in window],
            evidence={"operator": ">", "eur_cents": str(sum_values(window)), **evidence},
            exposed_minor=sum_values(window),
            currency="EUR",
        )

    def advance(self, watermark_ms: int) -> list[FraudAlert]:
        """Raise the watermark: fire what is due, and forget who was not seen for a year."""
        alerts = super().advance(watermark_ms)
        deque(self._affiliates.forget(self.watermark_ms), maxlen=0)
        return alerts

    def state(self) -> bytes:
        """Return everything that future answers depend on."""
        return msgspec.msgpack.encode((super().state(), [*self._affiliates.items()]))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""
        shape = tuple[bytes, list[tuple[str, int, str]]]
        own, affiliates = msgspec.msgpack.decode(state, type=shape)
        self._affiliates.restore((who, at_ms, intern(name)) for who, at_ms, name in affiliates)
        super().restore(own)
