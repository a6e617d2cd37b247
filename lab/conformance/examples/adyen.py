"""Adyen's notices of a deposit's life, single ones and several in a request, each item signed."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import DEFAULT_BRAND, Intent, Verb
from lab.conformance.writers.adyen import DECIMALS, WRITER
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {
    "hmac_hex": "5d0f3c1b7a92e8466cb1d5f00e4a7793c2b8f61a0d9e35478812fa6c3be7d091"
}
CURRENCIES: Final = ("EUR", "JPY", "KWD", "CLF", "BTC", "ISK", "CLP", "CVE", "IDR")

_ADYEN: Final = ExampleWriter(WRITER, KEYS)
_OF_THE_PAYMENT: Final = {
    Verb.REFUND,
    Verb.REFUND_RETURNED,
    Verb.CHARGEBACK,
    Verb.CHARGEBACK_WON,
}


def examples(fill: Fill) -> list[Example]:
    """Return an authorisation, what follows it and what comes back, a refusal.

    The chargeback is unsigned.
    """
    authorised, captured, refunded, failed, cancelled, charged, refused, *back = _intents(fill)
    return [
        _batch(fill, "an authorisation", authorised),
        _batch(fill, "what follows it, in one request", captured, refunded, failed),
        _batch(fill, "a cancellation", cancelled),
        _batch(fill, "a chargeback, unsigned", charged),
        _batch(fill, "a refused authorisation", refused),
        _batch(fill, "a refund and a chargeback that came back", *back),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the same items from the last to the first, two a request."""
    items = _intents(fill)[::-1]
    return [
        _batch(fill, f"request {at // 2}", *items[at : at + 2]) for at in range(0, len(items), 2)
    ]


def _intents(fill: Fill) -> list[Intent]:
    paid, back = (fill.amount(n, DECIMALS.get(fill.currency)) for n in range(2))
    refs = [f"{fill.uuid(n).replace('-', '').upper():.16}" for n in range(1, 8)]
    opened = (DEFAULT_BRAND, "house", "deposit.opened", fill.tx(0))
    make = partial(_ADYEN.intent, fill, deposit_id=fill.tx(0))
    later = partial(make, refers_to=(Verb.DEPOSIT, refs[0]))
    refused: dict[str, Any] = {"reference": opened, "details": (("reason", "Refused"),)}
    cancelled = later(Verb.REFUND, refs[4], paid)
    return [
        make(Verb.DEPOSIT, refs[0], paid, reference=opened),
        later(Verb.CAPTURE, refs[1], paid),
        later(Verb.REFUND, refs[2], back),
        later(Verb.REFUND_REFUSED, refs[3], back),
        # Like a refund, of a payment that has not been captured.
        replace(cancelled, identity=(*cancelled.identity[:2], "CANCELLATION", refs[4])),
        later(Verb.CHARGEBACK, refs[5], back),
        make(Verb.DEPOSIT_REFUSED, refs[6], paid, **refused),
        later(Verb.REFUND_RETURNED, refs[2], back),
        later(Verb.CHARGEBACK_WON, refs[5], back),
    ]


def _batch(fill: Fill, name: str, *intents: Intent) -> Example:
    expects = []
    for intent in intents:
        expected = _ADYEN.expect(intent)
        # What moves a payment's money is read with its reference, all else with the merchant's.
        is_of_payment = intent.verb in _OF_THE_PAYMENT
        reference = expected.reference if is_of_payment else ("deposit.opened", fill.tx(0))
        expects.append(replace(expected, player_id=None, reference=reference))
    message = WRITER.write(intents, sending_of(fill), KEYS)
    return _ADYEN.wrap(fill, message, *expects, name=name)
