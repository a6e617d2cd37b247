"""A round at Pragmatic Play: forms as its server encodes them, each with its hash."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from hashlib import md5
from typing import Final
from urllib.parse import urlencode

from lab.conformance.examples.fill import Example, Expected, Fill, plain
from streams.providers.dialect import KeyMaterial
from streams.providers.text_fields import CURRENCY_HEADER

KEYS: Final[KeyMaterial] = {"secret": "pp-testSecret-71d0a2"}
BALANCE_DECIMALS: Final = 0

_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return bets, results, a refund, a free round, prizes, awards, a correction, the end."""
    paid, won, second, promo = (fill.amount(n) for n in range(4))
    ids = [fill.tx(n) for n in range(11)]
    code = {"bonusCode": fill.campaign}
    prize = {
        "promoWinAmount": plain(promo),
        "promoWinReference": fill.tx(20),
        "promoCampaignID": "1042",
    }
    return [
        _play(fill, "bet", ids[0], paid, (("BET", paid),)),
        _play(fill, "result", ids[1], won, (("WIN", won),)),
        _play(fill, "bet", ids[2], second, (("BET", second),), name="a second bet"),
        _refund(fill, ids[2]),
        _play(fill, "bet", ids[3], _ZERO, (("BET", _ZERO),), code, name="a free round's bet"),
        _play(fill, "result", ids[4], won, (("WIN", won),), code, name="a free round's result"),
        _play(fill, "bonusWin", ids[5], won, (("INFORMATIONAL", won),), code),
        _play(
            fill,
            "result",
            ids[6],
            _ZERO,
            (("WIN", _ZERO), ("PROMO_WIN", promo)) if promo else (("WIN", _ZERO),),
            prize,
            name="a lost round that drops a prize",
        ),
        _play(fill, "jackpotWin", ids[7], won, (("JACKPOT_WIN", won),), {"jackpotId": "77"}),
        _promo_win(fill, ids[8], promo),
        _play(
            fill,
            "adjustment",
            ids[9],
            -second,
            (("ADJUSTMENT", -second),),
            {"validBetAmount": plain(paid)},
        ),
        _end_round(fill),
        _odd(fill, ids[10], paid),
    ]


def _play(
    fill: Fill,
    operation: str,
    tx_id: str,
    amount: Decimal,
    legs: tuple[tuple[str, Decimal | None], ...],
    more: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
) -> Example:
    fields = _head(fill) | {
        "gameId": fill.game,
        "roundId": fill.round,
        "amount": plain(amount),
        "reference": tx_id,
        "timestamp": str(fill.at_ms),
        "roundDetails": "spin,totalBet:1.50",
        **(more or {}),
    }
    return _sign(
        fill, name or operation, operation, fields, Expected(operation, tx_id, fill.player, legs)
    )


def _refund(fill: Fill, bet_id: str) -> Example:
    """Return a refund with only what it must have since version 3.21.

    The reference is the bet's.
    """
    expected = Expected("refund", bet_id, fill.player, (("ROLLBACK", None),), ("bet", bet_id))
    return _sign(fill, "refund", "refund", _head(fill) | {"reference": bet_id}, expected)


def _promo_win(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    fields = _head(fill) | {
        "timestamp": str(fill.at_ms),
        "campaignId": fill.campaign,
        "campaignType": "T",
        "amount": plain(amount),
        "currency": fill.currency,
        "reference": tx_id,
    }
    expected = Expected("promoWin", tx_id, fill.player, (("PROMO_WIN", amount),))
    return _sign(fill, "promoWin", "promoWin", fields, expected, with_currency=False)


def _end_round(fill: Fill) -> Example:
    fields = _head(fill) | {"gameId": fill.game, "roundId": fill.round}
    tx_id = f"{fill.player}:{fill.game}:{fill.round}"
    return _sign(
        fill,
        "endRound",
        "endRound",
        fields,
        Expected("endRound", tx_id, fill.player, (("ROUND_CLOSE", None),)),
    )


def _odd(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a bet with odd fields, in no order.

    Some are unknown, some empty; there are line breaks in its details, and further zeros.
    """
    fields = {
        "reference": tx_id,
        "amount": plain(amount) + ("000" if fill.scale else ".000"),
        "roundDetails": "spin,\r\nbonusBuy",
        "userId": fill.player,
        "token": fill.request_id(2),
        "bonusCode": "",
        "novelty": "a=b&c=d +%",
        "roundId": fill.round,
        "timestamp": str(fill.at_ms),
        "gameId": fill.game,
        "providerId": "PragmaticPlay",
    }
    return _sign(
        fill,
        "a bet spelt oddly",
        "bet",
        fields,
        Expected("bet", tx_id, fill.player, (("BET", amount),)),
    )


def _head(fill: Fill) -> dict[str, str]:
    return {"providerId": "PragmaticPlay", "userId": fill.player}


def _sign(
    fill: Fill,
    name: str,
    operation: str,
    fields: Mapping[str, str],
    expected: Expected,
    *,
    with_currency: bool = True,
) -> Example:
    signed = "&".join(f"{field}={text}" for field, text in sorted(fields.items()))
    signed = signed.replace("\r", "").replace("\n", "") + KEYS["secret"]
    digest = md5(signed.encode(), usedforsecurity=False).hexdigest()
    more = {CURRENCY_HEADER: fill.currency.encode()} if with_currency else {}
    headers = fill.headers(
        "application/x-www-form-urlencoded", f"/pragmatic/{operation}.html", more
    )
    return Example(
        name,
        headers,
        fill.player.encode(),
        urlencode({"hash": digest, **fields}).encode(),
        (expected,),
    )
