"""Adyen's standard webhooks: a batch of payment notices, each signed on its own.

Sources: docs.adyen.com, webhooks and verify-hmac-signatures; Adyen's public libraries for what is
signed. A notice knows the merchant's reference, not the player: AUTHORISATION names the
`deposit.opened` of our cashier, later notices name the payment. The decimals of four currencies
differ from ISO 4217 (docs.adyen.com, currency-codes).

The event codes are those of github.com/Adyen/adyen-openapi, json/Webhooks-v1.json, of 2026-07-01:
48, and what each moves is by its description there. All events of one dispute share a pspReference.

The operation is the event code, with `:false` behind it where the event did not succeed. One
payment can be refused and, seconds later, succeed under the same pspReference (adyen-commercetools
#1324, adyen-magento2 #607): were both one identity, the success would be a conflict and the
player's money would not arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_of, exponent_of
from schemas.policies import CARD_POLICY, LedgerPolicy
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    Reader,
    Reply,
    require_key,
)
from streams.providers.fields import (
    CurrencyText,
    Id,
    Instant,
    OptionalId,
    currency_of,
    ms_of_instant,
    optional_text,
    read_json,
    require,
    text_of,
)
from streams.providers.http_face import RECORD_BYTES_MAX, HttpCall, HttpFace
from streams.providers.signatures import HmacSha256

_DECIMALS_OWN: Final = {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}

_AUTHORISATION: Final = "AUTHORISATION"
_REFUND_FAILED: Final = "REFUND_FAILED"
_MOVES: Final = {
    "AUTHORISATION": Kind.DEPOSIT,
    # What takes the payment, or a part of it.
    "REFUND": Kind.DEPOSIT_REVERSAL,
    "CANCELLATION": Kind.DEPOSIT_REVERSAL,
    "CANCEL_OR_REFUND": Kind.DEPOSIT_REVERSAL,
    "TECHNICAL_CANCEL": Kind.DEPOSIT_REVERSAL,
    "CAPTURE_FAILED": Kind.DEPOSIT_REVERSAL,
    "CHARGEBACK": Kind.DEPOSIT_REVERSAL,
    # What gives it back.
    "REFUND_FAILED": Kind.DEPOSIT,
    "REFUNDED_REVERSED": Kind.DEPOSIT,
    "CHARGEBACK_REVERSED": Kind.DEPOSIT,
    # What takes it again.
    "SECOND_CHARGEBACK": Kind.DEPOSIT_REVERSAL,
}
"""The codes that move a player's money where they succeed.

Of a dispute they are those that the vendor's texts call a movement. A code that takes what can come
back is here together with the one that gives it back.
"""
_OPERATIONS: Final = {"REFUNDED_REVERSED": _REFUND_FAILED}
"""Codes that tell what another one tells, by the same pspReference: the refund came back."""
_NOTICES: Final = frozenset(
    {
        *("AUTHORISATION_ADJUSTMENT", "CAPTURE", "EXPIRE", "POSTPONED_REFUND"),
        *("VOID_PENDING_REFUND", "AUTORESCUE", "CANCEL_AUTORESCUE"),
        *("MANUAL_REVIEW_ACCEPT", "MANUAL_REVIEW_REJECT"),
        *("NOTIFICATION_OF_FRAUD", "NOTIFICATION_OF_CHARGEBACK", "REQUEST_FOR_INFORMATION"),
        *("INFORMATION_SUPPLIED", "DISPUTE_DEFENSE_PERIOD_ENDED"),
        *("ISSUER_COMMENTS", "ISSUER_RESPONSE_TIMEFRAME_EXPIRED"),
        *("PREARBITRATION_OPEN", "PREARBITRATION_ACCEPTED", "PREARBITRATION_DECLINED"),
        *("PREARBITRATION_ISSUER_WITHDRAWN", "PREARBITRATION_LOST", "PREARBITRATION_WON"),
        *("SCHEME_ARBITRATION", "SCHEME_ARBITRATION_LOST", "SCHEME_ARBITRATION_WON"),
    }
)
"""What is said about a payment."""
_NOT_OURS: Final = frozenset(
    {
        *("ACH_NOTIFICATION_OF_CHANGE", "DIRECT_DEBIT_NOTICE_OF_CHANGE_NOTIFICATION"),
        *("OFFER_CLOSED", "ORDER_OPENED", "ORDER_CLOSED", "RECURRING_CONTRACT", "REPORT_AVAILABLE"),
        *("PAYOUT_THIRDPARTY", "PAYOUT_DECLINE", "PAYOUT_EXPIRE", "PAIDOUT_REVERSED"),
        "REFUND_WITH_DATA",
    }
)
"""What is about no deposit: it is noted without amount and reference.

Payouts are the cashier's withdrawals, and a refund with data pays to a card without a payment.
"""
_KNOWN: Final = _MOVES.keys() | _NOTICES | _NOT_OURS


class _Amount(msgspec.Struct, frozen=True, gc=False):
    currency: CurrencyText
    value: int


class _AdditionalData(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    hmac_signature: str | None = None


class _Item(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    event_code: str
    success: Literal["true", "false"]
    psp_reference: Id
    merchant_account_code: str | None = None
    merchant_reference: OptionalId = None
    original_reference: OptionalId = None
    amount: _Amount | None = None
    event_date: Instant | None = None
    additional_data: _AdditionalData | None = None


class _Entry(msgspec.Struct, frozen=True, gc=False):
    item: msgspec.Raw = msgspec.field(name="NotificationRequestItem")


class _Batch(msgspec.Struct, frozen=True, gc=False):
    items: Annotated[list[msgspec.Raw], Meta(min_length=1)] = msgspec.field(
        name="notificationItems"
    )
    live: Literal["true", "false"] = "true"


_BATCH: Final = msgspec.json.Decoder(_Batch)
_ENTRY: Final = msgspec.json.Decoder(_Entry)
_ITEM: Final = msgspec.json.Decoder(_Item)


def _signed_text(item: _Item) -> str:
    """Return the text that Adyen signs of an item: eight fields joined by colons.

    A missing field is empty, and nothing is escaped. An earlier edition of the document had
    backslash and colon escaped, and libraries did so until real notices with a colon failed
    (adyen-python-api-library #117 and #193, adyen-php-api-library #165).
    """
    amount = item.amount
    return ":".join(
        (
            str(item.psp_reference),
            str(item.original_reference or ""),
            item.merchant_account_code or "",
            str(item.merchant_reference or ""),
            "" if amount is None else str(amount.value),
            "" if amount is None else amount.currency,
            item.event_code,
            item.success,
        )
    )


def _is_ambiguous(item: _Item) -> bool:
    """Return whether other fields have the same signed text.

    That is so where the end of one field can be moved into the next. A merchantReference is the
    merchant's own and may hold a colon, Adyen's references and account codes do not: with no colon
    in those, one signed text has one reading. Otherwise a signed notice could come again under
    another pspReference.
    """
    return any(
        ":" in str(text or "")
        for text in (item.psp_reference, item.original_reference, item.merchant_account_code)
    )


@dataclass(frozen=True)
class Adyen(Dialect):
    """Adyen's dialect and its settings.

    `unsigned_allowed` are event codes that may come without a signature, as published chargebacks
    do: anyone who can post to the webhook can then send them. A missing signature is not a wrong
    one: a wrong one is always rejected. `accept_test` lets notices of the test environment (`live`
    is "false") through; an installation with real money leaves it.
    """

    provider: ClassVar[str] = "adyen"
    version: ClassVar[str] = "1"
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("/notifications", ("any event code",)),),
        waits=False,
        patience_ms=10_000,
        patience_source="docs.adyen.com, webhooks: 10 seconds",
        body_bytes_max=RECORD_BYTES_MAX,
    )

    unsigned_allowed: frozenset[str] = frozenset()
    accept_test: bool = False
    policy: LedgerPolicy = CARD_POLICY

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks each item's `hmacSignature`. Needs `hmac_hex`."""
        key = None
        if material is not None:
            key = HmacSha256(require_key(material, "hmac_hex", self.provider))
        return partial(self._read, key)

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return `[accepted]`, also for dead letters.

        Adyen holds back all later notices until it gets this answer.

        Where no item of the request is signed correctly, the answer is 401: if our key is wrong and
        not the notice, Adyen repeats it.
        """
        del request
        forged = {RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE}
        if results and all(
            isinstance(result, Rejected) and result.reason in forged for result in results
        ):
            return Reply(401, "text/plain", b"")
        return Reply(200, "text/plain", b"[accepted]")

    def _read(self, key: HmacSha256 | None, record: RawRecord, _: Headers) -> list[Item]:
        batch = read_json(_BATCH, record.value or b"")
        if batch.live != "true" and not self.accept_test:
            raise Rejected(
                RejectCode.BAD_FIELD,
                "a notice of the test environment where only live ones are accepted",
            )
        results: list[Item] = []
        for entry in batch.items:
            try:
                item = read_json(_ENTRY, bytes(entry)).item
                results.append(self._draft(key, read_json(_ITEM, bytes(item))))
            except Rejected as error:
                results.append(error)
        return results

    def _draft(self, key: HmacSha256 | None, item: _Item) -> Draft:
        if item.event_code not in _KNOWN:
            raise Rejected(
                RejectCode.UNKNOWN_OPERATION, f"event code {item.event_code[:64]!r} is not mapped"
            )
        verdict = self._verdict(key, item)
        leg, reference = _meaning(item)
        code = item.event_code
        return Draft(
            _OPERATIONS.get(code, code) if item.success == "true" else f"{code}:false",
            text_of(item.psp_reference, "pspReference"),
            [leg],
            None,
            reference,
            None,
            False,
            None,
            None if item.event_date is None else ms_of_instant(item.event_date, "eventDate"),
            False,
            verdict,
        )

    def _verdict(self, key: HmacSha256 | None, item: _Item) -> str:
        if key is None:
            return SignatureVerdict.NOT_CHECKED.value
        signature = (
            item.additional_data.hmac_signature if item.additional_data is not None else None
        )
        if not signature:
            if item.event_code in self.unsigned_allowed:
                return SignatureVerdict.MISSING_ALLOWED.value
            raise Rejected(
                RejectCode.MISSING_SIGNATURE, f"{item.event_code} must carry an hmacSignature"
            )
        if not key.matches_base64(_signed_text(item).encode(), signature.encode()):
            raise Rejected(RejectCode.BAD_SIGNATURE, "hmacSignature does not sign this item")
        if _is_ambiguous(item):
            raise Rejected(
                RejectCode.BAD_SIGNATURE,
                "hmacSignature may sign another item: a colon in a field that has none",
            )
        return SignatureVerdict.VALID.value


def _meaning(item: _Item) -> tuple[Leg, Reference | None]:
    """Return leg and reference of an item: only what succeeded moves money.

    What moves the money of a payment names the payment, everything else our deposit if it can.
    """
    code = item.event_code
    kind = _MOVES.get(code) if item.success == "true" else None
    if kind is None and code in _NOT_OURS:
        return Leg(Kind.INFORMATIONAL.value), None
    merchant = optional_text(item.merchant_reference, "merchantReference")
    if code == _AUTHORISATION and kind is not None:
        return _money(kind, item), Reference(
            "deposit.opened", require(merchant, "merchantReference")
        )
    original = optional_text(item.original_reference, "originalReference")
    if kind is not None:
        return _money(kind, item), Reference(_AUTHORISATION, require(original, "originalReference"))
    leg = Leg(Kind.INFORMATIONAL.value) if item.amount is None else _money(Kind.INFORMATIONAL, item)
    if merchant is not None:
        return leg, Reference("deposit.opened", merchant)
    return leg, None if original is None else Reference(_AUTHORISATION, original)


def _money(kind: Kind, item: _Item) -> Leg:
    sent = require(item.amount, "amount")
    code = sent.currency.upper()
    decimals = _DECIMALS_OWN[code] if code in _DECIMALS_OWN else exponent_of(code)
    amount = amount_of(sent.value, decimals)
    return Leg(kind.value, amount, currency_of(amount, code))
