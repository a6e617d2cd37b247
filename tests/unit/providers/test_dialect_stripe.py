from __future__ import annotations

import hmac
import json
from typing import Any

import pytest

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Reference
from streams.providers.dialect import Draft
from streams.providers.stripe import Stripe
from tests.support.dialect_records import APPENDED_AT, raw_record

KEYS = {"secret": "whsec_test"}
SIGNED_AT = 1_790_000_000
META = {"deposit_id": "dep-1"}
OPENED = Reference("deposit.opened", "dep-1")
PAYMENT = Reference("payment_intent.succeeded", "pi_1")


def event(
    kind: str, thing: dict[str, Any], previous: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    data: dict[str, Any] = {"object": {"currency": "eur", "metadata": META} | thing}
    if previous is not None:
        data["previous_attributes"] = previous
    return {
        "id": "evt_1",
        "type": kind,
        "created": SIGNED_AT,
        "livemode": True,
        "data": data,
    } | more


def read(
    message: Any,
    *,
    dialect: Stripe | None = None,
    headers: dict[str, bytes] | None = None,
    key: bool = False,
) -> Any:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    reader = (dialect or Stripe()).reader(KEYS if key else None)
    return reader(raw_record("stripe", body), headers or {})


def one(message: Any, **how: Any) -> Draft:
    [draft] = read(message, **how)
    assert isinstance(draft, Draft)
    return draft


def code(message: Any, **how: Any) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(message, **how)
    return caught.value.reason


def money(draft: Draft) -> tuple[str, int | None, int | None, str | None]:
    [leg] = draft.legs
    return (
        leg.kind,
        *((leg.amount.unscaled, leg.amount.scale) if leg.amount else (None, None)),
        leg.currency,
    )


PAID = event("payment_intent.succeeded", {"id": "pi_1", "amount": 1500, "amount_received": 1500})
CHARGE = {"id": "ch_1", "amount": 1500, "captured": True, "payment_intent": "pi_1"}


def test_a_payment_is_the_deposit_and_its_charge_is_not() -> None:
    paid, charged = one(PAID), one(event("charge.succeeded", CHARGE))
    assert money(paid) == ("DEPOSIT", 1500, 2, "EUR")
    assert (paid.provider_tx_id, paid.reference, paid.player_id) == ("pi_1", OPENED, None)
    assert paid.provider_at == SIGNED_AT * 1000
    assert money(charged) == ("INFORMATIONAL", 1500, 2, "EUR")


def test_the_received_amount_counts_not_the_requested_one() -> None:
    assert (
        money(
            one(
                event(
                    "payment_intent.succeeded",
                    {"id": "pi_1", "amount": 1500, "amount_received": 700},
                )
            )
        )[1]
        == 700
    )


def test_two_events_of_one_payment_are_one_deposit() -> None:
    assert (
        one(PAID | {"id": "evt_2", "created": SIGNED_AT + 1}).provider_tx_id
        == one(PAID).provider_tx_id
    )


def test_a_charge_without_an_intent_is_the_deposit_and_its_refund_names_it() -> None:
    direct = CHARGE | {"payment_intent": None}
    assert money(one(event("charge.succeeded", direct)))[0] == "DEPOSIT"
    assert one(event("charge.succeeded", direct)).provider_tx_id == "ch_1"
    back = one(event("charge.refunded", direct | {"amount_refunded": 500}, {"amount_refunded": 0}))
    assert back.reference == Reference("charge.succeeded", "ch_1")


def test_an_authorised_charge_is_no_deposit_yet() -> None:
    authorised = CHARGE | {"payment_intent": None, "captured": False}
    assert money(one(event("charge.succeeded", authorised)))[0] == "INFORMATIONAL"
    assert money(one(event("charge.captured", CHARGE)))[0] == "INFORMATIONAL"
    assert code(event("charge.captured", authorised | {"captured": True})) is RejectCode.BAD_FIELD


def test_refunds_add_up_to_what_was_paid() -> None:
    steps = [(0, 500), (500, 600), (600, 1500)]
    backs = [
        one(
            event(
                "charge.refunded",
                CHARGE | {"amount_refunded": now},
                {"amount_refunded": before},
                id=f"evt_{now}",
            )
        )
        for before, now in steps
    ]
    assert [money(back)[:2] for back in backs] == [("DEPOSIT_REVERSAL", n) for n in (500, 100, 900)]
    assert len({back.provider_tx_id for back in backs}) == 3
    assert all(back.reference == PAYMENT for back in backs)


@pytest.mark.parametrize("previous", [None, {}, {"refunded": False}])
def test_a_refund_that_does_not_say_what_was_refunded_before_is_rejected(
    previous: dict[str, Any] | None,
) -> None:
    assert (
        code(event("charge.refunded", CHARGE | {"amount_refunded": 500}, previous))
        is RejectCode.MISSING_FIELD
    )


def test_a_sum_of_refunds_that_sinks_is_rejected() -> None:
    message = event("charge.refunded", CHARGE | {"amount_refunded": 100}, {"amount_refunded": 500})
    assert code(message) is RejectCode.BAD_AMOUNT


def test_a_failed_refund_comes_back() -> None:
    failed = one(
        event(
            "refund.failed",
            {"id": "re_1", "amount": 500, "charge": "ch_1", "payment_intent": "pi_1"},
        )
    )
    assert (money(failed)[:2], failed.reference, failed.provider_tx_id) == (
        ("DEPOSIT", 500),
        PAYMENT,
        "re_1",
    )
    assert (
        money(one(event("charge.refund.updated", {"id": "re_1", "amount": 500})))[0]
        == "INFORMATIONAL"
    )


# --- disputes: the figures of dj-stripe's dispute_dp_funds_reinstated_full.json ---------------------------------------

TAKEN = {"id": "txn_1", "amount": -1000, "fee": 1500, "net": -2500, "currency": "eur", "created": 1}
GIVEN = {"id": "txn_2", "amount": 1000, "fee": -1500, "net": 2500, "currency": "eur", "created": 2}
DISPUTE = {"id": "dp_1", "amount": 1000, "charge": "ch_1", "payment_intent": "pi_1"}


def dispute(what: str, *moved: dict[str, Any], **more: Any) -> dict[str, Any]:
    return event(
        f"charge.dispute.funds_{what}", DISPUTE | {"balance_transactions": list(moved)} | more
    )


def test_a_dispute_takes_the_payment_and_never_its_fee() -> None:
    taken, given = one(dispute("withdrawn", TAKEN)), one(dispute("reinstated", TAKEN, GIVEN))
    assert (money(taken), taken.provider_tx_id) == (("DEPOSIT_REVERSAL", 1000, 2, "EUR"), "txn_1")
    assert (money(given), given.provider_tx_id) == (("DEPOSIT", 1000, 2, "EUR"), "txn_2")
    assert taken.reference == given.reference == PAYMENT


def test_a_second_withdrawal_of_one_dispute_is_another_event() -> None:
    again = TAKEN | {"id": "txn_3", "created": 3}
    assert one(dispute("withdrawn", TAKEN, GIVEN, again)).provider_tx_id == "txn_3"


def test_a_part_that_comes_back_is_that_part() -> None:
    assert money(one(dispute("reinstated", TAKEN, GIVEN | {"amount": 400})))[:2] == ("DEPOSIT", 400)


def test_in_another_currency_only_the_whole_is_known() -> None:
    taken, given = (
        TAKEN | {"currency": "usd", "amount": -1100},
        GIVEN | {"currency": "usd", "amount": 1100},
    )
    assert money(one(dispute("withdrawn", taken))) == ("DEPOSIT_REVERSAL", 1000, 2, "EUR")
    assert money(one(dispute("reinstated", taken, given))) == ("DEPOSIT", 1000, 2, "EUR")
    assert code(dispute("reinstated", taken, given | {"amount": 1050})) is RejectCode.BAD_AMOUNT


def test_a_dispute_without_its_movements_goes_by_its_own_id() -> None:
    assert one(dispute("withdrawn")).provider_tx_id == "dp_1"
    assert money(one(event("charge.dispute.closed", DISPUTE)))[0] == "INFORMATIONAL"


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("currency", "scale"),
    [
        ("eur", 2),
        ("jpy", 0),
        ("krw", 0),
        ("clp", 0),
        ("kwd", 3),
        ("ugx", 2),
        ("isk", 2),
        ("mga", 0),
    ],
)
def test_the_decimals_are_stripes(currency: str, scale: int) -> None:
    message = event(
        "payment_intent.succeeded", {"id": "pi_1", "amount_received": 500, "currency": currency}
    )
    assert money(one(message)) == ("DEPOSIT", 500, scale, currency.upper())


def test_parts_of_a_krona_fit_no_wallet() -> None:
    message = event(
        "payment_intent.succeeded", {"id": "pi_1", "amount_received": 510, "currency": "isk"}
    )
    assert code(message) is RejectCode.AMOUNT_SCALE


@pytest.mark.parametrize(
    "amount",
    ["15.0", "1e3", '"1500"', "-1", "9223372036854775808", "123456789012345678901234567890"],
)
def test_money_is_a_whole_number_of_64_bits(amount: str) -> None:
    body = (
        json.dumps(PAID).replace('"amount_received": 1500', f'"amount_received": {amount}').encode()
    )
    assert code(body) in {RejectCode.BAD_AMOUNT, RejectCode.BAD_FIELD}


# --- whose, and what not ----------------------------------------------------------------------------------------------


def test_money_for_no_deposit_is_rejected_and_news_of_it_is_not() -> None:
    assert code(
        event("payment_intent.succeeded", {"id": "pi_1", "amount_received": 1, "metadata": {}})
    ) is (RejectCode.MISSING_FIELD)
    assert one(event("payment_intent.created", {"id": "pi_1", "metadata": None})).reference is None
    other = event(
        "payment_intent.succeeded",
        {"id": "pi_1", "amount_received": 1, "metadata": {"order": "dep-9"}},
    )
    assert one(other, dialect=Stripe(deposit_key="order")).reference == Reference(
        "deposit.opened", "dep-9"
    )


def test_a_payout_is_ours_and_an_unknown_type_is_nobodys() -> None:
    assert money(one(event("payout.paid", {"id": "po_1", "amount": 99}))) == (
        "INFORMATIONAL",
        99,
        2,
        "EUR",
    )
    assert code(event("customer.created", {"id": "cus_1"})) is RejectCode.UNKNOWN_OPERATION


def test_test_mode_is_kept_out_unless_the_installation_says_so() -> None:
    assert code(PAID | {"livemode": False}) is RejectCode.BAD_FIELD
    lax = Stripe(accept_test=True)
    assert one(PAID | {"livemode": False}, dialect=lax).provider_tx_id == "pi_1"


# --- signatures -------------------------------------------------------------------------------------------------------

BODY = json.dumps(PAID).encode()


def v1(body: bytes, at: int, secret: str = "whsec_test") -> str:
    return hmac.digest(secret.encode(), b"%d.%s" % (at, body), "sha256").hex()


def signature_headers(
    text: str, received_at: int | None = SIGNED_AT * 1000 + 50
) -> dict[str, bytes]:
    headers = {"stripe-signature": text.encode()}
    return headers if received_at is None else headers | {"received-at": str(received_at).encode()}


def test_a_published_signature() -> None:
    # The example of the webhook documents' scheme: this body, time and secret give this digest.
    assert (
        v1(b'{"id":"evt_1"}', SIGNED_AT)
        == "e32657f3e678d33b41ec084c16ac0e125d25480a06cb3902286dc5942c6fd259"
    )
    header = signature_headers(
        f"t={SIGNED_AT},v1=e32657f3e678d33b41ec084c16ac0e125d25480a06cb3902286dc5942c6fd259"
    )
    assert (
        code(b'{"id":"evt_1"}', headers=header, key=True) is RejectCode.MISSING_FIELD
    )  # signed, and no event
    assert code(b'{"id":"evt_2"}', headers=header, key=True) is RejectCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("late_s", "verdict"),
    [(0, "VALID"), (300, "VALID"), (-300, "VALID"), (301, "STALE"), (-301, "STALE")],
)
def test_an_old_signature_is_stale_by_its_receipt(late_s: int, verdict: str) -> None:
    received_ms = APPENDED_AT - 1_000
    signed_at = received_ms // 1_000 - late_s
    headers = signature_headers(
        f"t={signed_at},v1={v1(BODY, signed_at)}", signed_at * 1_000 + late_s * 1_000
    )
    assert one(BODY, headers=headers, key=True).signature == verdict


def test_without_a_receipt_the_append_judges() -> None:
    late = APPENDED_AT // 1000 - 301
    assert (
        one(
            BODY,
            headers=signature_headers(f"t={SIGNED_AT},v1={v1(BODY, SIGNED_AT)}", None),
            key=True,
        ).signature
        == "VALID"
    )
    assert (
        one(
            BODY, headers=signature_headers(f"t={late},v1={v1(BODY, late)}", None), key=True
        ).signature
        == "STALE"
    )


def test_any_of_several_signatures_may_fit() -> None:
    right, wrong = v1(BODY, SIGNED_AT), v1(BODY, SIGNED_AT, "whsec_old")
    assert (
        one(
            BODY, headers=signature_headers(f"t={SIGNED_AT},v1={wrong},v1={right},v0=x"), key=True
        ).signature
        == "VALID"
    )
    assert (
        one(BODY, headers=signature_headers(f"t={SIGNED_AT}, v1={right}"), key=True).signature
        == "VALID"
    )
    assert (
        code(BODY, headers=signature_headers(f"t={SIGNED_AT},v1={wrong}"), key=True)
        is RejectCode.BAD_SIGNATURE
    )


@pytest.mark.parametrize(
    "header", ["t=,v1=x", "v1=x", "t=1", f"t={SIGNED_AT},v0=x", "t=1,t=2,v1=x", "é", "t=-1,v1=x"]
)
def test_a_header_of_another_form_signs_nothing(header: str) -> None:
    assert code(BODY, headers=signature_headers(header), key=True) is RejectCode.BAD_SIGNATURE


def test_a_missing_header_is_a_missing_signature_and_the_time_is_signed() -> None:
    assert code(BODY, key=True) is RejectCode.MISSING_SIGNATURE
    header = f"t={SIGNED_AT + 1},v1={v1(BODY, SIGNED_AT)}"
    assert code(BODY, headers=signature_headers(header), key=True) is RejectCode.BAD_SIGNATURE


@pytest.mark.parametrize("material", [{}, {"secret": ""}])
def test_a_key_that_is_none_ends_the_start(material: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="secret"):
        Stripe().reader(material)


def test_only_a_forged_request_gets_400() -> None:
    request = raw_record("stripe", BODY)
    answers = {code: Stripe().answer(request, [Rejected(code, "")]).status for code in RejectCode}
    assert {code for code, status in answers.items() if status != 200} == {
        RejectCode.BAD_SIGNATURE,
        RejectCode.MISSING_SIGNATURE,
    }
