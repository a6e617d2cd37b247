"""D18B: the age of a player at the time of a bet, by the date of birth of their registration."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.ordered import OrderedDetectors
from fraud_agents.detectors.shard import MERGED
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.features import of_age_ms
from lab.fraud.story import DAY_MS, MINUTE_MS, PlayerStory, Stream
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

T0 = 1_788_739_200_000
RULES = [rule for rule in DEFAULT_RULES if rule.rule_id == "D18B"]
INPUTS = [(topic, 0) for topic in MERGED]


class Casino:
    """What players do, shown to D18B in the order in which it was appended."""

    def __init__(self) -> None:
        self.stream = Stream(5)
        self.detectors = OrderedDetectors(RULES, INPUTS, Scope.PLAYER, MERGED)
        self.offset = 0

    def player(self, region: str = "MT", **facts: str) -> PlayerStory:
        player = PlayerStory(self.stream, region)
        if facts:
            player.report(T0, "REGISTERED", 0, **facts)
        return player

    def run(self, until_ms: int):
        alerts = []
        for sent in self.stream.in_order():
            alerts += self.detectors.observe(sent.record, (sent.topic, 0), self.offset)
            self.offset += 1
        self.stream.sent.clear()
        for topic in (PLAYER_EVENTS, TRANSACTIONS):
            alerts += self.detectors.beat((topic, 0), until_ms)
        return [alert for alert in alerts if alert.status == "OPEN"]


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000


@pytest.mark.parametrize(
    ("born_on", "years", "zone", "expected"),
    [
        ("2008-09-07", 18, "Europe/Stockholm", at("2026-09-06T22:00")),
        ("2008-09-07", 18, "Nowhere/Town", at("2026-09-07T00:00")),
        ("2008-09-07", 18, "../etc/passwd", at("2026-09-07T00:00")),
        ("2008-02-29", 18, "UTC", at("2026-03-01T00:00")),
        ("2008-02-29", 20, "UTC", at("2028-03-01T00:00")),
        ("2007-09-07", 19, "America/Toronto", at("2026-09-07T04:00")),
        ("", 18, "UTC", None),
        ("7 May 2008", 18, "UTC", None),
        ("2008-13-01", 18, "UTC", None),
        ("9999-01-01", 18, "UTC", None),
    ],
)
def test_when_a_person_comes_of_age(born_on, years, zone, expected):
    assert of_age_ms(born_on, years, zone) == expected


@pytest.mark.parametrize(
    ("region", "born_on", "is_found"),
    [
        ("MT", "2008-09-10", True),
        ("MT", "2008-09-07", False),
        ("CA-ON", "2008-01-01", True),
        ("CA-ON", "2007-01-01", False),
        ("US-NJ", "2006-01-01", True),
        ("US-NJ", "2005-01-01", False),
    ],
)
def test_the_legal_age_is_the_regions(region, born_on, is_found):
    casino = Casino()
    casino.player(region, born_on=born_on).bet(T0 + DAY_MS, 300)
    found = casino.run(T0 + 2 * DAY_MS)
    assert len(found) == is_found
    for alert in found:
        assert (alert.severity, alert.exposed_minor) == ("block", 300)
        assert alert.evidence["region"] == region
        assert born_on not in str(alert)


def test_a_minor_is_known_until_they_come_of_age_and_no_longer():
    casino = Casino()
    player = casino.player(born_on="2008-10-07")
    player.bet(T0 + 29 * DAY_MS, 100)
    player.bet(at("2026-10-07T00:00", "Europe/Malta"), 100)
    [alert] = casino.run(T0 + 40 * DAY_MS)
    assert alert.occurred_at == T0 + 29 * DAY_MS
    [detector] = casino.detectors.detectors
    assert len(detector) == 0


def test_only_minors_are_remembered():
    casino = Casino()
    for number in range(50):
        casino.player(born_on=f"19{50 + number % 40}-01-01").bet(T0 + 1_000 + number, 100)
    casino.player(born_on="2015-01-01")
    assert casino.run(T0 + MINUTE_MS) == []
    [detector] = casino.detectors.detectors
    assert len(detector) == 1
    restored = OrderedDetectors(RULES, INPUTS, Scope.PLAYER, MERGED)
    restored.restore(casino.detectors.state())
    assert restored.state() == casino.detectors.state()


def test_the_latest_date_applies_and_a_registration_without_one_changes_nothing():
    casino = Casino()
    corrected, kept = casino.player(born_on="2015-01-01"), casino.player(born_on="2015-01-01")
    corrected.report(T0 + 1_000, "REGISTERED", 0, born_on="1985-01-01")
    kept.report(T0 + 1_000, "REGISTERED", 0, affiliate="partner")
    for player in (corrected, kept):
        player.open_deposit(T0 + MINUTE_MS, 100)
    assert [alert.player_id for alert in casino.run(T0 + DAY_MS)] == [kept.player_id]


def test_a_region_without_a_zone_goes_by_that_of_the_registration():
    casino = Casino()
    midnight_ms = at("2026-09-10T00:00", "America/Sao_Paulo")
    player = casino.player()
    player.region = "BR"
    player.report(T0, "REGISTERED", 0, born_on="2008-09-10", time_zone="America/Sao_Paulo")
    player.bet(midnight_ms - 1, 100)
    player.bet(midnight_ms, 100)
    [alert] = casino.run(midnight_ms + DAY_MS)
    assert (alert.occurred_at, alert.observed) == (midnight_ms - 1, 1)
    assert datetime.fromtimestamp(midnight_ms // 1_000, UTC).hour == 3
