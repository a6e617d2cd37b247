"""A round at Hub88: bets, wins, a rollback, free rounds.

Fields are in the order in which Hub88 prints them.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

from lab.conformance.examples.fill import Example, Expected, Fill, units
from lab.conformance.examples.rsa_keys import RSA_PUBLIC_PEM, rsa_sha256_base64
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"public_key_pem": RSA_PUBLIC_PEM}
BALANCE_DECIMALS: Final = 5

_DECIMALS: Final = 5  # 1 is 1/100000 of the currency's unit
_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return bets, wins, a rollback, a free round, a win of zero, and a bet with few fields."""
    bet, win, second, back = (fill.uuid(n) for n in range(4))
    paid, won, lost = (fill.amount(n, _DECIMALS) for n in range(3))
    referred = ("bet", bet)
    return [
        _message(fill, "bet", bet, paid, ("BET", paid)),
        _message(fill, "win", win, won, ("WIN", won), reference=referred),
        _message(fill, "bet", second, lost, ("BET", lost), name="a second bet"),
        _message(fill, "rollback", back, None, ("ROLLBACK", None), reference=("bet", second)),
        _message(
            fill,
            "bet",
            fill.uuid(4),
            _ZERO,
            ("BET", _ZERO),
            name="a free bet",
            reward_uuid=fill.uuid(9),
        ),
        _message(
            fill,
            "win",
            fill.uuid(5),
            won,
            ("WIN", won),
            name="a free bet's win",
            reference=("bet", fill.uuid(4)),
            reward_uuid=fill.uuid(9),
        ),
        _message(
            fill,
            "win",
            fill.uuid(6),
            _ZERO,
            ("WIN", _ZERO),
            name="a win of zero that closes the round",
            reference=referred,
            round_closed=True,
        ),
        _bare(fill, fill.tx(7), paid),
    ]


def _message(
    fill: Fill,
    operation: str,
    tx_id: str,
    amount: Decimal | None,
    leg: tuple[str, Decimal | None],
    *,
    name: str | None = None,
    reference: tuple[str, str] | None = None,
    reward_uuid: str | None = None,
    round_closed: bool = False,
) -> Example:
    fields: dict[str, Any] = {
        "user": fill.player,
        "transaction_uuid": tx_id,
        "token": fill.request_id(1),
        "supplier_user": f"hub88_{fill.player}",
        "round": fill.round,
        "round_closed": round_closed,
        "request_uuid": fill.request_id(),
        "game_id": 1201,
        "game_code": fill.game,
    }
    if reference is not None:
        fields["reference_transaction_uuid"] = reference[1]
    if amount is not None:
        fields |= {
            "currency": fill.currency,
            "amount": units(amount, _DECIMALS),
            "is_free": reward_uuid is not None,
            "reward_uuid": reward_uuid,
            "bet": "main",
        }
    fields["meta"] = None
    expected = Expected(operation, tx_id, fill.player, (leg,), reference)
    return _sign(fill, name or operation, operation, fields, expected)


def _bare(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a bet with required fields only.

    The token belongs to the envelope of their API and is always there.
    """
    fields = {
        "user": fill.player,
        "transaction_uuid": tx_id,
        "token": fill.request_id(1),
        "request_uuid": fill.request_id(),
        "round": fill.round,
        "game_code": fill.game,
        "currency": fill.currency.lower(),
        "amount": units(amount, _DECIMALS),
    }
    expected = Expected("bet", tx_id, fill.player, (("BET", amount),))
    return _sign(
        fill,
        "a bet with nothing that may be missing, its currency in lower case",
        "bet",
        fields,
        expected,
    )


def _sign(
    fill: Fill, name: str, operation: str, fields: dict[str, Any], expected: Expected
) -> Example:
    body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    headers = fill.headers(
        "application/json",
        f"/transaction/{operation}",
        {"x-hub88-signature": rsa_sha256_base64(body)},
    )
    return Example(name, headers, fill.player.encode(), body, (expected,))
