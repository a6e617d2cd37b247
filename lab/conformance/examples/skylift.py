"""A flight at Skylift, in Avro, in both versions.

There are bets from both seats, a cash-out, a refund, a free bet and a jackpot.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from importlib.resources import files
from io import BytesIO
from typing import Final

import fastavro
from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.skylift import HEAD_BYTES, WRITER
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {
    "hmac_hex": "3f9a6d0c51e7428bb2c84d16e0a9f7734b5d2c1e8f60a7d93e4c5b6a7f8091a2"
}
CURRENCIES: Final = ("EUR", "JPY", "KWD", "CLF", "USDT", "BTC")
BALANCE_DECIMALS: Final = 8

_REPLY: Final = json.loads(
    (files("schemas") / "providers" / "skylift" / "reply" / "v1.avsc").read_bytes()
)

_SKYLIFT: Final = ExampleWriter(WRITER, KEYS)
_ZERO: Final = Decimal(0)
_VERSION_1: Final = (("version", "1"),)
_SECOND_SEAT: Final = (*_VERSION_1, ("seat", "1"))


def read_balance(body: bytes) -> Decimal | None:
    """Return the balance of an answer, in units of 10**-BALANCE_DECIMALS."""
    reply = fastavro.schemaless_reader(BytesIO(body[HEAD_BYTES:]), _REPLY, None)
    balance = reply["balance"] if isinstance(reply, dict) else None
    return balance.scaleb(BALANCE_DECIMALS) if isinstance(balance, Decimal) else None


def examples(fill: Fill) -> list[Example]:
    """Return two bets, one cashed out and one taken back, in version 1.

    In version 2 there are a free bet and a jackpot.
    """
    bet, won = fill.amount(0), fill.amount(1)
    ids = [fill.tx(n) for n in range(8)]
    first, second, free = ((Verb.BET, ids[n]) for n in (0, 2, 3))
    make = partial(_SKYLIFT.intent, fill)
    old, other_seat = partial(make, details=_VERSION_1), partial(make, details=_SECOND_SEAT)
    campaign = fill.campaign
    free_win = make(Verb.FREE_WIN, ids[4], _ZERO, refers_to=free, campaign=campaign)
    intents = [
        old(Verb.BET, ids[0], bet),
        old(Verb.WIN, ids[1], won, refers_to=first),
        other_seat(Verb.BET, ids[2], won),
        other_seat(Verb.ROLLBACK, ids[2], won, refers_to=second),
        make(Verb.FREE_BET, ids[3], bet, campaign=campaign),
        replace(free_win, round_closed=True),
        make(Verb.JACKPOT_WIN, ids[5], won, refers_to=first),
        make(Verb.WIN, ids[6], won),
    ]
    return [_event(fill, intent) for intent in intents]


def payload(example: Example) -> bytes:
    """Return the record without marker and fingerprint."""
    return example.value[HEAD_BYTES:]


def _event(fill: Fill, intent: Intent) -> Example:
    message, expected = WRITER.write([intent], sending_of(fill), KEYS), _SKYLIFT.expect(intent)
    name = f"{intent.operation} {intent.tx_id} v{intent.detail('version', '2')}"
    return _SKYLIFT.wrap(fill, message, expected, name=name, schema="event")
