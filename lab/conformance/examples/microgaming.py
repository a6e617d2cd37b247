"""A round at Microgaming: calls with their data in attributes, each with another `seq`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from xml.sax.saxutils import quoteattr

from lab.conformance.examples.fill import Example, Expected, Fill, units
from streams.providers.dialect import KeyMaterial
from streams.providers.microgaming import AMOUNT_SCALE
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER

KEYS: Final[KeyMaterial] = {"login": "mgs-vanguard", "password": "mgs-2f61c08e75"}
CURRENCIES: Final = ("EUR", "USD", "JPY", "ISK", "CLP")
"""Currencies of at most two decimals: the provider prints cents."""
BALANCE_DECIMALS: Final = 2

_ZERO: Final = Decimal(0)
_PROLOG: Final = '<?xml version="1.0" encoding="utf-8"?>'
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def examples(fill: Fill) -> list[Example]:
    """Return bets, wins, a refund, a free game, a jackpot, a win without a session, the end."""
    paid, won, second = (fill.amount(n, AMOUNT_SCALE) for n in range(3))
    ids = [fill.tx(n) for n in range(8)]
    free = {"freegame": fill.campaign, "freegameofferinstanceid": "1"}
    free |= {"freegamenumgamesplayed": "2", "freegamenumgamesremaining": "8"}
    return [
        _play(fill, "bet", ids[0], paid, "BET"),
        _play(fill, "win", ids[1], won, "WIN"),
        _play(fill, "bet", ids[2], second, "BET", name="a second bet"),
        _play(fill, "refund", ids[2], second, "ROLLBACK", reference=("bet", ids[2])),
        _play(fill, "bet", ids[3], paid, "BET", free, name="a free game"),
        _play(
            fill,
            "win",
            ids[4],
            _ZERO,
            "WIN",
            {**free, "finish": "true"},
            name="a free game's win of zero",
        ),
        _play(fill, "progressivewin", ids[5], won, "JACKPOT_WIN"),
        _offline(fill, ids[6], won),
        _end_game(fill),
        _odd(fill, ids[7], paid),
    ]


def _play(
    fill: Fill,
    playtype: str,
    tx_id: str,
    amount: Decimal,
    kind: str,
    more: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    reference: tuple[str, str] | None = None,
) -> Example:
    call = {**_call(fill, playtype, tx_id, amount), **(more or {})}
    expected = Expected(playtype, tx_id, fill.player, ((kind, amount),), reference)
    return _message(fill, name or playtype, "play", call, expected)


def _call(fill: Fill, playtype: str, tx_id: str, amount: Decimal) -> dict[str, str]:
    return {
        "seq": fill.request_id(),
        "playtype": playtype,
        "token": fill.uuid(90),
        "gameid": fill.round,
        "gamereference": fill.game,
        "actionid": tx_id,
        "actiondesc": "",
        "amount": str(units(amount, AMOUNT_SCALE)),
        "start": "false",
        "finish": "false",
        "offline": "false",
        "currency": fill.currency.lower(),
        "clienttypeid": "1",
    }


def _offline(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a win without a session.

    The token is the login name with round and action behind it, without a header.
    """
    call = _call(fill, "win", tx_id, amount)
    call |= {"offline": "true", "token": f"{fill.player}_{fill.round}_{tx_id}"}
    expected = Expected("win", tx_id, fill.player, (("WIN", amount),))
    return _message(fill, "a win without a session", "play", call, expected, with_player=False)


def _end_game(fill: Fill) -> Example:
    call = {
        "seq": fill.request_id(),
        "token": fill.uuid(90),
        "gamereference": fill.game,
        "gameid": fill.round,
    }
    expected = Expected(
        "endgame", f"{fill.player}:{fill.game}:{fill.round}", fill.player, (("ROUND_CLOSE", None),)
    )
    return _message(fill, "endgame", "endgame", call, expected)


def _odd(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a bet spelt oddly.

    It has another order, upper case, a prolog, white space, comments and unknown attributes.
    """
    call = dict(reversed(_call(fill, "bet", tx_id, amount).items()))
    call |= {"currency": fill.currency.upper(), "novelty": "<&>", "finish": "TRUE"}
    expected = Expected("bet", tx_id, fill.player, (("BET", amount),))
    return _message(
        fill, "a bet spelt oddly", "play", call, expected, between="\n  <!-- x -->\n", prolog=True
    )


def _message(
    fill: Fill,
    name: str,
    method: str,
    call: Mapping[str, str],
    expected: Expected,
    *,
    with_player: bool = True,
    between: str = "",
    prolog: bool = False,
) -> Example:
    at = _EPOCH + timedelta(milliseconds=fill.at_ms)
    time = f"{at:%Y/%m/%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    attributes = " ".join(f"{field}={quoteattr(text)}" for field, text in call.items())
    body = (
        f"{_PROLOG if prolog else ''}<pkt>{between}"
        f'<methodcall name="{method}" timestamp="{time}" system="casino">{between}'
        f'<auth login="{KEYS["login"]}" password="{KEYS["password"]}"/>{between}'
        f"<call {attributes}><extinfo/></call>{between}</methodcall></pkt>"
    )
    more = {CURRENCY_HEADER: fill.currency.encode()}
    if with_player:
        more[PLAYER_HEADER] = fill.player.encode()
    headers = fill.headers("application/xml", "/microgaming", more)
    return Example(
        name, headers, fill.player.encode(), body.encode(), (expected,), expected.operation
    )
