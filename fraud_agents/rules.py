"""Rules as data: each version immutable, checked when made, with the reason for every number.

A change of any number is a new version: alert ids depend on (rule, version, key, episode start),
and an auditor must be able to run exactly the rule that raised an alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from fraud_agents.windows import WindowSpec
from schemas.errors import UsageError

Severity = Literal["info", "review", "hold", "block"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "review", "hold", "block")
"""All severities, the mildest first."""

CASE_DETECTORS: Final = frozenset({"D19"})
"""Detectors that open a case for a person and never stop a player, whatever a rule would say:
markers of harm are a reason to talk to a player, not to take hold of their money."""


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One number of a rule: its unit, where it comes from, and which way makes the rule stricter.

    `alerts` is the side of the number on which the rule raises an alert.
    """

    value: int
    unit: str
    source: str
    alerts: Literal["at or above", "above", "below", "not above"] = "at or above"

    def demand_more(self, percent: int) -> Limit:
        """Return this limit moved by `percent`, so that it takes more to raise an alert."""
        moved = -(-self.value * (100 + percent) // 100)
        if self.alerts in {"below", "not above"}:
            moved = self.value * (100 - percent) // 100
        return msgspec.structs.replace(self, value=moved)


class RuleScope(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events that a rule looks at: one of the names in each list; an empty list means all."""

    regions: list[str] = []
    brands: list[str] = []
    games: list[str] = []
    segments: list[str] = []
    """Groups of players, whose members are data as well: see `RuleSet.players_of`."""

    def includes(self, region: str, brand: str, game_id: str | None) -> bool:
        """Return whether an event with these names is looked at."""
        return (
            (not self.regions or region in self.regions)
            and (not self.brands or brand in self.brands)
            and (not self.games or game_id in self.games)
        )


class ControlGroup(msgspec.Struct, frozen=True):
    """Share of would-be blocks that are held for review instead, so that precision is measured.

    A player whose alert exposes `exposed_minor_max` or more, in euro cents, is blocked all the
    same; so is one whose money is unknown, or whose alert would bring the money of the partition's
    control group above `day_minor_max` for that day of event time.
    """

    percent: int
    exposed_minor_max: int
    day_minor_max: int


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of one rule. Raises UsageError for numbers that contradict each other.

    `limits` are the numbers beside the threshold, `regions` those that differ by jurisdiction (by
    the name of the limit), `words` its lists of names: providers, campaigns, games.
    """

    rule_id: str
    version: int
    severity: Severity
    threshold: int
    """Inclusive: `observed >= threshold` raises an alert."""
    unit: str
    window_ms: int
    grace_ms: int
    """How far behind the newest event of its key an event may be and still be checked."""
    dedup_horizon_ms: int
    """How long an event id is remembered."""
    close_below: int
    """An episode continues while windows hold at least this many."""
    cooldown_ms: int
    """It ends when no window held that many for this long, in event time."""
    idle_ms: int
    """A key is forgotten when it is silent while the log's event time moves on by this much."""
    reason: str
    """Reason for these numbers; it enters the digest, so its words are fixed, too."""
    title: str = ""
    limits: dict[str, Limit] = {}
    regions: dict[str, dict[str, Limit]] = {}
    words: dict[str, list[str]] = {}
    stops_player: bool = True
    """Whether its alerts may block or hold the player; not where another is at fault: a provider,
    a game, the operator."""
    detector: str = ""
    """The detector that applies it, where it is not named like the rule."""
    owner: str = ""
    scope: RuleScope | None = None
    control: ControlGroup | None = None

    def __post_init__(self) -> None:
        name = f"rule {self.rule_id} version {self.version}"
        if not self.rule_id or self.version < 1:
            raise UsageError(f"{name}: a rule has an id, and versions from 1 on")
        if not 1 <= self.close_below <= self.threshold:
            raise UsageError(
                f"{name}: close_below {self.close_below} is not between 1 and {self.threshold}"
            )
        if self.cooldown_ms < self.window_ms + self.grace_ms:
            # Otherwise a straggler could open an episode that shares events, and the alert's id,
            # with the previous one.
            raise UsageError(
                f"{name}: cooldown_ms {self.cooldown_ms} is less than window and grace together"
            )
        if self.idle_ms < max(self.dedup_horizon_ms, self.cooldown_ms):
            raise UsageError(
                f"{name}: idle_ms {self.idle_ms} forgets a key before its episode can close"
            )
        if self.detector_id in CASE_DETECTORS:
            self._check_case_only(name)
        self.window_spec()

    def _check_case_only(self, name: str) -> None:
        if self.severity in ("hold", "block") or self.stops_player:
            raise UsageError(
                f"{name}: {self.detector_id} opens a case for a person and stops no player: "
                f"it has severity review or info and stops_player false, not {self.severity} and "
                f"{str(self.stops_player).lower()}"
            )

    @property
    def detector_id(self) -> str:
        """Name of the detector that applies the rule."""
        return self.detector or self.rule_id

    def limit(self, name: str, region: str = "") -> int:
        """Return a number of the rule: the region's own where it has one."""
        own = self.regions.get(region)
        if own is not None and name in own:
            return own[name].value
        return self.limits[name].value

    def window_spec(self) -> WindowSpec:
        """Return the windows that the rule needs."""
        windows_kept = -(-self.dedup_horizon_ms // self.window_ms)
        # With four times the threshold in every window kept, one of them has raised the alert long
        # before anything is dropped: a flood costs bounded memory and hides nothing.
        return WindowSpec(
            window_ms=self.window_ms,
            grace_ms=self.grace_ms,
            dedup_horizon_ms=self.dedup_horizon_ms,
            capacity=4 * self.threshold * windows_kept,
        )

    @property
    def digest(self) -> str:
        """Hash over every field, in 16 hex digits: rules that differ in anything differ in it."""
        # Of the plain map: a Struct with omitted fields has another header under msgpack.
        encoded = msgspec.msgpack.encode(msgspec.to_builtins(self))
        return blake2b(encoded, digest_size=8).hexdigest()


def make_rule(
    rule_id: str,
    severity: Severity,
    threshold: int,
    unit: str,
    window_ms: int,
    *,
    title: str,
    reason: str,
    grace_ms: int = 120_000,
    cooldown_ms: int = 0,
    idle_ms: int = 0,
    limits: dict[str, Limit] | None = None,
    regions: dict[str, dict[str, Limit]] | None = None,
    words: dict[str, list[str]] | None = None,
    stops_player: bool = True,
) -> Rule:
    """Make version 1 of a rule; what is not given follows from window and grace.

    An event id is known, an episode goes on, and a key is remembered for window and grace together:
    the least with which nothing that could still be counted is forgotten.
    """
    whole_ms = window_ms + grace_ms
    return Rule(
        rule_id=rule_id,
        version=1,
        severity=severity,
        threshold=threshold,
        unit=unit,
        window_ms=window_ms,
        grace_ms=grace_ms,
        dedup_horizon_ms=whole_ms,
        close_below=threshold,
        cooldown_ms=cooldown_ms or whole_ms,
        idle_ms=idle_ms or max(cooldown_ms, whole_ms),
        reason=reason,
        title=title,
        limits=limits or {},
        regions=regions or {},
        words=words or {},
        stops_player=stops_player,
    )


def find_rule(rules: Sequence[Rule], rule_id: str, version: int, digest: str) -> Rule:
    """Return the rule that raised an alert, in exactly its version.

    Raises UsageError if it is not among the rules that this release knows.
    """
    for rule in rules:
        if (rule.rule_id, rule.version, rule.digest) == (rule_id, version, digest):
            return rule
    known = ", ".join(f"{rule.rule_id}@{rule.version}" for rule in rules)
    raise UsageError(
        f"rule {rule_id}@{version}#{digest} is unknown to this release, which has {known}: "
        "run the release that raised the alert"
    )


def rule_set_name(rules: Sequence[Rule]) -> str:
    """Return the name of a set of rules, equal for equal sets: `D01@1#<digest>`, comma-separated.

    Raises UsageError for two versions of one rule.
    """
    names = [f"{rule.rule_id}@{rule.version}#{rule.digest}" for rule in rules]
    if len({rule.rule_id for rule in rules}) != len(rules):
        raise UsageError(f"two versions of one rule in a set: {', '.join(names)}")
    return ",".join(names)
