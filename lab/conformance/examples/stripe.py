"""A deposit's life at Stripe, with the notices beside each step.

It is paid, refunded in part, disputed and won back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import DEFAULT_BRAND, Intent, Verb
from lab.conformance.writers.stripe import (
    WRITER,
    StripeWriter,
    dispute_id_of,
    object_of,
    signature_header,
    value_of,
)
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret": "whsec_7f0c5d9e2b8a41f6a3c4e1d2"}
CURRENCIES: Final = ("EUR", "JPY", "KWD", "ISK", "CLP", "UGX")


@dataclass(frozen=True)
class StripeExamples(ExampleWriter):
    """Writes the examples of one API version of Stripe."""

    writer: StripeWriter


_STRIPE: Final = StripeExamples(WRITER, KEYS)


def examples(fill: Fill) -> list[Example]:
    """Return the events of a deposit's life, as before API version 2025-03-31."""
    return write_life(_STRIPE, fill)


def write_life(by: StripeExamples, fill: Fill) -> list[Example]:
    """Return the events of a deposit's life in a version.

    They are a payment and its charge; two refunds, one of which fails; a dispute lost and won; a
    direct charge; a payout.
    """
    paid, back = (fill.amount(n) for n in range(2))
    payment = f"pi_{fill.uuid(0)}"
    opened = (DEFAULT_BRAND, "house", "deposit.opened", fill.tx(0))
    make = partial(by.intent, fill, deposit_id=fill.tx(0))
    later = partial(make, refers_to=(Verb.DEPOSIT, payment))
    write = partial(_example, by, fill)
    first = later(Verb.REFUND, f"evt_{fill.uuid(102)}", back)
    lost, won = f"txn_{fill.uuid(2)}", f"txn_{fill.uuid(7)}"
    noted = ("deposit.opened", fill.tx(0))
    direct = make(Verb.DEPOSIT, f"ch_{fill.uuid(4)}", paid, reference=opened)
    direct = replace(direct, identity=(*direct.identity[:2], "charge.succeeded", direct.tx_id))
    return [
        write(make(Verb.DEPOSIT, payment, paid, reference=opened)),
        write(later(Verb.CAPTURE, f"evt_{fill.uuid(101)}", paid), reference=noted),
        write(first),
        _second_refund(by, fill, later(Verb.REFUND, f"evt_{fill.uuid(103)}", paid), first),
        write(later(Verb.REFUND_RETURNED, f"re_{fill.uuid(3)}", back)),
        _dispute(by, fill, later(Verb.CHARGEBACK, lost, back)),
        _dispute(by, fill, later(Verb.CHARGEBACK_WON, won, back)),
        _direct_charge(by, fill, direct),
        write(make(Verb.PAYOUT, f"evt_{fill.uuid(108)}", paid, deposit_id=None)),
        write(
            make(Verb.DEPOSIT_REFUSED, f"evt_{fill.uuid(109)}", paid, reference=opened),
        ),
        _rotated(by, fill, later(Verb.CAPTURE, f"evt_{fill.uuid(110)}", paid)),
    ]


def _example(by: StripeExamples, fill: Fill, intent: Intent, **changed: Any) -> Example:
    # An event names a payment, never a player.
    return by.example(fill, intent, **({"player_id": None} | changed))


def _second_refund(by: StripeExamples, fill: Fill, intent: Intent, first: Intent) -> Example:
    """Return a refund after another one: the event tells the sum of both."""
    before = value_of(first)
    thing = object_of(intent) | {"amount_refunded": before + value_of(intent)}
    previous = {"amount_refunded": before}
    message = by.writer.event(intent, thing, previous, sending_of(fill), KEYS)
    expected = replace(by.expect(intent), player_id=None)
    return by.wrap(fill, message, expected, name="a second refund")


def _dispute(by: StripeExamples, fill: Fill, intent: Intent) -> Example:
    if value_of(intent):
        return _example(by, fill, intent)
    # A dispute of zero moves no money: then it goes by its own id.
    return _example(by, fill, intent, tx_id=dispute_id_of(intent))


def _direct_charge(by: StripeExamples, fill: Fill, intent: Intent) -> Example:
    """Return a charge that was made without a payment intent: the deposit itself."""
    thing = object_of(intent) | {"captured": True, "payment_intent": None}
    message = by.writer.event(intent, thing, None, sending_of(fill), KEYS)
    expected = replace(by.expect(intent), player_id=None)
    return by.wrap(fill, message, expected, name="a charge without a payment intent")


def _rotated(by: StripeExamples, fill: Fill, intent: Intent) -> Example:
    """Return an event signed with both secrets, as during a rotation."""
    message = by.writer.write([intent], sending_of(fill), KEYS)
    both = signature_header(fill.at_ms, message.body, KEYS, retired="whsec_old")
    expected = replace(by.expect(intent), player_id=None, reference=("deposit.opened", fill.tx(0)))
    name = "an event during a rotation of the secret"
    return by.wrap(fill, message._replace(headers=(both,)), expected, name=name)
