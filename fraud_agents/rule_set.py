"""The rules in force at a record of the log, and what becomes of the alerts that they raise. Pure.

Every version in force sees all events of its scope, so it is warm when its state changes. Whether
an alert is raised, and what for, is decided here afterwards, from the alert and the set alone:
a replay that changes sets at the same records decides the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import StrEnum
from hashlib import blake2b
from typing import Final

import msgspec

from fraud_agents.features import reference_minor
from fraud_agents.rules import Rule
from schemas.errors import UsageError
from schemas.events import FraudAlert
from schemas.rule_changes import AlertHandling

CANARY_PERCENTS: Final = (1, 5, 25, 100)
_SHARES: Final = 10_000


class RuleState(StrEnum):
    """State of one version of a rule; a draft and a paused one look at nothing."""

    DRAFT = "draft"
    SHADOW = "shadow"
    CANARY = "canary"
    ACTIVE = "active"
    PAUSED = "paused"


class RuleEntry(msgspec.Struct, frozen=True):
    """A version in force: shadow, canary for a share of the players, or active."""

    rule: Rule
    state: RuleState = RuleState.ACTIVE
    percent: int = 100

    @property
    def name(self) -> str:
        """Name of the entry in that of its set: `D01@2#<digest>`, with a state if not active."""
        name = f"{self.rule.rule_id}@{self.rule.version}#{self.rule.digest}"
        if self.state is RuleState.ACTIVE:
            return name
        share = str(self.percent) if self.state is RuleState.CANARY else ""
        return f"{name}:{self.state}{share}"


class Snooze(msgspec.Struct, frozen=True):
    """Alerts of a rule about one player, or of one key, that are quiet before an event time."""

    rule_id: str
    player_id: str | None
    key: str | None
    until_ms: int

    def covers(self, alert: FraudAlert) -> bool:
        """Return whether an alert is snoozed."""
        is_about = (
            alert.key == self.key if self.key is not None else alert.player_id == self.player_id
        )
        is_early = alert.occurred_at < self.until_ms
        return is_about and is_early and alert.rule_id == self.rule_id


class RuleSet(msgspec.Struct, frozen=True):
    """The versions in force, the snoozes, and the segments of players.

    Raises UsageError for two active versions of one rule, or two canaries.
    """

    entries: tuple[RuleEntry, ...]
    snoozes: tuple[Snooze, ...] = ()
    segments: tuple[tuple[str, frozenset[str]], ...] = ()
    """Players of each segment."""

    def __post_init__(self) -> None:
        for state in (RuleState.ACTIVE, RuleState.CANARY):
            ids = [entry.rule.rule_id for entry in self.entries if entry.state is state]
            if len(set(ids)) != len(ids):
                names = ", ".join(entry.name for entry in self.entries)
                raise UsageError(f"two versions of one rule in a set: {names}")

    @property
    def name(self) -> str:
        """Name of the set, equal for equal versions in equal states: comma-separated."""
        return ",".join(entry.name for entry in self.entries)

    def entry_of(self, rule: Rule) -> RuleEntry | None:
        """Return the entry of exactly this version."""
        return next((entry for entry in self.entries if entry.rule == rule), None)

    def players_of(self, rule: Rule) -> frozenset[str] | None:
        """Return the players that a rule's scope names by their segments; None: all."""
        if rule.scope is None or not rule.scope.segments:
            return None
        own = [players for name, players in self.segments if name in rule.scope.segments]
        return frozenset[str]().union(*own)

    def handling_of(self, alert: FraudAlert, entry: RuleEntry) -> AlertHandling | None:
        """Return what an alert of an entry is for; None if it is not raised."""
        if entry.state is RuleState.SHADOW:
            return AlertHandling.SHADOW
        share = share_of(entry.rule.rule_id, alert)
        if entry.state is RuleState.CANARY and share >= entry.percent * _SHARES // 100:
            return None
        if entry.state is RuleState.ACTIVE and share < self._canary_share(entry.rule.rule_id):
            return None
        if any(snooze.covers(alert) for snooze in self.snoozes):
            return AlertHandling.SNOOZED
        return AlertHandling.CONTROL if _is_control(alert, entry.rule) else AlertHandling.NORMAL

    def _canary_share(self, rule_id: str) -> int:
        for entry in self.entries:
            if entry.state is RuleState.CANARY and entry.rule.rule_id == rule_id:
                return entry.percent * _SHARES // 100
        return 0

    def handle(self, alert: FraudAlert, entry: RuleEntry) -> FraudAlert | None:
        """Return the alert as it is published; None if it is not raised."""
        handling = self.handling_of(alert, entry)
        if handling is None or handling is AlertHandling.NORMAL:
            return None if handling is None else alert
        changes: dict[str, object] = {"handling": handling.value}
        if handling is AlertHandling.SHADOW:
            changes["alert_id"] = shadow_id(alert.alert_id)
        if handling is AlertHandling.CONTROL:
            changes["severity"] = "hold"
            changes["evidence"] = {**alert.evidence, "rule_severity": alert.severity}
        return msgspec.structs.replace(alert, **changes)


def rule_set_of(rules: Iterable[Rule] | RuleSet) -> RuleSet:
    """Return a set in which all rules are active; a set is returned as it is."""
    if isinstance(rules, RuleSet):
        return rules
    return RuleSet(tuple(RuleEntry(rule) for rule in rules))


def shadow_id(alert_id: str) -> str:
    """Return the id of a shadow alert: the one that is raised once the rule is active differs."""
    return str(uuid.uuid5(uuid.UUID(alert_id), "shadow"))


def share_of(purpose: str, alert: FraudAlert) -> int:
    """Return a stable number below 10,000 of an alert's player, or of its key without one.

    It depends on `purpose`, so that not the same players try every rule.
    """
    subject = alert.player_id if alert.player_id is not None else alert.key
    digest = blake2b(f"{purpose}\0{subject}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _SHARES


def _is_control(alert: FraudAlert, rule: Rule) -> bool:
    control = rule.control
    if control is None or alert.severity != "block" or not alert.currency:
        return False
    exposed = reference_minor(alert.exposed_minor or 0, alert.currency)
    if exposed is None or exposed >= control.exposed_minor_max:
        return False
    return share_of("control group", alert) < control.percent * _SHARES // 100
