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


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one rule. Raises UsageError for numbers that contradict each other."""

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
        self.window_spec()

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
        return blake2b(msgspec.msgpack.encode(self), digest_size=8).hexdigest()


D01_BET_VELOCITY: Final = Rule(
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

DEFAULT_RULES: Final = (D01_BET_VELOCITY,)


def find_rule(rules: Sequence[Rule], rule_id: str, version: int, digest: str) -> Rule:
    """Return the rule that raised an alert, in exactly its version.

    Raises UsageError if it is not among the rules that this release knows.
    """
    for rule in rules:
        if (rule.rule_id, rule.version, rule.digest) == (rule_id, version, digest):
            return rule
    known = rule_set_name(rules)
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
