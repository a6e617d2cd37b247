"""Adyen's notification batches: JSON, each item signed by itself.

Booleans are strings, amounts are in minor units. Shapes follow the notification samples in
`Adyen/adyen-java-api-library`, and so does the text that is signed: its HMACValidatorTest holds the
vector that our contract test repeats. A chargeback comes unsigned, as in its sample there.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar, Final

from lab.conformance.intents import Intent, Verb, scale_of
from lab.conformance.writers.encoding import json_body, units_of
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer

PATH: Final = "/adyen/notifications"
DECIMALS: Final = {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}
"""docs.adyen.com, currency-codes; all others as ISO 4217 has them."""

_AMSTERDAM: Final = timezone(timedelta(hours=1))  # a fixed offset: the samples print +01:00


class AdyenWriter(Writer):
    """Writes notices of a deposit's life, several of one merchant account in a request."""

    provider = "adyen"
    says: ClassVar = {
        Verb.DEPOSIT: "AUTHORISATION",
        Verb.DEPOSIT_REFUSED: "AUTHORISATION:false",
        Verb.CAPTURE: "CAPTURE",
        Verb.REFUND: "REFUND",
        Verb.REFUND_REFUSED: "REFUND:false",
        Verb.REFUND_RETURNED: "REFUND_FAILED",
        Verb.CHARGEBACK: "CHARGEBACK",
        Verb.CHARGEBACK_WON: "CHARGEBACK_REVERSED",
    }
    secret_names = ("hmac_hex",)
    batch_max = 5

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write a batch; its key is the first item's reference: no player is known yet."""
        entries = [{"NotificationRequestItem": self.item(intent, secrets)} for intent in items]
        body = json_body({"live": "true", "notificationItems": entries}, sending.style)
        return self.wrap(items[0], body)

    def item(self, intent: Intent, secrets: Secrets | None) -> dict[str, Any]:
        """Build one item with its signature, fields in the order of the samples."""
        event_code, succeeded = _event_of(intent)
        currency, value = _amount_of(intent)
        additional: dict[str, str] = {}
        if event_code == "AUTHORISATION":
            additional |= {"authCode": intent.tx_id[-4:], "expiryDate": "03/2030"}
        if secrets is not None:
            additional["hmacSignature"] = signature(signed_text(intent), secrets)
        fields: dict[str, Any] = {
            "additionalData": additional,
            "amount": {"currency": currency, "value": value},
            "eventCode": event_code,
            "eventDate": _event_date(intent.at_ms),
            "merchantAccountCode": merchant_account(intent),
            "merchantReference": intent.deposit_id or "",
            "paymentMethod": intent.detail("method", "visa"),
            "pspReference": intent.tx_id,
            "reason": intent.detail("reason"),
            "success": succeeded,
        }
        if original := original_reference(intent):
            fields["originalReference"] = original
        return fields

    def wrap(self, first: Intent, body: bytes) -> Message:
        """Return the message with this body, whose first item is given."""
        return Message(first.deposit_id or first.tx_id, body, PATH)

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a pspReference."""
        del verb, at_ms
        return ids.psp_reference()


def signed_text(intent: Intent) -> str:
    """Return what the item's HMAC covers, joined by colons.

    An absent original reference is an empty text.
    """
    event_code, succeeded = _event_of(intent)
    currency, value = _amount_of(intent)
    return ":".join(
        (
            intent.tx_id,
            original_reference(intent),
            merchant_account(intent),
            intent.deposit_id or "",
            str(value),
            currency,
            event_code,
            succeeded,
        )
    )


def signature(text: str, secrets: Secrets) -> str:
    """Sign an item's joined fields as in `additionalData.hmacSignature`.

    The signature is the base64 of HMAC-SHA256.
    """
    key = bytes.fromhex(secrets["hmac_hex"])
    return b64encode(hmac.digest(key, text.encode(), "sha256")).decode()


def merchant_account(intent: Intent) -> str:
    """Return the account that the brand holds with the payment provider."""
    return f"{intent.brand.capitalize()}ECOM"


def original_reference(intent: Intent) -> str:
    """Return the pspReference of the authorisation that it follows; empty where it is one."""
    is_first = intent.verb in {Verb.DEPOSIT, Verb.DEPOSIT_REFUSED}
    return "" if is_first else intent.referred_id or ""


def _event_of(intent: Intent) -> tuple[str, str]:
    event_code, _, failed = intent.operation.partition(":")
    return event_code, "false" if failed else "true"


def _amount_of(intent: Intent) -> tuple[str, int]:
    [leg] = intent.legs
    assert leg.minor is not None
    assert leg.currency is not None
    decimals = DECIMALS.get(leg.currency, scale_of(leg.currency))
    return leg.currency, units_of(leg.minor, leg.currency, decimals)


def _event_date(at_ms: int) -> str:
    # Whole seconds, as in the samples: two notices of one second differ only in their references.
    moment = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
    return moment.astimezone(_AMSTERDAM).isoformat()


WRITER: Final = AdyenWriter()
