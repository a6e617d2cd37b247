"""What detectors with several inputs, or other keys than the player, see of a record. Pure.

A signal is the small part of a record that such detectors need, with the place that it came from.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fraud_agents.features import sum_legs
from schemas.events import GameResult, Kind, PlayerEvent, WalletTransaction

OPENED: Final = "deposit.opened"
DEPOSIT_OPENED: Final = "DEPOSIT_OPENED"
RESULT: Final = "RESULT"
_MONEY: Final = (Kind.BET, Kind.WIN, Kind.DEPOSIT, Kind.WITHDRAWAL)


class Signal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One signal; `kind` is a leg's kind, a player event's type, or DEPOSIT_OPENED."""

    at_ms: int
    kind: str
    brand: str
    player_id: str
    region: str
    event_id: str
    topic: str
    partition: int
    offset: int
    minor: int = 0
    currency: str | None = None
    attributes: dict[str, str] = {}

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset of the record."""
        return self.topic, self.partition, self.offset


def signals_of(
    event: WalletTransaction | PlayerEvent | GameResult, topic: str, partition: int, offset: int
) -> list[Signal]:
    """Return the signals of a record, in the order of its legs."""
    if event.player_id is None:
        return []
    common = (event.brand, event.player_id, event.region, event.event_id, topic, partition, offset)
    if isinstance(event, PlayerEvent):
        attributes = event.attributes
        return [Signal(event.occurred_at, event.type, *common, attributes=attributes)]
    if isinstance(event, GameResult):
        result = {"round": event.round_id, "selection": event.selection or ""}
        result |= {"game": event.game_id, "provider": event.provider}
        money = (event.stake_minor or 0, event.currency)
        return [Signal(event.occurred_at, RESULT, *common, *money, result)]
    signals = []
    for kind in _MONEY:
        if any(leg.kind == kind for leg in event.legs):
            minor, currency = sum_legs(event, kind)
            attributes = _attributes_of(event, kind)
            signals.append(
                Signal(event.occurred_at, kind.value, *common, minor, currency, attributes)
            )
    if event.operation == OPENED:
        minor, currency = sum_legs(event, Kind.INFORMATIONAL)
        signals.append(Signal(event.occurred_at, DEPOSIT_OPENED, *common, minor, currency))
    return signals


def _attributes_of(event: WalletTransaction, kind: Kind) -> dict[str, str]:
    if kind is Kind.DEPOSIT:
        reference = "" if event.reference is None else event.reference.operation
        return {
            "provider": event.provider,
            "signature": event.signature,
            "reference": reference,
        }
    return {"operation": event.operation} if kind is Kind.WITHDRAWAL else {}
