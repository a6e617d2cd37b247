"""D19, markers of harm: signs that play is harming the player. A score that opens a case.

Key: brand and player. Each marker is a reason; the score is the number of markers seen within 30
days. From `markers` on a person looks, and the case is opened again when one more joins. It never
blocks or holds anything by itself, and is not for marketing: a rule of it with the severity `hold`
or `block`, or with `stops_player`, is refused.

Markers: loss chasing (deposits soon after the balance is nearly gone), escalation (deposits of a
week against the player's own weeks before), long sessions, night play in the player's own time
zone, cancelled withdrawals, limits raised, failed deposits.

False-positive traps: shift workers (`own rhythm`: night play counts only when it is more than
before), travellers (the zone of the registration), one binge (one marker opens nothing), play on
winnings (deposits count, not stakes), a balance that was withdrawn (a withdrawal is not a loss).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from fraud_agents.detectors.base import Finding
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.features import exceeds_percent, reference_minor
from fraud_agents.rules import Limit, make_rule
from fraud_agents.signals import Signal
from schemas.events import Kind
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_MONTH_MS: Final = 30 * _DAY_MS
BASELINE_DAYS: Final = 90
ACTS_MIN: Final = 64

RULE: Final = make_rule(
    "D19",
    "review",
    2,
    "markers",
    30 * _DAY_MS,
    title="Markers of harm",
    stops_player=False,
    idle_ms=91 * _DAY_MS,
    cooldown_ms=31 * _DAY_MS,
    limits={
        "chases": Limit(3, "deposits in 24 h", "our default"),
        "chase_gap": Limit(15 * _MINUTE_MS, "ms after it is gone", "our default", "not above"),
        "gone": Limit(5, "% of the session's first balance", "our default", "below"),
        "escalation": Limit(200, "% of the own weekly average", "our default", "above"),
        "escalation_amount": Limit(20_000, "EUR cents in 7 days", "our default", "above"),
        "session": Limit(3 * _HOUR_MS, "ms without a pause of 15 min", "our default", "above"),
        "night": Limit(40, "% of the rounds of 30 days", "our default", "above"),
        "night_rounds": Limit(100, "rounds in 30 days", "ours: fewer show no habit"),
        "cancelled": Limit(2, "withdrawals in 7 days", "our default"),
        "raises": Limit(3, "limits in 30 days", "our default"),
        "failures": Limit(3, "failed deposits in 24 h", "our default"),
    },
    reason=(
        "Great Britain's guidance names families of indicators: spend, patterns of spend, time, "
        "behaviour, contact, tools, account. In a study of first-month markers (PMC3324590) 73 % "
        "of the cluster of frequent, intense, variable and rising play later closed their accounts "
        "for gambling problems. The numbers are ours."
    ),
)


class HarmState(msgspec.Struct, array_like=True):
    """What is remembered of one player; days and times are of event time."""

    zone: str = "UTC"
    balance: int = 0
    session_start_ms: int = 0
    session_last_ms: int = 0
    session_balance: int = 0
    gone_ms: int = 0
    chases: list[int] = []
    deposits: dict[int, int] = {}
    rounds: dict[int, list[int]] = {}
    acts: dict[str, list[int]] = {}
    first_ms: int = 0
    seen: dict[str, int] = {}


class MarkersOfHarm(SignalDetector[HarmState]):
    """D19 over the log and the player events of one partition."""

    scope: ClassVar[Scope] = Scope.PLAYER
    topics: ClassVar[tuple[str, ...]] = (PLAYER_EVENTS, TRANSACTIONS)
    signals: ClassVar[frozenset[str]] = frozenset(
        {
            Kind.BET.value,
            Kind.WIN.value,
            Kind.DEPOSIT.value,
            Kind.WITHDRAWAL.value,
            PlayerFact.REGISTERED.value,
            PlayerFact.WITHDRAWAL_CANCELLED.value,
            PlayerFact.LIMIT_RAISED.value,
            PlayerFact.DEPOSIT_FAILED.value,
        }
    )
    state_type = HarmState
    _COUNTED: ClassVar[dict[str, tuple[str, int]]] = {
        PlayerFact.WITHDRAWAL_CANCELLED.value: ("cancelled", 7 * _DAY_MS),
        PlayerFact.LIMIT_RAISED.value: ("raises", _MONTH_MS),
        PlayerFact.DEPOSIT_FAILED.value: ("failures", _DAY_MS),
    }

    def find(self, state: HarmState, event: Signal, offset: int) -> Iterator[Finding]:
        """Take in what a player does, and report the markers when a new one joins."""
        del offset
        state.first_ms = state.first_ms or event.at_ms
        before = len(self._current(state, event.at_ms))
        amount = reference_minor(event.minor, event.currency) or 0
        if event.kind == PlayerFact.REGISTERED:
            state.zone = event.attributes.get("time_zone") or state.zone
        elif event.kind == Kind.BET:
            self._take_bet(state, event.at_ms, amount)
        elif event.kind == Kind.WIN:
            state.balance += amount
        elif event.kind == Kind.WITHDRAWAL:
            state.balance = max(0, state.balance - amount)
        elif event.kind == Kind.DEPOSIT:
            self._take_deposit(state, event.at_ms, amount)
        else:
            name, size_ms = self._COUNTED[event.kind]
            times = [at for at in state.acts.get(name, []) if at > event.at_ms - size_ms]
            state.acts[name] = [*times, event.at_ms][-self._kept(name) :]
            if len(state.acts[name]) >= self.rule.limit(name):
                state.seen[name.upper()] = event.at_ms
        markers = self._current(state, event.at_ms)
        if len(markers) > before and len(markers) >= self.rule.threshold:
            yield self._finding(event, markers)

    def _kept(self, name: str) -> int:
        """Return how many acts are remembered: as many as any version of the rule counts."""
        return max(ACTS_MIN, self.rule.limit(name))

    def _current(self, state: HarmState, at_ms: int) -> list[str]:
        if not state.seen:
            return []
        state.seen = {name: at for name, at in state.seen.items() if at > at_ms - _MONTH_MS}
        return sorted(state.seen)

    def _take_bet(self, state: HarmState, at_ms: int, amount: int) -> None:
        if at_ms - state.session_last_ms >= 15 * _MINUTE_MS:
            state.session_start_ms, state.session_balance = at_ms, state.balance
        state.session_last_ms = at_ms
        if at_ms - state.session_start_ms > self.rule.limit("session"):
            state.seen["LONG_SESSION"] = at_ms
        state.balance = max(0, state.balance - amount)
        if 100 * state.balance < self.rule.limit("gone") * state.session_balance:
            state.gone_ms = at_ms
        self._count_round(state, at_ms)

    def _count_round(self, state: HarmState, at_ms: int) -> None:
        day = at_ms // _DAY_MS
        counts = state.rounds.setdefault(day, [0, 0])
        counts[0] += 1
        counts[1] += _local_hour(at_ms, state.zone) < 5
        if len(state.rounds) > BASELINE_DAYS:
            del state.rounds[min(state.rounds)]
        rounds, at_night = _sum_days(state.rounds, day - 29, day)
        if rounds < self.rule.limit("night_rounds"):
            return
        old_rounds, old_at_night = _sum_days(state.rounds, day - BASELINE_DAYS, day - 30)
        is_habit = old_rounds > 0 and at_night * old_rounds <= 2 * old_at_night * rounds
        if exceeds_percent(at_night, rounds, self.rule.limit("night")) and not is_habit:
            state.seen["NIGHT_PLAY"] = at_ms

    def _take_deposit(self, state: HarmState, at_ms: int, amount: int) -> None:
        if state.gone_ms and at_ms - state.gone_ms <= self.rule.limit("chase_gap"):
            chases = [at for at in state.chases if at > at_ms - _DAY_MS]
            state.chases = [*chases, at_ms][-self._kept("chases") :]
            if len(state.chases) >= self.rule.limit("chases"):
                state.seen["LOSS_CHASING"] = at_ms
        state.gone_ms = 0
        state.balance += amount
        state.session_balance = max(state.session_balance, state.balance)
        day = at_ms // _DAY_MS
        state.deposits[day] = state.deposits.get(day, 0) + amount
        for old in [one for one in state.deposits if one <= day - BASELINE_DAYS]:
            del state.deposits[old]
        week = sum(own for one, own in state.deposits.items() if one > day - 7)
        before = sum(own for one, own in state.deposits.items() if one <= day - 7)
        days_before = min(BASELINE_DAYS, day - state.first_ms // _DAY_MS) - 6
        is_large = week > self.rule.limit("escalation_amount")
        # Two weeks of history at least; a week of it is before * 7 / days_before.
        has_history = days_before >= 14 and before > 0
        escalation = self.rule.limit("escalation")
        if is_large and has_history and exceeds_percent(week * days_before, 7 * before, escalation):
            state.seen["ESCALATION"] = at_ms

    def _finding(self, event: Signal, markers: list[str]) -> Finding:
        return Finding(
            reason="",
            severity=self.rule.severity,
            title=f"Markers of harm: {', '.join(markers).lower().replace('_', ' ')}",
            player_id=event.player_id,
            at_ms=event.at_ms,
            window=(event.at_ms - _MONTH_MS, event.at_ms),
            observed=len(markers),
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            places=[event.place],
            event_ids=[event.event_id],
            evidence={"markers": " ".join(markers)},
        )


def _sum_days(rounds: dict[int, list[int]], first: int, last: int) -> tuple[int, int]:
    own = [counts for day, counts in rounds.items() if first <= day <= last]
    return sum(counts[0] for counts in own), sum(counts[1] for counts in own)


def _local_hour(at_ms: int, zone: str) -> int:
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        where = ZoneInfo("UTC")
    return datetime.fromtimestamp(at_ms // 1_000, UTC).astimezone(where).hour
