"""Detectors over several partitions: how records interleave changes nothing, and idle topics hold nothing back."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.global_signals import GlobalDetectors, read_partial
from fraud_agents.detectors.shard import IDLE_MS, WATCHED, ShardDetectors
from lab.fraud.story import DAY_MS, HOUR_MS, PlayerStory, Stream
from lab.fraud.traffic import make_traffic
from replay.audit.rerun import name_record
from schemas.events import Position, RiskSignal, SignalKind
from schemas.topics import PLAYER_EVENTS, SIGNALS, TRANSACTIONS

T0 = 1_788_739_200_000
RULES = {rule.rule_id: rule for rule in DEFAULT_RULES}
BOTH = ("D12", "D19")
ALL = ("D03", "D08", "D10")


def records_of(detectors) -> dict[str, list]:
    """The records of each topic, as if it had one partition."""
    found: dict[str, list] = defaultdict(list)
    for sent in make_traffic(5, detectors=detectors, ordinary=5, injections=6).sent:
        found[sent.topic].append(sent.record)
    return found


def interleave(records: dict[str, list], rng: random.Random):
    """Yield topic and offset, each topic in its order, in stretches of one topic after another."""
    next_offsets = dict.fromkeys(records, 0)
    while left := [topic for topic, at in next_offsets.items() if at < len(records[topic])]:
        topic = rng.choice(left)
        for _ in range(rng.choice([1, 5, 100, 2_000])):
            if next_offsets[topic] < len(records[topic]):
                yield topic, next_offsets[topic]
                next_offsets[topic] += 1


def run(records: dict[str, list], rules, seed: int):
    """Return the alerts of a shard and of the signals that it gives, by name."""
    shard, everywhere = ShardDetectors(rules, 0), GlobalDetectors(rules, 0, 1)
    alerts = []
    for topic, offset in interleave(records, random.Random(seed)):
        alerts += shard.observe(topic, records[topic][offset], offset)
        for signal in shard.take_signals(topic, offset + 1):
            alerts += everywhere.observe(SIGNALS, signal, 0)
    found = {name_record(alert): alert for alert in alerts}
    assert len(found) == len(alerts)
    return found


def announced(shard: ShardDetectors, topic: str, next_offset: int, newest_ms: int) -> RiskSignal:
    signal = shard.announce(topic, next_offset, newest_ms).signal
    assert signal is not None
    return signal


def test_how_records_interleave_changes_no_alert():
    records = records_of([*BOTH, *ALL])
    rules = [RULES[rule_id] for rule_id in (*BOTH, *ALL)]
    expected = run(records, rules, 0)
    assert {alert.rule_id for alert in expected.values()} == {*BOTH, *ALL}
    for seed in range(1, 4):
        assert run(records, rules, seed) == expected


def test_a_player_of_both_topics_is_forgotten_when_event_time_has_moved_on():
    stream = Stream(1)
    shard = ShardDetectors([RULES["D12"]], 0)
    for number in range(50):
        PlayerStory(stream, "US-NJ").report(T0 + number, "LOCATED", jurisdiction="US-NJ")
    for offset, sent in enumerate(stream.sent):
        shard.observe(PLAYER_EVENTS, sent.record, offset)
    stream.sent.clear()
    other = PlayerStory(stream, "MT")
    sizes = []
    for hour in range(60):
        other.bet(T0 + hour * HOUR_MS, 1)
        other.report(T0 + hour * HOUR_MS, "LOCATED", jurisdiction="MT")
    for offset, sent in enumerate(stream.sent):
        shard.observe(sent.topic, sent.record, 100 + offset)
        [detector] = shard.merged.detectors
        sizes.append(len(detector))
    assert max(sizes) == 51
    assert sizes[-1] == 1


class TestIdle:
    def test_the_log_waits_for_idle_player_events_and_a_heartbeat_ends_it(self):
        stream = Stream(2)
        story = PlayerStory(stream, "US-NJ")
        shard = ShardDetectors([RULES["D12"]], 0)
        alerts = []
        for number in range(3):
            story.bet(T0 + number * 20_000, 100)
        for offset, sent in enumerate(stream.sent):
            alerts += shard.observe(TRANSACTIONS, sent.record, offset)
        assert alerts == []
        beat = shard.heartbeat()
        assert beat is not None
        assert beat.occurred_at == T0 + 40_000
        # The third bet is not older than the grace yet.
        found = shard.observe(PLAYER_EVENTS, beat, 0)
        assert [(one.reason, one.observed) for one in found] == [
            ("NO_LOCATION", 1),
            ("NO_LOCATION", 2),
        ]
        assert shard.heartbeat() is None
        # The same record gives the same heartbeat, after a restart as well.
        again = ShardDetectors([RULES["D12"]], 0)
        for offset, sent in enumerate(stream.sent):
            again.observe(TRANSACTIONS, sent.record, offset)
        assert again.heartbeat() == beat

    def test_a_topic_is_said_to_be_idle_once_for_a_second(self):
        shard = ShardDetectors([], 0)
        assert not shard.is_waited_for(TRANSACTIONS, 0)
        assert shard.is_waited_for(TRANSACTIONS, T0)
        signal = announced(shard, TRANSACTIONS, 7, T0)
        assert signal is not None
        assert (signal.kind, signal.occurred_at) == (SignalKind.WATERMARK, T0)
        assert (signal.source.topic, signal.source.offset) == (TRANSACTIONS, 6)
        assert not shard.is_waited_for(TRANSACTIONS, T0 + IDLE_MS - 1)
        assert shard.is_waited_for(TRANSACTIONS, T0 + IDLE_MS)

    def test_an_idle_partition_holds_back_the_detectors_of_all(self):
        stream = Stream(3)
        shards = [ShardDetectors([RULES["D08"]], partition) for partition in range(2)]
        everywhere = GlobalDetectors([RULES["D08"]], 0, 2)
        for number in range(2):
            PlayerStory(stream).report(T0 + number, "INSTRUMENT_ADDED", instrument="card")
        PlayerStory(stream).report(T0 + 20_000, "LOGIN")
        found = []
        for offset, sent in enumerate(stream.sent):
            shards[0].observe(PLAYER_EVENTS, sent.record, offset)
        for signal in shards[0].take_signals(PLAYER_EVENTS, len(stream.sent)):
            found += everywhere.observe(SIGNALS, signal, 0)
        assert found == []
        idle = announced(shards[1], PLAYER_EVENTS, 0, T0 + 20_000)
        [alert] = everywhere.observe(SIGNALS, idle, 0)
        assert (alert.rule_id, alert.observed) == ("D08", 2)


def partials(count: int = 2) -> list[RiskSignal]:
    stream, shard = Stream(4), ShardDetectors([RULES["D08"]], 0)
    for number in range(count):
        PlayerStory(stream).report(T0 + number, "INSTRUMENT_ADDED", instrument="card")
    for offset, sent in enumerate(stream.sent):
        shard.observe(PLAYER_EVENTS, sent.record, offset)
    *own, _ = shard.take_signals(PLAYER_EVENTS, count)
    return own


def test_signals_that_are_written_again_count_once():
    """One player would be two: the detector sees each record of a source once."""
    first, second = partials()
    everywhere = GlobalDetectors([RULES["D08"]], 0, 1)
    end = announced(ShardDetectors([], 0), PLAYER_EVENTS, 9, T0 + DAY_MS)
    found = []
    for signal in (first, second, first, second, end):
        found += everywhere.observe(SIGNALS, signal, 0)
    assert [alert.observed for alert in found if alert.status == "OPEN"] == [2]


@pytest.mark.parametrize("missing", ["signal", "event_id", "region", "minor", "currency"])
def test_a_signal_that_is_not_ours_is_skipped(missing):
    [signal] = partials(1)
    assert read_partial(signal) is not None
    signal.attributes.pop(missing)
    assert read_partial(signal) is None
    assert GlobalDetectors([RULES["D08"]], 0, 1).observe(SIGNALS, signal, 0) == []


def test_a_late_record_gives_no_partial_signal_but_one_that_says_so():
    stream, shard = Stream(5), ShardDetectors([RULES["D08"]], 0)
    PlayerStory(stream).report(T0 + 11_000, "LOGIN", device="d")
    PlayerStory(stream).report(T0, "LOGIN", device="d")
    for offset, sent in enumerate(stream.sent):
        shard.observe(PLAYER_EVENTS, sent.record, offset)
    signals = shard.take_signals(PLAYER_EVENTS, 2)
    kinds = [SignalKind.PARTIAL, SignalKind.LATE, SignalKind.WATERMARK]
    assert [signal.kind for signal in signals] == kinds
    late, own = signals[1], stream.sent[1].record
    assert (late.source, late.occurred_at) == (Position(PLAYER_EVENTS, 0, 1), T0)
    assert (late.player_id, late.provider) == (own.player_id, own.provider)
    assert late.attributes == {"event_id": own.event_id, "after": "newest"}
    # No detector takes it for a signal of its own.
    assert GlobalDetectors([RULES["D08"]], 0, 1).observe(SIGNALS, late, 0) == []


def test_a_record_behind_the_announcement_of_its_partition_is_late_for_all_partitions():
    stream, shard = Stream(5), ShardDetectors([RULES["D08"]], 0)
    PlayerStory(stream).report(T0, "LOGIN", device="d")
    shard.observe(PLAYER_EVENTS, stream.sent[0].record, 0)
    [partial, _] = shard.take_signals(PLAYER_EVENTS, 1)
    everywhere = GlobalDetectors([RULES["D08"], RULES["D10"]], 0, 1)
    everywhere.observe(SIGNALS, announced(shard, PLAYER_EVENTS, 0, T0 + 10_001), 0)
    everywhere.observe(SIGNALS, partial, 1)
    [late] = everywhere.take_signals(SIGNALS, 2)
    assert (late.kind, late.source) == (SignalKind.LATE, partial.source)
    assert late.attributes == {"event_id": partial.attributes["event_id"], "after": "idle"}
    assert everywhere.take_signals(SIGNALS, 2) == []


def test_a_snapshot_of_every_topic_belongs_together():
    assert set(ShardDetectors(DEFAULT_RULES, 0).states()) == set(WATCHED)


def test_late_records_are_counted_and_not_kept():
    """No snapshot may come for long: a replay takes none."""
    stream, shard = Stream(5), ShardDetectors([RULES["D12"]], 0)
    for number in range(20):
        PlayerStory(stream, "US-NJ").bet(T0 + (20_000 if number == 0 else 0), 100)
    for offset, sent in enumerate(stream.sent):
        shard.observe(TRANSACTIONS, sent.record, offset)
    assert shard.merged._merge.late_counts[TRANSACTIONS, 0] == 19
    assert shard.merged._merge.take_late() == []
    signals = shard.take_signals(TRANSACTIONS, 20)
    late = [signal.source.offset for signal in signals if signal.kind == SignalKind.LATE]
    assert late == [*range(1, 20)]
