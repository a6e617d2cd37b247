"""The changes of the rules in the order of their topic, and the set that they come to. Pure.

The position of a change is the offset behind it; position 0 is before all of them, where the rules
of the release are active. The set at a position depends on the changes before it alone, so a
position in an activation marker names exactly one set for a worker, its successor and a replay.
A change that contradicts the ones before it is refused by every reader alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from fraud_agents.detectors.catalogue import DEFAULT_RULES
from fraud_agents.rule_set import CANARY_PERCENTS, RuleEntry, RuleSet, RuleState, Snooze
from fraud_agents.rules import Rule
from schemas.errors import UsageError
from schemas.rule_changes import RuleChange, RuleChangeKind

VersionId = tuple[str, int]
_PATTERNS: Final[Mapping[str, Rule]] = MappingProxyType(
    {rule.rule_id: rule for rule in DEFAULT_RULES}
)
"""A rule of each detector: a published one has its numbers and words, at least."""
_SEGMENT: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_IN: Final = "in"
_OUT: Final = "out"
_WATCHING: Final = (RuleState.SHADOW, RuleState.CANARY, RuleState.ACTIVE)


class RefusedChange(msgspec.Struct, frozen=True):
    """A change that the book does not follow, and why."""

    offset: int
    change: RuleChange
    reason: str


class VersionStatus(msgspec.Struct, frozen=True):
    """One published version: its state, and who set it and why."""

    rule: Rule
    state: RuleState = RuleState.DRAFT
    percent: int = 100
    actor: str = ""
    reason: str = ""


class RuleBook:
    """All versions and their states after the changes so far.

    `base` are the rules of the release: active until a change says otherwise.
    """

    def __init__(self, base: Sequence[Rule]) -> None:
        self.base = tuple(base)
        self.versions: dict[VersionId, VersionStatus] = {
            (rule.rule_id, rule.version): VersionStatus(rule, RuleState.ACTIVE) for rule in base
        }
        self.snoozes: list[tuple[Snooze, RuleChange]] = []
        self.segments: dict[str, set[str]] = {}
        self.position = 0
        self.refused: list[RefusedChange] = []
        self._changes: list[tuple[int, RuleChange]] = []

    def apply(self, change: RuleChange, offset: int) -> str | None:
        """Follow the change at `offset`; return why it is refused, None where it is not."""
        self.position = offset + 1
        reason = self._refusal_of(change)
        if reason is not None:
            self.refused.append(RefusedChange(offset, change, reason))
            return reason
        self._changes.append((offset, change))
        self._follow(change)
        return None

    def skip(self, offset: int) -> None:
        """Pass over a record that is not a change."""
        self.position = offset + 1

    def check(self, change: RuleChange) -> None:
        """Raise UsageError for a change that would be refused now."""
        reason = self._refusal_of(change)
        if reason is not None:
            raise UsageError(reason)

    def _refusal_of(self, change: RuleChange) -> str | None:
        if change.kind == RuleChangeKind.PUBLISHED:
            return self._refusal_of_rule(change)
        if change.kind == RuleChangeKind.STATE:
            return self._refusal_of_state(change)
        if change.kind == RuleChangeKind.SEGMENT:
            return _refusal_of_member(change)
        if change.kind == RuleChangeKind.SNOOZED:
            return self._refusal_of_snooze(change)
        return f"this release does not know changes of the kind {change.kind}"

    def _refusal_of_snooze(self, change: RuleChange) -> str | None:
        if change.until is None or (change.player_id is None) == (change.key is None):
            return "a snooze names a player or a key, and when it ends"
        if change.rule_id not in {rule_id for rule_id, _ in self.versions}:
            return f"rule {change.rule_id} is not known"
        return None

    def _refusal_of_rule(self, change: RuleChange) -> str | None:
        name = f"{change.rule_id}:{change.rule_version}"
        try:
            rule = decode_rule(change.rule or "")
        except UsageError as error:
            return f"{name}: {error}"
        if (rule.rule_id, rule.version) != (change.rule_id, change.rule_version):
            return f"{name}: the record holds {rule.rule_id}:{rule.version}"
        known = self.versions.get((rule.rule_id, rule.version))
        if known is not None and known.rule.digest != rule.digest:
            return f"{name} is published with other contents: a version is never changed"
        others = {
            one.rule.detector_id
            for (rule_id, _), one in self.versions.items()
            if rule_id == rule.rule_id
        }
        if others - {rule.detector_id}:
            return f"{name}: the rule's other versions are of the detector {', '.join(others)}"
        reason = _unusable(rule)
        return None if reason is None else f"{name}: {reason}"

    def _refusal_of_state(self, change: RuleChange) -> str | None:
        name = f"{change.rule_id}:{change.rule_version}"
        status = self.versions.get((change.rule_id, change.rule_version))
        if status is None:
            return f"{name} is not published"
        if change.state not in {state.value for state in RuleState} - {RuleState.DRAFT}:
            return f"{name}: {change.state} is not a state that can be set"
        if change.state == RuleState.CANARY and change.percent not in CANARY_PERCENTS:
            shares = ", ".join(map(str, CANARY_PERCENTS))
            return f"{name}: a canary is for {shares} % of the players, not {change.percent}"
        if change.state == RuleState.PAUSED and status.state not in _WATCHING:
            return f"{name} is {status.state}: there is nothing to pause"
        return None

    def _follow(self, change: RuleChange) -> None:
        version = (change.rule_id, change.rule_version)
        if change.kind == RuleChangeKind.PUBLISHED:
            rule = decode_rule(change.rule or "")
            status = VersionStatus(rule, actor=change.actor, reason=change.reason)
            self.versions.setdefault(version, status)
        elif change.kind == RuleChangeKind.STATE:
            self._set_state(version, RuleState(change.state or ""), change)
        elif change.kind == RuleChangeKind.SEGMENT:
            players = self.segments.setdefault(change.rule_id, set())
            (players.add if change.state == _IN else players.discard)(change.player_id or "")
        else:
            assert change.until is not None
            snooze = Snooze(change.rule_id, change.player_id, change.key, change.until)
            self.snoozes.append((snooze, change))

    def _set_state(self, version: VersionId, state: RuleState, change: RuleChange) -> None:
        for other, status in self.versions.items():
            # At most one version of a rule is active, and one the canary.
            is_same_rule = other[0] == version[0] and other != version
            if is_same_rule and status.state is state and state is not RuleState.SHADOW:
                self.versions[other] = msgspec.structs.replace(
                    status, state=RuleState.PAUSED, actor=change.actor, reason=change.reason
                )
        self.versions[version] = msgspec.structs.replace(
            self.versions[version],
            state=state,
            percent=change.percent if state is RuleState.CANARY else 100,
            actor=change.actor,
            reason=change.reason,
        )

    def rule_set(self) -> RuleSet:
        """Return the set in force after all changes so far."""
        entries = [
            RuleEntry(status.rule, status.state, status.percent)
            for status in self.versions.values()
            if status.state in _WATCHING
        ]
        segments = tuple((name, frozenset(own)) for name, own in sorted(self.segments.items()))
        return RuleSet(tuple(entries), tuple(snooze for snooze, _ in self.snoozes), segments)

    def rule_set_at(self, position: int) -> RuleSet:
        """Return the set that was in force after the changes below `position`.

        Raises UsageError for a position that has not been read.
        """
        if position > self.position:
            raise UsageError(
                f"the rules are needed as of position {position}, the topic of rules ends at "
                f"{self.position}: it was deleted, or another installation wrote the marker"
            )
        past = RuleBook(self.base)
        for offset, change in self._changes:
            if offset < position:
                past.apply(change, offset)
        return past.rule_set()

    def rules(self) -> tuple[Rule, ...]:
        """Return every version, so that any alert can be explained."""
        return tuple(status.rule for status in self.versions.values())


def _refusal_of_member(change: RuleChange) -> str | None:
    if _SEGMENT.fullmatch(change.rule_id) is None:
        return f"{change.rule_id!r} is not the name of a segment: small letters, digits, -"
    if not change.player_id or change.state not in (_IN, _OUT):
        return "a change of a segment names a player, and whether they are in or out"
    return None


def encode_rule(rule: Rule) -> str:
    """Return a rule as JSON, with sorted keys: equal rules give equal texts."""
    return msgspec.json.encode(rule, order="sorted").decode()


def decode_rule(text: str) -> Rule:
    """Return the rule of a published record. Raises UsageError for a text that is not one."""
    try:
        return msgspec.json.decode(text, type=Rule, strict=True)
    except msgspec.MsgspecError as error:
        raise UsageError(f"not a rule: {error}") from error


def _unusable(rule: Rule) -> str | None:
    """Return why the detectors of this release cannot apply a rule."""
    pattern = _PATTERNS.get(rule.detector_id)
    if pattern is None:
        return f"this release has no detector {rule.detector_id}"
    missing = [*(pattern.limits.keys() - rule.limits), *(pattern.words.keys() - rule.words)]
    return f"the detector needs {', '.join(sorted(missing))}" if missing else None
