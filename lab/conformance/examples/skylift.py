"""A flight at Skylift, in Avro, in both versions.

There are bets from both seats, a cash-out, a refund, a free bet and a jackpot.
"""

from __future__ import annotations

import hmac
from decimal import Decimal
from typing import Any, Final

from lab.conformance.examples.fill import Example, Expected, Fill, units
from streams.providers.dialect import KeyMaterial
from streams.providers.skylift import AMOUNT_SCALE, CONTENT_TYPE, decimal_bytes, encode, prefix_of

KEYS: Final[KeyMaterial] = {
    "hmac_hex": "3f9a6d0c51e7428bb2c84d16e0a9f7734b5d2c1e8f60a7d93e4c5b6a7f8091a2"
}
CURRENCIES: Final = ("EUR", "JPY", "KWD", "CLF", "USDT", "BTC")
BALANCE_DECIMALS: Final = None  # stated, but in bytes: the adapter's own test reads them

_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return two bets, one cashed out and one taken back, in version 1.

    In version 2 there are a free bet and a jackpot.
    """
    bet, won = fill.amount(0), fill.amount(1)
    ids = [fill.tx(n) for n in range(8)]
    first, free = ("BET", ids[0]), ("BET", ids[3])
    campaign = {"campaign": fill.campaign}
    return [
        _event(fill, 1, "BET", ids[0], bet, "BET"),
        _event(fill, 1, "CASHOUT", ids[1], won, "WIN", first),
        _event(fill, 1, "BET", ids[2], won, "BET", seat=1),
        _event(fill, 1, "REFUND", ids[2], won, "ROLLBACK", ("BET", ids[2]), seat=1),
        _event(fill, 2, "BET", ids[3], bet, "BET", more=campaign),
        _event(
            fill, 2, "CASHOUT", ids[4], _ZERO, "WIN", free, more=campaign | {"flight_over": True}
        ),
        _event(fill, 2, "JACKPOT", ids[5], won, "JACKPOT_WIN", first),
        _event(fill, 2, "CASHOUT", ids[6], won, "WIN"),
    ]


def payload(example: Example) -> bytes:
    """Return the record without marker and fingerprint."""
    return example.value[len(prefix_of(1)) :]


def _event(
    fill: Fill,
    version: int,
    kind: str,
    event_id: str,
    amount: Decimal,
    leg: str,
    bet: tuple[str, str] | None = None,
    *,
    seat: int = 0,
    more: dict[str, Any] | None = None,
) -> Example:
    fields = {
        "event_id": event_id,
        "type": kind,
        "player" if version == 1 else "player_id": fill.player,
        "game": fill.game,
        "flight": fill.round,
        "seat": seat,
        "amount": decimal_bytes(units(amount, AMOUNT_SCALE)),
        "currency": fill.currency,
        "bet_id": bet and bet[1],
        "occurred_at": fill.first_at_ms * 1000 + 7,
        **(more or {}),
    }
    value = encode("event", version, fields)
    signature = hmac.digest(bytes.fromhex(KEYS["hmac_hex"]), value, "sha512").hex().encode()
    headers = fill.headers(CONTENT_TYPE, "/skylift/event", {"x-skylift-signature": signature})
    expected = Expected(kind, event_id, fill.player, ((leg, amount),), bet)
    return Example(
        f"{kind} {event_id} v{version}", headers, fill.player.encode(), value, (expected,), "event"
    )
