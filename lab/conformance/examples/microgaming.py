"""A round at Microgaming: calls with their data in attributes, each with another `seq`."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.microgaming import DECIMALS, OFFLINE, WRITER
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"login": "mgs-vanguard", "password": "mgs-2f61c08e75"}
CURRENCIES: Final = ("EUR", "USD", "JPY", "ISK", "CLP")
"""Currencies of at most two decimals: the provider prints cents."""
BALANCE_DECIMALS: Final = 2

_MICROGAMING: Final = ExampleWriter(WRITER, KEYS)
_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return bets, wins, a refund, a free game, a jackpot, a win without a session, the end."""
    paid, won, second = (fill.amount(n, DECIMALS) for n in range(3))
    ids = [fill.tx(n) for n in range(8)]
    make, write = partial(_MICROGAMING.intent, fill), partial(_MICROGAMING.example, fill)
    # The player pays the bet of a free game.
    free_bet = make(Verb.BET, ids[3], paid, campaign=fill.campaign)
    free_win = make(Verb.WIN, ids[4], _ZERO, campaign=fill.campaign, round_closed=True)
    return [
        write(make(Verb.BET, ids[0], paid)),
        write(make(Verb.WIN, ids[1], won)),
        write(make(Verb.BET, ids[2], second), name="a second bet"),
        write(make(Verb.ROLLBACK, ids[2], second, refers_to=(Verb.BET, ids[2]))),
        write(free_bet, name="a free game"),
        write(free_win, name="a free game's win of zero"),
        write(make(Verb.JACKPOT_WIN, ids[5], won)),
        write(make(Verb.WIN, ids[6], won, details=OFFLINE), name="a win without a session"),
        write(_end_game(fill)),
        _odd(fill, ids[7], paid),
    ]


def _end_game(fill: Fill) -> Intent:
    """Return the end of the game, for whose answer the connector states the currency."""
    tx_id = f"{fill.player}:{fill.game}:{fill.round}"
    intent = _MICROGAMING.intent(fill, Verb.ROUND_CLOSE, tx_id)
    return replace(intent, legs=(intent.legs[0]._replace(currency=fill.currency),))


def _odd(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a bet spelt oddly.

    It has another order, upper case, a prolog, white space, comments and unknown attributes.
    """
    intent, sending = _MICROGAMING.intent(fill, Verb.BET, tx_id, amount), sending_of(fill)
    call = dict(reversed(WRITER.call(intent, sending).items()))
    call |= {"currency": fill.currency.upper(), "finish": "TRUE"}
    body = WRITER.body(intent, call, sending, KEYS).decode()
    body = body.replace("><", ">\n  <!-- x -->\n<").replace("<call ", "<call novelty='&lt;&amp;>' ")
    message = WRITER.wrap(intent, f'<?xml version="1.0" encoding="utf-8"?>{body}'.encode())
    expected = _MICROGAMING.expect(intent)
    return _MICROGAMING.wrap(fill, message, expected, name="a bet spelt oddly")
