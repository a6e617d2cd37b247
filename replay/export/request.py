"""What an export is asked for, and the expression that its filters make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from replay.columns.where import AllOf, Comparison, Expression, parse_where
from schemas.errors import UsageError
from schemas.topics import (
    DEAD_LETTER_SUFFIX,
    OUTCOMES,
    PLAYER_EVENTS,
    TRANSACTIONS,
    catalogue,
)

Clock: TypeAlias = Literal["append", "event"]

SUBJECTS: Final[Mapping[str, str]] = MappingProxyType(
    {topic.name: topic.schema for topic in catalogue([]) if topic.schema is not None}
)
"""Schema of each topic of ours, by its unqualified name."""

EVENT_TIMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "wallet-transaction",
                "player-event",
                "market-settlement",
                "game-result",
                "risk-signal",
                "fraud-alert",
            ),
            "occurred_at",
        ),
        "wallet-outcome": "decided_at",
        "schema-drift": "seen_at",
        "dead-letter": "source_timestamp",
    }
)
"""The field that `--clock event` means, by subject."""

_KIND_FIELDS: Final = {
    "wallet-transaction": ("legs", "kind"),
    "player-event": ("type",),
    "market-settlement": ("action",),
    "risk-signal": ("kind",),
    "fraud-alert": ("rule_id",),
    "wallet-outcome": ("operation",),
    "dead-letter": ("code",),
    "schema-drift": ("what",),
    "game-result": ("operation",),
}
_WITHOUT_PROVIDER: Final = frozenset({"wallet-balance", "fraud-alert", "dead-letter"})
_WITHOUT_PLAYER: Final = frozenset({"market-settlement", "schema-drift"})
_KEYED_BY_PLAYER: Final = frozenset({TRANSACTIONS, OUTCOMES, PLAYER_EVENTS})


@dataclass(frozen=True)
class ExportRequest:
    """One stretch of one topic; the topic's name is unqualified."""

    topic: str
    since_ms: int | None = None
    until_ms: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    clock: Clock = "append"
    margin_ms: int = 0
    """What is read beyond the period on both sides."""
    partition: int | None = None
    player: str | None = None
    provider: str | None = None
    kind: str | None = None
    where: str | None = None
    is_raw: bool = False
    """Whether the values are exported as bytes, although the topic has a schema."""
    has_row_per_leg: bool = False
    unmask_reason: str | None = None
    """Why personal and secret fields are exported as they are; None: they are empty."""

    @property
    def subject(self) -> str | None:
        """The schema that the values are read with; None for bytes."""
        if self.is_raw:
            return None
        if self.topic.endswith(DEAD_LETTER_SUFFIX):
            return "dead-letter"
        return SUBJECTS.get(self.topic)

    @property
    def key_wanted(self) -> bytes | None:
        """The key of all records that can match, where the player's id alone is the key."""
        if self.player is None or self.topic not in _KEYED_BY_PLAYER:
            return None
        return self.player.encode()

    @property
    def time_column(self) -> str:
        """The column that the period is about. Raises UsageError for a topic without it."""
        if self.clock == "append":
            return "_append_at"
        if self.subject is None or self.subject not in EVENT_TIMES:
            raise UsageError(
                f"--clock event: the records of {self.topic} have no time of their event; use "
                "--clock append"
            )
        return EVENT_TIMES[self.subject]

    def is_like(self, other: ExportRequest) -> bool:
        """Return whether two requests differ in their period at most.

        A relative time is another moment when the same command is given again.
        """
        return replace(self, since_ms=other.since_ms, until_ms=other.until_ms) == other

    def check(self) -> None:
        """Check what belongs together. Raises UsageError."""
        by_time = self.since_ms is not None or self.until_ms is not None
        by_offset = self.from_offset is not None or self.to_offset is not None
        if by_time and by_offset:
            raise UsageError("give a period (--since, --until) or offsets, not both")
        if by_time:
            _ = self.time_column
        if self.has_row_per_leg and self.subject != "wallet-transaction":
            raise UsageError(f"--legs: the records of {self.topic} have no legs")
        if self.unmask_reason is not None and not self.unmask_reason.strip():
            raise UsageError("--reason is empty: say why these fields are needed")

    def condition(self) -> Expression | None:
        """Return what a row must satisfy beside its period; None if any does. Raises UsageError."""
        parts: list[Expression] = []
        if self.player is not None:
            parts.append(Comparison(self._player_field(), "=", (self.player,)))
        if self.provider is not None:
            if self.subject is None or self.subject in _WITHOUT_PROVIDER:
                raise UsageError(f"--provider: the records of {self.topic} have no provider")
            parts.append(Comparison(("provider",), "=", (self.provider,)))
        if self.kind is not None:
            if self.subject not in _KIND_FIELDS:
                raise UsageError(f"--kind: the records of {self.topic} have no kind")
            parts.append(Comparison(_KIND_FIELDS[self.subject], "=", (self.kind,)))
        if self.where is not None:
            parts.append(parse_where(self.where))
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _player_field(self) -> tuple[str, ...]:
        if self.subject in _WITHOUT_PLAYER:
            raise UsageError(f"--player: the records of {self.topic} name no player")
        return ("_key",) if self.subject is None else ("player_id",)
