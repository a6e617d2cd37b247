from __future__ import annotations

import hmac
import json
from typing import Any

import pytest

from schemas.errors import RejectCode, Rejected
from streams.providers.dialect import Draft, PlayerDraft, UnreadableItem
from streams.providers.sumsub import Sumsub
from tests.support.dialect_records import raw_record

KEYS = {"secret": "s3cret"}
BODY: dict[str, Any] = {
    "applicantId": "a1",
    "inspectionId": "i1",
    "correlationId": "c1",
    "applicantType": "individual",
    "levelName": "basic",
    "externalUserId": "p-1001",
    "type": "applicantReviewed",
    "reviewStatus": "completed",
    "reviewResult": {
        "reviewAnswer": "RED",
        "rejectLabels": ["FORGERY", "BAD_FACE"],
        "reviewRejectType": "FINAL",
    },
    "createdAtMs": "2026-11-22 10:15:30.123",
}
AT = 1_795_342_530_123


def read(
    body: Any,
    *,
    dialect: Sumsub | None = None,
    headers: dict[str, bytes] | None = None,
    key: bool = False,
) -> Any:
    value = body if isinstance(body, bytes) else json.dumps(body, separators=(",", " : ")).encode()
    return (dialect or Sumsub()).reader(KEYS if key else None)(
        raw_record("sumsub", value), headers or {}
    )


def code(body: Any, **how: Any) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(body, **how)
    return caught.value.reason


def result(answer: str | None, kind: str | None = None) -> dict[str, Any]:
    return {"reviewResult": {"reviewAnswer": answer, "reviewRejectType": kind}}


def test_a_final_rejection_is_an_event_and_blocks() -> None:
    event, state = read(BODY)
    assert event == PlayerDraft(
        "applicantReviewed",
        "a1:c1",
        "p-1001",
        "KYC_REVIEWED",
        {
            "applicant_id": "a1",
            "inspection_id": "i1",
            "applicant_type": "individual",
            "level_name": "basic",
            "review_status": "completed",
            "review_answer": "RED",
            "review_reject_type": "FINAL",
            "reject_labels": "BAD_FACE,FORGERY",
        },
        AT,
        "NOT_CHECKED",
        "a1:basic",
    )
    assert isinstance(state, Draft)
    assert (state.operation, state.provider_tx_id, state.player_id) == (
        "player.blocked",
        "a1:c1",
        "p-1001",
    )
    assert [leg.kind for leg in state.legs] == ["PLAYER_STATE"]
    assert (state.provider_at, state.decision_required) == (AT, False)
    assert state.cause is not None
    assert (state.cause.type, state.cause.id, state.cause.actor) == ("kyc", "a1:c1", "sumsub")
    assert state.cause.reason == "RED FINAL BAD_FACE,FORGERY basic"


# what was said -> the state it makes
STATES = [
    (result("RED", "FINAL"), "player.blocked"),
    (result("RED", "RETRY"), None),
    (result("RED"), None),
    (result("GREEN"), "player.released"),
    (result(None), None),
    ({"reviewResult": None}, None),
    (result("GREEN") | {"reviewStatus": "onHold"}, None),
    (result("RED", "FINAL") | {"type": "applicantActionReviewed"}, None),
    (result("GREEN") | {"type": "applicantPending"}, None),
]


@pytest.mark.parametrize(("more", "operation"), STATES)
def test_only_a_finished_review_makes_a_state(more: dict[str, Any], operation: str | None) -> None:
    items = read(BODY | more)
    assert isinstance(items[0], PlayerDraft)
    assert [item.operation for item in items[1:]] == ([] if operation is None else [operation])


def test_only_deciding_levels_decide() -> None:
    guarded = Sumsub(deciding_levels=frozenset({"enhanced"}))
    assert len(read(BODY, dialect=guarded)) == 1
    assert len(read(BODY | {"levelName": "enhanced"}, dialect=guarded)) == 2


def test_a_late_red_carries_its_own_time() -> None:
    # Repeats go on for a day: arrival says nothing about what stands.
    red = read(BODY)[1]
    green = read(
        BODY | result("GREEN") | {"correlationId": "c2", "createdAtMs": "2026-11-22 12:00:00.000"}
    )[1]
    assert red.provider_at < green.provider_at
    assert red.provider_tx_id != green.provider_tx_id


@pytest.mark.parametrize(
    ("field", "text", "at"),
    [
        ("createdAtMs", "2026-11-22 10:15:30.123", AT),
        ("createdAtMs", "2026-11-22 10:15:30", AT - 123),
        ("createdAt", "2026-11-22 10:15:30+0000", AT - 123),
        ("createdAt", "2026-11-22T11:15:30+01:00", AT - 123),
        ("createdAtMs", "2026-11-22 10:15:30.1", AT - 23),
        ("createdAtMs", "1970-01-01 00:00:00.000", 0),
    ],
)
def test_both_spellings_of_the_time_are_utc(field: str, text: str, at: int) -> None:
    body = {name: value for name, value in BODY.items() if name != "createdAtMs"} | {field: text}
    assert [item.provider_at for item in read(body)] == [at, at]


@pytest.mark.parametrize("text", ["2026-13-22 10:15:30", "1795342530123", "x"])
def test_another_time_is_none(text: str) -> None:
    with pytest.raises(UnreadableItem) as caught:
        read(BODY | {"createdAtMs": text})
    assert (caught.value.reason, caught.value.player_id) == (RejectCode.BAD_TIME, "p-1001")


def test_an_older_message_goes_by_its_time_and_one_without_either_by_nothing() -> None:
    older = {name: value for name, value in BODY.items() if name != "correlationId"}
    assert read(older)[0].provider_event_id == "a1:2026-11-22 10:15:30.123"
    assert (
        code({name: value for name, value in older.items() if name != "createdAtMs"})
        is RejectCode.MISSING_FIELD
    )


def test_comments_about_a_person_stay_in_the_raw_record() -> None:
    comments = {
        "moderationComment": "Mr Smith, take a sharper photo",
        "clientComment": "known to the police",
    }
    event = read(BODY | {"reviewResult": BODY["reviewResult"] | comments})[0]
    assert not any("Smith" in value or "police" in value for value in event.attributes.values())


def test_a_player_is_named_by_text() -> None:
    assert code(BODY | {"externalUserId": None}) is RejectCode.BAD_FIELD


def test_what_cannot_be_used() -> None:
    assert code(BODY | {"type": "applicantSneezed"}) is RejectCode.UNKNOWN_OPERATION
    assert (
        code({name: value for name, value in BODY.items() if name != "externalUserId"})
        is RejectCode.MISSING_FIELD
    )
    assert code(BODY | {"levelName": "x" * 129}) is RejectCode.BAD_FIELD
    assert code(BODY | {"levelName": "a\x00b"}) is RejectCode.BAD_FIELD
    assert code(BODY | {"sandboxMode": True}) is RejectCode.BAD_FIELD
    lax = Sumsub(accept_sandbox=True)
    assert read(BODY | {"sandboxMode": True}, dialect=lax)[0].attributes["sandbox"] == "true"


# --- signatures -------------------------------------------------------------------------------------------------------

RAW = json.dumps(BODY, indent=2, separators=(",", " : ")).encode()


def digest(body: bytes, name: str, secret: bytes = b"s3cret") -> dict[str, bytes]:
    signature = hmac.digest(secret, body, name).hex().encode()
    return {
        "x-payload-digest": signature,
        "x-payload-digest-alg": f"HMAC_{name.upper()}_HEX".encode(),
    }


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha512"])
def test_the_algorithm_is_named_beside_the_digest(name: str) -> None:
    assert {item.signature for item in read(RAW, headers=digest(RAW, name), key=True)} == {"VALID"}
    assert code(RAW + b" ", headers=digest(RAW, name), key=True) is RejectCode.BAD_SIGNATURE
    assert code(RAW, headers=digest(RAW, name, b"other"), key=True) is RejectCode.BAD_SIGNATURE


def test_the_raw_bytes_are_signed_not_what_they_say() -> None:
    assert (
        code(json.dumps(BODY).encode(), headers=digest(RAW, "sha256"), key=True)
        is RejectCode.BAD_SIGNATURE
    )


@pytest.mark.parametrize("name", [b"", b"HMAC_MD5_HEX", b"sha256"])
def test_an_algorithm_that_is_none_signs_nothing(name: bytes) -> None:
    headers = digest(RAW, "sha256") | {"x-payload-digest-alg": name}
    assert code(RAW, headers=headers, key=True) is RejectCode.BAD_SIGNATURE


def test_a_digest_of_another_algorithm_does_not_pass() -> None:
    headers = digest(RAW, "sha1") | {"x-payload-digest-alg": b"HMAC_SHA256_HEX"}
    assert code(RAW, headers=headers, key=True) is RejectCode.BAD_SIGNATURE
    assert code(RAW, key=True) is RejectCode.MISSING_SIGNATURE


WAITING = ["applicantAwaitingUser", "applicantAwaitingService", "applicantActionLevelChanged"]
TRANSACTIONS = [
    "applicantKytTxnCreated",
    "applicantKytTxnApproved",
    "applicantKytTxnRejected",
    "applicantKytTxnReviewed",
    "applicantKytTxnDeleted",
    "applicantKytOnHold",
    "applicantKytTxnAwaitingUser",
    "applicantKytTxnDataChanged",
]


@pytest.mark.parametrize("answer", [result("GREEN"), result("RED", "FINAL")])
@pytest.mark.parametrize("operation", [*WAITING, *TRANSACTIONS])
def test_what_the_documents_list_is_a_fact_and_no_state(
    operation: str, answer: dict[str, Any]
) -> None:
    [event] = read(BODY | answer | {"type": operation, "kytDataTxnId": "t-1"})
    assert isinstance(event, PlayerDraft)
    assert (event.operation, event.player_id) == (operation, "p-1001")


def test_types_have_words_of_their_own() -> None:
    words = {read(BODY | {"type": each})[0].type for each in [*WAITING, *TRANSACTIONS]}
    assert len(words) == len([*WAITING, *TRANSACTIONS])


def test_an_event_about_a_transaction_names_it_and_is_not_the_players_verdict() -> None:
    body = BODY | {"type": "applicantKytTxnRejected", "kytDataTxnId": "t-1"}
    [event], [other] = read(body), read(body | {"kytDataTxnId": "t-2"})
    assert event.attributes["transaction_id"] == "t-1"
    assert event.attributes["transaction_answer"] == "RED"
    assert "review_answer" not in event.attributes
    assert event.provider_event_id != other.provider_event_id
    assert event.scope != read(BODY)[0].scope


@pytest.mark.parametrize(
    ("answer", "kind", "operation"),
    [
        ("YELLOW", None, None),
        ("ERROR", "FINAL", None),
        ("green", None, None),
        ("RED", "EXTERNAL", None),
        ("RED", "final", None),
        ("GREEN", "SOMETHING", "player.released"),
        ("", "", None),
    ],
)
def test_a_new_word_of_a_verdict_keeps_the_message(
    answer: str, kind: str | None, operation: str | None
) -> None:
    event, *states = read(BODY | result(answer, kind))
    assert event.attributes.get("review_answer") == (answer or None)
    assert event.attributes.get("review_reject_type") == (kind or None)
    assert [state.operation for state in states] == ([operation] if operation else [])


def test_a_message_about_a_transaction_may_leave_the_applicant_out() -> None:
    """As the vendor's sample of applicantKytTxnCreated does."""
    sent = {name: value for name, value in BODY.items() if name != "applicantId"}
    assert code(sent) is RejectCode.MISSING_FIELD
    created = sent | {"type": "applicantKytTxnCreated", "kytTxnId": "s-1", "kytTxnType": "finance"}
    [event] = read(created)
    assert event.provider_event_id == "s-1:c1"
    assert code({**created, "kytTxnId": "", "kytDataTxnId": "N/A"}) is RejectCode.MISSING_FIELD
    assert read(BODY | created | {"kytTxnId": None})[0].provider_event_id == "a1:c1"
