"""A round at Hub88: bets, wins, a rollback, free rounds."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from lab.conformance.examples.fill import Example, Fill, units
from lab.conformance.examples.rsa_keys import RSA_PRIVATE_PEM, RSA_PUBLIC_PEM
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import Verb
from lab.conformance.writers.encoding import json_body
from lab.conformance.writers.hub88 import DECIMALS, WRITER
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"public_key_pem": RSA_PUBLIC_PEM}
BALANCE_DECIMALS: Final = 5

_HUB88: Final = ExampleWriter(WRITER, {"private_key_pem": RSA_PRIVATE_PEM})
_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return bets, wins, a rollback, a free round, a win of zero, a prize, and odd messages."""
    ids = [fill.uuid(n) for n in range(7)]
    paid, won, lost = (fill.amount(n, DECIMALS) for n in range(3))
    bet, free = (Verb.BET, ids[0]), (Verb.FREE_BET, ids[4])
    make, write = partial(_HUB88.intent, fill), partial(_HUB88.example, fill)
    campaign = fill.uuid(9)
    free_win = make(Verb.FREE_WIN, ids[5], won, refers_to=free, campaign=campaign)
    closing = make(Verb.WIN, ids[6], _ZERO, refers_to=bet, round_closed=True)
    return [
        write(make(Verb.BET, ids[0], paid)),
        write(make(Verb.WIN, ids[1], won, refers_to=bet)),
        write(make(Verb.BET, ids[2], lost), name="a second bet"),
        write(make(Verb.ROLLBACK, ids[3], refers_to=(Verb.BET, ids[2]))),
        write(make(Verb.FREE_BET, ids[4], _ZERO, campaign=campaign), name="a free bet"),
        write(free_win, name="a free bet's win"),
        write(closing, name="a win of zero that closes the round"),
        _bare(fill, fill.tx(7), paid),
        _prize(fill, fill.uuid(8), won),
    ]


def _bare(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a bet with required fields only.

    The token belongs to the envelope of their API and is always there.
    """
    intent = _HUB88.intent(fill, Verb.BET, tx_id, amount)
    fields = {
        "user": fill.player,
        "transaction_uuid": tx_id,
        "token": fill.request_id(1),
        "request_uuid": fill.request_id(),
        "round": fill.round,
        "game_code": fill.game,
        "currency": fill.currency.lower(),
        "amount": units(amount, DECIMALS),
    }
    name = "a bet with nothing that may be missing, its currency in lower case"
    message = WRITER.sign(intent, json_body(fields, None), _HUB88.secrets)
    return _HUB88.wrap(fill, message, _HUB88.expect(intent), name=name)


def _prize(fill: Fill, tx_id: str, amount: Decimal) -> Example:
    """Return a win that the game's supplier gives, naming a bet of the supplier's own."""
    intent = _HUB88.intent(fill, Verb.FREE_WIN, tx_id, amount)
    fields = WRITER.fields(intent, sending_of(fill)) | {
        "is_free": None,
        "is_supplier_promo": True,
        "reference_transaction_uuid": fill.uuid(10),
        "meta": {"supplier_promo_info": {"promo_reference": fill.campaign}},
    }
    message = WRITER.sign(intent, json_body(fields, None), _HUB88.secrets)
    return _HUB88.wrap(fill, message, _HUB88.expect(intent), name="a supplier's prize")
