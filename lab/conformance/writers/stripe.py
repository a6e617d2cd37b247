"""Stripe's webhook events: JSON, one event a request, signed over time and body.

Sources: docs.stripe.com, webhooks/signature, currencies and api/events/types; dj-stripe's fixtures
for the shapes. The intent's id is the payment intent of a payment, the refund of a failed refund,
the balance transaction of a dispute's movement; of everything else it is the event's own.
"""

from __future__ import annotations

import hmac
import json
import secrets as randomness
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final

from lab.conformance.intents import Intent, Verb, scale_of
from lab.conformance.writers.encoding import json_body, units_of
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer

PATH: Final = "/stripe"
CONTENT_TYPE: Final = "application/json; charset=utf-8"
DECIMALS: Final = {"ISK": 2, "UGX": 2}
"""docs.stripe.com/currencies, special cases; all others as ISO 4217 has them."""

_PREFIXES: Final = {
    Verb.DEPOSIT: "pi",
    Verb.REFUND_RETURNED: "re",
    Verb.CHARGEBACK: "txn",
    Verb.CHARGEBACK_WON: "txn",
}
_EVENT_PREFIX: Final = "evt"
_DISPUTE_FEE_UNITS: Final = 1_500


class StripeWriter(Writer):
    """Writes the events of a deposit's life, and payouts."""

    provider = "stripe"
    api_version: ClassVar[str] = "2024-06-20"
    says: ClassVar = {
        Verb.DEPOSIT: "payment_intent.succeeded",
        Verb.DEPOSIT_REFUSED: "payment_intent.payment_failed",
        Verb.CAPTURE: "charge.succeeded",
        Verb.REFUND: "charge.refunded",
        Verb.REFUND_RETURNED: "refund.failed",
        Verb.CHARGEBACK: "charge.dispute.funds_withdrawn",
        Verb.CHARGEBACK_WON: "charge.dispute.funds_reinstated",
        Verb.PAYOUT: "payout.paid",
    }
    secret_names = ("secret",)

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one event; a repetition has the same id and time and a new signature."""
        [intent] = items
        return self.event(intent, object_of(intent), previous_of(intent), sending, secrets)

    def event(
        self,
        intent: Intent,
        thing: dict[str, Any],
        previous: dict[str, Any] | None,
        sending: Sending,
        secrets: Secrets | None,
    ) -> Message:
        """Write an event about `thing`; `previous` holds its attributes before the event."""
        currency = _currency_of(intent)
        family = intent.operation.split(".", maxsplit=1)[0]
        data: dict[str, Any] = {"object": {"object": family, "currency": currency, **thing}}
        if previous is not None:
            data["previous_attributes"] = previous
        fields = {
            "id": event_id_of(intent),
            "object": "event",
            "api_version": self.api_version,
            "created": intent.at_ms // 1000,
            "data": data,
            "livemode": True,
            "pending_webhooks": 1 + sending.nonce % 3,
            "type": intent.operation,
        }
        if sending.style is None:
            body = json.dumps(fields, indent=2).encode()
        else:
            body = json_body(fields, sending.style)
        signed = () if secrets is None else (signature_header(sending.at_ms, body, secrets),)
        return Message(event_id_of(intent), body, PATH, CONTENT_TYPE, signed)

    def new_secrets(self) -> dict[str, str]:
        """Make an endpoint's secret in Stripe's form."""
        return {"secret": f"whsec_{randomness.token_hex(16)}"}

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw the id of what the event is about, or of the event."""
        del at_ms
        return f"{_PREFIXES.get(verb, _EVENT_PREFIX)}_{ids.uuid().replace('-', '')[:24]}"


def event_id_of(intent: Intent) -> str:
    """Return the event's id: the intent's own, or one made of what it is about."""
    if intent.verb not in _PREFIXES:
        return intent.tx_id
    digest = blake2b(f"{intent.operation}/{intent.tx_id}".encode(), digest_size=12)
    return f"{_EVENT_PREFIX}_{digest.hexdigest()}"


def object_of(intent: Intent) -> dict[str, Any]:
    """Return the object that the event is about, without its currency."""
    value = value_of(intent)
    amount: dict[str, Any] = {"amount": value}
    match intent.verb:
        case Verb.DEPOSIT:
            thing = {"id": intent.tx_id} | amount | {"amount_received": value}
            thing |= _metadata_of(intent)
        case Verb.DEPOSIT_REFUSED:
            thing = {"id": f"pi_{_tail_of(intent.tx_id)}"} | amount | {"amount_received": 0}
            thing |= _metadata_of(intent)
        case Verb.CAPTURE:
            links = payment_links(intent)
            thing = {"id": links["charge"]} | amount | {"captured": True} | links
        case Verb.REFUND:
            links = payment_links(intent)
            thing = {"id": links["charge"]} | amount | {"amount_refunded": value} | links
        case Verb.REFUND_RETURNED:
            thing = {"id": intent.tx_id} | amount | {"status": "failed"} | payment_links(intent)
        case Verb.CHARGEBACK | Verb.CHARGEBACK_WON:
            thing = _dispute(intent, value)
        case _:
            thing = {"id": f"po_{_tail_of(intent.tx_id)}"} | amount
    return thing


def previous_of(intent: Intent) -> dict[str, Any] | None:
    """Return the attributes before the event, where the event changed any: a whole refund."""
    return {"amount_refunded": 0, "refunded": False} if intent.verb is Verb.REFUND else None


def payment_links(intent: Intent) -> dict[str, Any]:
    """Return what ties an object to its payment: the payment intent, its charge, our deposit."""
    payment = intent.referred_id or ""
    charge = f"ch_{_tail_of(payment)}"
    return {"payment_intent": payment, "charge": charge, **_metadata_of(intent)}


def dispute_id_of(intent: Intent) -> str:
    """Return the id of the dispute about the intent's payment."""
    return f"dp_{_tail_of(intent.referred_id or '')}"


def value_of(intent: Intent) -> int:
    """Return the intent's amount in the units that Stripe counts its currency in."""
    [leg] = intent.legs
    assert leg.minor is not None
    assert leg.currency is not None
    decimals = DECIMALS.get(leg.currency, scale_of(leg.currency))
    return units_of(leg.minor, leg.currency, decimals)


def signature_header(
    at_ms: int, body: bytes, secrets: Secrets, retired: str | None = None
) -> tuple[str, bytes]:
    """Return the header `Stripe-Signature`; `retired` is the secret before a rotation."""
    seconds = at_ms // 1000
    keys = [secrets["secret"]] if retired is None else [retired, secrets["secret"]]
    signatures = ",".join(f"v1={_sign(key, seconds, body)}" for key in keys)
    return "stripe-signature", f"t={seconds},{signatures}".encode()


def _sign(secret: str, seconds: int, body: bytes) -> str:
    return hmac.digest(secret.encode(), b"%d.%s" % (seconds, body), "sha256").hex()


def _dispute(intent: Intent, value: int) -> dict[str, Any]:
    """Return a dispute with its movements so far; the fee is in none of the amounts."""
    payment = intent.referred_id or ""
    is_won = intent.verb is Verb.CHARGEBACK_WON
    taken = f"txn_{_tail_of(payment)}" if is_won else intent.tx_id
    movements = [_movement(intent, taken, -value, 1)]
    if is_won:
        movements.append(_movement(intent, intent.tx_id, value, 2))
    links = payment_links(intent)
    moved = {"balance_transactions": movements}
    return {"id": dispute_id_of(intent), "amount": value, **links, **moved}


def _movement(intent: Intent, id_: str, value: int, created: int) -> dict[str, Any]:
    fee = _DISPUTE_FEE_UNITS if value < 0 else -_DISPUTE_FEE_UNITS
    currency = _currency_of(intent)
    return {"id": id_, "amount": value, "currency": currency, "created": created, "fee": fee}


def _metadata_of(intent: Intent) -> dict[str, Any]:
    if intent.deposit_id is None:
        return {}
    return {"metadata": {"deposit_id": intent.deposit_id, "channel": "web"}}


def _currency_of(intent: Intent) -> str:
    return (intent.legs[0].currency or "").lower()


def _tail_of(id_: str) -> str:
    return id_.partition("_")[2] or id_


WRITER: Final = StripeWriter()
