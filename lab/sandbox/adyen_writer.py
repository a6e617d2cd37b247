"""Adyen's notification batches: JSON, each item signed by itself.

Booleans are strings, amounts are in minor units. Shapes follow the notification samples in
`Adyen/adyen-java-api-library`, and so does the text that is signed: its HMACValidatorTest holds the
vector that our contract test repeats. A chargeback comes unsigned, as in its sample there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from lab.sandbox.actions import ADYEN, Delivery, PspBatch, PspItem
from lab.sandbox.encoders import json_body
from lab.sandbox.envelope import style_of, wrap_body
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import RawEvent

UNSIGNED_EVENT_CODES: Final = frozenset({"CHARGEBACK"})

_AMSTERDAM: Final = timezone(timedelta(hours=1))  # a fixed offset: the samples print +01:00
_CARDS: Final = ("visa", "mc", "ideal", "paypal")


def adyen_record(delivery: Delivery, batch: PspBatch, keys: SandboxKeys) -> RawEvent:
    """Write the record of one batch."""
    items = [{"NotificationRequestItem": adyen_item(item, keys)} for item in batch.items]
    body = json_body({"live": "false", "notificationItems": items}, style_of(delivery))
    return wrap_adyen_body(delivery, batch, body)


def adyen_item(item: PspItem, keys: SandboxKeys) -> dict[str, Any]:
    """Build one item with its signature, fields in the order of the samples."""
    additional: dict[str, str] = {}
    if item.event_code == "AUTHORISATION":
        additional |= {"authCode": item.psp_reference[-4:], "expiryDate": "03/2030"}
    if item.event_code not in UNSIGNED_EVENT_CODES:
        additional["hmacSignature"] = keys.adyen_signature(signed_text(item))
    fields: dict[str, Any] = {
        "additionalData": additional,
        "amount": {"currency": item.player.currency, "value": item.amount_minor},
        "eventCode": item.event_code,
        "eventDate": _event_date(item.at_ms),
        "merchantAccountCode": merchant_account(item),
        "merchantReference": item.merchant_reference,
        "paymentMethod": _CARDS[int(item.player.id[-2:]) % len(_CARDS)],
        "pspReference": item.psp_reference,
        "reason": item.reason,
        "success": _text_of(item.success),
    }
    if item.original_reference:
        fields["originalReference"] = item.original_reference
    return fields


def signed_text(item: PspItem) -> str:
    """Return what the item's HMAC covers, joined by colons.

    An absent original reference is an empty text.
    """
    return ":".join(
        (
            item.psp_reference,
            item.original_reference,
            merchant_account(item),
            item.merchant_reference,
            str(item.amount_minor),
            item.player.currency,
            item.event_code,
            _text_of(item.success),
        )
    )


def merchant_account(item: PspItem) -> str:
    """Return the account that the brand holds with the payment provider."""
    return f"{item.player.brand.capitalize()}ECOM"


def wrap_adyen_body(delivery: Delivery, batch: PspBatch, body: bytes) -> RawEvent:
    """Put the connector's headers around a body.

    No player is known yet, so the key is the first item's reference.
    """
    first = batch.items[0]
    return wrap_body(
        delivery,
        ADYEN,
        first.merchant_reference or first.psp_reference,
        body,
        path="/adyen/notifications",
        brand=first.player.brand,
    )


def _text_of(flag: bool) -> str:
    return "true" if flag else "false"


def _event_date(at_ms: int) -> str:
    # Whole seconds, as in the samples: two notices of one second differ only in their references.
    moment = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
    return moment.astimezone(_AMSTERDAM).isoformat()
