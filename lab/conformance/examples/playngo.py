"""A round at Play'n GO.

Elements are in the order in which integrators' code prints them, empty ones left in.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from html import escape
from typing import Final

from lab.conformance.examples.fill import Example, Expected, Fill, plain
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"access_token": "png-7c1f0e5a9b3d4428"}
BALANCE_DECIMALS: Final = 0

_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return reserves, releases, a cancel, a free game, a jackpot, the closing summary."""
    bet, won, gain = (fill.amount(n) for n in range(3))
    ids = [str(fill.number(n)) for n in range(7)]
    campaign = {"freegameExternalId": fill.campaign}
    return [
        _message(fill, "reserve", ids[0], bet, (("BET", bet),)),
        _message(fill, "release", ids[1], won, (("WIN", won),)),
        _message(fill, "reserve", ids[2], won, (("BET", won),), name="a second reserve"),
        _message(
            fill, "cancelReserve", ids[2], won, (("ROLLBACK", won),), reference=("reserve", ids[2])
        ),
        _message(fill, "reserve", ids[3], _ZERO, (("BET", _ZERO),), campaign, name="a free game"),
        _message(
            fill,
            "release",
            ids[4],
            won,
            (("WIN", won),),
            campaign | {"type": "1"},
            name="a free game's win",
        ),
        _message(
            fill,
            "release",
            ids[5],
            won + gain,
            (("WIN", won), ("JACKPOT_WIN", gain))
            if gain
            else (("WIN", won),),  # a gain of zero has no leg
            {"jackpotGain": plain(gain)},
            name="a jackpot inside a win",
        ),
        _message(
            fill,
            "release",
            ids[6],
            _ZERO,
            (("WIN", _ZERO),),
            {"state": "1"},
            name="the summary that closes the round",
        ),
        _odd(fill, fill.tx(8), bet),
    ]


def _message(
    fill: Fill,
    operation: str,
    tx_id: str,
    amount: Decimal,
    legs: tuple[tuple[str, Decimal | None], ...],
    more: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    reference: tuple[str, str] | None = None,
) -> Example:
    elements = {
        "externalId": fill.player,
        "productId": "1",
        "transactionId": tx_id,
        "real": plain(amount),
        "currency": fill.currency,
        "gameId": fill.game,
    }
    if operation != "cancelReserve":
        elements |= {
            "gameSessionId": str(fill.number(90)),
            "externalGameSessionId": fill.uuid(91),
            "contextId": "",
        }
    elements |= {"accessToken": KEYS["access_token"], "roundId": fill.round, "channel": "1"}
    if operation == "release":
        elements |= {"state": "0", "type": "0", "jackpotGain": "0.00", "jackpotLoss": "0.00"}
        elements |= {"jackpotGainSeed": "", "jackpotGainId": ""}
    else:
        elements["actualValue"] = plain(amount)
    if operation != "cancelReserve":
        elements |= {"freegameExternalId": "", "freegameFinished": "", "turnover": ""}
    expected = Expected(operation, tx_id, fill.player, legs, reference)
    return _print_element(
        fill, name or operation, operation, {**elements, **(more or {})}, expected
    )


def _odd(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a reserve with a prolog, further zeros, white space and an unknown element."""
    elements = {
        "accessToken": KEYS["access_token"],
        "transactionId": tx_id,
        "currency": f" {fill.currency.lower()} ",
        "real": f"\n{plain(amount)}{'000' if '.' in plain(amount) else '.00'}\n",
        "externalId": fill.player,
        "roundId": fill.round,
        "gameId": fill.game,
    }
    expected = Expected("reserve", tx_id, fill.player, (("BET", amount),))
    return _print_element(
        fill,
        "a reserve spelt oddly",
        "reserve",
        elements,
        expected,
        prolog='<?xml version="1.0"?>\n',
    )


def _print_element(
    fill: Fill,
    name: str,
    operation: str,
    elements: Mapping[str, str],
    expected: Expected,
    prolog: str = "",
) -> Example:
    inner = "".join(
        f"<{tag}>{escape(text)}</{tag}>" if text else f"<{tag}/>" for tag, text in elements.items()
    )
    body = f"{prolog}<{operation}>{inner}</{operation}>".encode()
    return Example(
        name, fill.headers("application/xml", "/playngo"), fill.player.encode(), body, (expected,)
    )
