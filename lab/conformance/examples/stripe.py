"""A deposit's life at Stripe, with the notices beside each step.

It is paid, refunded in part, disputed and won back.
"""

from __future__ import annotations

import hmac
import json
from decimal import Decimal
from typing import Any, Final

from lab.conformance.examples.fill import Example, Expected, Fill, units
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret": "whsec_7f0c5d9e2b8a41f6a3c4e1d2"}
CURRENCIES: Final = ("EUR", "JPY", "KWD", "ISK", "CLP", "UGX")

# docs.stripe.com/currencies: the special cases; all others as ISO 4217 has them.
_DECIMALS: Final = {"ISK": 2, "UGX": 2}

_Reference = tuple[str, str] | None
_PAID: Final = "payment_intent.succeeded"


def examples(fill: Fill) -> list[Example]:
    """Return the events of a deposit's life.

    A payment and its charge; two refunds, one of which fails; a dispute lost and won; a direct
    charge; a payout.
    """
    paid, back = fill.amount(0), fill.amount(1)
    intent, charge, dispute = (
        f"{kind}_{fill.uuid(n)}" for n, kind in enumerate(("pi", "ch", "dp"))
    )
    opened, original = ("deposit.opened", fill.tx(0)), (_PAID, intent)
    meta = {"metadata": {"deposit_id": fill.tx(0), "channel": "web"}}
    about = {"payment_intent": intent, "charge": charge, **meta}
    value, rest = _units(fill, paid), _units(fill, back)
    taken = {
        "id": "txn_1" + charge,
        "amount": -rest,
        "currency": fill.currency.lower(),
        "created": 1,
        "fee": 1500,
    }
    given = {
        "id": "txn_2" + charge,
        "amount": rest,
        "currency": fill.currency.lower(),
        "created": 2,
        "fee": -1500,
    }
    disputed = {"id": dispute, "amount": rest, **about}
    # A dispute about nothing moves nothing: then it goes by its own id.
    lost, won = (taken["id"], given["id"]) if rest else (dispute, dispute)
    alone = {"amount": value, "captured": True, "payment_intent": None, **meta}
    refund, direct = f"re_{fill.uuid(3)}", f"ch_{fill.uuid(4)}"
    return [
        _event(
            fill,
            0,
            _PAID,
            {"id": intent, "amount": value, "amount_received": value, **meta},
            intent,
            ("DEPOSIT", paid),
            opened,
        ),
        _event(
            fill,
            1,
            "charge.succeeded",
            {"id": charge, "amount": value, "captured": True, **about},
            None,
            ("INFORMATIONAL", paid),
            opened,
        ),
        _event(
            fill,
            2,
            "charge.refunded",
            {"id": charge, "amount_refunded": rest, **about},
            None,
            ("DEPOSIT_REVERSAL", back),
            original,
            {"amount_refunded": 0, "refunded": False},
        ),
        _event(
            fill,
            3,
            "charge.refunded",
            {"id": charge, "amount_refunded": rest + value, **about},
            None,
            ("DEPOSIT_REVERSAL", paid),
            original,
            {"amount_refunded": rest},
        ),
        _event(
            fill,
            4,
            "refund.failed",
            {"id": refund, "amount": rest, "status": "failed", **about},
            refund,
            ("DEPOSIT", back),
            original,
        ),
        _event(
            fill,
            5,
            "charge.dispute.funds_withdrawn",
            {**disputed, "balance_transactions": [taken]},
            lost,
            ("DEPOSIT_REVERSAL", back),
            original,
        ),
        _event(
            fill,
            6,
            "charge.dispute.funds_reinstated",
            {**disputed, "balance_transactions": [taken, given]},
            won,
            ("DEPOSIT", back),
            original,
        ),
        _event(
            fill,
            7,
            "charge.succeeded",
            {"id": direct, **alone},
            direct,
            ("DEPOSIT", paid),
            opened,
            name="a charge without a payment intent",
        ),
        _event(
            fill,
            8,
            "payout.paid",
            {"id": f"po_{fill.uuid(5)}", "amount": value},
            None,
            ("INFORMATIONAL", paid),
            None,
        ),
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
    # During a rotation of the secret the signature of the other one stands beside it.
    other = hmac.digest(b"whsec_old", b"%d.%s" % (at, body), "sha256").hex()
    return f"t={at},v1={other},v1={signed},v0={other}".encode()
