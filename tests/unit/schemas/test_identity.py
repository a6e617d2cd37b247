"""The identity of an event never changes, and its fingerprint changes with its content and nothing else."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Amount, Leg, Reference
from schemas.identity import alert_id, event_id, fingerprint, referenced_event_id

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text("1:-=", max_size=6)
EVENTS = uuid.uuid5(uuid.NAMESPACE_DNS, "events.pitboss")
ALERTS = uuid.uuid5(uuid.NAMESPACE_DNS, "alerts.pitboss")


def name(*parts: str) -> str:
    return "".join(f"{len(part)}:{part}" for part in parts)


@given(TEXT, TEXT, TEXT, TEXT)
def test_an_event_id_is_the_uuid5_of_its_four_parts(brand, provider, operation, provider_tx_id):
    expected = uuid.uuid5(EVENTS, name(brand, provider, operation, provider_tx_id))
    assert event_id(brand, provider, operation, provider_tx_id) == str(expected)


@given(TEXT, st.integers(0, 1000), TEXT, st.integers(0, 2**45))
def test_an_alert_id_is_the_uuid5_of_rule_version_key_and_start(rule_id, rule_version, key, start):
    expected = uuid.uuid5(ALERTS, name(rule_id, str(rule_version), key, str(start)))
    assert alert_id(rule_id, rule_version, key, start) == str(expected)


def test_ids_are_fixed_for_ever():
    """Journals are full of them: a change of any of these is a change of history."""
    assert event_id("default", "hub88", "bet", "16d2dcfe") == "cd6805d7-c8a0-51b2-9d88-37f1354a6aa4"
    assert (
        alert_id("D01", 1, "player-1", 1_772_366_400_000) == "ff4c89b9-f94c-588a-9963-79c15cf3719e"
    )
    legs = [Leg("BET", Amount(1250, 2), "EUR")]
    assert (
        fingerprint("player-1", legs, None, "round-1", None) == "1c081817b25194c54310e553d672e612"
    )


@given(st.tuples(TEXT, TEXT, TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT, TEXT))
def test_parts_never_run_into_each_other(one, other):
    assert (event_id(*one) == event_id(*other)) is (one == other)


def test_the_operation_keeps_a_bet_and_its_win_apart():
    ids = {
        event_id("default", "100hp", operation, "tx-1") for operation in ("bet", "win", "rollback")
    }
    assert len(ids) == 3


AMOUNTS = st.builds(Amount, st.integers(-(2**63), 2**63 - 1), st.integers(0, 30))
LEGS = st.builds(
    Leg,
    kind=st.sampled_from(["BET", "WIN", "ROLLBACK"]),
    amount=st.none() | AMOUNTS,
    currency=st.none() | st.sampled_from(["EUR", "USD"]),
    is_free=st.booleans(),
    campaign_id=st.none() | st.sampled_from(["spring", "autumn"]),
)


@given(st.integers(-(10**15), 10**15), st.integers(0, 10), st.integers(0, 3))
def test_trailing_zeros_are_no_other_amount(unscaled, scale, zeros):
    """A provider that begins to print 1.50 instead of 1.5 has not changed its mind."""

    def of_amount(amount: Amount) -> str:
        return fingerprint("p", [Leg("BET", amount, "EUR")], None, None, None)

    assert of_amount(Amount(unscaled, scale)) == of_amount(
        Amount(unscaled * 10**zeros, scale + zeros)
    )
    assert of_amount(Amount(unscaled, scale)) != of_amount(Amount(unscaled + 1, scale))
    if unscaled:
        assert of_amount(Amount(unscaled, scale)) != of_amount(Amount(unscaled, scale + 1))


def test_zero_is_zero_in_any_format():
    assert (
        len(
            {
                fingerprint("p", [Leg("WIN", Amount(0, n), "EUR")], None, None, None)
                for n in range(31)
            }
        )
        == 1
    )


CONTENT: dict[str, Any] = {
    "player_id": "p",
    "legs": [Leg("BET", Amount(150, 2), "EUR", False, "spring")],
    "reference": Reference("bet", "t"),
    "round_id": "r",
    "game_id": "g",
}


@pytest.mark.parametrize(
    "change",
    [
        {"player_id": "q"},
        {"player_id": ""},
        {"player_id": None},
        {"round_id": "s"},
        {"round_id": ""},
        {"round_id": None},
        {"game_id": "h"},
        {"game_id": None},
        {"round_id": "g", "game_id": "r"},
        {"reference": None},
        {"reference": Reference("bet", "u")},
        {"reference": Reference("win", "t")},
        {"reference": Reference("be", "tt")},
        {"legs": []},
        {"legs": CONTENT["legs"] * 2},
        {"legs": [Leg("WIN", Amount(150, 2), "EUR", False, "spring")]},
        {"legs": [Leg("BET", Amount(151, 2), "EUR", False, "spring")]},
        {"legs": [Leg("BET", Amount(-150, 2), "EUR", False, "spring")]},
        {"legs": [Leg("BET", Amount(150, 1), "EUR", False, "spring")]},
        {"legs": [Leg("BET", None, "EUR", False, "spring")]},
        {"legs": [Leg("BET", Amount(150, 2), "USD", False, "spring")]},
        {"legs": [Leg("BET", Amount(150, 2), None, False, "spring")]},
        {"legs": [Leg("BET", Amount(150, 2), "EUR", True, "spring")]},
        {"legs": [Leg("BET", Amount(150, 2), "EUR", False, None)]},
    ],
    ids=str,
)
def test_another_thing_said_is_another_fingerprint(change):
    assert fingerprint(**CONTENT) != fingerprint(**{**CONTENT, **change})


@given(st.lists(LEGS, max_size=3))
def test_the_order_of_legs_is_said_and_a_copy_says_the_same(legs):
    copies = [msgspec.structs.replace(leg) for leg in legs]
    assert fingerprint("p", legs, None, None, None) == fingerprint(
        "p", tuple(copies), None, None, None
    )
    if len(legs) > 1 and legs != legs[::-1] and len({str(leg) for leg in legs}) == len(legs):
        reversed_ = fingerprint("p", legs[::-1], None, None, None)
        assert (fingerprint("p", legs, None, None, None) == reversed_) is (
            [normal(leg) for leg in legs] == [normal(leg) for leg in legs[::-1]]
        )


def normal(leg: Leg) -> tuple[object, ...]:
    amount = None
    if leg.amount is not None:
        unscaled, scale = leg.amount.unscaled, leg.amount.scale
        while scale and unscaled % 10 == 0:
            unscaled, scale = unscaled // 10, scale - 1
        amount = (unscaled, scale)
    return (leg.kind, amount, leg.currency, leg.is_free, leg.campaign_id)


def test_a_reference_means_an_event_of_the_same_provider_or_of_the_cashier():
    assert referenced_event_id("b", "hub88", Reference("bet", "t")) == event_id(
        "b", "hub88", "bet", "t"
    )
    for operation in ("deposit.opened", "withdrawal.requested"):
        assert referenced_event_id("b", "adyen", Reference(operation, "t")) == event_id(
            "b", "house", operation, "t"
        )


def test_nothing_said_and_the_word_none_are_two_things():
    legs = [Leg("BET", Amount(1, 0), "EUR", campaign_id=None)]
    named = [Leg("BET", Amount(1, 0), "EUR", campaign_id="None")]
    assert fingerprint("p", legs, None, None, None) != fingerprint("p", named, None, None, None)
