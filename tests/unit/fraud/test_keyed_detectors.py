"""What the keyed detectors share: memory in event time, timers, and the life of an alert."""

from __future__ import annotations

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.base import KeyedDetector
from fraud_agents.detectors.partition import PartitionDetectors
from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS, PlayerStory, Stream

T0 = 1_788_739_200_000
RULES = {rule.rule_id: rule for rule in DEFAULT_RULES}


class Casino:
    """A stream whose records go to the detectors of one partition, in the order of their times."""

    def __init__(self, *rule_ids: str) -> None:
        self.stream = Stream(1)
        self.detectors = PartitionDetectors([RULES[rule_id] for rule_id in rule_ids], 0)
        self.offset = 0

    def player(self, region: str = "MT") -> PlayerStory:
        return PlayerStory(self.stream, region)

    def run(self):
        """Show what was sent since the last time, and return the alerts."""
        alerts = []
        for sent in sorted(self.stream.sent, key=lambda one: one.record.occurred_at):
            alerts += self.detectors.observe(sent.record, self.offset)
            self.offset += 1
        self.stream.sent.clear()
        return alerts

    @property
    def memory(self):
        [detector] = self.detectors.detectors
        assert isinstance(detector, KeyedDetector)
        return len(detector)


def busy(casino: Casino, start_ms: int, end_ms: int, every_ms: int = HOUR_MS) -> None:
    """Somebody else plays, so that event time moves on."""
    other = casino.player()
    for at_ms in range(start_ms, end_ms, every_ms):
        other.bet(at_ms, 10)


def test_a_key_is_as_old_as_its_last_record_even_where_no_timer_is_due():
    """A detector's own watermark once stood still between timers, so keys were forgotten too early."""
    casino = Casino("D02")
    player = casino.player()
    busy(casino, T0, T0 + 6 * DAY_MS)
    casino.run()
    reference = player.open_deposit(T0 + 6 * DAY_MS, 1_000)
    busy(casino, T0 + 6 * DAY_MS, T0 + 8 * DAY_MS)
    player.confirm(T0 + 8 * DAY_MS, 1_000, reference)
    busy(casino, T0 + 8 * DAY_MS, T0 + 9 * DAY_MS)
    assert casino.run() == []


def test_memory_ends_when_event_time_has_moved_on():
    casino = Casino("D16")
    for _ in range(50):
        player = casino.player()
        player.bet(T0, 100)
    casino.run()
    assert casino.memory == 50
    busy(casino, T0 + HOUR_MS, T0 + 8 * DAY_MS)
    casino.run()
    assert casino.memory == 1


@pytest.mark.parametrize(
    ("rule_id", "remember", "repeat"),
    [
        (
            "D18",
            lambda player: player.set_state(T0, "player.blocked", "exclusion"),
            lambda player: player.bet(T0 + 400 * DAY_MS, 1_000),
        ),
        (
            "D20",
            lambda player: player.set_state(T0, "player.limited", "operator", minor=500),
            lambda player: player.bet(T0 + 400 * DAY_MS, 1_000),
        ),
        (
            "D06",
            lambda player: player.bonus(T0, "BONUS_GRANT", 1_000, "welcome-a"),
            lambda player: player.bonus(T0 + 400 * DAY_MS, "BONUS_GRANT", 1_000, "welcome-b"),
        ),
    ],
)
def test_what_holds_until_it_is_lifted_is_never_forgotten(rule_id, remember, repeat):
    casino = Casino(rule_id)
    player = casino.player()
    remember(player)
    busy(casino, T0, T0 + 400 * DAY_MS, DAY_MS)
    casino.run()
    assert casino.memory <= 2
    repeat(player)
    [alert] = casino.run()
    assert (alert.rule_id, alert.player_id) == (rule_id, player.player_id)


def test_an_alert_opens_grows_by_doubling_and_closes_under_one_id():
    casino = Casino("D02")
    player = casino.player()
    for number in range(100):
        player.confirm(T0 + number * 1_000, 1_000, None)
    alerts = casino.run()
    busy(casino, T0 + HOUR_MS, T0 + 2 * DAY_MS)
    alerts += casino.run()
    assert [alert.status for alert in alerts] == ["OPEN", *["UPDATED"] * 6, "CLOSED"]
    assert [alert.observed for alert in alerts] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert [alert.revision for alert in alerts] == list(range(1, 9))
    assert {alert.alert_id for alert in alerts} == {alerts[0].alert_id}
    assert (alerts[-1].exposed_minor, alerts[-1].currency) == (100_000, "EUR")
    assert alerts[-1].occurred_at == T0 + 99_000 + RULES["D02"].cooldown_ms
    [source] = alerts[-2].sources
    assert (source.first_offset, source.last_offset) == (0, 63)


def test_the_next_episode_is_another_alert():
    casino = Casino("D02")
    player = casino.player()
    player.confirm(T0, 1_000, None)
    busy(casino, T0, T0 + 2 * DAY_MS)
    player.confirm(T0 + 2 * DAY_MS, 1_000, None)
    alerts = [alert for alert in casino.run() if alert.status == "OPEN"]
    assert len({alert.alert_id for alert in alerts}) == len(alerts) == 2


def test_a_timer_fires_at_the_first_record_that_passes_it():
    casino = Casino("D16")
    player = casino.player()
    player.win(T0, 5_000, "round")
    rule = RULES["D16"]
    due_ms = T0 + rule.limit("orphan") + rule.grace_ms
    assert casino.run() == []
    casino.player().bet(due_ms - 1, 10)
    assert casino.run() == []
    casino.player().bet(due_ms, 10)
    [alert] = casino.run()
    assert alert.player_id == player.player_id


def test_a_rule_names_where_its_numbers_come_from():
    for rule in DEFAULT_RULES:
        assert rule.title
        assert len(rule.reason) > 40
        for limit in [
            *rule.limits.values(),
            *(one for own in rule.regions.values() for one in own.values()),
        ]:
            assert limit.unit
            assert limit.source


def test_a_state_of_another_format_is_refused():
    detectors = PartitionDetectors([RULES["D05"]], 0)
    [detector] = detectors.detectors
    with pytest.raises(ValueError, match="state version 9"):
        detector.restore(msgspec.msgpack.encode((9, 0, [], {}, [])))


def test_seconds_of_a_deposit_do_not_matter_at_midnight_in_madrid():
    """22:30 and 23:30 UTC are two days in Madrid in summer, and one in winter."""
    winter = 1_796_083_200_000  # 2026-12-01 00:00 UTC
    for midnight_ms, breaches in ((T0, 0), (winter, 1)):
        casino = Casino("D20")
        player = casino.player("ES")
        player.deposit(midnight_ms - 2 * HOUR_MS - 10 * MINUTE_MS, 40_000)
        player.deposit(midnight_ms - 2 * HOUR_MS + 10 * MINUTE_MS, 40_000)
        assert len(casino.run()) == breaches
