"""For any scenario: the count is exact, phases are in order, money is whole minor units, time stands in its window."""

from __future__ import annotations

import re
from decimal import Decimal

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from lab.sandbox.actions import Delivery, IntentRequest
from lab.sandbox.records import Origin
from lab.sandbox.scenario import Scenario, deliveries_of, duration_ms, generate
from schemas.money import EXPONENTS
from tests.support.examples import examples
from tests.support.sandbox_keys import shared_keys

START_MS = 1_760_000_000_000
KEYS = shared_keys()


@st.composite
def scenarios(draw: st.DrawFn, events_max: int = 3_000) -> Scenario:
    events = draw(st.integers(200, events_max))
    speeders = draw(st.integers(0, 1)) if events >= 1_500 else 0
    return Scenario(
        seed=draw(st.integers(0, 2**64)),
        start_ms=START_MS,
        events=events,
        players=draw(st.none() | st.integers(1, events // 12)),
        retry_share=draw(st.floats(0, 0.2)),
        reorder_share=draw(st.floats(0, 0.5)),
        poison=draw(st.integers(0, 15)),
        speeders=speeders,
    )


def check_count_phases_and_time(scenario: Scenario, deliveries: list[Delivery]) -> None:
    assert len(deliveries) == scenario.events
    assert [d.phase for d in deliveries] == sorted(d.phase for d in deliveries)
    last_of_first = max(d.at_ms for d in deliveries if d.phase == 0)
    assert all(d.at_ms > last_of_first for d in deliveries if d.phase == 1)
    assert min(d.at_ms for d in deliveries) >= scenario.start_ms
    assert max(d.at_ms for d in deliveries) == scenario.start_ms + duration_ms(scenario)
    assert sum(d.origin is Origin.POISON for d in deliveries) == scenario.poison


@example(
    Scenario(
        seed=268,  # a player who owes more than their smallest deposit asks for a large bet
        start_ms=1_760_000_000_000,
        events=200,
        players=1,
        retry_share=0.0,
        reorder_share=0.0,
        poison=0,
        speeders=0,
    )
)
@given(scenarios())
def test_count_phases_and_time_and_nothing_below_zero_or_before_it_happened(scenario):
    deliveries = deliveries_of(scenario)
    check_count_phases_and_time(scenario, deliveries)
    for delivery in deliveries:
        if isinstance(delivery.request, IntentRequest):
            for intent in delivery.request.intents:
                assert intent.at_ms <= delivery.at_ms
                assert all(leg.minor is None or leg.minor >= 0 for leg in intent.legs)
                if intent.provider in {"adyen", "house"}:
                    assert all(leg.minor is None or leg.minor > 0 for leg in intent.legs)


def _amounts(record):
    """What the bytes say, read without any of our own code but the table of currencies."""
    if record.provider == "playngo":
        text = record.value.decode()
        yield (
            re.findall("<real>(.*?)</real>", text)[0],
            re.findall("<currency>(.*?)</currency>", text)[0],
        )
        return
    body = orjson.loads(record.value)
    if record.provider == "hub88" and "amount" in body:
        assert isinstance(body["amount"], int)
        yield Decimal(body["amount"]) / 100_000, body["currency"]
    elif record.provider == "house" and "amount" in body:
        yield body["amount"], body["currency"]
    elif record.provider == "adyen":
        for entry in body["notificationItems"]:
            amount = entry["NotificationRequestItem"]["amount"]
            assert isinstance(amount["value"], int)
            yield (
                Decimal(amount["value"]).scaleb(-EXPONENTS[amount["currency"]]),
                amount["currency"],
            )


@examples(25)
@given(scenarios(events_max=700))
def test_every_amount_in_the_bytes_is_whole_minor_units(scenario):
    seen = 0
    for record in generate(scenario, KEYS):
        if record.origin is Origin.POISON:
            continue
        for amount, currency in _amounts(record):
            seen += 1
            minor = Decimal(amount).scaleb(EXPONENTS[currency])
            assert minor == minor.to_integral_value()
            assert 0 <= minor < 2**63
    assert seen > scenario.events // 2


@examples(10)
@given(scenarios(events_max=500))
def test_the_same_scenario_makes_the_same_bytes(scenario):
    assert generate(scenario, KEYS) == generate(scenario, KEYS)
