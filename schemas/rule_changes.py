"""Changes of the detectors' rules, as records of a topic, and what an alert of a rule is for."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class AlertHandling(StrEnum):
    """What an alert is for, beside its severity."""

    NORMAL = "normal"
    SHADOW = "shadow"
    SNOOZED = "snoozed"
    CONTROL = "control"


class RuleChangeKind(StrEnum):
    """What a change of the rules does."""

    PUBLISHED = "PUBLISHED"
    STATE = "STATE"
    SNOOZED = "SNOOZED"
    SEGMENT = "SEGMENT"


class RuleChange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Change of the detectors' rules: a version published, its state set, or a key snoozed.

    Or a player is put into a segment or taken out: `rule_id` is the segment, `state` is in or out.
    `rule` is the whole rule as JSON. `made_at` is for a person to read: changes apply in the order
    of their topic.
    """

    change_id: str
    kind: str
    rule_id: str
    rule_version: int
    rule: str | None = None
    state: str | None = None
    percent: int | None = None
    player_id: str | None = None
    key: str | None = None
    until: int | None = None
    actor: str
    reason: str
    made_at: int
