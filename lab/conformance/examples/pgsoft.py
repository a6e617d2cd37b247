"""A round at PG Soft: bets and wins in one message, a feature, a free game, a prize."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final
from urllib.parse import urlencode

from lab.conformance.examples.fill import Example, Expected, Fill, plain
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret_key": "pg-4c8f0d31aa", "operator_token": "pg-operator-19e7"}
BALANCE_DECIMALS: Final = 0

_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return spins, a feature's spin, a free game, the question after a spin, corrections."""
    bet, won, lost, prize = (fill.amount(n) for n in range(4))
    free = {
        "free_game_transaction_id": fill.campaign,
        "free_game_name": "weekend",
        "free_game_id": "12",
    }
    return [
        _transfer(fill, 0, bet, won, (("BET", bet), ("WIN", won))),
        _transfer(
            fill,
            1,
            lost,
            _ZERO,
            (("BET", lost), ("WIN", _ZERO)),
            {"is_end_round": "True"},
            name="a lost spin",
        ),
        _transfer(
            fill, 2, _ZERO, won, (("WIN", won),), {"is_feature": "True"}, name="a feature's spin"
        ),
        _transfer(fill, 3, _ZERO, won, (("WIN", won),), free, name="a free game"),
        _transfer(
            fill,
            4,
            bet,
            won,
            (("BET", bet), ("WIN", won)),
            {"is_validate_bet": "True"},
            name="a spin that is sent again to be sure",
        ),
        _adjustment(fill, 5, prize, name="a tournament's prize"),
        _adjustment(fill, 6, -prize, name="a deduction"),
        _odd(fill, 7, bet),
    ]


def _transfer(
    fill: Fill,
    n: int,
    bet: Decimal,
    win: Decimal,
    legs: tuple[tuple[str, Decimal | None], ...],
    more: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
) -> Example:
    tx_id = fill.tx(n)
    fields = _head(fill) | {
        "operator_player_session": fill.request_id(1),
        "game_id": fill.game,
        "parent_bet_id": fill.round,
        "bet_id": str(fill.number(n)),
        "currency_code": fill.currency,
        "bet_amount": plain(bet),
        "win_amount": plain(win),
        "transfer_amount": plain(win - bet),
        "transaction_id": tx_id,
        "wallet_type": "C",
        "bet_type": "1",
        "create_time": str(fill.first_at_ms),
        "updated_time": str(fill.at_ms),
        "is_validate_bet": "False",
        "is_adjustment": "False",
        "is_end_round": "False",
        "is_feature": "False",
        **(more or {}),
    }
    expected = Expected("TransferInOut", tx_id, fill.player, _read_of(legs))
    return _message(fill, name or "TransferInOut", "TransferInOut", fields, expected)


def _read_of(
    legs: tuple[tuple[str, Decimal | None], ...],
) -> tuple[tuple[str, Decimal | None], ...]:
    """Return the legs to be read: a bet of zero counts as none, and the message is a win."""
    return tuple(leg for leg in legs if leg != ("BET", _ZERO))


def _adjustment(fill: Fill, n: int, amount: Decimal, *, name: str) -> Example:
    tx_id = fill.tx(n)
    fields = _head(fill) | {
        "currency_code": fill.currency,
        "transfer_amount": plain(amount),
        "adjustment_id": str(fill.number(50)),
        "adjustment_transaction_id": tx_id,
        "adjustment_time": str(fill.at_ms),
        "transaction_type": "900",
        "bet_type": "1",
    }
    return _message(
        fill,
        name,
        "Adjustment",
        fields,
        Expected("Adjustment", tx_id, fill.player, (("ADJUSTMENT", amount),)),
    )


def _odd(fill: Fill, n: int, bet: Decimal) -> Example:
    """Return a spin in scientific notation, its currency in lower case, with odd fields.

    Some fields are empty, and one is unknown.
    """
    tx_id = fill.tx(n)
    fields = {
        "transaction_id": tx_id,
        "transfer_amount": f"{-bet:E}",
        "bet_amount": f"{bet:E}",
        "win_amount": "0E+2",
        "novelty": "a=b&c d",
        "currency_code": fill.currency.lower(),
        "parent_bet_id": fill.round,
        "bet_id": tx_id,
        "game_id": fill.game,
        "updated_time": str(fill.at_ms),
        "create_time": str(fill.first_at_ms),
        "free_game_transaction_id": "",
        "is_end_round": "",
        **_head(fill),
    }
    expected = Expected(
        "TransferInOut", tx_id, fill.player, _read_of((("BET", bet), ("WIN", _ZERO)))
    )
    return _message(fill, "a spin in scientific notation", "TransferInOut", fields, expected)


def _head(fill: Fill) -> dict[str, str]:
    return {**KEYS, "player_name": fill.player}


def _message(
    fill: Fill, name: str, operation: str, fields: Mapping[str, str], expected: Expected
) -> Example:
    headers = fill.headers("application/x-www-form-urlencoded", f"/pgsoft/Cash/{operation}")
    return Example(name, headers, fill.player.encode(), urlencode(fields).encode(), (expected,))
