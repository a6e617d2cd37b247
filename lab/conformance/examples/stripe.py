"""A deposit's life at Stripe, with the notices beside each step.

It is paid, refunded in part, disputed and won back.
"""

from __future__ import annotations

import hmac
import json
from decimal import Decimal
from typing import Any, Final, NamedTuple

from lab.conformance.examples.fill import Example, Expected, Fill, units
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret": "whsec_7f0c5d9e2b8a41f6a3c4e1d2"}
CURRENCIES: Final = ("EUR", "JPY", "KWD", "ISK", "CLP", "UGX")

# docs.stripe.com/currencies: the special cases; all others as ISO 4217 has them.
_DECIMALS: Final = {"ISK": 2, "UGX": 2}

_Reference = tuple[str, str] | None
_PAID: Final = "payment_intent.succeeded"


class _Payment(NamedTuple):
    intent: str
    charge: str
    opened: tuple[str, str]
    original: tuple[str, str]
    metadata: dict[str, Any]
    links: dict[str, Any]


def examples(fill: Fill) -> list[Example]:
    """Return the events of a deposit's life.

    They are a payment and its charge; two refunds, one of which fails; a dispute lost and won; a
    direct charge; a payout.
    """
    intent, charge = f"pi_{fill.uuid(0)}", f"ch_{fill.uuid(1)}"
    metadata = {"metadata": {"deposit_id": fill.tx(0), "channel": "web"}}
    payment = _Payment(
        intent,
        charge,
        ("deposit.opened", fill.tx(0)),
        (_PAID, intent),
        metadata,
        {"payment_intent": intent, "charge": charge, **metadata},
    )
    stories = (_payment_events, _refund_events, _dispute_events, _other_events)
    return [example for story in stories for example in story(fill, payment)]


def _payment_events(fill: Fill, payment: _Payment) -> list[Example]:
    paid = fill.amount(0)
    value = _units(fill, paid)
    intent = {"id": payment.intent, "amount": value, "amount_received": value, **payment.metadata}
    charge = {"id": payment.charge, "amount": value, "captured": True, **payment.links}
    notice = ("INFORMATIONAL", paid)
    return [
        _event(fill, 0, _PAID, intent, payment.intent, ("DEPOSIT", paid), payment.opened),
        _event(fill, 1, "charge.succeeded", charge, None, notice, payment.opened),
    ]


def _refund_events(fill: Fill, payment: _Payment) -> list[Example]:
    paid, back = fill.amount(0), fill.amount(1)
    value, rest = _units(fill, paid), _units(fill, back)
    first = {"id": payment.charge, "amount_refunded": rest, **payment.links}
    second = {"id": payment.charge, "amount_refunded": rest + value, **payment.links}
    before_first = {"amount_refunded": 0, "refunded": False}
    before_second = {"amount_refunded": rest}
    taken, more = ("DEPOSIT_REVERSAL", back), ("DEPOSIT_REVERSAL", paid)
    refund = f"re_{fill.uuid(3)}"
    failed = {"id": refund, "amount": rest, "status": "failed", **payment.links}
    origin = payment.original
    return [
        _event(fill, 2, "charge.refunded", first, None, taken, origin, before_first),
        _event(fill, 3, "charge.refunded", second, None, more, origin, before_second),
        _event(fill, 4, "refund.failed", failed, refund, ("DEPOSIT", back), origin),
    ]


def _dispute_events(fill: Fill, payment: _Payment) -> list[Example]:
    back = fill.amount(1)
    rest, currency = _units(fill, back), fill.currency.lower()
    dispute = f"dp_{fill.uuid(2)}"
    taken, given = (
        {
            "id": f"txn_{n}{payment.charge}",
            "amount": sign * rest,
            "currency": currency,
            "created": n,
            "fee": -sign * 1500,
        }
        for n, sign in ((1, -1), (2, 1))
    )
    # A dispute of zero moves no money: then it goes by its own id.
    lost, won = (taken["id"], given["id"]) if rest else (dispute, dispute)
    disputed = {"id": dispute, "amount": rest, **payment.links}
    withdrawn = {**disputed, "balance_transactions": [taken]}
    reinstated = {**disputed, "balance_transactions": [taken, given]}
    kind, origin = "charge.dispute.funds", payment.original
    return [
        _event(fill, 5, f"{kind}_withdrawn", withdrawn, lost, ("DEPOSIT_REVERSAL", back), origin),
        _event(fill, 6, f"{kind}_reinstated", reinstated, won, ("DEPOSIT", back), origin),
    ]


def _other_events(fill: Fill, payment: _Payment) -> list[Example]:
    paid = fill.amount(0)
    value, direct = _units(fill, paid), f"ch_{fill.uuid(4)}"
    charge = {"id": direct, "amount": value, "captured": True, "payment_intent": None}
    charge |= payment.metadata
    payout = {"id": f"po_{fill.uuid(5)}", "amount": value}
    return [
        _event(
            fill,
            7,
            "charge.succeeded",
            charge,
            direct,
            ("DEPOSIT", paid),
            payment.opened,
            name="a charge without a payment intent",
        ),
        _event(fill, 8, "payout.paid", payout, None, ("INFORMATIONAL", paid), None),
    ]


def _units(fill: Fill, amount: Decimal) -> int:
    return units(amount, _DECIMALS.get(fill.currency, fill.scale))


def _event(
    fill: Fill,
    n: int,
    kind: str,
    thing: dict[str, Any],
    tx_id: Any,
    leg: tuple[str, Decimal],
    reference: _Reference,
    previous: dict[str, Any] | None = None,
    *,
    name: str | None = None,
) -> Example:
    """Return one event; with `tx_id` None it goes by the event's own id.

    A retry has the same id and time and a new signature.
    """
    event_id = f"evt_{fill.uuid(100 + n)}"
    data: dict[str, Any] = {
        "object": {
            "object": kind.split(".", maxsplit=1)[0],
            "currency": fill.currency.lower(),
            **thing,
        }
    }
    if previous is not None:
        data["previous_attributes"] = previous
    body = {
        "id": event_id,
        "object": "event",
        "api_version": "2024-06-20",
        "created": fill.first_at_ms // 1000,
        "data": data,
        "livemode": False,
        "pending_webhooks": 1 + fill.sending,
        "type": kind,
    }
    value = json.dumps(body, indent=2).encode()
    headers = fill.headers(
        "application/json; charset=utf-8", "/stripe", {"stripe-signature": _signature(fill, value)}
    )
    expected = Expected(kind, tx_id or event_id, None, (leg,), reference)
    return Example(name or f"{kind} {n}", headers, event_id.encode(), value, (expected,))


def _signature(fill: Fill, body: bytes) -> bytes:
    at = fill.at_ms // 1000
    signed = hmac.digest(KEYS["secret"].encode(), b"%d.%s" % (at, body), "sha256").hex()
    # During a rotation of the secret the signature of the other one is sent beside it.
    other = hmac.digest(b"whsec_old", b"%d.%s" % (at, body), "sha256").hex()
    return f"t={at},v1={other},v1={signed},v0={other}".encode()
