"""What detectors with several inputs, or other keys than the player, see of a record. Pure.

A signal is the small part of a record that such detectors need, with the place that it came from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from fraud_agents.features import sum_legs
from schemas.events import GameResult, Kind, PlayerEvent, WalletTransaction

OPENED: Final = "deposit.opened"
DEPOSIT_OPENED: Final = "DEPOSIT_OPENED"
RESULT: Final = "RESULT"
_DEPOSIT: Final = Kind.DEPOSIT.value
_WITHDRAWAL: Final = Kind.WITHDRAWAL.value
_MONEY: Final = (Kind.BET.value, Kind.WIN.value, _DEPOSIT, _WITHDRAWAL)
_DETAILED: Final = (_DEPOSIT, _WITHDRAWAL)
_NO_ATTRIBUTES: Final[dict[str, str]] = {}


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
    event: WalletTransaction | PlayerEvent | GameResult,
    topic: str,
    partition: int,
    offset: int,
    wanted: Collection[str] | None = None,
) -> list[Signal]:
    """Return the signals of a record of the `wanted` kinds (None: all), in the order of its legs.

    Of the results, only those with a selection: a bet on an outcome.
    """
    if not event.player_id:
        return []
    place = (topic, partition, offset)
    if isinstance(event, WalletTransaction):
        return _signals_of_transaction(event, event.player_id, place, wanted)
    common = (event.brand, event.player_id, event.region, event.event_id, *place)
    if isinstance(event, PlayerEvent):
        if wanted is not None and event.type not in wanted:
            return []
        return [Signal(event.occurred_at, event.type, *common, attributes=event.attributes)]
    if not event.selection or (wanted is not None and RESULT not in wanted):
        return []
    result = {"round": event.round_id, "selection": event.selection}
    result |= {"game": event.game_id, "provider": event.provider}
    money = (event.stake_minor or 0, event.currency)
    return [Signal(event.occurred_at, RESULT, *common, *money, result)]


def _signals_of_transaction(
    event: WalletTransaction,
    player_id: str,
    place: tuple[str, int, int],
    wanted: Collection[str] | None,
) -> list[Signal]:
    legs = event.legs
    is_plain = len(legs) == 1 and legs[0].kind in _MONEY  # nearly all records
    kinds = (legs[0].kind,) if is_plain else _kinds_of(event)
    signals = []
    for kind in kinds:
        if wanted is not None and kind not in wanted:
            continue
        minor, currency = _money_of(event, kind)
        attributes = _attributes_of(event, kind) if kind in _DETAILED else _NO_ATTRIBUTES
        common = (event.brand, player_id, event.region, event.event_id, *place)
        signals.append(Signal(event.occurred_at, kind, *common, minor, currency, attributes))
    return signals


def _kinds_of(event: WalletTransaction) -> Sequence[str]:
    of_legs = {leg.kind for leg in event.legs}
    kinds = [kind for kind in _MONEY if kind in of_legs]
    return [*kinds, DEPOSIT_OPENED] if event.operation == OPENED else kinds


def _money_of(event: WalletTransaction, kind: str) -> tuple[int, str | None]:
    return sum_legs(event, Kind.INFORMATIONAL.value if kind == DEPOSIT_OPENED else kind)


def _attributes_of(event: WalletTransaction, kind: str) -> dict[str, str]:
    if kind == _DEPOSIT:
        reference = "" if event.reference is None else event.reference.operation
        return {
            "provider": event.provider,
            "signature": event.signature,
            "reference": reference,
        }
    return {"operation": event.operation} if kind == _WITHDRAWAL else {}
