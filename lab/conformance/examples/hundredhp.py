"""A round at 100HP: withdrawals, what becomes of each under the same txId, a promotional win."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from lab.conformance.examples.fill import Example, Fill, plain
from lab.conformance.examples.written import ExampleWriter
from lab.conformance.intents import Verb
from lab.conformance.writers.encoding import json_body
from lab.conformance.writers.hundredhp import WRITER
from lab.conformance.writers.ids import uuid7_of
from streams.providers.dialect import KeyMaterial
from streams.providers.text_fields import CURRENCY_HEADER

KEYS: Final[KeyMaterial] = {"secret": "hp-b906pA0P2L1SJqwnJshoOVDGztzBu6o9NJ5PaCGaSbWv6xQr"}
CURRENCIES: Final = ("EUR", "JPY", "USD", "ISK", "CLP")
"""Currencies of at most two decimals: the provider prints no more."""
BALANCE_DECIMALS: Final = 0

_HUNDREDHP: Final = ExampleWriter(WRITER, KEYS)
_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return withdrawals that are won, lost and rolled back, a promotion, and excess decimals."""
    paid, won, second, promo = (fill.amount(n) for n in range(4))
    # The time in the id is that of the fill's first sending, the same in a retry.
    bet, lost, back, odd = (
        uuid7_of(fill.first_at_ms, int(fill.uuid(n).replace("-", ""), 16)) for n in range(4)
    )
    make, write = partial(_HUNDREDHP.intent, fill), partial(_HUNDREDHP.example, fill)
    # They name neither player nor currency, and end the round.
    nameless = partial(write, player_id=None, currency="", round_closed=True)
    zero = make(Verb.WIN, lost, _ZERO, refers_to=(Verb.BET, lost))
    return [
        write(make(Verb.BET, bet, paid)),
        nameless(make(Verb.WIN, bet, won, refers_to=(Verb.BET, bet))),
        write(make(Verb.BET, lost, second), name="a second withdrawal"),
        nameless(zero, name="a deposit of zero"),
        write(make(Verb.BET, back, second), name="a third withdrawal"),
        nameless(make(Verb.ROLLBACK, back, refers_to=(Verb.BET, back))),
        write(make(Verb.PROMO_WIN, fill.tx(4), promo, campaign=fill.campaign)),
        _odd(fill, odd, paid),
    ]


def _odd(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a withdrawal with excess decimals, its currency in lower case and unknown fields."""
    intent = _HUNDREDHP.intent(fill, Verb.BET, tx_id, amount)
    fields = {
        "amount": plain(amount) + ("" if fill.scale else ".00") + "9",
        "txId": tx_id,
        "secret": KEYS["secret"],
        "sessionId": fill.request_id(1),
        "novelty": {"a": [1, 2.5, None]},
    }
    message = WRITER.wrap(intent, json_body(fields, None))
    headers = dict(message.headers) | {CURRENCY_HEADER: fill.currency.lower().encode()}
    message = message._replace(headers=tuple(headers.items()))
    expected = _HUNDREDHP.expect(intent)
    name = "a withdrawal whose decimals are cut off"
    return _HUNDREDHP.wrap(fill, message, expected, name=name)
