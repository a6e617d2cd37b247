"""A round at 100HP: withdrawals, what becomes of each under the same txId, a promotional win."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

from lab.conformance.examples.fill import Example, Expected, Fill, plain
from streams.providers.dialect import KeyMaterial
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER

KEYS: Final[KeyMaterial] = {"secret": "hp-b906pA0P2L1SJqwnJshoOVDGztzBu6o9NJ5PaCGaSbWv6xQr"}
CURRENCIES: Final = ("EUR", "JPY", "USD", "ISK", "CLP")
"""Currencies of at most two decimals: the provider prints no more."""
BALANCE_DECIMALS: Final = 0

_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return withdrawals that are won, lost and rolled back, a promotion, and excess decimals."""
    paid, won, second, promo = (fill.amount(n) for n in range(4))
    bet, lost, back, odd = (_uuid7(fill, n) for n in range(4))
    return [
        _of_session(fill, "withdrawal", bet, paid, ("BET", paid)),
        _ending(fill, "deposit", bet, ("WIN", won), plain(won)),
        _of_session(fill, "withdrawal", lost, second, ("BET", second), name="a second withdrawal"),
        _ending(fill, "deposit", lost, ("WIN", _ZERO), "0", name="a deposit of zero"),
        _of_session(fill, "withdrawal", back, second, ("BET", second), name="a third withdrawal"),
        _ending(fill, "rollback", back, ("ROLLBACK", None)),
        _of_session(fill, "bonusWin", fill.tx(4), promo, ("PROMO_WIN", promo)),
        _odd(fill, odd, paid),
    ]


def _uuid7(fill: Fill, n: int) -> str:
    """Return a UUID of version 7 with the time of the fill's first sending, the same in a retry."""
    tail = fill.uuid(n)
    time = f"{fill.first_at_ms:012x}"
    return f"{time[:8]}-{time[8:]}-7{tail[15:]}"


def _of_session(
    fill: Fill,
    operation: str,
    tx_id: str,
    amount: Decimal,
    leg: tuple[str, Decimal],
    *,
    name: str | None = None,
) -> Example:
    fields = {
        "sessionId": fill.uuid(80),
        "secret": KEYS["secret"],
        "txId": tx_id,
        "amount": plain(amount),
    }
    if operation == "bonusWin":
        fields["promoId"] = fill.campaign
    headers = {PLAYER_HEADER: fill.player.encode(), CURRENCY_HEADER: fill.currency.encode()}
    expected = Expected(operation, tx_id, fill.player, (leg,))
    return _message(fill, name or operation, operation, fields, expected, headers)


def _ending(
    fill: Fill,
    operation: str,
    tx_id: str,
    leg: tuple[str, Decimal | None],
    amount: str | None = None,
    *,
    name: str | None = None,
) -> Example:
    """Return a deposit or a rollback: it names neither player nor currency."""
    fields = {"txId": tx_id, "secret": KEYS["secret"]} | (
        {} if amount is None else {"amount": amount}
    )
    expected = Expected(operation, tx_id, None, (leg,), ("withdrawal", tx_id))
    return _message(fill, name or operation, operation, fields, expected, {})


def _odd(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a withdrawal with excess decimals, its currency in lower case and unknown fields."""
    more = plain(amount) + ("" if fill.scale else ".00") + "9"
    fields = {
        "amount": more,
        "txId": tx_id,
        "secret": KEYS["secret"],
        "sessionId": fill.request_id(1),
        "novelty": {"a": [1, 2.5, None]},
    }
    headers = {PLAYER_HEADER: fill.player.encode(), CURRENCY_HEADER: fill.currency.lower().encode()}
    expected = Expected("withdrawal", tx_id, fill.player, (("BET", amount),))
    return _message(
        fill, "a withdrawal whose decimals are cut off", "withdrawal", fields, expected, headers
    )


def _message(
    fill: Fill,
    name: str,
    operation: str,
    fields: dict[str, Any],
    expected: Expected,
    headers: dict[str, bytes],
) -> Example:
    body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    key = (expected.player_id or expected.tx_id).encode()
    return Example(
        name,
        fill.headers("application/json", f"/wallet/{operation}", headers),
        key,
        body,
        (expected,),
        operation,
    )
