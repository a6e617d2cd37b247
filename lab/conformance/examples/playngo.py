"""A round at Play'n GO: reserves, releases, a cancel, free games, a jackpot."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from lab.conformance.examples.fill import Example, Fill, plain
from lab.conformance.examples.written import ExampleWriter
from lab.conformance.intents import Verb
from lab.conformance.writers.encoding import xml_body
from lab.conformance.writers.playngo import WRITER
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"access_token": "png-7c1f0e5a9b3d4428"}
BALANCE_DECIMALS: Final = 0

_PLAYNGO: Final = ExampleWriter(WRITER, KEYS)
_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return reserves, releases, a cancel, a free game, a jackpot, the closing summary."""
    bet, won, gain = (fill.amount(n) for n in range(3))
    ids = [str(fill.number(n)) for n in range(7)]
    make, write = partial(_PLAYNGO.intent, fill), partial(_PLAYNGO.example, fill)
    campaign = fill.campaign
    # A gain of zero has no leg.
    legs = [("WIN", won), ("JACKPOT_WIN", gain)] if gain else [("WIN", won)]
    jackpot = make(Verb.WIN, ids[5], legs=legs)
    closing = make(Verb.WIN, ids[6], _ZERO, round_closed=True)
    return [
        write(make(Verb.BET, ids[0], bet)),
        write(make(Verb.WIN, ids[1], won)),
        write(make(Verb.BET, ids[2], won), name="a second reserve"),
        write(make(Verb.ROLLBACK, ids[2], won, refers_to=(Verb.BET, ids[2]))),
        write(make(Verb.FREE_BET, ids[3], _ZERO, campaign=campaign), name="a free game"),
        write(make(Verb.FREE_WIN, ids[4], won, campaign=campaign), name="a free game's win"),
        write(jackpot, name="a jackpot inside a win"),
        write(closing, name="the summary that closes the round"),
        _odd(fill, fill.tx(8), bet),
    ]


def _odd(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a reserve with a prolog, further zeros, white space and few elements."""
    elements = {
        "accessToken": KEYS["access_token"],
        "transactionId": tx_id,
        "currency": f" {fill.currency.lower()} ",
        "real": f"\n{plain(amount)}{'000' if '.' in plain(amount) else '.00'}\n",
        "externalId": fill.player,
        "roundId": fill.round,
        "gameId": fill.game,
    }
    intent = _PLAYNGO.intent(fill, Verb.BET, tx_id, amount)
    body = b'<?xml version="1.0"?>\n' + xml_body("reserve", elements.items(), None)
    message = WRITER.wrap(intent, body)
    return _PLAYNGO.wrap(fill, message, _PLAYNGO.expect(intent), name="a reserve spelt oddly")
