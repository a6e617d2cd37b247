"""D02B: what the normaliser says of wrong signatures, counted in the reader of the signals."""

from __future__ import annotations

import json

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.d02b_wrong_signatures import KEPT_MAX
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.explanation import explain, first_offset_of
from fraud_agents.rules import RuleScope
from lab.fraud.story import HOUR_MS, MINUTE_MS, Stream, send_signal
from schemas.events import OffsetRange, RiskSignal
from schemas.topics import SIGNALS

T0 = 1_788_739_200_000
[RULE] = [rule for rule in DEFAULT_RULES if rule.rule_id == "D02B"]


class Signals:
    """A partition of the risk signals, written and watched at once."""

    def __init__(self, rule=RULE) -> None:
        self.stream = Stream(7)
        self.detectors = GlobalDetectors([rule], 2, 1)
        self.records: list[tuple[int, RiskSignal]] = []

    def send(self, at_ms: int, provider="psp", player_id=None, kind="BAD_SIGNATURE", **more):
        signal = send_signal(self.stream, at_ms, kind, provider, player_id)
        return self.show(msgspec.structs.replace(signal, **more))

    def show(self, signal: RiskSignal):
        self.records.append((len(self.records) + 100, signal))
        return self.detectors.observe(SIGNALS, signal, self.records[-1][0])

    def burst(self, start_ms: int, count: int, every_ms: int = 1_000, **more):
        return [a for n in range(count) for a in self.send(start_ms + n * every_ms, **more)]


def test_nineteen_are_silent_and_the_twentieth_is_looked_at():
    signals = Signals()
    assert signals.burst(T0, 19) == []
    [alert] = signals.send(T0 + MINUTE_MS)
    assert (alert.rule_id, alert.severity, alert.reason) == ("D02B", "review", "PROVIDER")
    assert (alert.key, alert.player_id, alert.observed, alert.threshold) == (
        "aurora:psp",
        None,
        20,
        20,
    )
    assert alert.sources == [OffsetRange(SIGNALS, 2, 100, 119)]
    assert alert.sample_event_ids == [signal.signal_id for _, signal in signals.records]
    evidence = alert.evidence
    assert (evidence["provider"], evidence["connector"]) == ("psp", "c-1")
    assert evidence["detail"] == "the signature is wrong"
    assert evidence["latest_record"].startswith("provider.psp.raw.v1-0@")
    assert explain(alert, signals.records, [RULE]).agrees
    assert first_offset_of(alert) == 100


def test_the_window_is_ten_minutes_open_below():
    for span_ms, found in ((10 * MINUTE_MS - 1, 1), (10 * MINUTE_MS, 0)):
        signals = Signals()
        signals.burst(T0, 19, every_ms=1)
        assert len(signals.send(T0 + span_ms)) == found


def test_five_that_name_one_player_are_looked_at_whoever_else_is_named():
    signals = Signals()
    for number in range(4):
        assert signals.send(T0 + number * 1_000, player_id="a:b") == []
        assert signals.send(T0 + number * 1_000, player_id=f"other-{number}") == []
    [alert] = signals.send(T0 + 9_000, player_id="a:b")
    assert (alert.key, alert.player_id, alert.reason) == ("aurora:psp:a%3Ab", "a:b", "PLAYER")
    assert (alert.observed, alert.threshold) == (5, 5)
    assert json.loads(alert.evidence["players"]) == {"a:b": 5}
    assert explain(alert, signals.records, [RULE]).agrees


def test_providers_and_brands_are_counted_apart_and_other_signals_not():
    signals = Signals()
    assert signals.burst(T0, 19) == []
    assert signals.burst(T0, 19, provider="other") == []
    assert signals.burst(T0, 19, brand="fjord") == []
    assert signals.burst(T0, 50, kind="STALE_SIGNATURE") == []
    assert signals.burst(T0, 50, kind="OTHER_BRAND") == []


def test_a_record_that_is_read_again_counts_once():
    signals = Signals()
    signals.burst(T0, 19)
    for _ in range(5):
        for _, signal in signals.records[:19]:
            assert signals.show(signal) == []


def test_signals_that_are_written_out_of_order_count_by_their_times():
    signals = Signals()
    signals.burst(T0 + 60_000, 10)
    assert len(signals.burst(T0, 10)) == 1
    late = Signals()
    late.burst(T0 + HOUR_MS, 10)
    assert late.burst(T0, 100) == []  # an hour behind: late, and in no window


def test_no_player_is_stopped_and_a_region_is_none_of_a_signals():
    assert not RULE.stops_player
    assert (
        Signals(msgspec.structs.replace(RULE, scope=RuleScope(regions=["DE"]))).burst(T0, 30) == []
    )
    own = msgspec.structs.replace(RULE, scope=RuleScope(brands=["aurora"]))
    assert len(Signals(own).burst(T0, 30)) == 1


def test_a_flood_costs_bounded_memory_and_a_few_records():
    signals = Signals()
    alerts = signals.burst(T0, 3 * KEPT_MAX, every_ms=10)
    assert [alert.observed for alert in alerts] == [20, 40, 80, 160, 320]
    size = len(signals.detectors.states()[SIGNALS])
    signals.burst(T0 + MINUTE_MS, 3 * KEPT_MAX, every_ms=10)
    assert len(signals.detectors.states()[SIGNALS]) < size + 8 * 3 * KEPT_MAX + 2_000


@pytest.mark.parametrize("cut", [1, 7, 19, 25])
def test_a_snapshot_anywhere_changes_no_alert(cut):
    straight, other = Signals(), Signals()
    found = straight.burst(T0, 60, player_id="p")
    again = other.burst(T0, cut, player_id="p")
    restored = GlobalDetectors([RULE], 2, 1)
    restored.restore(other.detectors.states())
    assert restored.states() == other.detectors.states()
    other.detectors = restored
    again += other.burst(T0 + cut * 1_000, 60 - cut, player_id="p")
    assert again == found
    assert restored.states() == straight.detectors.states()
