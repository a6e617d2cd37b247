"""Results of a scenario: what detectors D13 and D14 see of them, and how they are fed."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from lab.sandbox.feeder import feed_records
from lab.sandbox.results import WHEEL, WHEEL_EVERY, make_results, rounds_of
from lab.sandbox.scenario import Scenario, deliveries_of, generate
from schemas import codec
from schemas.events import GameResult, SignatureVerdict
from schemas.topics import GAME_RESULTS
from tests.support.sandbox_keys import shared_keys

DAY_MS = 86_400_000
SCENARIO = Scenario(seed=5, start_ms=1_760_000_000_000, events=6_000)
RULES = [rule for rule in DEFAULT_RULES if rule.rule_id in {"D13", "D14"}]


@pytest.fixture(scope="module")
def results() -> list[GameResult]:
    return make_results(SCENARIO)


def faults_of(results) -> list[str]:
    detectors = PartitionDetectors(RULES, 0, GAME_RESULTS)
    return [
        alert.reason
        for offset, one in enumerate(results)
        for alert in detectors.observe(one, offset)
        if alert.status == "OPEN"
    ]


def test_rounds_have_signed_results_or_a_commitment_and_its_seed(results):
    rounds = [one for one in rounds_of(deliveries_of(SCENARIO)) if not one.is_void]
    wheel = [one for one in results if one.game_id == WHEEL]
    signed = [one for one in results if one.game_id != WHEEL]
    assert len(signed) == sum(one.first.provider == "hub88" for one in rounds) > 300
    assert {one.signature for one in signed} == {SignatureVerdict.VALID}
    assert sum(one.payout_minor > 0 for one in signed) > 50
    kinds = Counter(one.operation for one in wheel)
    assert kinds == dict.fromkeys(("commitment", "result"), -(-len(rounds) // WHEEL_EVERY))
    committed = {one.round_id: one for one in wheel if one.operation == "commitment"}
    for one in wheel:
        before = committed[one.round_id]
        assert before.occurred_at < one.occurred_at or one is before
        assert before.committed_hash == one.committed_hash
        assert (one.server_seed is None) == (one is before)
    assert [one.occurred_at for one in results] == sorted(one.occurred_at for one in results)
    assert len({one.event_id for one in results}) == len(results)
    assert make_results(SCENARIO) == results


def test_the_detectors_check_them_and_find_nothing(results):
    assert faults_of(results) == []
    found = [one for one in results if one.outcome is not None]
    committed = [one for one in results if one.operation == "commitment"][:3]
    wrong = [
        *committed,
        msgspec.structs.replace(found[0], server_seed="00"),
        msgspec.structs.replace(found[1], outcome="8"),
        msgspec.structs.replace(found[2], payout_minor=found[2].payout_minor + 1),
        msgspec.structs.replace(
            next(one for one in results if one.game_id != WHEEL), signature="STALE"
        ),
    ]
    assert faults_of(wrong) == ["OTHER_SEED", "OTHER_OUTCOME", "OTHER_PAYOUT", "NOT_SIGNED"]


def test_the_drift_of_the_wheel_is_measured(results):
    """With payouts of twice as much, the day's end finds it; as they are, it does not."""
    own = [one for one in results if one.game_id == WHEEL and one.currency == "EUR"]
    many = []
    for number, one in enumerate(own * 2):
        many.append(msgspec.structs.replace(one, event_id=f"{number}", brand="aurora"))
    later = msgspec.structs.replace(
        own[-1], event_id="later", occurred_at=own[-1].occurred_at + 2 * DAY_MS
    )
    generous = [
        one
        if one.payout_minor is None
        else msgspec.structs.replace(one, payout_minor=one.payout_minor * 2)
        for one in many
    ]
    [drift] = [rule for rule in RULES if rule.rule_id == "D13"]
    for records, expected in ((many, []), (generous, ["PAYS_MORE"])):
        detectors = PartitionDetectors([drift], 0, GAME_RESULTS)
        found = [
            alert.reason
            for offset, one in enumerate([*records, later])
            for alert in detectors.observe(one, offset)
        ]
        assert found == expected


def test_they_are_fed_beside_the_records_in_the_order_of_their_times(results):
    records = generate(SCENARIO, shared_keys())
    calls: list[tuple[str, int]] = []
    values: list[bytes] = []

    class Memory:
        async def send_keyed(self, topic, sent):
            calls.append((topic, len(sent)))
            if topic == f"trial.{GAME_RESULTS}":
                assert all(
                    key == codec.decoder(GameResult)(value).game_id.encode()
                    for key, value, *_ in sent
                )
                values.extend(value for _, value, *_ in sent)

    asyncio.run(feed_records(records, Memory(), results=results, namespace="trial"))
    assert list(map(codec.decoder(GameResult), values)) == results
    places = [n for n, (topic, _) in enumerate(calls) if topic == f"trial.{GAME_RESULTS}"]
    assert len(places) > 5
    assert places[0] < len(calls) // 2
