"""Texts that stand for no reference, and the adapters that build an identity from optional text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.providers.references import (
    id_or_none,
    is_placeholder,
    reference_or_empty,
    reference_or_none,
)
from streams.providers.stripe import Stripe
from streams.providers.sumsub import Sumsub
from streams.providers.uof import Uof
from tests.support.dialect_records import raw_record
from tests.unit.providers.test_dialect_stripe import TAKEN, dispute
from tests.unit.providers.test_dialect_sumsub import BODY as REVIEWED

WORDS = ("NONREF", "NOTPROVIDED", "NONE", "N/A", "UNKNOWN", "NOT PROVIDED", "NULL", "NO REFERENCE")


@given(word=st.sampled_from(WORDS), data=st.data())
def test_a_word_for_nothing_is_one_in_any_case_and_spacing(word: str, data: st.DataObject) -> None:
    letters = [data.draw(st.sampled_from([sign.upper(), sign.lower()])) for sign in word]
    gaps = st.sampled_from(["", " ", "-", "_", "  "])
    text = "".join(sign + data.draw(gaps) for sign in letters)
    assert is_placeholder(text)
    assert reference_or_none(text) is None
    assert reference_or_empty(text) == ""


@given(
    sign=st.characters(categories=["L", "N", "P", "S"], codec="ascii"), number=st.integers(2, 40)
)
def test_one_sign_repeated_is_no_reference(sign: str, number: int) -> None:
    assert is_placeholder(sign * number)


@pytest.mark.parametrize(
    "text", ["", " ", "-", "--", "0", "00", "?", "/", "0-0", "00000000-0000-0000-0000-000000000000"]
)
def test_what_states_nothing_is_no_reference(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "7",
        "T",
        "R1",
        "NONE1",
        "NAT",
        "10",
        "007",
        "2026",
        "UNKNOWN-4",
        "NOTPROVIDED7",
        "dep-1",
        "ACSR0001",
    ],
)
def test_what_states_something_is_one(text: str) -> None:
    assert not is_placeholder(text)
    assert reference_or_none(text) == reference_or_empty(text) == text


@given(st.uuids())
def test_a_uuid_is_a_reference(value: Any) -> None:
    assert is_placeholder(str(value)) == (len(set(value.hex)) == 1)


@pytest.mark.parametrize("word", ["NONE", "n/a", "-", "0", "Unknown"])
def test_a_placeholder_makes_no_two_reviews_of_an_applicant_one(word: str) -> None:
    def read(hour: int) -> set[str]:
        body = REVIEWED | {"correlationId": word, "createdAtMs": f"2026-09-21 {hour:02}:00:00.000"}
        items = Sumsub().reader(None)(raw_record("sumsub", json.dumps(body)), {})
        names = ("provider_event_id", "provider_tx_id")
        return {getattr(item, name) for item in items for name in names if hasattr(item, name)}

    assert read(8)
    assert read(8).isdisjoint(read(9))


@pytest.mark.parametrize("word", ["none", "N/A"])
def test_a_placeholder_is_no_id_of_a_balance_transaction(word: str) -> None:
    def read(name: str) -> str:
        body = dispute("withdrawn", TAKEN | {"id": word})
        body["data"]["object"]["id"] = name
        [item] = Stripe().reader(None)(raw_record("stripe", json.dumps(body)), {})
        return item.provider_tx_id  # type: ignore[union-attr]

    assert read("dp_1") != read("dp_2")


def test_a_placeholder_in_a_notice_of_the_feed_is_the_same_as_nothing() -> None:
    def read(more: str) -> Any:
        body = f'<snapshot_complete product="1" timestamp="1790000000000"{more}/>'
        [item] = Uof().reader(None)(raw_record("uof", body), {})
        return item.provider_tx_id  # type: ignore[union-attr]

    assert read(' request_id="NONE"') == read("")
    assert read(' request_id="R4"') != read("")


@pytest.mark.parametrize("text", [*("NONREF", "N/A", "-", "0", "000", "XXX", ""), None])
def test_a_placeholder_is_no_campaign(text: str | None) -> None:
    assert id_or_none(text) is None


@pytest.mark.parametrize("text", ["1", "11", "777", "10", "camp-1", "A"])
def test_digits_are_a_campaign_also_one_repeated(text: str) -> None:
    assert id_or_none(text) == text
