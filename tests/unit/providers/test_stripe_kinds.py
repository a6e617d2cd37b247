"""Stripe's stories by API version and by status: what was never captured, what came back."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from replay.explain import RawBody, explain
from schemas.topics import raw_topic
from streams.drift.checking import DriftChecker
from streams.normalise.mapping.normaliser import RejectedItem
from tests.support.dialect_records import raw_record
from tests.unit.providers.test_dialect_stripe import event

AT = 1_790_000_600_000
OLD = ["2015-10-16", "2024-06-20", "2025-02-24.acacia"]
NEW = ["2025-03-31.basil", "2025-10-29.clover", "2026-11-18.endive"]
OPENED = {
    "operation": "deposit.opened",
    "id": "dep-1",
    "at": "2026-09-21T14:00:00Z",
    "player_id": "p-1",
    "amount": "100.00",
    "currency": "EUR",
    "psp": "any",
}
CHARGE = {"id": "ch_1", "object": "charge", "amount": 10_000, "payment_intent": "pi_1"}
LINKS = {"charge": "ch_1", "payment_intent": "pi_1"}


def paid(value: int = 10_000, **more):
    thing = {"id": "pi_1", "amount": 10_000, "amount_received": value}
    return event("payment_intent.succeeded", thing, **more)


def refunded(captured: int | None, before: int | None, now: int, n: int = 1, **more):
    thing = CHARGE | {"amount_refunded": now, "captured": captured != 0}
    if captured is not None:
        thing["amount_captured"] = captured
    previous = None if before is None else {"amount_refunded": before}
    return event("charge.refunded", thing, previous, **({"id": f"evt_r{n}"} | more))


def refund(kind: str, status: str | None, id_: str = "re_1", value: int = 10_000, n: int = 1):
    thing = {"id": id_, "object": "refund", "amount": value, "status": status} | LINKS
    return event(kind, thing, id=f"evt_f{n}")


def tell(*messages):
    bodies = [("house", OPENED), *(("stripe", message) for message in messages)]
    return explain(
        RawBody(f"{n}", raw_topic(provider), json.dumps(body).encode(), [], n, AT)
        for n, (provider, body) in enumerate(bodies)
    )


def balance_after(*messages) -> str:
    told = tell(*messages)
    assert told.rejected == []
    return told.balances()["p-1"]["EUR"]


def rejection_of(message) -> RejectedItem:
    [(_, rejected)] = tell(message).rejected
    return rejected


# --- what was never captured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*OLD, None])
def test_before_basil_only_what_exceeds_the_uncaptured_rest_goes_back(version: str | None) -> None:
    named = {"api_version": version}
    story = [
        refunded(6000, 0, 4000, 1, **named),
        refunded(6000, 4000, 5000, 2, **named),
        refunded(6000, 5000, 10_000, 3, **named),
    ]
    sums = [balance_after(paid(6000), *story[:n]) for n in range(4)]
    assert sums == ["60.00", "60.00", "50.00", "0.00"]
    for order in permutations(story):
        assert balance_after(paid(6000, **named), *order, *order) == "0.00"


@pytest.mark.parametrize("version", NEW)
def test_since_basil_all_that_is_refunded_was_captured(version: str) -> None:
    named = {"api_version": version}
    story = [refunded(6000, 0, 4000, 1, **named), refunded(6000, 4000, 6000, 2, **named)]
    assert balance_after(paid(6000), story[0]) == "20.00"
    for order in permutations(story):
        assert balance_after(paid(6000), *order) == "0.00"


@pytest.mark.parametrize("version", [*OLD, *NEW, None])
def test_a_payment_that_is_captured_as_a_whole_is_told_alike(version: str | None) -> None:
    for captured in (10_000, None):
        story = [
            refunded(captured, 0, 2500, 1, api_version=version),
            refunded(captured, 2500, 4000, 2, api_version=version),
        ]
        for order in permutations(story):
            assert balance_after(paid(), *order) == "60.00"


@pytest.mark.parametrize("previous", [0, None])
@pytest.mark.parametrize("captured", [0, None])
def test_a_cancelled_payment_refunds_what_was_never_taken(
    captured: int | None, previous: int | None
) -> None:
    cancelled = refunded(captured, previous, 10_000, api_version="2024-06-20")
    cancelled["data"]["object"]["captured"] = False
    told = tell(cancelled)
    assert (told.rejected, told.balances()) == ([], {})


def test_an_event_that_names_no_version_and_refunds_less_than_the_rest_tells_it() -> None:
    # Released is the whole rest or nothing: 10.00 of 40.00 is a refund, of a version that counts no release.
    assert balance_after(paid(6000), refunded(6000, 0, 1000), refunded(6000, 1000, 6000, 2)) == (
        "0.00"
    )


@pytest.mark.parametrize(
    ("version", "read_as"),
    [*((one, "1") for one in [*OLD, None, 7, ""]), *((one, "2025-03-31") for one in NEW)],
)
def test_the_version_is_on_the_event(version: object, read_as: str) -> None:
    assert tell(paid(api_version=version)).events[-1].event.provider_version == read_as


def test_a_version_named_deeper_is_not_the_events() -> None:
    message = paid()
    message["data"]["object"]["api_version"] = "2025-03-31.basil"
    message["data"]["object"]["metadata"] = {"deposit_id": "dep-1", "api_version": "2026-01-01"}
    assert tell(message).events[-1].event.provider_version == "1"


# --- refunds that come back -------------------------------------------------------------------------------------------

BACK = [
    ("charge.refund.updated", "failed"),
    ("charge.refund.updated", "canceled"),
    ("refund.updated", "failed"),
    ("refund.updated", "canceled"),
    ("refund.created", "failed"),
    ("refund.failed", "failed"),
    ("refund.failed", None),
]


@pytest.mark.parametrize(("kind", "status"), BACK)
def test_a_refund_that_failed_or_was_cancelled_comes_back(kind: str, status: str | None) -> None:
    story = [refunded(10_000, 0, 10_000), refund(kind, status)]
    assert balance_after(paid(), *story) == balance_after(paid(), *story[::-1]) == "100.00"


@pytest.mark.parametrize(
    "order", list(permutations(["charge.refund.updated", "refund.updated", "refund.failed"]))
)
def test_whichever_notice_comes_first_the_money_comes_back_once(order) -> None:
    told = [refund(kind, "failed", n=n) for n, kind in enumerate(order)]
    for count in (1, 2, 3):
        assert balance_after(paid(), refunded(10_000, 0, 10_000), *told[:count]) == "100.00"


@pytest.mark.parametrize("status", ["succeeded", "pending", "requires_action", "a_new_word", None])
@pytest.mark.parametrize("kind", ["charge.refund.updated", "refund.updated", "refund.created"])
def test_other_news_of_a_refund_moves_nothing(kind: str, status: str | None) -> None:
    news = refund(kind, status)
    assert balance_after(paid(), refunded(10_000, 0, 10_000), news) == "0.00"
    failed = refund("refund.failed", "failed", n=2)
    assert balance_after(paid(), refunded(10_000, 0, 10_000), news, failed) == "100.00"


def test_two_refunds_fail_each_for_itself() -> None:
    story = [refunded(10_000, 0, 3000, 1), refunded(10_000, 3000, 6000, 2)]
    failed = [refund("refund.updated", "failed", f"re_{n}", 3000, n) for n in (1, 2)]
    assert balance_after(paid(), *story, failed[0]) == "70.00"
    assert balance_after(paid(), *story, *failed) == "100.00"


def test_a_payment_whose_status_is_another_one_is_no_deposit() -> None:
    message = paid()
    message["data"]["object"]["status"] = "processing"
    assert tell(message).balances() == {}
    charge = event("charge.succeeded", CHARGE | {"payment_intent": None, "status": "pending"})
    assert tell(charge).balances() == {}


# --- thin events, prevented disputes, new fields ----------------------------------------------------------------------

THIN = {
    "id": "evt_t1",
    "object": "v2.core.event",
    "type": "v1.payment_intent.succeeded",
    "livemode": True,
    "created": "2026-09-21T14:13:20.000Z",
    "context": None,
    "related_object": {"id": "pi_1", "type": "payment_intent", "url": "/v1/payment_intents/pi_1"},
    "snapshot_event": "evt_1",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"type": "v1.charge.refunded"},
        {"type": "payment_intent.succeeded"},
        {"data": {}, "created": 1_790_000_000},
        {"livemode": "yes", "id": None},
    ],
)
def test_a_thin_event_is_named(change) -> None:
    rejected = rejection_of(THIN | change)
    assert rejected.code == "UNKNOWN_OPERATION"
    assert "thin event" in rejected.detail


def test_a_prevented_dispute_moves_nothing() -> None:
    dispute = {"id": "du_1", "amount": 10_000, "status": "prevented"} | LINKS
    told = [event(f"charge.dispute.{what}", dispute) for what in ("created", "closed")]
    assert balance_after(paid(), *told) == "100.00"


def test_a_dispute_paid_from_prefunded_money_is_as_any_other() -> None:
    moved = {
        "id": "txn_1",
        "amount": -10_000,
        "currency": "eur",
        "created": 1,
        "balance_type": "refund_and_dispute_prefunding",
    }
    taken = {"id": "du_1", "amount": 10_000, "balance_transactions": [moved]} | LINKS
    assert balance_after(paid(), event("charge.dispute.funds_withdrawn", taken)) == "0.00"


@pytest.mark.parametrize("kind", ["reserve.hold.created", "reserve.release.created"])
def test_what_stripe_holds_back_of_the_account_is_noted(kind: str) -> None:
    held = event(kind, {"id": "rsv_1", "amount": 500}, id="evt_h")
    assert balance_after(paid(), held) == "100.00"


def test_unknown_fields_are_no_error() -> None:
    grown = paid(brand_new={"deep": [1, None]})
    grown["data"]["object"] |= {"presentment_details": {"presentment_amount": 1}, "x": [{}]}
    grown["data"]["previous_attributes"] = {"status": None, "x": {"y": 1}}
    assert balance_after(grown) == "100.00"


def test_drift_knows_what_stripe_documents() -> None:
    told = refunded(6000, 0, 4000, api_version="2026-11-18.endive", context=None)
    told["data"]["object"] |= {"status": "succeeded", "presentment_details": {"x": 1}}
    told["data"]["object"]["balance_transactions"] = [
        {"amount": -1, "currency": "eur", "balance_type": "risk_reserved", "net": -1}
    ]
    told["data"]["previous_attributes"]["amount_captured"] = 0
    assert DriftChecker().check("stripe", raw_record("stripe", json.dumps(told))) == []
