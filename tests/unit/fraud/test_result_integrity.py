"""D14: a seed is worth what was published of it before the round, not what its own record says."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.d14_result_integrity import COMMITMENTS_MAX
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.explanation import explain, first_offset_of
from lab.fraud.story import DAY_MS, MINUTE_MS, Stream
from schemas.topics import GAME_RESULTS
from tests.unit.fraud.test_state_is_bounded import make_result

T0 = 1_788_739_200_000
RULES = [rule for rule in DEFAULT_RULES if rule.rule_id == "D14"]
SCHEME = "none-registered/1"


def digest_of(seed: str) -> str:
    return sha256(seed.encode()).hexdigest()


class Casino:
    """The results of one partition, each with its commitment, and what D14 finds."""

    def __init__(self) -> None:
        self.stream = Stream(4)
        self.detectors = PartitionDetectors(RULES, 0, GAME_RESULTS)
        self.records: list = []

    def send(self, at_ms: int, **fields) -> list[str]:
        result = msgspec.structs.replace(make_result(self.stream, at_ms), **fields)
        self.records.append((len(self.records), result))
        self.alerts = self.detectors.observe(result, len(self.records) - 1)
        return [alert.reason for alert in self.alerts]

    def commit(self, at_ms: int, digest: str, round_id: str = "r", **more) -> list[str]:
        fields = {"scheme": SCHEME, "round_id": round_id, "committed_hash": digest}
        return self.send(at_ms, **(fields | more))

    def reveal(self, at_ms: int, seed: str, round_id: str = "r", digest=None, **more) -> list[str]:
        fields = {"scheme": SCHEME, "round_id": round_id, "server_seed": seed, "outcome": "1"}
        return self.send(at_ms, **(fields | {"committed_hash": digest} | more))


def test_a_seed_whose_hash_was_published_before_is_right():
    casino = Casino()
    assert casino.commit(T0, digest_of("a")) == []
    assert casino.reveal(T0 + MINUTE_MS, "a", digest=digest_of("a")) == []
    assert casino.reveal(T0 + 2 * MINUTE_MS, "a") == []  # sent again, and it names no hash


def test_a_hash_that_comes_with_its_seed_commits_nobody_to_anything():
    casino = Casino()
    assert casino.reveal(T0, "a", digest=digest_of("a")) == ["NOT_COMMITTED"]
    casino.commit(T0 + 1_000, digest_of("b"), "other")
    assert casino.reveal(T0 + MINUTE_MS, "b", "r-2", digest_of("b")) == ["NOT_COMMITTED"]
    [alert] = casino.alerts
    assert (alert.key, alert.severity) == ("aurora:hub88:r-2", "block")


def test_a_seed_under_another_hash_than_the_earlier_one_alerts():
    casino = Casino()
    casino.commit(T0, digest_of("a"))
    assert casino.reveal(T0 + MINUTE_MS, "b", digest=digest_of("b")) == ["OTHER_COMMITMENT"]
    [alert] = casino.alerts
    assert alert.evidence["committed_hash"] == digest_of("a")
    assert (alert.sources[0].first_offset, alert.sources[0].last_offset) == (0, 1)
    casino.commit(T0, digest_of("a"), "s")
    assert casino.reveal(T0 + MINUTE_MS, "b", "s", digest_of("a")) == ["OTHER_SEED"]
    casino.commit(T0, digest_of("a"), "t")
    assert casino.reveal(T0 + MINUTE_MS, "b", "t") == ["OTHER_SEED"]


def test_a_second_commitment_of_a_round_does_not_replace_the_first():
    casino = Casino()
    casino.commit(T0, digest_of("a"))
    assert casino.commit(T0 + 1, digest_of("a").upper()) == []
    assert casino.commit(T0 + 2, digest_of("b")) == ["SECOND_COMMITMENT"]
    assert casino.reveal(T0 + MINUTE_MS, "b", digest=digest_of("b")) == ["OTHER_COMMITMENT"]


@pytest.mark.parametrize(("late_ms", "found"), [(-1_000, []), (-999, ["COMMITTED_LATE"])])
def test_a_commitment_after_the_bets_were_closed_is_none(late_ms, found):
    """Bets are closed a second before the outcome is known."""
    casino = Casino()
    casino.commit(T0 + MINUTE_MS + late_ms, digest_of("a"))
    assert casino.reveal(T0 + MINUTE_MS, "a") == found


def test_a_chain_commits_by_the_seed_before():
    """Crash games publish the hash of a seed as the seed of the round before."""
    casino = Casino()
    third, second = digest_of("start"), digest_of(digest_of("start"))
    first = digest_of(second)
    casino.commit(T0, digest_of(first), "r1")
    assert casino.reveal(T0 + 10_000, first, "r1") == []
    assert casino.reveal(T0 + 20_000, second, "r2") == []
    assert casino.reveal(T0 + 21_000, first, "r1") == []  # sent again
    assert casino.reveal(T0 + 30_000, third, "r3", second) == []
    assert casino.reveal(T0 + 31_000, second, "r2") == []
    assert casino.reveal(T0 + 40_000, "other", "r4", third) == ["NOT_COMMITTED"]
    assert casino.reveal(T0 + 40_000, "start", "r5", game_id="another") == ["NOT_COMMITTED"]


@pytest.mark.parametrize("signature", ["STALE", "NOT_CHECKED", "MISSING_ALLOWED", "VALID"])
def test_a_result_that_does_not_reveal_its_seed_is_signed(signature):
    found = Casino().send(T0, scheme=SCHEME, outcome="3", signature=signature, provider="small")
    assert found == ([] if signature == "VALID" else ["NOT_SIGNED"])


def test_a_commitment_alone_is_no_result():
    assert Casino().commit(T0, digest_of("a"), signature="NOT_CHECKED") == []


def test_commitments_are_remembered_by_brand_and_provider_and_through_snapshots():
    casino = Casino()
    casino.commit(T0, digest_of("a"))
    for other in ({"brand": "fjord"}, {"provider": "pragmatic"}):
        assert casino.reveal(T0 + MINUTE_MS, "a", **other) == ["NOT_COMMITTED"]
    restored = PartitionDetectors(RULES, 0, GAME_RESULTS)
    restored.restore(casino.detectors.state())
    assert restored.state() == casino.detectors.state()
    casino.detectors = restored
    assert casino.reveal(T0 + MINUTE_MS, "a") == []


def test_an_open_round_is_remembered_for_the_rules_time():
    for silent_ms, found in ((7 * DAY_MS, []), (7 * DAY_MS + 1, ["NOT_COMMITTED"])):
        casino = Casino()
        casino.commit(T0, digest_of("a"))
        casino.commit(T0 + silent_ms, digest_of("b"), "other")
        assert casino.reveal(T0 + silent_ms, "a") == found


def test_a_flood_of_commitments_costs_bounded_memory_and_raises_no_false_alert():
    casino = Casino()
    for number in range(COMMITMENTS_MAX):
        casino.commit(T0 + number, digest_of("a"), f"r-{number}")
    size = len(casino.detectors.state())
    assert casino.reveal(T0 + MINUTE_MS, "a", "unknown") == ["NOT_COMMITTED"]
    for number in range(COMMITMENTS_MAX, 2 * COMMITMENTS_MAX):
        casino.commit(T0 + number, digest_of("a"), f"r-{number}")
    assert len(casino.detectors.state()) < 1.2 * size + 300_000  # ids of repeats
    # Nothing is known against this one: it may have been dropped.
    assert casino.reveal(T0 + MINUTE_MS, "a", "r-3") == []
    assert casino.reveal(T0 + MINUTE_MS, "a", "r-3", digest_of("b")) == ["OTHER_SEED"]
    assert casino.reveal(T0 + MINUTE_MS, "b", f"r-{2 * COMMITMENTS_MAX - 1}") == ["OTHER_SEED"]


def test_revealed_rounds_make_room():
    """A provider with many rounds and few open ones is checked without end."""
    casino = Casino()
    for number in range(COMMITMENTS_MAX + 100):
        casino.commit(T0 + number * 10, digest_of("a"), f"r-{number}")
        assert casino.reveal(T0 + number * 10 + 2_000, "a", f"r-{number}") == []
    assert casino.reveal(T0 + DAY_MS, "a", "unknown") == ["NOT_COMMITTED"]


def test_the_alert_is_raised_again_from_the_records_of_its_sources():
    casino = Casino()
    casino.commit(T0, digest_of("a"), "before")
    casino.commit(T0, digest_of("a"))
    casino.reveal(T0 + MINUTE_MS, "b", digest=digest_of("b"))
    [alert] = casino.alerts
    assert first_offset_of(alert) == 1
    assert explain(alert, casino.records[1:], RULES).agrees
