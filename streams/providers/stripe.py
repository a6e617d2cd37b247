"""Stripe's webhook events: POST JSON, one event a request, signed over time and body.

Sources: docs.stripe.com, webhooks, webhooks/signature, currencies, api/events/types, refunds and
changelog; the fixtures of dj-stripe for the shapes. The operation is the event's type. One event of
each story becomes money, never two:

- `payment_intent.succeeded` is the deposit. The `charge.succeeded` beside it is information; only a
  charge that was made without a payment intent is the deposit itself.
- `charge.refunded` carries the sum of all refunds so far: the difference to `previous_attributes`
  goes back. Before API version 2025-03-31 that sum holds what was never captured, too
  (docs.stripe.com/changelog, basil, "Partially capturing or canceling payments no longer creates a
  Refund"): that was never a deposit, and only what exceeds it goes back.
- A refund that failed or was cancelled brings its money to the player again. Its `status` says so,
  under whichever of four event types it comes; all of them are the operation `refund.failed`.
- `charge.dispute.funds_withdrawn` takes what the cardholder disputes,
  `charge.dispute.funds_reinstated` gives it back. The fee of a dispute is the casino's own cost and
  in no amount here, though it may exceed the payment.

An event knows our reference, not the player: the deposit names the cashier's `deposit.opened` in
its metadata, later events name the payment. A payment succeeds once, so its identity is the
payment's own id: Stripe may make two events of one occurrence. Of a charge there may be many
refunds, each an event with an id of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_of
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
    OptionalId,
    currency_of,
    optional_text,
    read_json,
    require,
    seen_at,
    text_of,
)
from streams.providers.http_face import HttpCall, HttpFace
from streams.providers.references import id_or_none, reference_or_none
from streams.providers.signatures import Hmac, window_verdict
from streams.providers.times import ms_of_epoch

SIGNATURE_HEADER: Final = "stripe-signature"

_INTENT_PAID: Final = "payment_intent.succeeded"
_CHARGE_PAID: Final = "charge.succeeded"
_CHARGE_CAPTURED: Final = "charge.captured"
_REFUNDED: Final = "charge.refunded"
_REFUND_FAILED: Final = "refund.failed"
_WITHDRAWN: Final = "charge.dispute.funds_withdrawn"
_REINSTATED: Final = "charge.dispute.funds_reinstated"

_REFUND_EVENTS: Final = ("charge.refund.updated", "refund.created", "refund.updated")
_NOT_REFUNDED: Final = frozenset({"failed", "canceled"})
"""The statuses of a refund whose money comes back (docs.stripe.com/refunds, failed refunds)."""
_SUCCEEDED: Final = "succeeded"
_STATUSES: Final = _NOT_REFUNDED | {_SUCCEEDED}
"""The statuses that are looked at; no other need be told from a placeholder first."""

_THIN: Final = b'"v2.core.event"'

_NOTICES: Final = frozenset(
    {
        f"payment_intent.{event}"
        for event in ("created", "processing", "requires_action", "payment_failed", "canceled")
    }
    | {"payment_intent.amount_capturable_updated", "payment_intent.partially_funded"}
    | {f"charge.{event}" for event in ("expired", "failed", "pending", "updated")}
    | {f"charge.dispute.{event}" for event in ("created", "updated", "closed")}
    | {f"reserve.{event}" for event in ("hold.created", "hold.updated", "release.created")}
    | {f"reserve.plan.{event}" for event in ("created", "updated", "disabled", "expired")}
    | {
        f"payout.{event}"
        for event in (
            "created",
            "updated",
            "paid",
            "failed",
            "canceled",
            "reconciliation_completed",
        )
    }
)

# docs.stripe.com/currencies, zero-decimal, three-decimal and special cases; UGX, ISK and MGA are
# not as in ISO 4217.
_ZERO: Final = (
    "BIF",
    "CLP",
    "DJF",
    "GNF",
    "JPY",
    "KMF",
    "KRW",
    "MGA",
    "PYG",
    "RWF",
    "VND",
    "VUV",
    "XAF",
    "XOF",
    "XPF",
)
_THREE: Final = ("BHD", "JOD", "KWD", "OMR", "TND")
_DECIMALS: Final = {**dict.fromkeys(_ZERO, 0), **dict.fromkeys(_THREE, 3)}
_DECIMALS_ELSE: Final = 2

_Check = Callable[[bytes, Headers, int], str]


class _Txn(msgspec.Struct, frozen=True, gc=False):
    amount: int
    currency: CurrencyText
    created: int = 0
    id: OptionalId = None


class _Object(msgspec.Struct, frozen=True, gc=False):
    id: Id
    amount: int | None = None
    amount_received: int | None = None
    amount_captured: int | None = None
    amount_refunded: int | None = None
    status: str | None = None
    captured: bool | None = None
    currency: CurrencyText | None = None
    charge: OptionalId = None
    payment_intent: OptionalId = None
    metadata: dict[str, str] | None = None
    balance_transactions: list[_Txn] | None = None


class _Previous(msgspec.Struct, frozen=True, gc=False):
    amount_refunded: int | None = None


class _Data(msgspec.Struct, frozen=True, gc=False):
    object: _Object
    previous_attributes: _Previous | None = None


class _Head(msgspec.Struct, frozen=True, gc=False):
    id: Id
    type: str
    data: msgspec.Raw
    livemode: bool = True
    created: int | None = None


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    object: msgspec.Raw = msgspec.Raw()


class _StripeEvent(msgspec.Struct, frozen=True, gc=False):
    """What an event tells, and whether its version counts releases among refunds."""

    thing: _Object
    previous: _Previous | None
    event_id: str
    opened: Reference | None
    kind: str
    releases_are_refunds: bool


class _Meaning(msgspec.Struct, frozen=True, gc=False):
    """The meaning of an event: its leg, its reference, and the id of what happened.

    `operation` is the event's type where it is None.
    """

    leg: Leg
    reference: Reference | None
    tx_id: str
    operation: str | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_DATA: Final = msgspec.json.Decoder(_Data)


@dataclass(frozen=True)
class Stripe(Dialect):
    """Stripe's dialect before API version 2025-03-31, and its settings.

    An event without `api_version` is read by it.

    `deposit_key` is the key in a payment's metadata under which the cashier put the id of its
    `deposit.opened`. `signature_tolerance_ms` is how far the signed time may be from the
    connector's receipt (Stripe's libraries: 300 s); a retry is signed again. `accept_test` lets
    events of test mode through; an installation with real money leaves it.
    """

    provider: ClassVar[str] = "stripe"
    version: ClassVar[str] = "1"
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("", ("any type",)),), "application/json", (SIGNATURE_HEADER,), True, waits=False
    )
    releases_are_refunds: ClassVar[bool] = True
    """Whether `amount_refunded` holds what was authorised and never captured."""

    deposit_key: str = "deposit_id"
    signature_tolerance_ms: int = 300_000
    accept_test: bool = False
    policy: LedgerPolicy = CARD_POLICY

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks `Stripe-Signature`.

        Needs `secret`, the endpoint's `whsec_…`.
        """
        check = None
        if material is not None:
            key = Hmac(require_key(material, "secret", self.provider).encode(), "sha256")
            check = partial(_verdict, key, self.signature_tolerance_ms)
        return partial(self._read, check)

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return 200, which ends the retries: what could not be read is a dead letter.

        Only a forged request gets 400.
        """
        del request
        forged = {RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE}
        if any(isinstance(result, Rejected) and result.reason in forged for result in results):
            return Reply(400, "application/json", b'{"error":"signature"}')
        return Reply(200, "application/json", b'{"received":true}')

    def _read(self, check: _Check | None, record: RawRecord, headers: Headers) -> list[Item]:
        value = record.value or b""
        verdict = SignatureVerdict.NOT_CHECKED.value
        if check is not None:
            verdict = check(value, headers, seen_at(record, headers))
        try:
            head = read_json(_HEAD, value)
        except Rejected as error:
            raise _named_if_thin(value, error) from error.__cause__
        if not head.livemode and not self.accept_test:
            raise Rejected(
                RejectCode.BAD_FIELD, "an event of test mode where only live ones are accepted"
            )
        if head.type not in _KNOWN:
            detail = f"event type {head.type[:64]!r} is not mapped"
            raise _named_if_thin(value, Rejected(RejectCode.UNKNOWN_OPERATION, detail))
        meaning = self._interpret(head)
        at_ms = None if head.created is None else ms_of_epoch(head.created, "s", field="created")
        legs = [meaning.leg]
        return [
            Draft(
                meaning.operation or head.type,
                meaning.tx_id,
                legs,
                None,
                meaning.reference,
                None,
                False,
                None,
                at_ms,
                False,
                verdict,
            )
        ]

    def _interpret(self, head: _Head) -> _Meaning:
        kind = head.type
        meaning = _MEANINGS.get(kind)
        data = read_json(_DATA, head.data)
        event_id = text_of(head.id, "id")
        deposit = optional_text(
            (data.object.metadata or {}).get(self.deposit_key), self.deposit_key
        )
        opened = None if deposit is None else Reference("deposit.opened", deposit)
        if meaning is not None:
            previous, counts_releases = data.previous_attributes, self.releases_are_refunds
            return meaning(
                _StripeEvent(data.object, previous, event_id, opened, kind, counts_releases)
            )
        return _Meaning(_information_leg(data.object), opened, event_id)


def _named_if_thin(value: bytes, error: Rejected) -> Rejected:
    """Return the rejection of a thin event, which names it, or the one given."""
    try:
        is_thin = bytes(read_json(_ENVELOPE, value).object) == _THIN
    except Rejected:
        return error
    if not is_thin:
        return error
    return Rejected(
        RejectCode.UNKNOWN_OPERATION,
        "a thin event (object v2.core.event), which holds no amount: "
        "set the event destination to send snapshot events",
    )


def _notice(event: _StripeEvent) -> _Meaning:
    return _Meaning(_information_leg(event.thing), event.opened, event.event_id)


def _intent_paid(event: _StripeEvent) -> _Meaning:
    paid = event.thing
    if _status_of(paid) not in (None, _SUCCEEDED):
        return _notice(event)
    leg = _leg(Kind.DEPOSIT, require(paid.amount_received, "amount_received"), paid.currency)
    return _Meaning(
        leg, require(event.opened, "the deposit's id in metadata"), text_of(paid.id, "id")
    )


def _charge_paid(event: _StripeEvent) -> _Meaning:
    charge = event.thing
    is_paid = _status_of(charge) in (None, _SUCCEEDED)
    if _intent_of(charge) or charge.captured is False or not is_paid:
        return _notice(event)
    leg = _leg(Kind.DEPOSIT, require(charge.amount, "amount"), charge.currency)
    return _Meaning(
        leg, require(event.opened, "the deposit's id in metadata"), text_of(charge.id, "id")
    )


def _charge_captured(event: _StripeEvent) -> _Meaning:
    if not _intent_of(event.thing):
        # Its refunds could not distinguish it from a charge that was captured at once.
        raise Rejected(
            RejectCode.BAD_FIELD, "a charge captured later must belong to a payment intent"
        )
    return _notice(event)


def _charge_refunded(event: _StripeEvent) -> _Meaning:
    charge, previous = event.thing, event.previous
    before = None if previous is None else previous.amount_refunded
    now = require(charge.amount_refunded, "amount_refunded")
    released = _released(charge, now, before or 0, event.releases_are_refunds)
    if 0 < now <= released:
        return _notice(event)
    before = require(before, "previous_attributes.amount_refunded")
    leg = _leg(
        Kind.DEPOSIT_REVERSAL, max(now - released, 0) - max(before - released, 0), charge.currency
    )
    return _Meaning(leg, _payment(charge, charge.id), event.event_id)


def _released(charge: _Object, now: int, before: int, releases_are_refunds: bool) -> int:
    """Return how much of the sum that is called refunded was never captured.

    What is released is released first and as a whole. A sum between zero and the uncaptured rest
    therefore says that this event's version does not count it.
    """
    captured = charge.amount_captured
    if captured is None:
        captured = 0 if charge.captured is False else charge.amount
    rest = (charge.amount or 0) - (captured or 0)
    if rest <= 0 or not captured:
        return max(rest, 0)
    return rest if releases_are_refunds and now >= rest and not 0 < before < rest else 0


def _refund_moved(event: _StripeEvent) -> _Meaning:
    """Return a refund's money where its status, else the event's type, says that it failed."""
    refund = event.thing
    status = _status_of(refund)
    has_failed = event.kind == _REFUND_FAILED if status is None else status in _NOT_REFUNDED
    if not has_failed:
        return _notice(event)
    leg = _leg(Kind.DEPOSIT, require(refund.amount, "amount"), refund.currency)
    reference = _payment(refund, refund.charge)
    return _Meaning(leg, reference, text_of(refund.id, "id"), _REFUND_FAILED)


def _dispute_moved(kind: Kind, sign: int, event: _StripeEvent) -> _Meaning:
    """Return the meaning of a dispute's newest movement in this direction.

    The movement is in the account's own currency.
    """
    dispute = event.thing
    whole = require(dispute.amount, "amount")
    moved = [txn for txn in dispute.balance_transactions or () if txn.amount * sign > 0]
    tx_id = text_of(dispute.id, "id")
    if moved:
        newest = max(moved, key=lambda txn: (txn.created, str(txn.id)))
        whole = _share(dispute, newest, sign)
        tx_id = _named(newest.id, "balance_transactions.id", "txn_") or tx_id
    leg = _leg(kind, whole, dispute.currency)
    return _Meaning(leg, _payment(dispute, dispute.charge), tx_id)


def _share(dispute: _Object, moved: _Txn, sign: int) -> int:
    """Return how much of the disputed amount moved, in the payment's currency."""
    if moved.currency.upper() == (dispute.currency or "").upper():
        return moved.amount * sign
    taken = [txn.amount for txn in dispute.balance_transactions or () if txn.amount < 0]
    if sign < 0 or -sum(taken) == moved.amount:
        return require(dispute.amount, "amount")
    # A fraction, or another rate: the event does not say how much it is in the player's currency.
    raise Rejected(
        RejectCode.BAD_AMOUNT, "a part of a dispute came back in another currency: book it manually"
    )


_MEANINGS: Final[Mapping[str, Callable[[_StripeEvent], _Meaning]]] = {
    _INTENT_PAID: _intent_paid,
    _CHARGE_PAID: _charge_paid,
    _CHARGE_CAPTURED: _charge_captured,
    _REFUNDED: _charge_refunded,
    **dict.fromkeys((*_REFUND_EVENTS, _REFUND_FAILED), _refund_moved),
    _WITHDRAWN: partial(_dispute_moved, Kind.DEPOSIT_REVERSAL, -1),
    _REINSTATED: partial(_dispute_moved, Kind.DEPOSIT, 1),
}
_KNOWN: Final = _MEANINGS.keys() | _NOTICES


def _status_of(thing: _Object) -> str | None:
    status = thing.status
    return status if status is None or status in _STATUSES else reference_or_none(status)


def _intent_of(thing: _Object) -> str | None:
    """Return the id of the payment intent that the object belongs to, or None."""
    return _named(thing.payment_intent, "payment_intent", "pi_")


def _named(id_: str | int | None, field: str, prefix: str) -> str | None:
    """Return an id, or None where it is missing or a placeholder.

    Stripe's ids have a prefix: only what does not has to be told from a placeholder.
    """
    if id_ is None:
        return None
    named = optional_text(id_, field)
    return named if named is not None and named.startswith(prefix) else id_or_none(named)


def _payment(thing: _Object, charge: str | int | None) -> Reference:
    """Return the reference to the payment of an object.

    It names the payment intent, or the charge that was made without one.
    """
    referred = _intent_of(thing)
    if referred is not None:
        return Reference(_INTENT_PAID, referred)
    return Reference(_CHARGE_PAID, require(optional_text(charge, "charge"), "charge"))


def _leg(kind: Kind, minor: int, currency: str | None) -> Leg:
    code = require(currency, "currency").upper()
    amount = amount_of(minor, _DECIMALS.get(code, _DECIMALS_ELSE))
    return Leg(kind.value, amount, currency_of(amount, code))


def _information_leg(thing: _Object) -> Leg:
    if thing.amount is None or thing.currency is None or thing.amount < 0:
        return Leg(Kind.INFORMATIONAL.value)
    return _leg(Kind.INFORMATIONAL, thing.amount, thing.currency)


def _verdict(key: Hmac, tolerance_ms: int, body: bytes, headers: Headers, seen_at_ms: int) -> str:
    """Return VALID, or STALE for a body signed further from its receipt than the tolerance.

    The verdict is stored with the event. Raises Rejected: MISSING_SIGNATURE without the header,
    BAD_SIGNATURE for a wrong one.
    """
    header = headers.get(SIGNATURE_HEADER)
    if not header:
        raise Rejected(RejectCode.MISSING_SIGNATURE, "the header Stripe-Signature is missing")
    pairs = [pair.partition(b"=") for pair in header.split(b",")]
    times = [value for name, _, value in pairs if name.strip() == b"t"]
    given = [value.strip() for name, _, value in pairs if name.strip() == b"v1"]
    if len(times) != 1 or not times[0].isdigit() or len(times[0]) > 12 or not given:
        raise Rejected(RejectCode.BAD_SIGNATURE, "Stripe-Signature is not t=<seconds>,v1=<hex>")
    signed = times[0] + b"." + body
    # During a rotation the header holds the signatures of both secrets.
    if not any(key.matches_hex(signed, signature) for signature in given):
        raise Rejected(RejectCode.BAD_SIGNATURE, "no v1 of Stripe-Signature signs this body")
    return window_verdict(int(times[0]) * 1000, seen_at_ms, tolerance_ms)
