from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RejectCode, Rejected
from schemas.events import Amount
from streams.providers.dialect import Draft, UnreadableItem
from streams.providers.lga_report import LgaReport
from tests.support.dialect_records import raw_record

HEADINGS = (
    "TIMESTAMP\tPLAYER_ID\tREG_NATION\tREG_DOB\tLAST_LOGIN\tCURRENCY\t"
    "BET_IN_MONTH\tBALANCE_MONTH_END\tPENDING_TRANSFER\tCASINO_CHIPS_VALUE"
)
FIRST = "Acme Gaming Ltd\t2026-10\tall players\t+00:00"
ROW = "2026-11-01T00:00:00\tp-1\tMT\t1980-02-29\t2026-10-31T22:10:00\tEUR\t120.50\t-3.20\t0\t"


def text(*rows: str, first: str = FIRST, last: str = HEADINGS, end: str = "\n") -> str:
    return end.join([first, *rows, last]) + end


def read(body: str | bytes, dialect: LgaReport | None = None) -> Any:
    return (dialect or LgaReport()).reader(None)(raw_record("lga_report", body), {})


def code(body: str | bytes) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(body)
    return caught.value.reason


def test_a_line_is_an_item_with_four_amounts() -> None:
    [draft] = read(text(ROW))
    assert isinstance(draft, Draft)
    assert [(leg.kind, leg.amount, leg.currency) for leg in draft.legs] == [
        ("INFORMATIONAL", Amount(12050, 2), "EUR"),
        ("INFORMATIONAL", Amount(-320, 2), "EUR"),
        ("INFORMATIONAL", Amount(0, 0), "EUR"),
        ("INFORMATIONAL", None, "EUR"),
    ]
    assert (draft.player_id, draft.provider_tx_id) == (
        "p-1",
        "Acme Gaming Ltd|2026-11-01T00:00:00|p-1|EUR",
    )
    assert draft.provider_at == 1_793_487_600_000  # midnight in CET is 23:00 UTC


@pytest.mark.parametrize(
    ("offset", "at"),
    [
        ("+00:00", 1_793_487_600_000),
        ("+1", 1_793_484_000_000),
        ("-0130", 1_793_493_000_000),
        ("+00", 1_793_487_600_000),
    ],
)
def test_timestamps_are_as_far_from_cet_as_the_first_line_says(offset: str, at: int) -> None:
    assert read(text(ROW, first=f"Acme\t{offset}"))[0].provider_at == at
    assert (
        read(text(ROW, first=f"Acme\t{offset}"), LgaReport(cet_offset_minutes=0))[0].provider_at
        == at + 3_600_000
    )


def test_a_file_that_was_cut_off_anywhere_is_rejected_whole() -> None:
    whole = text(ROW, ROW.replace("p-1", "p-2")).rstrip("\n")
    assert {code(whole[:cut]) for cut in range(len(whole))} == {RejectCode.MALFORMED}


def test_line_ends_marks_and_a_missing_last_one_change_nothing() -> None:
    items = read(text(ROW))
    assert read(text(ROW, end="\r\n")) == items
    assert read("\ufeff" + text(ROW)) == items
    assert read(text(ROW).rstrip("\n")) == items


def test_columns_are_found_by_their_headings() -> None:
    other = "\t".join(reversed(HEADINGS.split("\t"))) + "\tVIP"
    assert read(text("\t".join(reversed(ROW.split("\t"))) + "\tyes", last=other)) == read(text(ROW))
    assert code(text(ROW + "\tx", last=HEADINGS + "\tCURRENCY")) is RejectCode.MALFORMED


def test_a_month_without_players() -> None:
    [draft] = read(text())
    assert (draft.provider_tx_id, [leg.kind for leg in draft.legs]) == (
        "Acme Gaming Ltd",
        ["INFORMATIONAL"],
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("120.50", "120,50", RejectCode.BAD_AMOUNT),
        ("120.50", "120.505", RejectCode.AMOUNT_SCALE),
        ("EUR", "XQQ", RejectCode.BAD_CURRENCY),
        ("2026-11-01T00:00:00", "01.11.2026 00:00", RejectCode.BAD_TIME),
        ("2026-11-01T00:00:00", "2026-11-31T00:00:00", RejectCode.BAD_TIME),
        ("p-1", "", RejectCode.MISSING_FIELD),
        ("p-1", "p" * 129, RejectCode.BAD_FIELD),
        ("p-1\t", "p-1", RejectCode.BAD_FIELD),
    ],
)
def test_a_bad_line_does_not_spoil_the_others(old: str, new: str, reason: RejectCode) -> None:
    bad, good = read(text(ROW.replace(old, new), ROW.replace("p-1", "p-2")))
    assert (bad.reason, good.player_id) == (reason, "p-2")
    named = old not in {"p-1", "p-1\t"}
    assert (bad.player_id if isinstance(bad, UnreadableItem) else None) == (
        "p-1" if named else None
    )


@pytest.mark.parametrize(
    "first", ["Acme", "Acme\t2026-10", "\t+00:00", "Acme\t+0:0:0", "Acme\t+99:00"]
)
def test_a_first_line_without_offset_or_licensee_is_rejected(first: str) -> None:
    assert code(text(ROW, first=first)) is RejectCode.BAD_TIME


def test_who_a_player_is_stays_in_the_raw_record() -> None:
    value = text(ROW, end="\r\n").encode()
    shown = LgaReport().redact(value)
    assert b"1980-02-29" not in shown
    assert shown == value.replace(b"\tMT\t1980-02-29\t", b"\t***\t***\t")
    assert "1980" not in repr(read(text(ROW)))


@pytest.mark.parametrize(
    "value",
    [
        f"{FIRST}\n{ROW}\n{ROW}",
        text(ROW)[:-40],
        text(ROW, end="\r"),
        text(ROW.replace("\tp-1", "\tp-1\tmore")),
        text(ROW.replace("\t2026-10-31T22:10:00", "")),
        ROW,
    ],
)
def test_who_a_player_is_is_not_shown_of_a_file_that_was_rejected_either(value: str) -> None:
    assert b"1980" not in LgaReport().redact(value.encode())
    assert b"1980" not in LgaReport().redact(value.encode("utf-16")).replace(b"\0", b"")


@given(st.binary(max_size=200), st.sampled_from([b"\n", b"\t", b"\n" + HEADINGS.encode() + b"\n"]))
def test_no_bytes_raise(value: bytes, end: bytes) -> None:
    LgaReport().redact(value + end)
    with suppress(Rejected):
        assert read(value + end)
