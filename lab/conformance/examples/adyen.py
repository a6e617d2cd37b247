"""Adyen's notices of a deposit's life, single ones and several in a request, each item signed."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any, Final

from lab.conformance.examples.fill import Example, Expected, Fill, units
from schemas.events import SignatureVerdict
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {
    "hmac_hex": "5d0f3c1b7a92e8466cb1d5f00e4a7793c2b8f61a0d9e35478812fa6c3be7d091"
}
CURRENCIES: Final = ("EUR", "JPY", "KWD", "CLF", "BTC", "ISK", "CLP", "CVE", "IDR")

_DECIMALS: Final = {
    "CLP": 2,
    "CVE": 0,
    "IDR": 0,
    "ISK": 2,
}  # docs.adyen.com, currency-codes; all others: ISO 4217
_MERCHANT: Final = "AcmeECOM"
_AMSTERDAM: Final = timezone(timedelta(hours=1))


def examples(fill: Fill) -> list[Example]:
    """Return an authorisation, a batch of what follows it, a refusal, an unsigned chargeback."""
    authorised, captured, refunded, failed, cancelled, charged, refused = _items(fill)
    return [
        _batch(fill, "an authorisation", authorised),
        _batch(fill, "what follows it, in one request", captured, refunded, failed),
        _batch(fill, "a cancellation", cancelled),
        _batch(fill, "a chargeback, unsigned", charged),
        _batch(fill, "a refused authorisation", refused),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the same items from the last to the first, two a request."""
    items = _items(fill)[::-1]
    return [
        _batch(fill, f"request {at // 2}", *items[at : at + 2]) for at in range(0, len(items), 2)
    ]


_Item = tuple[dict[str, Any], Expected]


def _items(fill: Fill) -> list[_Item]:
    paid, back = (fill.amount(n, _DECIMALS.get(fill.currency)) for n in range(2))
    refs = [_psp_reference(fill, n) for n in range(1, 8)]
    opened, authorised = ("deposit.opened", fill.tx(0)), ("AUTHORISATION", refs[0])
    notice = partial(_item, fill)
    later = partial(_item, fill, original=refs[0])
    return [
        notice("AUTHORISATION", refs[0], paid, "DEPOSIT", opened),
        later("CAPTURE", refs[1], paid, "INFORMATIONAL", opened),
        later("REFUND", refs[2], back, "DEPOSIT_REVERSAL", authorised),
        later("REFUND", refs[3], back, "INFORMATIONAL", opened, success=False),
        later("CANCELLATION", refs[4], paid, "DEPOSIT_REVERSAL", authorised),
        later("CHARGEBACK", refs[5], back, "DEPOSIT_REVERSAL", authorised),
        notice("AUTHORISATION", refs[6], paid, "INFORMATIONAL", opened, success=False),
    ]


def _item(
    fill: Fill,
    code: str,
    psp: str,
    amount: Decimal,
    kind: str,
    reference: tuple[str, str],
    *,
    original: str = "",
    success: bool = True,
) -> _Item:
    value = units(amount, _DECIMALS.get(fill.currency, fill.scale))
    succeeded = "true" if success else "false"
    signed = (psp, original, _MERCHANT, fill.tx(0), str(value), fill.currency, code, succeeded)
    verdict = SignatureVerdict.VALID
    additional = {"hmacSignature": _signature(":".join(signed))}
    if code == "CHARGEBACK":
        verdict, additional = SignatureVerdict.MISSING_ALLOWED, {}
    item = {
        "additionalData": additional,
        "amount": {"currency": fill.currency, "value": value},
        "eventCode": code,
        "eventDate": _date(fill.at_ms),
        "merchantAccountCode": _MERCHANT,
        "merchantReference": fill.tx(0),
        "paymentMethod": "visa",
        "pspReference": psp,
        "reason": "" if success else "Refused",
        "success": succeeded,
    }
    if original:
        item["originalReference"] = original
    operation = code if success else f"{code}:false"
    return item, Expected(
        operation, psp, None, ((kind, amount),), reference, signature=verdict.value
    )


def _batch(fill: Fill, name: str, *items: _Item) -> Example:
    entries = [{"NotificationRequestItem": item} for item, _ in items]
    body = json.dumps(
        {"live": "false", "notificationItems": entries}, separators=(",", ":"), ensure_ascii=False
    )
    headers = fill.headers("application/json", "/adyen/notifications")
    return Example(
        name, headers, fill.tx(0).encode(), body.encode(), tuple(expected for _, expected in items)
    )


def _psp_reference(fill: Fill, n: int) -> str:
    return f"{fill.uuid(n).replace('-', '').upper():.16}"


def _signature(text: str) -> str:
    key = bytes.fromhex(KEYS["hmac_hex"])
    return b64encode(hmac.digest(key, text.encode(), "sha256")).decode()


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC).astimezone(_AMSTERDAM).isoformat()
