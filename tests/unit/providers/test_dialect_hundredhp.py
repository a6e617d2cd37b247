from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Attempt, Outcome, WalletOutcome
from schemas.topics import UNRESOLVED
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.dialect import Draft, UnreadableItem
from streams.providers.hundredhp import HundredHP
from tests.support.dialect_records import raw_record

TX = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"  # RFC 9562, appendix A.6: 2022-02-22 19:22:22 UTC
TX_MS = 1_645_557_742_000
SECRET = "b906pA0P2L1"
BODY: dict[str, Any] = {"secret": SECRET, "sessionId": "s-1", "txId": TX, "amount": "104.12"}
HEADERS: dict[str, bytes | None] = {"player": b"p-1", "currency": b"EUR"}


def read(
    operation: str,
    body: dict[str, Any] | bytes = BODY,
    headers: dict[str, bytes | None] = HEADERS,
    material: dict[str, str] | None = None,
) -> Draft:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = headers | {"http-path": f"/wallet/{operation}".encode()}
    [draft] = HundredHP().reader(material)(raw_record("hundredhp", value), all_headers)
    assert isinstance(draft, Draft)
    return draft


def refusal(*args: Any, **kwargs: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(*args, **kwargs)
    assert SECRET not in str(caught.value)
    return caught.value


def money(draft: Draft) -> list[tuple[str, int | None, int | None, str | None]]:
    return [
        (
            leg.kind,
            leg.amount.unscaled if leg.amount else None,
            leg.amount.scale if leg.amount else None,
            leg.currency,
        )
        for leg in draft.legs
    ]


def test_one_id_is_a_bet_its_win_and_its_rollback() -> None:
    bet, win, back = (read(operation) for operation in ("withdrawal", "deposit", "rollback"))
    assert {draft.provider_tx_id for draft in (bet, win, back)} == {TX}
    assert [draft.operation for draft in (bet, win, back)] == ["withdrawal", "deposit", "rollback"]
    assert {draft.round_id for draft in (bet, win, back)} == {TX}
    assert [draft.round_closed for draft in (bet, win, back)] == [False, True, True]
    assert [draft.decision_required for draft in (bet, win, back)] == [True, False, False]
    assert bet.reference is None
    for ending in (win, back):
        assert ending.reference is not None
        assert (ending.reference.operation, ending.reference.tx_id) == ("withdrawal", TX)


def test_an_ending_names_neither_player_nor_currency_and_waits_for_its_bet() -> None:
    for operation, leg in (
        ("deposit", ("WIN", 10412, 2, None)),
        ("rollback", ("ROLLBACK", None, None, None)),
    ):
        draft = read(operation)
        assert draft.player_id is None
        assert money(draft) == [leg]
        record = raw_record(
            "hundredhp", json.dumps(BODY), {"http-path": f"/{operation}", **HEADERS}
        )
        [item] = Normaliser({"hundredhp": HundredHP()}, {}).normalise(record)
        assert isinstance(item, AcceptedTransaction)
        assert (item.topic, item.key) == (UNRESOLVED, TX.encode())


def test_the_time_in_a_bets_id_is_the_bets_alone() -> None:
    assert read("withdrawal").provider_at == TX_MS
    assert read("withdrawal", BODY | {"txId": TX.upper()}).provider_at == TX_MS
    assert read("deposit").provider_at is None
    assert read("rollback").provider_at is None
    version4 = "bf95016e-e549-49b0-b093-f67b10d34e38"  # as in the document's example of bonusWin
    assert read("bonusWin", BODY | {"txId": version4, "promoId": "x"}).provider_at is None
    assert read("bonusWin", BODY | {"promoId": "x"}).provider_at == TX_MS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2_79b0-7cc3-98c4-dc0c0c07398f",
        "x" * 36,
        "\u0667" * 36,
    ],
)
def test_an_id_that_is_no_uuid_of_version_7_tells_no_time(text: str) -> None:
    if text:
        assert read("withdrawal", BODY | {"txId": text}).provider_at is None
    else:
        assert refusal("withdrawal", BODY | {"txId": text}).reason is RejectCode.BAD_FIELD


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [
        ("104.129", (10412, 2)),
        ("104.12", (10412, 2)),
        ("104.1", (1041, 1)),
        ("104", (104, 0)),
        ("0.009", (0, 2)),
        ("0.99999999999999999999999", (99, 2)),
        ("922337203685477.580799999999", (92233720368547758, 2)),
        ("1e2", (100, 0)),
        ("1.2345e1", (1234, 2)),
    ],
)
def test_more_than_two_decimals_are_cut_off(sent: str, read_as: tuple[int, int]) -> None:
    for operation in ("withdrawal", "deposit", "bonusWin"):
        [leg] = read(operation, BODY | {"amount": sent}).legs
        assert leg.amount is not None
        assert (leg.amount.unscaled, leg.amount.scale) == read_as


def test_what_is_cut_off_is_only_what_the_document_names() -> None:
    refused = refusal("withdrawal", BODY | {"amount": "104.10"}, HEADERS | {"currency": b"JPY"})
    assert refused.reason is RejectCode.AMOUNT_SCALE
    read("withdrawal", BODY | {"amount": "104.009"}, HEADERS | {"currency": b"JPY"})


def test_zero_is_a_lost_bet_and_no_bet() -> None:
    assert money(read("deposit", BODY | {"amount": "0"})) == [("WIN", 0, 0, None)]
    assert refusal("withdrawal", BODY | {"amount": "0.00"}).reason is RejectCode.BAD_AMOUNT


@pytest.mark.parametrize(
    "amount",
    [
        "-1",
        "-0.001",
        "1.2.3",
        "1.12x",
        "",
        "NaN",
        "1,5",
        " 1",
        "\u0661",
        "9" * 30,
        104.12,
        104,
        None,
        True,
    ],
)
@pytest.mark.parametrize("operation", ["withdrawal", "deposit", "bonusWin"])
def test_what_is_no_amount(operation: str, amount: Any) -> None:
    expected = RejectCode.MISSING_FIELD if amount is None else RejectCode.BAD_AMOUNT
    assert refusal(operation, BODY | {"amount": amount}).reason is expected


def test_whose_session_it_is_the_connector_says() -> None:
    assert read("withdrawal").player_id == "p-1"
    assert money(read("withdrawal", headers=HEADERS | {"currency": b"eur"}))[0][3] == "EUR"
    for name in ("player", "currency"):
        missing = refusal("withdrawal", headers={k: v for k, v in HEADERS.items() if k != name})
        assert missing.reason is RejectCode.MISSING_FIELD
        assert name in missing.detail
    assert (
        refusal("withdrawal", headers=HEADERS | {"player": b"\xff"}).reason is RejectCode.BAD_FIELD
    )
    assert (
        refusal("withdrawal", headers=HEADERS | {"player": b"a\0b"}).reason is RejectCode.BAD_FIELD
    )
    assert (
        refusal("withdrawal", headers=HEADERS | {"player": b"x" * 129}).reason
        is RejectCode.BAD_FIELD
    )
    unknown = refusal("withdrawal", headers=HEADERS | {"currency": b"XQQ"})
    assert isinstance(unknown, UnreadableItem)
    assert (unknown.reason, unknown.player_id) == (RejectCode.BAD_CURRENCY, "p-1")


def test_a_promotion_tells_its_campaign() -> None:
    [leg] = read("bonusWin", BODY | {"promoId": "promo_1"}).legs
    assert (leg.kind, leg.campaign_id) == ("PROMO_WIN", "promo_1")
    assert read("bonusWin", BODY | {"promoId": "promo_1"}).round_id is None


def test_the_secret() -> None:
    key = {"secret": SECRET}
    assert read("withdrawal").signature == "NOT_CHECKED"
    assert read("withdrawal", material=key).signature == "VALID"
    assert (
        refusal("rollback", BODY | {"secret": "guess"}, material=key).reason
        is RejectCode.BAD_SIGNATURE
    )
    assert (
        refusal("rollback", BODY | {"secret": ""}, material=key).reason
        is RejectCode.MISSING_SIGNATURE
    )
    assert (
        refusal("rollback", BODY | {"secret": "gäss"}, material=key).reason
        is RejectCode.BAD_SIGNATURE
    )
    with pytest.raises(UsageError):
        HundredHP().reader({})


def test_a_body_can_be_shown_without_its_secret() -> None:
    for secret in (SECRET, 'a"b\\', "ünï\\u0041"):
        for indent in (None, 2):
            value = json.dumps(BODY | {"secret": secret}, indent=indent).encode()
            shown = json.loads(HundredHP().redact(value))
            assert shown == BODY | {"secret": "***"}
    cut = json.dumps(BODY).encode()[:18]
    assert b"b906" in cut
    assert b"b906" not in HundredHP().redact(cut)


@pytest.mark.parametrize(
    "path", [b"", b"/balance", b"/auth", b"/withdrawal/", b"/withdrawal/x", b"/Withdrawal"]
)
def test_any_other_path_is_no_wallet_transaction(path: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        HundredHP().reader(None)(
            raw_record("hundredhp", json.dumps(BODY)), HEADERS | {"http-path": path}
        )
    assert caught.value.reason is RejectCode.UNKNOWN_OPERATION


# --- answers ----------------------------------------------------------------------------------------------------------


def outcome(
    operation: str, what: str, reason: str = "", balance: int | None = 1_234_567, scale: int = 4
) -> WalletOutcome:
    attempt = Attempt("provider.hundredhp.raw.v1", 3, 42)
    return WalletOutcome(
        "e-1",
        "default",
        "hundredhp",
        operation,
        TX,
        attempt,
        "p-1",
        what,
        reason,
        "No.",
        "EUR",
        scale,
        balance,
        7,
    )


def answer(
    operation: str, result: WalletOutcome | Rejected, dialect: HundredHP | None = None
) -> tuple[int, Any]:
    request = raw_record("hundredhp", json.dumps(BODY), {"http-path": f"/w/{operation}"})
    reply = (dialect or HundredHP()).answer(request, [result])
    assert reply.content_type == "application/json"
    return reply.status, json.loads(reply.body)


def test_a_success_tells_the_balance_cut_to_two_decimals() -> None:
    success = {"userId": "p-1", "currency": "EUR", "balance": "123.45"}
    assert answer("withdrawal", outcome("withdrawal", Outcome.POSTED)) == (
        200,
        success | {"txId": TX},
    )
    for operation in ("deposit", "rollback", "bonusWin"):
        assert answer(operation, outcome(operation, Outcome.POSTED)) == (200, success)
    assert (
        answer("deposit", outcome("deposit", Outcome.POSTED, balance=-49, scale=4))[1]["balance"]
        == "0.00"
    )
    assert (
        answer("deposit", outcome("deposit", Outcome.POSTED, balance=150, scale=0))[1]["balance"]
        == "150"
    )


@pytest.mark.parametrize(
    ("operation", "what", "reason", "code"),
    [
        ("withdrawal", "REFUSED_FUNDS", "NOT_ENOUGH_MONEY", 603),
        ("withdrawal", "EXISTS", "BOOKED", 607),
        ("withdrawal", "CONFLICT", "OTHER_CONTENT_UNDER_SAME_ID", 607),
        ("withdrawal", "TOMBSTONED", "ROLLBACK_PRECEDED", 607),
        ("withdrawal", "REFUSED_BLOCKED", "PLAYER_BLOCKED", 400),
        ("withdrawal", "REFUSED_LIMIT", "BET_OVER_LIMIT", 400),
        ("withdrawal", "CANCELLED", "CONNECTOR_TIMED_OUT", 702),
        ("withdrawal", "UNRESOLVED", "BALANCE_OUT_OF_RANGE", 702),
        ("withdrawal", "SOMETHING_NEW", "", 702),
        ("deposit", "EXISTS", "BOOKED", 609),
        ("deposit", "REFUSED_REFERENCE", "BET_ROLLED_BACK", 608),
        ("deposit", "REFUSED_REFERENCE", "BET_NOT_FOUND", 605),
        ("deposit", "UNRESOLVED", "PLAYER_UNKNOWN", 605),
        ("rollback", "EXISTS", "BOOKED", 608),
        ("rollback", "POSTED", "ALREADY_CLOSED", 608),
        ("rollback", "POSTED", "NOTHING_TO_REVERSE", 605),
        ("rollback", "REFUSED_REFERENCE", "BET_SETTLED", 609),
        ("rollback", "TOMBSTONED", "REFERENCE_NOT_SEEN_YET", 605),
        ("rollback", "UNRESOLVED", "PLAYER_UNKNOWN", 605),
        ("bonusWin", "EXISTS", "BOOKED", 607),
    ],
)
def test_errors_as_the_document_lists_them(
    operation: str, what: str, reason: str, code: int
) -> None:
    status, response = answer(operation, outcome(operation, what, reason))
    assert status == response["errCode"] == code
    assert response["data"] == ("No." if code == 400 else "")
    plain, same = answer(
        operation, outcome(operation, what, reason), HundredHP(status_as_code=False)
    )
    assert (plain, same) == (400, response)


def test_rejections() -> None:
    assert answer("deposit", Rejected(RejectCode.BAD_SIGNATURE, "x"))[1] == {
        "data": "",
        "message": "Invalid secret key",
        "errCode": 601,
    }
    assert answer("deposit", Rejected(RejectCode.BAD_AMOUNT, "why"))[1] == {
        "data": "why",
        "message": "Validation error",
        "errCode": 400,
    }


def test_an_outcome_without_a_balance_is_an_internal_error() -> None:
    assert answer("deposit", outcome("deposit", Outcome.POSTED, balance=None))[0] == 702


def test_policies_are_the_documents() -> None:
    policy = HundredHP().policy
    assert (policy.win_without_bet, policy.win_after_rollback, policy.rollback_after_win) == (
        "REFUSE",
    ) * 3
    assert policy.open_round_max_age_ms == 14 * 24 * 3600 * 1000
    assert not policy.refused_id_reusable


@given(
    operation=st.sampled_from(["withdrawal", "deposit", "rollback", "bonusWin", "other"]),
    field=st.sampled_from([*BODY, "promoId"]),
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats()
        | st.text(max_size=200),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
        ),
        max_leaves=4,
    ),
    headers=st.dictionaries(
        st.sampled_from(["player", "currency"]), st.none() | st.binary(max_size=140)
    ),
)
def test_nothing_but_a_rejection_comes_of_any_field(
    operation: str, field: str, value: Any, headers: dict[str, bytes | None]
) -> None:
    with suppress(Rejected):
        assert read(operation, BODY | {field: value}, HEADERS | headers).legs
