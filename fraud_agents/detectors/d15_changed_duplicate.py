"""D15, a transaction sent again with other content: a replay attack, or a provider's defect.

Key: brand and player; each event id is a subject of its own. The identity is (brand, provider,
operation, transaction id), so a provider that uses one id per brand or per operation is not a case.
The content is the fingerprint: player, amounts, round, game and reference, never time or request
id.

False-positive traps: a legal retry (the same content is counted, in the evidence, and is not a
finding), an id that a provider uses again another day (beyond the horizon). A second content under
another player, or after the horizon, is refused by the ledger with the outcome CONFLICT.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector
from fraud_agents.features import sum_legs
from fraud_agents.rules import make_rule
from schemas.events import Kind, WalletTransaction

_HOUR_MS: Final = 3_600_000

EVENTS_MAX: Final = 1_024
REMEMBERED_MS: Final = 600_000
"""Providers send retries within minutes; the ledger holds ids for ever."""

RULE: Final = make_rule(
    "D15",
    "block",
    1,
    "changed copies",
    60_000,
    title="Duplicate with other content",
    stops_player=False,
    cooldown_ms=2 * _HOUR_MS,
    reason=(
        "A hard invariant. Providers send retries within minutes; ten minutes of ids in memory "
        "are the fast path, the ledger's unique index holds for ever."
    ),
)

_CHECKED: Final = (Kind.BET, Kind.WIN, Kind.DEPOSIT, Kind.WITHDRAWAL, Kind.JACKPOT_WIN)


class SeenContent(msgspec.Struct, array_like=True):
    """First content of an event, and its copies."""

    at_ms: int
    offset: int
    fingerprint: str
    copies: int = 0


class SeenState(msgspec.Struct, array_like=True):
    """Events of one player by id, oldest first."""

    events: dict[str, SeenContent] = {}


class ChangedDuplicate(KeyedDetector[SeenState]):
    """D15 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(kind.value for kind in _CHECKED)
    sees_repeats: ClassVar[bool] = True
    state_type = SeenState

    def find(self, state: SeenState, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Compare an event with the first under its id."""
        seen = state.events.get(event.event_id)
        if seen is None:
            self._drop_old(state)
            content = SeenContent(event.occurred_at, offset, event.fingerprint)
            state.events[event.event_id] = content
            return
        if seen.fingerprint == event.fingerprint:
            seen.copies += 1
            return
        minor, currency = self._money_of(event)
        yield Finding(
            reason="CONTENT_DIFFERS",
            severity=self.rule.severity,
            title=f"{event.provider} sent {event.operation} {event.provider_tx_id} again, changed",
            player_id=event.player_id,
            at_ms=event.occurred_at,
            window=(min(seen.at_ms, event.occurred_at), max(seen.at_ms, event.occurred_at)),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[seen.offset, offset],
            event_ids=[event.event_id],
            evidence={
                "first_fingerprint": seen.fingerprint,
                "other_fingerprint": event.fingerprint,
                "same_copies": str(seen.copies),
            },
            exposed_minor=minor,
            currency=currency,
            adds=True,
            key_suffix=event.event_id,
        )

    def _drop_old(self, state: SeenState) -> None:
        events, horizon_ms = state.events, self.watermark_ms - REMEMBERED_MS
        while events:
            oldest = next(iter(events))
            is_full = len(events) >= EVENTS_MAX
            if events[oldest].at_ms >= horizon_ms and not is_full:
                break
            del events[oldest]

    def _money_of(self, event: WalletTransaction) -> tuple[int, str | None]:
        for kind in _CHECKED:
            minor, currency = sum_legs(event, kind.value)
            if currency is not None:
                return minor, currency
        return 0, None
