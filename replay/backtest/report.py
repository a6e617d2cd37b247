"""Who a draft flags and the active rule does not, what is at stake, and who is near the edge. Pure.

A subject is a player of a brand, or the alert's key where it names no player. It is flagged by a
rule that opened an alert about it within the time.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final

import msgspec

from fraud_agents.rules import SEVERITIES, Rule
from replay.backtest.margins import MARGINS
from replay.backtest.run import (
    ACTIVE,
    DRAFT,
    BacktestPlan,
    BacktestRun,
    RaisedAlert,
    RuleRun,
    margin_name,
)
from schemas.events import FraudAlert
from schemas.topics import DAY_MS

_P95: Final = 95


class RuleName(msgspec.Struct, frozen=True):
    """A version of a rule."""

    rule_id: str
    version: int
    digest: str

    @classmethod
    def of(cls, rule: Rule) -> RuleName:
        """Return the name of a rule."""
        return cls(rule.rule_id, rule.version, rule.digest)


class Exposure(msgspec.Struct, frozen=True):
    """Money that alerts expose, in minor units of one currency."""

    currency: str
    minor: int


class RuleFigures(msgspec.Struct, frozen=True):
    """What one rule did over the time."""

    rule: RuleName
    alerts: int
    by_severity: dict[str, int]
    flagged: int
    exposed: list[Exposure]
    alerts_per_1000_players_day: float
    delay_ms: dict[str, int] | None
    """From the first event of an episode to the append of the record that raised its alert."""
    cpu_us_per_event: float


class FlaggedSubject(msgspec.Struct, frozen=True):
    """A subject with its alerts of one rule."""

    subject: str
    player_id: str | None
    alert_ids: list[str]
    severity: str
    observed: int
    threshold: int
    unit: str
    first_at_ms: int
    exposed: list[Exposure]
    places: list[str]
    """`topic-partition@first..last` of the records behind the gravest alert."""


class NearSubject(msgspec.Struct, frozen=True):
    """A subject about which the draft decides otherwise if its numbers move by so many percent."""

    margin_percent: int
    found: FlaggedSubject


class BacktestReport(msgspec.Struct, frozen=True):
    """The answer of a back-test; all but `cpu_us_per_event` depends on log and rules alone."""

    since_ms: int
    until_ms: int
    warm_up_ms: int
    events: int
    players: int
    unreadable: list[str]
    draft: RuleFigures
    active: RuleFigures | None
    kept: int
    """Subjects that both flag."""
    kept_later_ms: int | None
    """Median of how much later the draft flags them; earlier below zero."""
    added: list[FlaggedSubject]
    added_exposed: list[Exposure]
    dropped: list[FlaggedSubject]
    dropped_exposed: list[Exposure]
    nearest_silent: list[NearSubject]
    nearest_alerted: list[NearSubject]
    digest: str
    """SHA-256 over the ids of both rules' alerts: equal for equal answers."""


def make_report(plan: BacktestPlan, result: BacktestRun, examples: int = 10) -> BacktestReport:
    """Return the report of a run, with at most so many counter-examples of each kind."""
    flagged = {name: _flagged_by(run) for name, run in result.runs.items()}
    draft, active = flagged[DRAFT], flagged.get(ACTIVE, {})
    added = [draft[each] for each in sorted(draft.keys() - active.keys())]
    dropped = [active[each] for each in sorted(active.keys() - draft.keys())]
    kept = draft.keys() & active.keys()
    later = [draft[each].first_at_ms - active[each].first_at_ms for each in kept]
    active_run = result.runs.get(ACTIVE)
    return BacktestReport(
        plan.since_ms,
        plan.until_ms,
        plan.warm_up_ms,
        result.events,
        len(result.players),
        result.unreadable,
        _figures(plan, result, result.runs[DRAFT], len(draft)),
        None if active_run is None else _figures(plan, result, active_run, len(active)),
        kept=len(kept),
        kept_later_ms=round(median(later)) if later else None,
        added=added,
        added_exposed=_total(added),
        dropped=dropped,
        dropped_exposed=_total(dropped),
        nearest_silent=_nearest(flagged, -1)[:examples],
        nearest_alerted=_nearest(flagged, 1)[:examples],
        digest=_digest(result),
    )


def _flagged_by(run: RuleRun) -> dict[str, FlaggedSubject]:
    by_subject: dict[str, list[RaisedAlert]] = defaultdict(list)
    for raised in run.alerts.values():
        by_subject[_subject_of(raised.alert)].append(raised)
    return {subject: _flagged(subject, raised) for subject, raised in by_subject.items()}


def _subject_of(alert: FraudAlert) -> str:
    brand = alert.key.partition(":")[0]
    return alert.key if alert.player_id is None else f"{brand}:{alert.player_id}"


def _flagged(subject: str, raised: list[RaisedAlert]) -> FlaggedSubject:
    ordered = sorted(raised, key=lambda one: (one.opened_at_ms, one.alert.alert_id))
    gravest = max(
        (one.alert for one in ordered),
        key=lambda alert: (SEVERITIES.index(alert.severity), alert.observed),
    )
    return FlaggedSubject(
        subject,
        gravest.player_id,
        [one.alert.alert_id for one in ordered],
        gravest.severity,
        gravest.observed,
        gravest.threshold,
        gravest.unit,
        ordered[0].opened_at_ms,
        _exposed(one.alert for one in ordered),
        [
            f"{one.topic}-{one.partition}@{one.first_offset}..{one.last_offset}"
            for one in gravest.sources
        ],
    )


def _exposed(alerts: Iterable[FraudAlert]) -> list[Exposure]:
    sums: dict[str, int] = defaultdict(int)
    for alert in alerts:
        if alert.exposed_minor is not None and alert.currency is not None:
            sums[alert.currency] += alert.exposed_minor
    return [Exposure(currency, minor) for currency, minor in sorted(sums.items())]


def _total(flagged: Iterable[FlaggedSubject]) -> list[Exposure]:
    sums: dict[str, int] = defaultdict(int)
    for one in flagged:
        for exposure in one.exposed:
            sums[exposure.currency] += exposure.minor
    return [Exposure(currency, minor) for currency, minor in sorted(sums.items())]


def _figures(plan: BacktestPlan, result: BacktestRun, run: RuleRun, flagged: int) -> RuleFigures:
    raised = [*run.alerts.values()]
    by_severity: dict[str, int] = defaultdict(int)
    for one in raised:
        by_severity[one.alert.severity] += 1
    player_days = len(result.players) * (plan.until_ms - plan.since_ms) / DAY_MS
    return RuleFigures(
        RuleName.of(run.rule),
        len(raised),
        {name: by_severity[name] for name in SEVERITIES if name in by_severity},
        flagged,
        _exposed(one.alert for one in raised),
        round(1_000 * len(raised) / player_days, 3) if player_days else 0.0,
        _delays(raised),
        round(run.cpu_ns / 1_000 / result.observed, 2) if result.observed else 0.0,
    )


def _delays(raised: Iterable[RaisedAlert]) -> dict[str, int] | None:
    delays = sorted(max(0, one.opened_at_ms - one.alert.episode_start) for one in raised)
    if not delays:
        return None
    return {
        "p50": round(median(delays)),
        "p95": delays[min(len(delays) - 1, len(delays) * _P95 // 100)],
        "max": delays[-1],
    }


def _nearest(flagged: Mapping[str, Mapping[str, FlaggedSubject]], sign: int) -> list[NearSubject]:
    """Return the subjects whose verdict changes first as the draft demands more, or less."""
    draft = flagged[DRAFT]
    near: dict[str, NearSubject] = {}
    for percent in MARGINS:
        moved = flagged[margin_name(sign * percent)]
        if sign < 0:
            changed = {each: moved[each] for each in moved.keys() - draft.keys()}
        else:
            changed = {each: draft[each] for each in draft.keys() - moved.keys()}
        for subject, found in changed.items():
            near.setdefault(subject, NearSubject(percent, found))
    # Within one margin: of silent ones those with the most, of alerted ones those with the least.
    return sorted(
        near.values(),
        key=lambda one: (
            one.margin_percent,
            sign * one.found.observed,
            one.found.subject,
        ),
    )


def _digest(result: BacktestRun) -> str:
    runs = (result.runs[name] for name in (DRAFT, ACTIVE) if name in result.runs)
    ids = [sorted(run.alerts) for run in runs]
    return hashlib.sha256(msgspec.json.encode(ids)).hexdigest()
