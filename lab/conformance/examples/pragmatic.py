"""A round at Pragmatic Play: forms as its server encodes them, each with its hash."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Fill, plain
from lab.conformance.examples.written import ExampleWriter
from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.pragmatic import WRITER
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret": "pp-testSecret-71d0a2"}
BALANCE_DECIMALS: Final = 0

_PRAGMATIC: Final = ExampleWriter(WRITER, KEYS)
_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return bets, results, a refund, a free round, prizes, awards, a correction, the end."""
    paid, won, second, promo = (fill.amount(n) for n in range(4))
    ids = [fill.tx(n) for n in range(11)]
    make, write = partial(_PRAGMATIC.intent, fill), partial(_PRAGMATIC.example, fill)
    coded = partial(make, campaign=fill.campaign)
    refund = make(Verb.ROLLBACK, ids[2], refers_to=(Verb.BET, ids[2]))
    jackpot = make(Verb.JACKPOT_WIN, ids[7], won, details=(("jackpot", "77"),))
    corrected = (("valid_bet", plain(paid)),)
    adjustment = make(Verb.GAME_ADJUSTMENT, ids[9], -second, details=corrected)
    return [
        write(make(Verb.BET, ids[0], paid)),
        write(make(Verb.WIN, ids[1], won)),
        write(make(Verb.BET, ids[2], second), name="a second bet"),
        # Only what a refund must have since version 3.21; the reference is the bet's.
        write(_state_currency(fill, refund)),
        write(coded(Verb.FREE_BET, ids[3], _ZERO), name="a free round's bet"),
        write(coded(Verb.FREE_WIN, ids[4], won), name="a free round's result"),
        write(_sum_of_free_rounds(fill, ids[5], won)),
        _drop(fill, ids[6], promo),
        write(jackpot),
        write(coded(Verb.PROMO_WIN, ids[8], promo)),
        write(adjustment),
        write(_end_round(fill)),
        _odd(fill, ids[10], paid),
    ]


def _state_currency(fill: Fill, intent: Intent) -> Intent:
    """Return a message without an amount, whose wallet's currency the connector states."""
    return replace(intent, legs=(intent.legs[0]._replace(currency=fill.currency),))


def _sum_of_free_rounds(fill: Fill, tx_id: str, amount: Decimal) -> Intent:
    legs = [("INFORMATIONAL", amount)]
    intent = _PRAGMATIC.intent(fill, Verb.FREE_WIN, tx_id, legs=legs, campaign=fill.campaign)
    return replace(intent, identity=(*intent.identity[:2], "bonusWin", tx_id))


def _drop(fill: Fill, tx_id: str, promo: Decimal) -> Example:
    """Return the result of a lost round that drops a prize. A prize of zero has no leg."""
    legs = [("WIN", _ZERO), ("PROMO_WIN", promo)]
    details = (("promo_reference", fill.tx(20)),)
    intent = _PRAGMATIC.intent(fill, Verb.WIN, tx_id, legs=legs, details=details)
    intent = replace(intent, legs=(intent.legs[0], intent.legs[1]._replace(campaign="1042")))
    name, read = "a lost round that drops a prize", tuple(legs if promo else legs[:1])
    return _PRAGMATIC.example(fill, intent, name=name, legs=read)


def _end_round(fill: Fill) -> Intent:
    tx_id = f"{fill.player}:{fill.game}:{fill.round}"
    return _state_currency(fill, _PRAGMATIC.intent(fill, Verb.ROUND_CLOSE, tx_id))


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
    intent = _PRAGMATIC.intent(fill, Verb.BET, tx_id, amount)
    message = WRITER.sign(intent, fields, KEYS)
    return _PRAGMATIC.wrap(fill, message, _PRAGMATIC.expect(intent), name="a bet spelt oddly")
