from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Attempt, Outcome, Reference, WalletOutcome
from streams.providers.dialect import Draft, Reply
from streams.providers.skylift import Skylift, decimal_bytes, encode, prefix_of, schema_of
from tests.support.dialect_records import raw_record
from tests.support.examples import examples

V1: dict[str, Any] = {
    "event_id": "e-1",
    "type": "BET",
    "player": "p-1",
    "game": "skylift-classic",
    "flight": "F-7",
    "seat": 0,
    "amount": decimal_bytes(150_000_000),
    "currency": "EUR",
    "bet_id": None,
    "occurred_at": 1_790_000_000_123_456,
}
V2 = {name: value for name, value in V1.items() if name != "player"} | {
    "player_id": "p-1",
    "campaign": None,
    "flight_over": False,
}


def read(value: bytes) -> Any:
    return Skylift().reader(None)(raw_record("skylift", value), {})


def one(fields: dict[str, Any], version: int = 2) -> Draft:
    [draft] = read(encode("event", version, fields))
    assert isinstance(draft, Draft)
    return draft


def code(value: bytes) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(value)
    return caught.value.reason


def test_both_versions_say_the_same() -> None:
    old, new = one(V1, 1), one(V2)
    assert old == new
    assert (old.operation, old.provider_tx_id, old.player_id, old.round_id) == (
        "BET",
        "e-1",
        "p-1",
        "F-7",
    )
    assert old.legs[0].amount == Amount(150_000_000, 8)
    assert (old.provider_at, old.decision_required, old.round_closed) == (
        1_790_000_000_123,
        True,
        False,
    )
    assert encode("event", 1, V1) != encode("event", 2, V2)


def test_what_version_2_added() -> None:
    draft = one(V2 | {"type": "JACKPOT", "bet_id": "e-0", "campaign": "c-1", "flight_over": True})
    assert draft.legs[0].kind == "JACKPOT_WIN"
    assert (draft.legs[0].is_free, draft.legs[0].campaign_id, draft.round_closed) == (
        True,
        "c-1",
        True,
    )
    assert draft.reference == Reference("BET", "e-0")


@pytest.mark.parametrize(
    ("kind", "leg", "decides"),
    [("BET", "BET", True), ("CASHOUT", "WIN", False), ("REFUND", "ROLLBACK", False)],
)
def test_what_each_event_does(kind: str, leg: str, decides: bool) -> None:
    draft = one(V2 | {"type": kind, "bet_id": "e-0"})
    assert (draft.legs[0].kind, draft.decision_required) == (leg, decides)
    assert draft.reference == (None if kind == "BET" else Reference("BET", "e-0"))


def test_a_refund_names_its_bet() -> None:
    assert code(encode("event", 2, V2 | {"type": "REFUND"})) is RejectCode.MISSING_FIELD


FINGERPRINTS = ["c3014e58d0092f8f9c99", "c3010f03acdbbd2b9713"]


def test_the_fingerprints_are_those_of_the_specification() -> None:
    # CRC-64-AVRO of the parsing canonical forms, little-endian: a body of these versions begins so for ever.
    assert [prefix_of(version).hex() for version in (1, 2)] == FINGERPRINTS
    assert all(prefix_of(version)[2:] == _crc_64_avro(version) for version in (1, 2))


def _crc_64_avro(version: int) -> bytes:
    """The algorithm as the specification prints it, over the canonical form."""
    empty = 0xC15D213AA4D7A795
    table = []
    for n in range(256):
        crc = n
        for _ in range(8):
            crc = (crc >> 1) ^ (empty & -(crc & 1))
        table.append(crc)
    crc = empty
    for byte in fastavro.schema.to_parsing_canonical_form(schema_of("event", version)).encode():
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc.to_bytes(8, "little")


@pytest.mark.parametrize("scaled", [0, 1, 127, 128, 10**8, 2**63 - 1 - (2**63 - 1) % 10**6])
def test_money_is_the_integer_that_was_sent(scaled: int) -> None:
    [leg] = one(V2 | {"amount": decimal_bytes(scaled), "currency": "BTC"}).legs
    assert leg.amount == Amount(scaled, 8)


@pytest.mark.parametrize(
    ("amount", "currency", "reason"),
    [
        (b"", "EUR", RejectCode.BAD_AMOUNT),
        (decimal_bytes(-1), "BTC", RejectCode.BAD_AMOUNT),
        (decimal_bytes(2**63), "BTC", RejectCode.BAD_AMOUNT),
        (b"\x00" * 17, "BTC", RejectCode.BAD_AMOUNT),
        (decimal_bytes(1), "EUR", RejectCode.AMOUNT_SCALE),
        (decimal_bytes(100_000_000), "XQQ", RejectCode.BAD_CURRENCY),
    ],
)
def test_money_that_does_not_fit_is_rejected(
    amount: bytes, currency: str, reason: RejectCode
) -> None:
    assert code(encode("event", 2, V2 | {"amount": amount, "currency": currency})) is reason


def test_bytes_are_never_read_as_a_schema_they_were_not_written_with() -> None:
    body = encode("event", 2, V2)
    assert code(body[10:]) is RejectCode.MALFORMED  # bare
    assert code(body[:2] + b"\0" * 8 + body[10:]) is RejectCode.MALFORMED  # an unannounced schema
    assert code(prefix_of(1, "reply") + body[10:]) is RejectCode.MALFORMED
    assert code(body + b"\0") is RejectCode.MALFORMED
    assert {code(body[:cut]) for cut in range(len(body))} == {RejectCode.MALFORMED}


@examples(1_000)
@given(body=st.sampled_from([encode("event", 1, V1), encode("event", 2, V2)]), data=st.data())
def test_no_bytes_behind_a_known_fingerprint_raise(body: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(10, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 10)))
    changed = body[:start] + data.draw(st.binary(max_size=12)) + body[end:]
    try:
        [item] = read(changed)
    except Rejected:
        return
    assert isinstance(item, Draft)


# --- answers ----------------------------------------------------------------------------------------------------------

ATTEMPT = Attempt("provider.skylift.raw.v1", 0, 1)


def answer(outcome: str, balance_minor: int | None = 1234, scale: int | None = 2) -> dict[str, Any]:
    outcome_of = WalletOutcome(
        "id",
        "b",
        "skylift",
        "BET",
        "e-1",
        ATTEMPT,
        "p-1",
        outcome,
        "",
        "",
        "EUR",
        scale,
        balance_minor,
        1,
    )
    return decode(Skylift().answer(raw_record("skylift", encode("event", 2, V2)), [outcome_of]))


def decode(reply: Reply) -> dict[str, Any]:
    assert reply.body.startswith(prefix_of(1, "reply"))
    fields = fastavro.schemaless_reader(BytesIO(reply.body[10:]), schema_of("reply", 1), None)
    assert isinstance(fields, dict)
    return fields


def test_each_outcome_has_its_status() -> None:
    statuses = {outcome.value: answer(outcome)["status"] for outcome in Outcome}
    assert statuses["POSTED"] == statuses["EXISTS"] == "OK"
    assert statuses["REFUSED_FUNDS"] == "NO_FUNDS"
    assert statuses["CONFLICT"] == "CONFLICT"
    assert {name: status for name, status in statuses.items() if status == "ERROR"} == {
        "UNRESOLVED": "ERROR"
    }
    assert answer("SOMETHING_NEW")["status"] == "ERROR"


@pytest.mark.parametrize(
    ("minor", "scale", "raw"), [(1234, 2, 1_234_000_000), (0, 0, 0), (-5, 3, -500_000), (7, 8, 7)]
)
def test_the_balance_is_in_major_units_of_eight_places(minor: int, scale: int, raw: int) -> None:
    assert int.from_bytes(answer("POSTED", minor, scale)["balance"], "big", signed=True) == raw


def test_an_unknown_balance_is_left_out() -> None:
    assert answer("POSTED", None, None)["balance"] is None
    reply = Skylift().answer(raw_record("skylift", b""), [Rejected(RejectCode.MALFORMED, "")])
    assert decode(reply) == {
        "event_id": None,
        "status": "UNREADABLE",
        "balance": None,
        "currency": None,
    }
    assert decode(Skylift().answer(raw_record("skylift", b""), []))["status"] == "ERROR"
