"""D01 with its real numbers: when it raises an alert, what is in it, and when it raises the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from fraud_agents.detectors import D01_BET_VELOCITY, DEFAULT_RULES, BetVelocity, Detector
from fraud_agents.detectors.d01_bet_velocity import VERSION_1 as D01_VERSION_1
from fraud_agents.detectors.evidence import (
    counts_text,
    even_sample,
    median_text,
    variation_thousandths,
)
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rules import ControlGroup, Rule, rule_set_name
from schemas import codec
from schemas.errors import UsageError
from schemas.events import Amount, FraudAlert, Leg, OffsetRange
from schemas.identity import alert_id, event_id
from tests.support.fraud_log import bet as a_bet

T0 = 1_750_000_020_000  # a whole minute
BET = [Leg("BET")]


class Log:
    """A partition of the log, written and watched at once."""

    def __init__(self, rule: Rule = D01_VERSION_1) -> None:
        self.detector: Detector = BetVelocity(rule, 5)
        self.offset = 1_000
        self.alerts: list[FraudAlert] = []

    def bet(
        self,
        at_ms,
        *,
        brand="default",
        player="p1",
        tx=None,
        legs=BET,
        game="slot-1",
        provider="hub88",
        provider_at=None,
        received_at=None,
    ):
        identity = event_id(brand, provider, "bet", tx or f"tx{self.offset}")
        event = msgspec.structs.replace(
            a_bet(player, at_ms, "tx", game=game),
            event_id=identity,
            brand=brand,
            provider=provider,
            legs=legs,
            provider_at=provider_at,
            received_at=received_at,
        )
        found = self.detector.observe(event, self.offset)
        self.offset += 1
        self.alerts += found
        return found[0] if found else None

    def burst(self, start_ms, count, every_ms=100, **names):
        return [
            alert for n in range(count) if (alert := self.bet(start_ms + n * every_ms, **names))
        ]


def changed(**numbers) -> Rule:
    return msgspec.structs.replace(D01_VERSION_1, **numbers)


def test_silent_at_499_and_loud_at_500():
    log = Log()
    assert log.burst(T0, 499) == []
    alert = log.bet(T0 + 59_999)
    assert alert is not None
    assert (alert.observed, alert.threshold, alert.unit) == (500, 500, "bets")


def test_499_in_the_last_second_of_a_minute_and_499_in_the_next_fire_at_the_first_of_these():
    log = Log()
    assert log.burst(T0 + 59_000, 499, every_ms=2) == []
    alert = log.bet(T0 + 60_000)
    assert alert is not None
    assert (alert.window_start, alert.window_end) == (T0 + 1_000, T0 + 61_000)
    assert log.burst(T0 + 60_001, 498, every_ms=2) == []


def test_500_within_60_seconds_fire_and_within_61_do_not():
    log = Log()
    log.bet(T0)
    log.burst(T0 + 1_000, 498)
    assert log.bet(T0 + 60_000) is None  # second 60: the bet of second 0 is in no window with it
    log = Log()
    log.bet(T0)
    log.burst(T0 + 1_000, 498)
    assert log.bet(T0 + 59_999) is not None


@pytest.mark.parametrize("clock", ["provider_at", "received_at"])
def test_a_back_fill_that_was_moved_to_the_border_of_belief_is_no_burst(clock):
    """An hour's bets, one in 5 s, delivered within seconds two hours late: their times were moved to the append's border."""
    log = Log()
    for n in range(720):
        log.bet(T0 + n * 5, **{clock: T0 - 7_200_000 + n * 5_000})
    assert log.alerts == []
    # They are late, and counted as such in the evidence; current bets count as before.
    [alert] = log.burst(T0 + 10_000, 500)
    assert (alert.observed, alert.evidence["late_events"]) == (500, "720")


def test_a_connectors_clock_does_not_matter_where_the_provider_told_the_time():
    log = Log()
    for n in range(500):
        log.bet(T0 + n, provider_at=T0 + n, received_at=T0 - 7_200_000)
    assert len(log.alerts) == 1


def test_a_time_of_the_future_that_was_moved_back_counts():
    log = Log()
    for n in range(500):
        log.bet(T0 + n, provider_at=T0 + 90_000_000)
    assert len(log.alerts) == 1


def test_a_straggler_completes_a_window_in_the_middle():
    log = Log()
    log.burst(T0, 250, every_ms=10)
    log.burst(T0 + 50_000, 249, every_ms=10)
    log.bet(T0 + 140_000)
    alert = log.bet(T0 + 30_000)  # 110 s behind its player's newest bet: within grace
    assert alert is not None
    assert (alert.window_start, alert.window_end) == (T0 - 7_000, T0 + 53_000)
    assert alert.occurred_at == T0 + 30_000
    assert alert.sources == [OffsetRange("wallet.transactions.v1", 5, 1_000, 1_500)]


def test_late_bets_are_counted_as_late_in_the_evidence():
    log = Log()
    log.bet(T0 + 120_001)
    assert log.burst(T0, 1, every_ms=0) == []
    log.burst(T0 + 120_001, 499, every_ms=10)
    assert log.alerts[0].evidence["late_events"] == "1"


def test_copies_count_once():
    log = Log()
    for n in range(499):
        for _ in range(3):
            assert log.bet(T0 + n, tx=f"same{n}") is None
    alert = log.bet(T0 + 500)
    assert alert is not None
    assert alert.evidence["duplicate_events"] == "998"


def test_only_events_with_a_bet_leg_count_and_an_event_counts_once():
    log = Log()
    for kind in ("WIN", "ROLLBACK", "DEPOSIT", "HEARTBEAT"):
        log.burst(T0, 600, every_ms=1, legs=[Leg(kind)])
    log.bet(T0, player=None)
    assert log.alerts == []
    both = [Leg("WIN"), Leg("BET"), Leg("BET")]
    log.burst(T0, 499, every_ms=1, legs=both)
    assert log.alerts == []
    assert log.bet(T0 + 500, legs=both) is not None


def test_brands_and_players_are_kept_apart():
    log = Log()
    for brand, player in [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a", "b")]:
        assert log.burst(T0, 499, every_ms=1, brand=brand, player=player) == []
    assert log.bet(T0 + 500, brand="a:b", player="c") is not None
    assert log.alerts[0].key == "a%3Ab:c"


def test_one_alert_an_episode_with_a_stable_id():
    log = Log()
    log.burst(T0, 5_000)  # 600 a minute for 8 minutes
    assert len(log.alerts) == 1
    alert = log.alerts[0]
    assert alert.alert_id == alert_id("D01", 1, "default:p1", T0)
    assert alert.severity == "hold"
    again = Log()
    again.burst(T0, 5_000)
    assert again.alerts == log.alerts


def test_a_rate_around_the_threshold_is_one_episode():
    log = Log()
    at_ms = T0
    for _ in range(5):
        log.burst(at_ms, 520, every_ms=115)
        log.burst(at_ms + 60_000, 420, every_ms=142)
        at_ms += 120_000
    assert len(log.alerts) == 1


def test_an_episode_is_over_after_the_cool_down_and_no_earlier():
    # The first burst ends at T0 + 49,900. The second holds 400 bets, enough to go on, 39,900 ms after its first one.
    for pause_ms, episodes in [(260_100, 1), (260_101, 2)]:
        log = Log()
        log.burst(T0, 500)
        log.burst(T0 + 49_900 + pause_ms, 500)
        assert len([alert for alert in log.alerts if alert.status == "OPEN"]) == episodes
    first, closed, second = log.alerts
    assert (closed.alert_id, closed.status, closed.revision) == (first.alert_id, "CLOSED", 2)
    assert second.alert_id != first.alert_id
    assert second.episode_start == T0 + 49_900 + 260_101


def closings(log: Log, at_ms: int) -> list[tuple[str, int, int]]:
    """Return what is closed when the log's event time gets to `at_ms`."""
    found = log.detector.advance(at_ms)
    log.alerts += found
    return [(alert.status, alert.revision, alert.occurred_at) for alert in found]


def test_an_alert_is_closed_when_the_log_has_gone_on_for_the_cool_down():
    log = Log()
    log.burst(T0, 500)
    last_ms = T0 + 49_900
    assert log.detector.next_due_ms <= last_ms + 300_000
    assert closings(log, last_ms + 299_999) == []
    log.burst(last_ms + 200_000, 500)  # busy again before the cool-down is over
    busy_ms = last_ms + 200_000 + 49_900
    assert closings(log, busy_ms + 299_999) == []
    restored = Log()
    restored.detector.restore(log.detector.state())
    for one in (log, restored):
        assert closings(one, busy_ms + 300_000) == [("CLOSED", 2, busy_ms + 300_000)]
        assert closings(one, busy_ms + 900_000) == []
        assert one.detector.next_due_ms > busy_ms + 900_000
    assert log.detector.state() == restored.detector.state()


def test_a_closed_alert_of_a_provider_that_lags_behind_goes_on():
    """Its bets are minutes old; the log's event time has passed the cool-down between two of them."""
    log = Log()
    log.burst(T0, 500)
    log.bet(T0 + 400_000, player="other")
    assert closings(log, T0 + 400_000) == [("CLOSED", 2, T0 + 349_900)]
    again = log.bet(T0 + 50_000)
    assert (again.status, again.revision, again.alert_id) == ("UPDATED", 3, log.alerts[0].alert_id)
    assert log.burst(T0 + 50_100, 100) == []
    assert closings(log, T0 + 700_000) == [("CLOSED", 4, T0 + 700_000)]


def test_a_straggler_does_not_shorten_an_episode():
    log = Log()
    log.burst(T0, 500)
    log.bet(T0 + 1)
    log.burst(T0 + 49_900 + 260_100, 500)
    assert len(log.alerts) == 1


def test_a_forgotten_player_may_raise_a_new_episode_and_leaves_nothing_behind():
    log = Log()
    log.burst(T0, 500)
    log.bet(T0 + 49_900 + 600_001, player="other")
    saved = msgspec.msgpack.decode(log.detector.state())
    assert [window[0] for window in saved[1][2]] == ["default:other"]
    assert saved[2] == {}


def test_version_1_is_the_rule_that_its_alerts_name():
    """A changed word or number would make stored alerts of this version impossible to explain."""
    assert D01_VERSION_1.digest == "81e97c32a09a4d00"


def test_evidence_says_what_a_person_asks():
    log = Log()
    log.burst(T0, 300, game="slot-1")
    log.burst(T0 + 30_000, 200, game="slot-2")
    alert = log.alerts[0]
    evidence = alert.evidence
    assert json.loads(evidence["games"]) == {"hub88/slot-1": 300, "hub88/slot-2": 200}
    assert json.loads(evidence["providers"]) == {"hub88": 500}
    assert json.loads(evidence["regions"]) == {"MT": 500}
    assert (evidence["inter_arrival_p50_ms"], evidence["inter_arrival_cv"]) == ("100", "0.000")
    assert evidence["is_regular"] == "true"
    assert evidence["rule_digest"] == D01_VERSION_1.digest
    assert evidence["warm_from_offset"] == "1000"
    assert alert.sources == [OffsetRange("wallet.transactions.v1", 5, 1_000, 1_499)]
    assert len(alert.sample_event_ids) == 50
    assert len({UUID(sample) for sample in alert.sample_event_ids}) == 50
    assert alert.title == "500 bets within 60 s by player p1"
    assert codec.decoder(FraudAlert)(codec.encoder(FraudAlert)(alert)) == alert


def stake(minor: int | None, currency: str | None = "EUR", *, scale: int = 2, **more) -> Leg:
    return Leg("BET", None if minor is None else Amount(minor, scale), currency, **more)


def test_the_money_of_an_alert_is_that_of_the_bets_in_its_window():
    log = Log()
    log.burst(T0 - 70_000, 50, legs=[stake(99)])  # too old for the window
    log.burst(T0, 499, legs=[stake(20)])
    alert = log.bet(T0 + 49_900, legs=[stake(1_000)])
    assert alert is not None
    assert (alert.exposed_minor, alert.currency) == (499 * 20 + 1_000, "EUR")
    assert json.loads(alert.evidence["stakes_minor"]) == {"EUR": 499 * 20 + 1_000}


def test_an_alert_that_rises_to_a_hold_exposes_the_stakes_of_the_larger_window():
    log = Log(D01_BET_VELOCITY)
    warning, hold = log.burst(T0, 500, legs=[stake(10)])
    assert [(one.severity, one.exposed_minor) for one in (warning, hold)] == [
        ("review", 1_200),
        ("hold", 5_000),
    ]


def test_stakes_of_several_legs_are_added_and_free_bets_and_wins_are_no_stakes():
    log = Log()
    legs = [stake(7), stake(3), Leg("WIN", Amount(900, 2), "EUR"), stake(50, is_free=True)]
    [alert] = log.burst(T0, 500, legs=legs)
    assert (alert.exposed_minor, alert.currency) == (5_000, "EUR")


def test_stakes_of_several_currencies_are_summed_in_euro_cents_and_listed_each():
    log = Log()
    log.burst(T0, 300, legs=[stake(100)])
    log.burst(T0 + 30_000, 199, legs=[stake(1_000, "JPY", scale=0)])
    alert = log.bet(T0 + 49_900, legs=[stake(500, "XAF", scale=0)])  # without a rate
    assert alert is not None
    # 1,000 yen are 6 euros.
    assert (alert.exposed_minor, alert.currency) == (300 * 100 + 199 * 600, "EUR")
    assert json.loads(alert.evidence["stakes_minor"]) == {"EUR": 30_000, "JPY": 199_000, "XAF": 500}


@pytest.mark.parametrize(
    "legs", [BET, [stake(None)], [stake(5, None)], [stake(1, scale=3)], [stake(5, is_free=True)]]
)
def test_bets_whose_stake_is_unknown_expose_nothing_that_could_be_said(legs):
    [alert] = Log().burst(T0, 500, legs=legs)
    assert (alert.exposed_minor, alert.currency) == (None, None)
    assert alert.evidence["stakes_minor"] == "{}"


def test_absurd_stakes_do_not_stop_the_worker():
    log = Log()
    [alert] = log.burst(T0, 500, legs=[stake(2**63 - 1), stake(2**63 - 1)])
    assert alert.exposed_minor == 2**63 - 1
    assert codec.decoder(FraudAlert)(codec.encoder(FraudAlert)(alert)) == alert


def test_stakes_are_carried_over_a_snapshot_and_through_stragglers():
    log, cut = Log(), Log()
    for one in (log, cut):
        one.burst(T0, 200, legs=[stake(10)])
        one.burst(T0 + 40_000, 100, legs=[stake(30)])
        one.burst(T0 + 20_000, 100, legs=[stake(70)])
    restored = Log()
    restored.detector.restore(cut.detector.state())
    assert restored.detector.state() == cut.detector.state()
    restored.offset = cut.offset
    log.burst(T0 + 45_000, 100, legs=[stake(1)])
    restored.burst(T0 + 45_000, 100, legs=[stake(1)])
    [alert], [again] = log.alerts, restored.alerts
    assert alert == again
    assert alert.exposed_minor == 2_000 + 3_000 + 7_000 + 100


def test_a_snapshot_without_stakes_is_refused_so_that_the_log_is_watched_again():
    log = Log()
    log.burst(T0, 10, legs=[stake(10)])
    version, windows, episodes, timers = msgspec.msgpack.decode(log.detector.state())
    assert version == 4
    watermark_ms, labels, rows = windows
    old = (
        3,
        (watermark_ms, [one[:3] for one in labels], [one[:9] for one in rows]),
        episodes,
        timers,
    )
    with pytest.raises(ValueError, match="state version 3 of D01; this program reads 4"):
        Log().detector.restore(msgspec.msgpack.encode(old))


def test_a_block_of_bet_velocity_can_be_in_the_control_group():
    """It is capped in money, so an alert without money is in no control group."""
    control = ControlGroup(percent=50, exposed_minor_max=10_000, day_minor_max=10**9)
    rule = changed(severity="block", control=control)
    found = []
    for amount in (10, 20):  # 500 bets: EUR 50, and EUR 100, which is the cap
        watch = PartitionDetectors([rule], 5)
        log = Log()
        log.detector = watch.detectors[0]
        for number in range(20):
            log.burst(T0, 500, legs=[stake(amount)], player=f"p{number}")
        entry = watch.rules.entries[0]
        raised = [watch.rules.handle(alert, entry) for alert in log.alerts]
        found.append({one.handling for one in raised if one is not None})
    assert found == [{"control", "normal"}, {"normal"}]


def test_sources_reach_from_the_first_to_the_last_contributing_record():
    log = Log()
    log.burst(T0 - 100_000, 10)  # too old for the window
    log.offset = 2_000
    log.burst(T0, 400)
    log.burst(T0, 100, player="another")
    log.burst(T0 + 40_000, 100)
    assert log.alerts[0].sources == [OffsetRange("wallet.transactions.v1", 5, 2_000, 2_599)]
    assert log.alerts[0].evidence["warm_from_offset"] == "1000"


@pytest.mark.parametrize(
    ("gaps", "median", "thousandths"),
    [
        ([], "undefined", None),
        ([0, 0], "0", None),
        ([100], "100", 0),
        ([1, 2], "1.5", 333),  # deviation 0.5, mean 1.5
        ([2, 4, 4, 4, 5, 5, 7, 9], "4.5", 400),  # deviation 2, mean 5
        ([10, 1, 4], "4", 748),
    ],
)
def test_rhythm_in_integers(gaps, median, thousandths):
    assert median_text(gaps) == median
    assert variation_thousandths(gaps) == thousandths


def test_a_sample_is_even_and_keeps_both_ends():
    items = [str(n) for n in range(1_000)]
    sample = even_sample(items, 50)
    assert (len(sample), sample[0], sample[-1]) == (50, "0", "999")
    assert even_sample(items[:50], 50) == items[:50]


def test_many_games_are_summed_up():
    counts = json.loads(counts_text([f"g{n:02}" for n in range(30) for _ in range(30 - n)]))
    assert len(counts) == 21
    assert counts["g00"] == 30
    assert counts["others"] == sum(range(1, 11))


def test_the_default_rule_warns_before_it_holds():
    assert rule_set_name(DEFAULT_RULES).startswith(f"D01@2#{D01_BET_VELOCITY.digest}")
    log = Log(D01_BET_VELOCITY)
    assert log.burst(T0, 119) == []
    warning = log.bet(T0 + 12_000)
    assert (warning.severity, warning.observed, warning.threshold) == ("review", 120, 120)
    assert (warning.status, warning.revision) == ("OPEN", 1)
    assert log.burst(T0 + 12_100, 379) == []
    hold = log.bet(T0 + 50_000)
    assert (hold.severity, hold.observed, hold.threshold) == ("hold", 500, 500)
    assert (hold.status, hold.revision) == ("UPDATED", 2)
    assert (hold.alert_id, hold.episode_start) == (warning.alert_id, warning.episode_start)
    log.burst(T0 + 50_001, 2_000, every_ms=50)
    assert log.alerts == [warning, hold]


def test_a_burst_that_is_at_once_at_the_threshold_has_one_record():
    """A straggler completes the window of 500 where none of 120 was complete: both levels at once."""
    rule = msgspec.structs.replace(
        D01_BET_VELOCITY, threshold=120, close_below=96, limits=D01_BET_VELOCITY.limits
    )
    log = Log(rule)
    log.burst(T0, 600)
    assert [(alert.status, alert.severity) for alert in log.alerts] == [("OPEN", "hold")]


def test_other_numbers_are_another_rule():
    assert changed(threshold=501).digest != D01_VERSION_1.digest


@pytest.mark.parametrize(
    "numbers",
    [
        {"rule_id": ""},
        {"version": 0},
        {"threshold": 0},
        {"close_below": 501},
        {"close_below": 0},
        {"cooldown_ms": 179_999},
        {"idle_ms": 299_999},
        {"window_ms": 60_500},
        {"dedup_horizon_ms": 100_000},
    ],
)
def test_contradictory_rules_are_refused(numbers):
    with pytest.raises(UsageError):
        changed(**numbers)


def test_a_rule_without_detector_and_two_versions_of_one_rule_are_refused():
    with pytest.raises(UsageError, match="no detector for D99"):
        PartitionDetectors([changed(rule_id="D99")], 0)
    with pytest.raises(UsageError, match="two versions"):
        PartitionDetectors([D01_VERSION_1, changed(version=2)], 0)


def test_a_new_version_goes_on_with_the_windows_and_episodes_of_the_old_one():
    old = PartitionDetectors([D01_VERSION_1], 5)
    log = Log()
    log.detector = old.detectors[0]
    log.burst(T0, 300)
    new = PartitionDetectors([changed(version=2, threshold=400, close_below=300)], 5)
    new.restore(old.state())
    log.detector = new.detectors[0]
    alerts = log.burst(T0 + 30_000, 200)
    assert [(alert.rule_version, alert.observed) for alert in alerts] == [(2, 400)]


@pytest.mark.parametrize("state", [b"", b"\x92\x01\xa1x", msgspec.msgpack.encode([2, {}])])
def test_what_is_no_snapshot_is_refused(state):
    with pytest.raises(ValueError):
        PartitionDetectors(DEFAULT_RULES, 0).restore(state)


def test_a_snapshot_is_the_same_in_every_process(tmp_path):
    """Sets and dicts must not leak their hash order into the bytes."""
    script = tmp_path / "snapshot.py"
    script.write_text(
        "import hashlib\n"
        "from tests.unit.fraud.test_d01_bet_velocity import Log, T0\n"
        "log = Log()\n"
        "for n in range(40):\n"
        "    log.burst(T0 + n, 90, every_ms=50, player=f'p{n % 3}', game=f'g{n % 5}', brand='ab'[n % 2])\n"
        "assert log.alerts\n"
        "print(hashlib.sha256(log.detector.state()).hexdigest())\n"
    )
    digests = set()
    for hash_seed in "01":
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1
